"""facts: every number that README, model cards, data page, notebooks and talk quote, from the records and weights.

Run by `make facts`: python notebooks/slides/facts.py fills the marked places of `DOCUMENTS` and `NOTEBOOKS` anew. A number
stands in <!--=NAME:.3f-->0.703<!--/-->, a table between <!--table NAME--> and <!--/table-->; GitHub shows none of the marks.
"""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import torchinfo

import sercore
from sercore import settings
from sercore.ablation import ablation_differences
from sercore.compare import WHAT, over_folds, score_shared, zoo_table
from sercore.corpora import CORPORA, ravdess
from sercore.errors import ConfigError
from sercore.evaluate import (
    bootstrap_interval,
    expected_calibration_error,
    on_shared_labels,
    paired_difference,
    per_emotion,
    score_table,
    scores,
    selective_accuracy,
    targets_of,
)
from sercore.labels import EMOTIONS
from sercore.models import build_model, count_parameters, load_checkpoint
from sercore.predict import VARIANTS
from sercore.records import read, read_answers, read_scores, read_table

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "sercore" / "pretrained" / "README.md", ROOT / "data" / "README.md")
NOTEBOOKS = tuple(sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")))
NUMBER = re.compile(r"<!--=(\w+):?([^>]*?)-->(?:(?!<!--).)*<!--/-->", re.DOTALL)
TABLE = re.compile(r"<!--table (\w+)-->.*?<!--/table-->", re.DOTALL)

#: What README and deck show of RAVDESS: prefix of the facts, test speakers, networks, protocol, number of networks.
FOLDS = (
    ("", "unseen", "three (shipped)", "speaker_5fold", 3),
    ("one_", "unseen", "one", "speaker_5fold", 1),
    ("leaky_", "known (leaky)", "three", "random_5fold", 3),
    ("leaky_one_", "known (leaky)", "one", "random_5fold", 1),
)
#: The networks of figure 05_leak: one of ours by the recipe that is shipped, over all its seeds.
LEAK = {"recipe": "warped", "n_members": 1, "transductive": False}
JOINED = pd.DataFrame({"corpus": ["emodb", "ravdess", "tess"]})
HEARD = pd.DataFrame({"corpus": ["emodb", "nemo", "ravdess", "tess"]})
TITLES = {"emodb": "EMO-DB", "ravdess": "RAVDESS", "tess": "TESS"}
ALL_TITLES = {"emodb": "EMO-DB", "nemo": "nEMO", "ravdess": "RAVDESS", "tess": "TESS"}
PARTS = {"stem": "first convolution", "pool": "attention over time", "head": "scores"}
#: Which emotions lie high and low on a dimension (Russell 1980, doi:10.1037/h0077714); the others are left out.
DIMENSIONS = {
    "arousal": (("angry", "fearful", "happy", "surprised"), ("sad", "neutral", "calm")),
    "valence": (("happy", "surprised"), ("angry", "fearful", "sad", "disgust")),
}


def facts(results_dir: str | Path | None = None) -> dict:
    """Collect what may be quoted: name -> number, words or table. Scores are shares of 1, differences are points."""
    results = Path(results_dir or settings.results_dir())
    clips = ravdess.recorded_clips()
    known = {
        "version": sercore.__version__,
        "n_emotions": len(EMOTIONS),
        "chance": 1 / len(EMOTIONS),
        "n_clips": len(clips),
        "n_speakers": clips["speaker"].nunique(),
        "n_statements": clips["statement"].nunique(),
        "citation": CORPORA["ravdess"].citation,
        "licence": CORPORA["ravdess"].licence,
    }
    for part in (
        _network,
        _folds,
        _unseen,
        _designs,
        _ablation,
        _noise,
        _transfer,
        _left_out,
        _same_corpora,
        _whisper,
        _deletion,
        _speed,
    ):
        try:
            known |= part(clips, results)
        except ConfigError as missing:
            print(f"Not recorded, so not quoted ({part.__name__[1:]}): {missing}")
    return {name: fact for name, fact in known.items() if isinstance(fact, pd.DataFrame) or fact == fact}


def _network(clips, results):
    shipped, metadata = load_checkpoint(VARIANTS["ravdess"])
    config = metadata["feature_config"]
    window = (1, 1, config.n_mels, config.n_frames)
    parts = torchinfo.summary(build_model("cnn").eval(), input_size=window, depth=2, verbose=0).summary_list
    rows = []
    for part in parts:
        inside = part.parent_info.var_name if part.parent_info else ""
        if part.num_params and (
            (part.depth == 1 and part.var_name != "blocks") or (part.depth == 2 and inside == "blocks")
        ):
            name = (
                f"residual block {int(part.var_name) + 1}"
                if part.depth == 2
                else PARTS.get(part.var_name, part.var_name)
            )
            rows.append([name, " × ".join(map(str, part.output_size[1:])), part.num_params])
    layers = pd.DataFrame(rows, columns=["part", "output (channels × mel × time)", "parameters"])
    return {
        "n_mels": config.n_mels,
        "window_ms": 1000 * config.win_length / config.sr,
        "hop_ms": 1000 * config.hop_length / config.sr,
        "n_members": len(metadata["info"]["seeds"]),
        "n_parameters": layers["parameters"].sum(),
        "shipped_millions": count_parameters(shipped) / 1e6,
        "shipped_mb": VARIANTS["ravdess"].stat().st_size / 1e6,
        "layers": layers,
    }


def _whole(clips, results, **where):
    """Read the scores of one network, or of several seeds, if they cover every clip."""
    table = read_scores(clips, results_dir=results, **where)
    if (table.groupby("seed")["n_test"].sum() != len(clips)).any():
        raise ConfigError(f"Folds are missing with {where}: run `sercore crossval` again.")
    return table


def _interval(low, high):
    return "–" if np.isnan(low) else f"{low:.3f} to {high:.3f}"


def _folds(clips, results):
    known, rows = {}, []
    for prefix, who, networks, protocol, n_members in FOLDS:
        table = _whole(clips, results, protocol=protocol, model="cnn", recipe="warped", n_members=n_members)
        folds = over_folds(table)[["uar", "accuracy", "macro_f1"]]
        for metric, (mean, deviation) in folds.items():
            known |= {prefix + metric: mean, f"{prefix}{metric}_sd": deviation}
        rows.append([who, networks, *(f"{mean:.3f} ± {deviation:.3f}" for _, (mean, deviation) in folds.items())])
        if prefix == "one_":
            known |= {"epochs": table["epochs"].max(), "minutes": table["minutes"].mean()}
    columns = ["test speakers", "networks", "UAR", "accuracy", "macro-F1"]
    leak = {
        name: over_folds(_whole(clips, results, protocol=protocol, model="cnn", **LEAK)).loc["mean", "uar"]
        for name, protocol in (("leak_known", "random_5fold"), ("leak_unseen", "speaker_5fold"))
    }
    points = round(100 * leak["leak_known"]) - round(100 * leak["leak_unseen"])  # as the rounded numbers differ
    return (
        known
        | leak
        | {"leak": points, "n_folds": table["fold"].nunique(), "scores": pd.DataFrame(rows, columns=columns)}
    )


def _unseen(clips, results):
    shipped = {"recipe": "warped", "n_members": 3}
    _whole(clips, results, model="cnn", **shipped)
    tested, proba = read_answers(clips, results_dir=results, **shipped)
    _, temperature = read_answers(clips, results_dir=results, columns=["temperature"], **shipped)
    raw = proba ** temperature.astype(float)
    y_true, y_pred = targets_of(tested), proba.argmax(axis=1)
    emotions = per_emotion(y_true, y_pred).set_index("emotion")
    by_speaker = score_table(tested, proba).set_index("speaker")["uar"]
    by_intensity = score_table(tested, proba, by="intensity").set_index("intensity")["uar"]
    seeds = [read_answers(clips, recipe="warped", seed=seed, results_dir=results) for seed in range(3)]
    one = [scores(targets_of(part), p.argmax(axis=1))["uar"] for part, p in seeds]
    low, high = bootstrap_interval(tested, proba)
    known = {
        "pooled_uar": scores(y_true, y_pred)["uar"],
        "low": low,
        "high": high,
        "one_min": min(one),
        "one_max": max(one),
        "ece": expected_calibration_error(proba, y_true),
        "ece_raw": expected_calibration_error(raw / raw.sum(axis=1, keepdims=True), y_true),
        "surest_half": selective_accuracy(proba, y_true),
        "confidence": proba.max(axis=1).mean(),
        "easiest": emotions["recall"].idxmax().capitalize(),
        "easiest_recall": emotions["recall"].max(),
        "hardest": emotions["recall"].idxmin(),
        "hardest_recall": emotions["recall"].min(),
        "worst_speaker": by_speaker.min(),
        "worst_name": by_speaker.idxmin().removeprefix("ravdess-").lstrip("0"),
        "best_speaker": by_speaker.max(),
        "best_name": by_speaker.idxmax().removeprefix("ravdess-").lstrip("0"),
        "normal_uar": by_intensity["normal"],
        "strong_uar": by_intensity["strong"],
        "emotions": emotions[["recall", "precision"]].map("{:.2f}".format).T.rename_axis("").reset_index(),
    }
    for who in ("female", "male"):
        part = (tested["sex"] == who).to_numpy()
        known[f"{who}_uar"] = scores(y_true[part], y_pred[part])["uar"]
        known[f"{who}_low"], known[f"{who}_high"] = bootstrap_interval(tested[part], proba[part])
    return known


def _designs(clips, results):
    """Lay the designs side by side, and compare the shipped networks with the best of the others."""
    zoo = zoo_table(clips, results_dir=results)
    zoo = zoo[~zoo["transductive"].astype(bool) & (zoo["folds"] == 5)]
    if not {"cnn"} < set(zoo["model"]):
        raise ConfigError("No other design is recorded on all folds: run `sercore crossval --model resnet_blocks`.")
    best = zoo[(zoo["model"] != "cnn") & ~zoo["pretrained"].astype(bool)].iloc[0]
    points = 100 * best[["difference", "difference_low", "difference_high"]].astype(float)
    # Ours and plain residual blocks by the same training; the answers of all seeds are averaged.
    same = {"recipe": "standard", "n_members": 1, "transductive": False, "results_dir": results}
    uar, proba = {}, {}
    for name in ("resnet_blocks", "cnn"):
        table = read_scores(clips, model=name, **same)
        uar[name] = over_folds(table)["uar"]["mean"]
        answers = [read_answers(clips, model=name, seed=seed, **same) for seed in table["seed"].unique()]
        tested, proba[name] = answers[0][0], np.mean([shares for _, shares in answers], axis=0)
    ahead = 100 * np.array(paired_difference(tested, proba["resnet_blocks"], proba["cnn"]))
    rows = []
    for design in zoo.itertuples():
        where = {name: getattr(design, name) for name in WHAT}
        epochs = f"{design.epochs:.0f}" if design.epochs > 1 else "–"
        row = [design.name, f"{design.parameters:,.0f}", epochs]
        for protocol in ("speaker_5fold", "random_5fold"):
            try:
                table = read_scores(clips, protocol=protocol, results_dir=results, **where)
                row.append("{:.3f} ± {:.3f}".format(*over_folds(table)["uar"]))
            except ConfigError:
                row.append("–")
        rows.append(row)
    rows.sort(key=lambda row: row[3])
    columns = ["design", "parameters", "epochs", "unseen speakers", "*leaky*: random division"]
    return {
        "n_designs": zoo["model"].nunique(),
        "lead": points.iloc[0],
        "lead_low": points.iloc[1],
        "lead_high": points.iloc[2],
        "plain": uar["resnet_blocks"],
        "house": uar["cnn"],
        **dict(zip(("plain_lead", "plain_low", "plain_high"), ahead, strict=True)),
        "designs": pd.DataFrame(rows, columns=columns),
    }


def _ablation(clips, results):
    table = read_table(clips, "ablation", results_dir=results)
    differences = ablation_differences(table)
    often = differences[differences["n"] >= min(3, differences["n"].max())]
    clear = often[often["difference"] < -2 * often["error"].fillna(0)]  # as the figure fills its marks
    worst = (often if clear.empty else clear).iloc[-1]
    known = {
        "variant": worst["variant"],
        "variant_n": worst["n"],
        "variant_cost": -100 * worst["difference"],
        "variant_error": 100 * worst["error"],
    }
    longer = "warped and twice the epochs"
    for name, variant, reference in (("warp", longer, "recipe"), ("tempos", f"{longer} at three tempos", longer)):
        if {variant, reference} <= set(table["variant"]):
            row = ablation_differences(table, reference=reference).set_index("variant").loc[variant]
            known |= {f"{name}_gain": 100 * row["difference"], f"{name}_error": 100 * row["error"]}
    return known


def _noise(clips, results):
    table = read_table(clips, "noise", results_dir=results)
    table = table[(table["recipe"] == "warped") & (table["n_members"] == 3)].set_index(["noise", "snr_db"])
    if table.empty:
        raise ConfigError("No noise scores of the shipped recipe: run `sercore noise --recipe warped --seeds 0,1,2`.")
    quiet = table.loc["none"].iloc[0]
    rows = []
    for noise, name in (("white", "white noise"), ("babble", "babble, eight synthetic talkers")):
        cells = [f"{row.uar:.3f} ({row.ece:.3f})" for row in table.loc[noise].sort_index(ascending=False).itertuples()]
        rows.append([name, *cells])
    ratios = sorted(table.loc["white"].index, reverse=True)
    return {
        "quiet": quiet["uar"],
        "quiet_ece": quiet["ece"],
        "white_cost": 100 * (quiet["uar"] - table.loc[("white", 0), "uar"]),
        "babble_cost": 100 * (quiet["uar"] - table.loc[("babble", 0), "uar"]),
        "noise": pd.DataFrame(rows, columns=["signal-to-noise ratio", *(f"{snr_db:.0f} dB" for snr_db in ratios)]),
    }


def _transfer(clips, results):
    table = read_table(clips, "transfer", results_dir=results)
    table = table[table["model"] == VARIANTS["ravdess"].stem].sort_values("uar", ignore_index=True)
    if table.empty:
        raise ConfigError("No scores of the shipped weights: run `sercore transfer emodb`.")
    rows, sources = [], []
    for row in table.itertuples():
        corpus = CORPORA[row.tested_on]
        rows.append([TITLES[row.tested_on], row.n_test, row.n_emotions, f"{row.uar:.3f}", f"{row.confidence:.3f}",
                     f"{row.uar_shared:.3f}", f"{row.ece:.3f}", f"{row.top_label}, {100 * row.top_share:.0f} %"])  # fmt: skip
        sources.append(f"{corpus.title}, {f'doi:{corpus.doi}' if corpus.doi else corpus.url}")
    columns = ["corpus", "clips", "emotions", "UAR", "mean confidence", "UAR, answers that the corpus lacks set aside",
               "calibration error", "most frequent answer"]  # fmt: skip
    shown = pd.DataFrame(rows, columns=columns)
    far = table.iloc[0]
    return {
        "transfer": shown,
        "transfer_slide": shown[columns[:5]],
        "far": TITLES[far["tested_on"]],
        "far_uar": far["uar"],
        "far_confidence": far["confidence"],
        "others": "; ".join(sources),
    }


def _joined_answers(results, corpora=JOINED, **where):
    """Give recorded answers on several corpora with a clip table laid out from their names, without the audio."""
    recorded = read_scores(corpora, results_dir=results, **where)
    ids = pd.read_csv(results / "out_of_fold" / recorded["answers"][0])["clip"]
    rows = []
    for clip in ids:
        name = clip.partition("/")[0]
        fields = CORPORA[name].parse(f"{clip}.wav")
        rows.append({**fields, "clip": clip, "corpus": name, "speaker": f"{name}-{fields['speaker']}"})
    return read_answers(pd.DataFrame(rows), results_dir=results, **where)


def _left_out(clips, results):
    where = {"protocol": "leave_one_corpus_out", "model": "cnn", "recipe": "any_voice"}
    answers = _joined_answers(results, n_members=3, **where)
    singles = read_scores(JOINED, results_dir=results, n_members=1, **where).groupby("fold")["uar"]
    known, _ = _by_corpus("any", *answers, TITLES, left_out=True)
    return known | {f"any_{name}_one": singles.mean()[name] for name in TITLES}


def _by_corpus(prefix, tested, proba, titles, *, left_out):
    """Score answers by corpus: facts whose names begin with a prefix, and a table."""
    known, rows = {}, []
    for name, title in titles.items():
        here = (tested["corpus"] == name).to_numpy()
        trained_on = tuple(tested.loc[~here, "emotion"].unique()) if left_out else EMOTIONS
        row = score_shared(tested[here], proba[here], trained_on=trained_on)
        parts = {"": "uar", "_low": "low", "_high": "high", "_ece": "ece", "_third": "surest_third"}
        known |= {f"{prefix}_{name}{part}": row[column] for part, column in parts.items()}
        for dimension, share in _dimensions(tested[here], proba[here], trained_on).items():
            known[f"{prefix}_{name}_{dimension}"] = share
        interval = "" if np.isnan(row["low"]) else f" ({_interval(row['low'], row['high'])})"
        rows.append([title, row["n_emotions"], f"**{row['uar']:.3f}**{interval}", f"{row['ece']:.3f}",
                     f"{100 * row['surest_third']:.0f} %", f"{row['top_label']}, {100 * row['top_share']:.0f} %"])  # fmt: skip
    columns = ["tested on", "emotions", "UAR (95 % interval over speakers)", "calibration error",
               "most confident third right", "most frequent answer"]  # fmt: skip
    return known, pd.DataFrame(rows, columns=columns)


def _dimensions(clips, proba, trained_on):
    """Score answers as high or low on each dimension: balanced accuracy, of which guessing has one half."""
    proba, truth = on_shared_labels(proba, targets_of(clips), trained_on=trained_on)
    known = {}
    for name, sides in DIMENSIONS.items():
        high, low = ([EMOTIONS.index(emotion) for emotion in side] for side in sides)
        says_high = proba[:, high].sum(axis=1) > proba[:, low].sum(axis=1)
        known[name] = (says_high[np.isin(truth, high)].mean() + (~says_high[np.isin(truth, low)]).mean()) / 2
    return known


def _same_corpora(clips, results):
    tested, proba = _joined_answers(results, protocol="corpora_5fold", model="cnn", recipe="any_voice", n_members=1)
    known = {}
    for name in TITLES:
        here = (tested["corpus"] == name).to_numpy()
        known[f"same_{name}"] = score_shared(tested[here], proba[here])["uar"]
    return known


def _imagenet(clips, results):
    """Lay out a network of ImageNet's, fine-tuned and from scratch, beside one of ours on the same folds."""

    def by_fold(**where):
        return read_scores(clips, results_dir=results, n_members=1, **where).groupby("fold")["uar"].mean()

    tuned, scratch = (by_fold(model="efficientnet_lite0", pretrained=way) for way in (True, False))
    ours = by_fold(model="cnn", recipe="warped")
    return {
        "imagenet": tuned.mean(),
        "imagenet_folds": len(tuned),
        "imagenet_ours": ours[tuned.index].mean(),
        "imagenet_scratch": scratch.mean(),
        "imagenet_scratch_folds": len(scratch),
        "imagenet_scratch_tuned": tuned[scratch.index].mean(),
    }


def _whisper(clips, results):
    """Lay out what heads over Whisper's layers reach: on RAVDESS alone, among four corpora, and on one left out."""
    known, head = {}, {"model": "whisper_head", "recipe": "standard"}
    for prefix, where in {
        "head_one": head | {"n_members": 1},
        "head": head | {"n_members": 3},
        "tuned": {"model": "whisper_encoder", "recipe": "standard", "n_members": 1},
        "small": {"model": "cnn", "recipe": "small", "n_members": 1},
    }.items():
        recorded = over_folds(read_scores(clips, results_dir=results, **where))["uar"]
        known |= {prefix: recorded["mean"], f"{prefix}_sd": recorded["std"]}
    known["head_low"], known["head_high"] = bootstrap_interval(
        *read_answers(clips, results_dir=results, n_members=3, **head)
    )
    for prefix, protocol in {"among": "corpora_5fold", "without": "leave_one_corpus_out"}.items():
        where = {"protocol": protocol, "model": "whisper_head", "recipe": "any_voice"}
        answers = _joined_answers(results, HEARD, n_members=3, **where)
        scored, known[f"{prefix}_corpora"] = _by_corpus(prefix, *answers, ALL_TITLES, left_out=prefix == "without")
        singles = read_scores(HEARD, results_dir=results, n_members=1, **where)
        if prefix == "without":
            singles = singles.groupby("fold")["uar"]
            known |= {f"without_{name}_one": singles.mean()[name] for name in ALL_TITLES}
            known |= {f"without_{name}_min": singles.min()[name] for name in ALL_TITLES}
            known |= {f"without_{name}_max": singles.max()[name] for name in ALL_TITLES}
        known |= scored
    where = {"protocol": "leave_one_corpus_out", "model": "cnn", "recipe": "small", "n_members": 1}
    scored, known["small_corpora"] = _by_corpus(
        "small", *_joined_answers(results, HEARD, **where), ALL_TITLES, left_out=True
    )
    singles = read_scores(HEARD, results_dir=results, **where).groupby("fold")["uar"].mean()
    known |= {f"small_{name}_one": singles[name] for name in ALL_TITLES}
    known |= scored | _imagenet(clips, results)
    path = VARIANTS["any_voice"]
    n_numbers = sum(value.numel() for value in load_checkpoint(path)[0].state_dict().values())
    known |= {"whisper_mb": path.stat().st_size / 1e6, "whisper_millions": n_numbers / 1e6}
    return known | {"small_mb": VARIANTS["small"].stat().st_size / 1e6}


def _deletion(clips, results):
    table, rows = read_table(clips, "deletion", results_dir=results), []
    for row in table[table["network"].isin([path.stem for path in VARIANTS.values()])].itertuples():
        rows.append([f"`{row.network}`", row.n_clips, f"{row.area:.2f}", f"{row.area_random:.2f}", row.n_better])
    columns = ["network", "clips", "most important cells first", "cells at random", "clips where the first is smaller"]
    return {"deletion": pd.DataFrame(rows, columns=columns)}


def shown(value: object, spec: str = "") -> str:
    """Write a fact as a document shows it: "70 %" by ":.0%"."""
    return format(value, spec).replace("%", " %")


def fill(text: str, facts: dict) -> str:
    """Write the facts into the marked places of a document; ConfigError for a mark that names no fact."""
    if unknown := {match[1] for mark in (NUMBER, TABLE) for match in mark.finditer(text)} - set(facts):
        raise ConfigError(f"Bad marks {sorted(unknown)}: expected names of recorded facts, as `facts` gives them.")
    text = NUMBER.sub(lambda mark: f"{mark[0].split('-->')[0]}-->{shown(facts[mark[1]], mark[2])}<!--/-->", text)
    return TABLE.sub(lambda mark: f"<!--table {mark[1]}-->\n\n{_rows(facts[mark[1]])}\n\n<!--/table-->", text)


def _speed(clips, results):
    """What things cost, and what a million hours of speech in clips of three seconds would; a core's hour for 0.04 dollars."""
    if not (path := results / "speed.csv").is_file():
        raise ConfigError("run `python tests/benchmarks/benchmark.py --record`.")
    table = read(path, keys=("what",))
    costs = dict(zip(table["what"], table["ours"], strict=True))
    shown = table[["what", "ours", "baseline", "theirs", "ratio"]].rename(
        columns={"ours": "sercore", "theirs": "it has"}
    )
    known = {"speed": shown.round({"sercore": 2, "it has": 2, "ratio": 2}), "speed_on": table["processor"].iloc[0]}
    known |= {"speed_commit": table["commit"].iloc[0], "speed_threads": int(table["threads"].iloc[0])}
    n_clips = 1e6 * 3600 / 3
    for name in VARIANTS:
        core_s = known["speed_threads"] * costs[f"one answer from a file, `{name}`, ms"] / 1000
        known |= {f"{name}_core_hours": n_clips * core_s / 3600, f"{name}_dollars": 0.04 * n_clips * core_s / 3600}
    return known


def _rows(table):
    lines = [table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    known = facts()
    for document in (*DOCUMENTS, *NOTEBOOKS):
        text = document.read_text(encoding="utf-8")
        settings.write_atomic(document, fill(text, known).encode())
        print(f"{document.relative_to(ROOT)}: {'as it was' if fill(text, known) == text else 'filled anew'}")
