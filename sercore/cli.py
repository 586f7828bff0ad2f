"""cli: `sercore …`, thin commands over the rooms above."""

import json
import logging
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sercore import __version__, settings
from sercore.errors import ConfigError, SerError
from sercore.labels import EMOTIONS

# The rooms that bring librosa or torch are imported inside the commands, so that help comes at once.


class _Commands(typer.core.TyperGroup):
    def invoke(self, ctx):
        """Run a command; what a user can get wrong becomes one line instead of a traceback."""
        try:
            return super().invoke(ctx)
        except (SerError, OSError) as error:
            if logging.getLogger("sercore").isEnabledFor(logging.INFO):
                logging.getLogger("sercore").info("", exc_info=True)
            typer.echo("Error: " + " ".join(str(error).split()), err=True)
            raise typer.Exit(2) from error


def _version(wanted: bool):
    if wanted:
        typer.echo(f"sercore {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)


def _option(help, *names):
    return typer.Option(*names, help=help)


CORPORA = "ravdess, ravdess_song, crema_d, tess, savee, emodb, nemo, own or synthetic"
Corpus = Annotated[str | None, _option(f"{CORPORA}; several as tess+emodb. Default: ravdess if there is one.")]
Root = Annotated[Path | None, _option("Folder of the corpus. Default: under SERCORE_DATA or data/.")]
Checkpoint = Annotated[str, _option("any_voice, ravdess, small, or a file from `sercore train`.")]
Csv = Annotated[Path | None, _option("Also write the table here, in full precision.", "--csv")]
Seeds = Annotated[str, _option("Numbers with commas between, such as 0,1,2.")]
Some = Annotated[str | None, _option("Names with commas between. Default: all.")]
Epochs = Annotated[int | None, _option("Default: the documented recipe's; few on synthetic speech.")]
Name = Annotated[str, _option("standard, warped, any_voice or small.", "--recipe")]
Model = Annotated[str, _option("cnn, or another design: see notebook 07.")]


def _note_synthetic(corpus):
    if "synthetic" in corpus.split("+"):
        typer.echo("Synthetic speech: no score here is a result.", err=True)


def _load(corpus, root):
    from sercore.corpora import load_corpora, load_corpus

    # A folder given without a corpus is RAVDESS: real speech must not pass for synthetic.
    name = corpus or ("ravdess" if root or settings.profile() == "full" else "synthetic")
    _note_synthetic(name)
    names = name.split("+")
    if root and len(names) > 1:
        raise ConfigError(f"Bad root {str(root)!r} for {name}: expected one corpus; SERCORE_DATA holds several.")
    clips = load_corpora(names) if len(names) > 1 else load_corpus(name, root)
    typer.echo(f"{name}: {len(clips)} clips of {clips['speaker'].nunique()} speakers.", err=True)
    return clips


def _list(text):
    return text.split(",") if text else None


def _numbers(seeds):
    if not all(map(str.isdecimal, seeds.split(","))):
        raise ConfigError(f"Bad seeds {seeds!r}: expected numbers with commas between, such as 0,1.")
    return tuple(map(int, seeds.split(",")))


def _setting(corpus, root, *, recipe="standard", model="cnn", epochs=None, trial=False):
    """Give clips and recipe, and where the scores go: a trial must not take the place of documented ones."""
    from sercore.recipes import recipe_for
    from sercore.records import results_dir_of

    clips = _load(corpus, root)
    profile = settings.chosen_profile() or ("smoke" if "synthetic" in set(clips["corpus"]) else "full")
    options = recipe_for(recipe, model=model, profile=profile)
    if epochs is not None:
        options = replace(options, train=replace(options.train, epochs=epochs))
    trial = trial or root or epochs or settings.chosen_profile() == "smoke"
    folder = results_dir_of(clips, settings.runs_dir() / "trial_results" if trial else None)
    return clips, {"recipe": options, "results_dir": folder}


def _predictor(checkpoint):
    from sercore.predict import Predictor

    predictor = Predictor(checkpoint)
    _note_synthetic(predictor.metadata["info"].get("corpus", ""))
    return predictor


def _show(table):
    formats = {name: lambda share: f"{100 * share:.1f}" for name in ("confidence", *EMOTIONS) if name in table}
    typer.echo(table.to_string(index=False, formatters=formats, float_format="{:.3f}".format, na_rep="-"))


def _recorded(table, options):
    _show(table)
    typer.echo(f"Recorded in {options['results_dir']}", err=True)


@app.callback()
def main(
    verbose: Annotated[bool, _option("Say more of what is done.", "--verbose")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
):
    """Recognise emotions in speech; train, and measure on unseen speakers. Errors exit with code 2."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name need not be UTF-8
    warnings.filterwarnings("ignore", "[0-9]+ tasks which were still being processed")  # joblib's, beside an error
    logging.basicConfig(level=logging.WARNING, format="%(message)s", force=True)
    logging.getLogger("sercore").setLevel(logging.INFO if verbose else logging.NOTSET)


@app.command()
def sample(file: Path, emotion: str | None = None, speaker: int | None = None):
    """Write a clip to try things on, of the emotion that FILE is named after, or angry; with --speaker synthetic."""
    import soundfile as sf

    from sercore.corpora import synthetic

    if file.suffix.lower() not in (".wav", ".flac"):
        raise ConfigError(f"Bad suffix {file.suffix!r} of {file.name}: expected .wav or .flac.")
    emotion = emotion or (file.stem if file.stem in EMOTIONS else "angry")
    real = settings.samples_dir() / f"{emotion}.flac"
    if speaker is None and real.is_file():
        (y, sr), what = sf.read(real, dtype="int16"), f"real speech, {emotion}; its source and licence: {real.parent}"
    else:
        y, sr = synthetic.synthesize(emotion, speaker=speaker or 1), synthetic.SR
        what = f"synthetic speech, {emotion}. Nobody spoke it"
    file.parent.mkdir(parents=True, exist_ok=True)
    sf.write(file, y, sr, subtype="PCM_16")
    typer.echo(f"{file}: {len(y) / sr:.1f} s of {what}.")


@app.command()
def predict(
    files_or_folders: Annotated[list[Path] | None, typer.Argument()] = None,
    checkpoint: Checkpoint = "any_voice",
    csv: Annotated[
        Path | None, _option("Write rows here as they come; .jsonl: JSON Lines, .parquet: a folder.", "--csv")
    ] = None,
    as_json: Annotated[bool, _option("Print full-precision JSON.", "--json")] = False,
    files_from: Annotated[str | None, _option("A file that lists recordings, one a line; - is standard input.")] = None,
    jobs: Annotated[int | None, _option("Processes. Default: one a core from nine files on.")] = None,
    failures: Annotated[Path | None, _option("Write rows of what could not be used here.")] = None,
    resume: Annotated[bool, _option("Go on where a killed run with this --csv was.", "--resume")] = False,
):
    """Recognise the emotion of each clip, in per cent. Exits with code 1 if any could not be used."""
    from sercore import batch

    if resume and not csv:
        raise ConfigError("Bad --resume: expected --csv with the table of the run that was killed.")
    say = partial(typer.echo, err=True)
    files = batch.list_files([*(files_or_folders or ()), *batch.read_list(files_from)], tell=say)
    predictor = _predictor(checkpoint)
    table, failed = (batch.open_table(path, resume=resume) if path else None for path in (csv, failures))
    options = {"failures": failed, "jobs": jobs, "keep": as_json, "tell": say}
    rows, n_bad, n_before = batch.recognise(predictor, files, table=table, **options)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif rows:
        typer.echo(batch.as_text(rows))
    if len(files) > 1 or table:
        before, where = f", {n_before} were there" if n_before else "", f" in {csv}" if csv else ""
        say(f"{len(files) - n_before - n_bad} answered by {predictor.name}, {n_bad} not{before}{where}.")
    raise typer.Exit(int(n_bad > 0))


@app.command()
def export(file: Path, checkpoint: Checkpoint = "small"):
    """Write a network with its front end as ONNX: a waveform in, probabilities out, for phones and browsers."""
    from sercore.export import export_onnx

    typer.echo(f"{export_onnx(file, checkpoint=checkpoint)} is written.")


@app.command()
def timeline(file: Path, hop_s: float = 1.0, checkpoint: Checkpoint = "any_voice", csv: Csv = None):
    """Follow the emotion through a long recording, in per cent."""
    if csv:
        settings.check_writable(csv)
    table = _predictor(checkpoint).timeline(file, hop_s=hop_s)
    _show(table)
    if csv:
        settings.write_atomic(csv, table.to_csv(index=False).encode("utf-8", "surrogateescape"))


@app.command()
def train(
    corpus: Corpus = None, root: Root = None, out: Path = Path("model.safetensors"), model: Model = "cnn",
    epochs: Epochs = None, seeds: Seeds = "0", recipe: Name = "standard",
    hold_out: Annotated[str, _option("Speakers to leave out: ravdess-01,ravdess-02.")] = "",
):  # fmt: skip
    """Train on every speaker, and write a checkpoint; several seeds make an ensemble. A killed run resumes."""
    from sercore.crossval import train_final

    settings.check_writable(out)
    seeds = _numbers(seeds)
    clips, options = _setting(corpus, root, recipe=recipe, model=model, epochs=epochs)
    left_out = set(_list(hold_out) or ())
    if unknown := left_out - set(clips["speaker"]):
        raise ConfigError(f"Bad speakers {sorted(unknown)}: expected some of {sorted(clips['speaker'].unique())}.")
    clips = clips[~clips["speaker"].isin(left_out)].reset_index(drop=True)
    facts = train_final(clips, out, recipe=options["recipe"], seeds=seeds)
    typer.echo(f"{out}: trained on {len(facts['train_speakers'])} speakers in {facts['minutes']:.1f} minutes.")
    typer.echo("How good such a model is on unseen speakers: `sercore crossval`.")


@app.command()
def evaluate(
    checkpoint: Annotated[str, typer.Argument()] = "ravdess", corpus: Corpus = None, root: Root = None,
    include_seen: Annotated[bool, typer.Option("--include-seen")] = False,
):  # fmt: skip
    """Score a checkpoint (file or name) on speakers it was not trained on."""
    import pandas as pd

    from sercore import evaluate as room
    from sercore.predict import COLUMNS

    predictor, clips = _predictor(checkpoint), _load(corpus, root)
    name, info = predictor.checkpoint.name, predictor.metadata["info"]
    # A checkpoint that does not say whom it was trained on may have been trained on all.
    seen = clips["speaker"].isin(info.get("train_speakers", clips["speaker"]))
    if seen.all() and not include_seen:
        words = f"No unseen speaker: {name} was trained on everyone here, or does not say on whom. For an honest score "
        raise ConfigError(words + "of such a model run `sercore crossval`; --include-seen scores it all the same.")
    if seen.any():
        verdict = "THESE SCORES ARE NOT HONEST." if include_seen else "they are left out."
        n_seen = clips["speaker"][seen].nunique()
        typer.echo(f"{name} was (or may have been) trained on {n_seen} of these speakers: {verdict}")
    clips = clips if include_seen else clips[~seen]
    table = pd.DataFrame(predictor.predict_files(clips["path"]), columns=COLUMNS)
    usable = (table["error"] == "").to_numpy()
    clips, proba = clips[usable].reset_index(drop=True), table.loc[usable, list(EMOTIONS)].to_numpy(float)
    targets = room.targets_of(clips)
    chance = f"guessing would reach {room.chance(targets):.3f} (UAR)"
    typer.echo(f"{len(clips)} clips, {(~usable).sum()} unusable; {chance}.")
    for metric, value in room.scores(targets, proba.argmax(axis=1)).items():
        low, high = room.bootstrap_interval(clips, proba, metric=metric)
        speakers = f"95 % interval over {clips['speaker'].nunique()} speakers"
        typer.echo(f"{metric:8s} {value:.3f}, {speakers} {low:.3f} to {high:.3f}")
    _show(room.score_table(clips, proba, by="speaker"))


@app.command()
def crossval(
    model: Model = "cnn", corpus: Corpus = None, root: Root = None, protocol: str = "speaker_5fold",
    seeds: Seeds = "0", folds: Some = None, epochs: Epochs = None, recipe: Name = "standard",
):  # fmt: skip
    """Train and test over the folds of a protocol; several seeds also as an ensemble. A killed run resumes."""
    from sercore import compare, records
    from sercore.crossval import cross_validate
    from sercore.splits import LEAKY

    seeds = _numbers(seeds)
    clips, options = _setting(corpus, root, recipe=recipe, model=model, epochs=epochs)
    table = cross_validate(clips, protocol=protocol, seeds=seeds, folds=_list(folds), **options)
    _show(table[["fold", "seed", "n_members", "n_test", "accuracy", "uar", "macro_f1", "val_uar", "epochs", "minutes"]])
    for _, rows in table.groupby("n_members"):
        for metric, (mean, deviation) in compare.over_folds(rows)[["accuracy", "uar"]].items():
            spread = f"{mean:.3f} ± {deviation:.3f} over {rows['fold'].nunique()} folds"
            typer.echo(f"{records.label(rows.iloc[0])}: {metric:8s} {spread}")
    if protocol == LEAKY:
        where = {"model": model, "recipe": recipe, "n_members": 1, "results_dir": options["results_dir"]}
        try:
            honest = f"{records.read_scores(clips, **where)['uar'].mean():.3f}"
        except ConfigError:
            honest = "unknown, run `sercore crossval`"
        typer.echo(f"leaky: the test speakers were in the training. UAR of one network on unseen speakers: {honest}")
    typer.echo(f"Recorded in {options['results_dir']}", err=True)


@app.command()
def ablate(
    corpus: Corpus = None, root: Root = None, seeds: Seeds = "0", folds: Some = None, epochs: Epochs = None,
    variants: Some = None,
):  # fmt: skip
    """Train variants of the recipe, scored on validation speakers alone. A killed run resumes."""
    from sercore import ablation

    seeds = _numbers(seeds)
    clips, options = _setting(corpus, root, epochs=epochs)
    table = ablation.ablate(clips, variants=_list(variants), seeds=seeds, folds=_list(folds), **options)
    _recorded(table.groupby("variant", sort=False)[["uar", "loss", "minutes"]].mean().reset_index(), options)


@app.command()
def noise(
    model: Model = "cnn", corpus: Corpus = None, root: Root = None, seeds: Seeds = "0", epochs: Epochs = None,
    recipe: Name = "standard",
):  # fmt: skip
    """Score the networks of `sercore crossval` on unseen speakers in white noise and babble."""
    from sercore import robustness

    clips, options = _setting(corpus, root, recipe=recipe, model=model, epochs=epochs)
    _recorded(robustness.noise_robustness(clips, seeds=_numbers(seeds), **options), options)


@app.command()
def matrix(corpus: Corpus = None, model: Model = "cnn", recipe: Name = "any_voice", epochs: Epochs = None):
    """Train on each of several corpora alone, and test on every one; on its own by speaker."""
    from sercore import robustness

    clips, options = _setting(corpus, None, recipe=recipe, model=model, epochs=epochs)
    if clips["corpus"].nunique() < 2:
        raise ConfigError(f"Bad corpus {corpus!r}: expected several, such as ravdess+tess+emodb.")
    table = robustness.corpus_matrix(clips, **options)
    _recorded(table.pivot(index="trained_on", columns="tested_on", values="uar").reset_index(), options)


@app.command()
def transfer(corpus: str, root: Root = None, checkpoint: Checkpoint = "ravdess"):
    """Score a checkpoint (default: the shipped one trained on RAVDESS alone) on a corpus it was not trained on."""
    from sercore import robustness
    from sercore.predict import VARIANTS

    clips, options = _setting(corpus, root, trial=checkpoint not in VARIANTS)
    table = robustness.transfer(clips, VARIANTS.get(checkpoint, checkpoint), results_dir=options["results_dir"])
    _recorded(table.T.reset_index(), options)


@app.command()
def deletion(corpus: Corpus = None, root: Root = None, checkpoint: Checkpoint = "ravdess", n_clips: int = 24):
    """Test what a network listened to: how fast its answer falls when the most important cells are silenced first."""
    from sercore import explain
    from sercore.predict import VARIANTS

    clips, options = _setting(corpus, root, trial=checkpoint not in VARIANTS)
    how = {"n_clips": n_clips, "results_dir": options["results_dir"]}
    _recorded(explain.deletion_areas(clips, _predictor(checkpoint), **how), options)


@app.command()
def extract(corpus: Corpus = None, root: Root = None, kind: str = "log_mel"):
    """Compute a feature of every clip into the cache, so that later commands need not."""
    from sercore import cache

    done = cache.extract(_load(corpus, root), kind=kind, on_error="warn")
    n_done = sum(feature is not None for feature in done)
    typer.echo(f"{kind} of {n_done} of {len(done)} clips is in {settings.cache_dir() / 'features'}")


def _report(report):
    typer.echo(f"{report.name}: expected {report.n_expected}, found {report.n_found}")
    for part in ("missing", "unreadable", "skipped", "copies"):
        entries = getattr(report, part)
        lines = [f"  {entry} {entries[entry] if isinstance(entries, dict) else ''}" for entry in entries]
        more = [f"  … and {len(lines) - 20} more"] if len(lines) > 20 else []
        typer.echo("\n".join([f"{part} {len(lines)}", *lines[:20], *more]))
    raise typer.Exit(int(not report.ok))


@app.command()
def verify(corpus: str, root: Root = None):
    """Decode every clip of a corpus. Exits with code 1 if some are missing, unreadable or misplaced."""
    from sercore import download as room

    _report(room.verify(corpus, root))


@app.command()
def download(
    corpus: Annotated[str, typer.Argument(help="ravdess, ravdess_song, crema_d, tess, emodb, nemo or savee.")],
    root: Root = None,
    home: Annotated[str | None, _option("URL of a mirror with the same paths.")] = None,
):
    """Fetch a corpus, unpack and verify it. A download that was cut or killed goes on when run again."""
    from sercore import download as room

    typer.echo(room.notice(corpus))
    _report(room.download(corpus, root, home=home, progress=sys.stderr.isatty()))


if __name__ == "__main__":
    app()
