"""results: the scores that were measured, where they are kept, and how they are read and written."""

import subprocess
from pathlib import Path

import pandas as pd

from sercore import settings
from sercore.errors import ConfigError
from sercore.evaluate import PROBA_COLUMNS
from sercore.models import MODELS, softmax
from sercore.train import processes

#: Columns of data/results/*.csv, one row a fold. ``val_uar`` is the best of the first training, where there was one.
RESULT_COLUMNS = (
    "model", "protocol", "fold", "seed", "n_test", "accuracy", "uar", "macro_f1", "val_uar", "parameters", "epochs",
    "minutes", "device", "commit",
)  # fmt: skip


def results_dir_of(clips, results_dir=None):
    """Tell where the scores of a corpus are kept: those on synthetic speech never among the results.

    Parameters
    ----------
    clips : pd.DataFrame
    results_dir : str or Path, optional
        Overrules.

    Returns
    -------
    folder : Path
        `settings.results_dir()`, or ``synthetic_results`` in `settings.runs_dir()`.
    """
    if results_dir:
        return Path(results_dir)
    synthetic = "synthetic" in set(clips["corpus"])
    return settings.runs_dir() / "synthetic_results" if synthetic else settings.results_dir()


def record_name(clips, model, protocol):
    """Name the file that holds a model's scores under a protocol.

    Parameters
    ----------
    clips : pd.DataFrame
        Tells the corpora, which are part of the name unless it is RAVDESS alone, or synthetic speech.
    model, protocol : str

    Returns
    -------
    name : str
        Without suffix.
    """
    corpora = "+".join(sorted(clips["corpus"].unique()))
    return f"{model}_{protocol}" if corpora in ("ravdess", "synthetic") else f"{model}_{corpora}_{protocol}"


def read_scores(clips, *, model="cnn", protocol="speaker_5fold", seed=settings.SEED, results_dir=None):
    """Read the recorded scores of a model under a protocol.

    Parameters
    ----------
    clips : pd.DataFrame
        Tells the corpus.
    model, protocol : str
    seed : int or None
        None reads all seeds.
    results_dir : str or Path, optional
        As in `cross_validate`.

    Returns
    -------
    table : pd.DataFrame
        `RESULT_COLUMNS`, one row a fold.

    Raises
    ------
    ConfigError
        If there are none.
    """
    path = results_dir_of(clips, results_dir) / f"{record_name(clips, model, protocol)}.csv"
    _check_recorded(path, clips, model, protocol)
    table = pd.read_csv(path, dtype={"fold": str, "commit": str})
    return (table if seed is None else table[table["seed"] == seed]).reset_index(drop=True)


def scores_or_none(clips, model, protocol, seed=settings.SEED, results_dir=None):
    """Read recorded scores as `read_scores` does; an empty table if there are none."""
    try:
        return read_scores(clips, model=model, protocol=protocol, seed=seed, results_dir=results_dir)
    except ConfigError:
        return pd.DataFrame(columns=list(RESULT_COLUMNS), dtype=float)


def design_of(name):
    """Tell the architecture behind the name that scores are recorded under, and what is left of the name.

    Parameters
    ----------
    name : str
        Such as "cnn_warped_ensemble".

    Returns
    -------
    model, rest : str
        Such as "cnn" and "_warped_ensemble".
    """
    model = max((known for known in MODELS if name.startswith(known)), key=len, default=name)
    return model, name.removeprefix(model)


def _words(clips, name):
    """What to type after a command to get the scores recorded under a name."""
    model, rest = design_of(name)
    title = rest.removesuffix("_ensemble").removesuffix("_transductive").removesuffix("_imagenet")
    corpora = "+".join(sorted(clips["corpus"].unique()))
    words = [f"--model {model}", f"--recipe {title[1:]}" * bool(title), "--transductive" * ("_transductive" in rest),
             "--seeds 0,1,2" * rest.endswith("_ensemble"), f"--corpus {corpora}" * (corpora != "ravdess")]  # fmt: skip
    return " ".join(filter(None, words))


def _check_recorded(path, clips, model, protocol):
    if not path.is_file():
        words = f"sercore crossval {_words(clips, model)} --protocol {protocol}"
        raise ConfigError(f"No scores at {path.name}: run `{words}`.")


def read_out_of_fold(
    clips, *, model="cnn", protocol="speaker_5fold", seed=settings.SEED, results_dir=None, columns=PROBA_COLUMNS
):
    """Read recorded out-of-fold probabilities, in the order of a clip table.

    Parameters
    ----------
    clips : pd.DataFrame
        Its clips without a recorded probability are left out.
    model, protocol : str
    seed : int
    results_dir : str or Path, optional
        As in `cross_validate`.
    columns : list of str
        What to read; "temperature" is there too.

    Returns
    -------
    clips : pd.DataFrame [shape=(n, ...)]
    proba : np.ndarray [shape=(n, len(columns))]
        Each from the one model that had not met the clip (nor, by speaker, its speaker).
    """
    path = results_dir_of(clips, results_dir) / "out_of_fold" / f"{record_name(clips, model, protocol)}_seed{seed}.csv"
    _check_recorded(path, clips, model, protocol)
    recorded = pd.read_csv(path, index_col="clip")
    names = clips["path"].map(lambda p: Path(p).stem)
    known = names.isin(recorded.index).to_numpy()
    return clips[known].reset_index(drop=True), recorded.loc[names[known], columns].to_numpy()


def read_table(clips, name, *, results_dir=None):
    """Read the recorded table of a study.

    Parameters
    ----------
    clips : pd.DataFrame
        Tells the corpus.
    name : str
        Of the file, without its suffix: "ablation", "noise_cnn_speaker_5fold", …
    results_dir : str or Path, optional
        As in `results_dir_of`.

    Returns
    -------
    table : pd.DataFrame

    Raises
    ------
    ConfigError
        If there is none; the message names the command that makes it.
    """
    path = results_dir_of(clips, results_dir) / f"{name}.csv"
    if not path.is_file():
        command = "ablate" if name == "ablation" else name.partition("_")[0] if name.startswith("matrix_") else name
        if name.startswith("noise_"):
            command = f"noise {_words(clips, name.removeprefix('noise_').removesuffix('_speaker_5fold'))}"
        raise ConfigError(f"No table at {path.name}: run `sercore {command}`.")
    return pd.read_csv(path, dtype={"fold": str, "commit": str})


def record(path, rows, *, keys):
    """Put rows into a CSV in place of those with the same keys, written whole or not at all.

    Parameters
    ----------
    path : Path
    rows : pd.DataFrame
    keys : list of str
        Columns that tell rows apart.
    """
    if not processes().is_main_process:
        return
    if path.exists():
        old = pd.read_csv(path, dtype={"fold": str, "commit": str})
        merged = old.merge(rows[keys].astype(old[keys].dtypes), on=keys, how="left", indicator=True)
        columns = [*rows.columns, *old.columns.difference(rows.columns, sort=False)]  # also where a column is new
        rows = pd.concat([old[(merged["_merge"] == "left_only").to_numpy()], rows], ignore_index=True)[columns]
    rows = rows.sort_values(keys, kind="stable")
    settings.write_atomic(path, rows.to_csv(index=False, float_format="%.6g").encode())


def commit():
    """Tell which code is running.

    Returns
    -------
    commit : str
        Short hash of the checkout, with "+" after it if files differ from it; "unknown" outside of one.
    """

    def git(*words):
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        head = git("rev-parse", "--short=10", "HEAD")
        return f"{head}{'+' if git('status', '--porcelain', '--', '*.py') else ''}" if head else "unknown"
    except OSError:
        return "unknown"


def out_of_fold_table(clips, logits, *, fold, temperature):
    """Lay out the probabilities of a fold's test clips as they are recorded.

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
    logits : np.ndarray [shape=(n, 8)]
    fold : str
    temperature : float

    Returns
    -------
    table : pd.DataFrame
        Columns ``clip, fold, temperature`` and `sercore.evaluate.PROBA_COLUMNS`.
    """
    table = pd.DataFrame(softmax(logits, temperature=temperature), columns=PROBA_COLUMNS).round(6)
    table.insert(0, "clip", [Path(path).stem for path in clips["path"]])
    table.insert(1, "fold", fold)
    table.insert(2, "temperature", round(temperature, 4))
    return table
