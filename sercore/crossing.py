"""crossing: what happens when a model meets a corpus, a microphone and a language that it has not heard."""

from copy import deepcopy
from dataclasses import replace

import librosa
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sercore import settings
from sercore.audio import describe_audio
from sercore.errors import ConfigError
from sercore.evaluate import (
    bootstrap_interval,
    expected_calibration_error,
    on_shared_labels,
    scores,
    selective_accuracy,
    targets_of,
)
from sercore.experiments import Recipe, assemble, prepare, runs_dir_of, train_and_refit
from sercore.features import FeatureConfig, compute, extract
from sercore.labels import EMOTIONS
from sercore.models import predict_logits, softmax
from sercore.models.cnn import CNN
from sercore.novelty import fit_novelty
from sercore.results import commit, read_out_of_fold, record, results_dir_of, scores_or_none
from sercore.splits import Fold

#: Which emotions lie high and low on a dimension; those in neither are left out.
DIMENSIONS = {
    "arousal": (("angry", "fearful", "happy", "surprised"), ("sad", "neutral", "calm")),
    "valence": (("happy", "surprised"), ("angry", "fearful", "sad", "disgust")),
}


def corpora_table(clips, *, models, seed=settings.SEED, results_dir=None):
    """Lay side by side how models do on corpora that were left out of their training.

    Parameters
    ----------
    clips : pd.DataFrame
        Of all the corpora.
    models : sequence of str
        With records of ``sercore crossval --protocol leave_one_corpus_out``. Those without are left out.
    seed : int
    results_dir : str or Path, optional
        As in `cross_validate`.

    Returns
    -------
    table : pd.DataFrame
        One row a model and left-out corpus: ``model, tested_on, n_test, n_emotions, uar, low, high`` (95 % interval
        over speakers; NaN for fewer than four), ``ece, confidence`` (mean), ``surest_third`` (accuracy of the most
        confident third), ``top_label, top_share`` (of the most frequent answer) and ``val_uar`` (on the corpus that
        the first training was validated on). All but the last over the shared emotions, see `on_shared_labels`.

    Raises
    ------
    ConfigError
        If nothing is recorded.
    """
    answers = _left_out_answers(clips, models, seed, results_dir)
    return pd.DataFrame(
        [
            facts | judge(part, proba, heard=heard) | {"val_uar": val_uar}
            for facts, part, proba, heard, val_uar in answers
        ]
    )


def _left_out_answers(clips, models, seed, results_dir):
    """The recorded answers of models on each corpus that was left out, and the emotions they had heard."""
    protocol, answers = "leave_one_corpus_out", []
    for model in models:
        recorded = scores_or_none(clips, model, protocol, seed, results_dir)
        if recorded.empty:
            continue
        tested, probas = read_out_of_fold(clips, model=model, protocol=protocol, seed=seed, results_dir=results_dir)
        for fold in recorded.itertuples():
            here = (tested["corpus"] == fold.fold).to_numpy()
            heard = clips.loc[clips["corpus"] != fold.fold, "emotion"].unique()
            facts = {"model": model, "tested_on": fold.fold}
            answers.append((facts, tested[here], probas[here], heard, fold.val_uar))
    if not answers:
        raise ConfigError(f"No scores of {list(models)}: run `sercore crossval --protocol {protocol}`.")
    return answers


def judge(clips, proba, *, heard=EMOTIONS):
    """Score answers on a corpus that was not trained on, over the emotions it shares with the training.

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
    proba : np.ndarray [shape=(n, 8)]
    heard : sequence of str
        Emotions in the training data.

    Returns
    -------
    row : dict
        ``n_test`` to ``top_share`` of `corpora_table`. Clips of an emotion that was not heard do not count; calm
        does, as neutral.
    """
    known = clips["emotion"].replace({"calm": "neutral"} if "calm" not in heard else {}).isin(heard).to_numpy()
    clips, proba = clips[known], proba[known]
    proba, truth = on_shared_labels(proba, targets_of(clips), heard=heard)
    clips = clips.assign(emotion=[EMOTIONS[k] for k in truth])
    answers = np.bincount(proba.argmax(axis=1), minlength=len(EMOTIONS))
    few = clips["speaker"].nunique() < 4
    low, high = (np.nan, np.nan) if few else bootstrap_interval(clips, proba)
    return {
        "n_test": len(clips), "n_emotions": len(np.unique(truth)), "uar": scores(truth, proba.argmax(axis=1))["uar"],
        "low": low, "high": high, "ece": expected_calibration_error(proba, truth),
        "confidence": proba.max(axis=1).mean(), "surest_third": selective_accuracy(proba, truth, share=1 / 3),
        "top_label": EMOTIONS[answers.argmax()], "top_share": answers.max() / len(clips),
    }  # fmt: skip


def corpus_matrix(clips, *, recipe=Recipe(), results_dir=None, progress=True):
    """Train on each corpus alone and test on every one: on its own by speaker, on the others whole.

    Parameters
    ----------
    clips : pd.DataFrame
        Of several corpora.
    recipe : Recipe
    results_dir : str or Path, optional
        Default: as `sercore.results.results_dir_of`; scores go to ``matrix_{model}.csv``.
    progress : bool

    Returns
    -------
    table : pd.DataFrame
        ``model, trained_on, tested_on`` and what `judge` gives. Within a corpus it is three networks (or as many as
        there are speakers), each tested on speakers that it has not heard.
    """
    results_dir, rows = results_dir_of(clips, results_dir), []
    prepared = prepare(clips, recipe=recipe, progress=progress)
    clips, runs = prepared.clips, runs_dir_of(prepared.clips, recipe) / "matrix"
    corpora, nobody = clips["corpus"].to_numpy(), np.array([], dtype=int)
    for trained in np.unique(corpora):
        own, proba = np.flatnonzero(corpora == trained), np.zeros((len(clips), len(EMOTIONS)))
        speakers = clips["speaker"].iloc[own]
        parts = GroupKFold(min(3, speakers.nunique())).split(own, groups=speakers)
        folds = [Fold(str(k), own[train], nobody, own[test]) for k, (train, test) in enumerate(parts)]
        for fold in [*folds, Fold("all", own, nobody, np.flatnonzero(corpora != trained))]:
            run_dir = runs / trained / fold.name
            model, _ = train_and_refit(
                prepared, fold, recipe=recipe, calibrate=False, run_dir=run_dir, progress=progress
            )
            _, _, listener = assemble([model], recipe)
            logits = predict_logits(listener, [prepared.features[i] for i in fold.test], config=recipe.features)
            proba[fold.test] = softmax(logits)
        for tested in np.unique(corpora):
            here = corpora == tested
            row = judge(clips[here], proba[here], heard=clips["emotion"].iloc[own].unique())
            rows.append({"model": recipe.name, "trained_on": trained, "tested_on": tested, **row, "commit": commit()})
    table = pd.DataFrame(rows)
    record(results_dir / f"matrix_{recipe.name}.csv", table, keys=["trained_on", "tested_on"])
    return table


def corpus_differences(clips, *, config=FeatureConfig(), progress=True):
    """Measure in what corpora differ besides the emotions: people, level, room and microphone.

    Parameters
    ----------
    clips : pd.DataFrame
        Of several corpora.
    config : FeatureConfig
        Its level is taken as "fixed".
    progress : bool

    Returns
    -------
    table : pd.DataFrame
        One row a corpus: ``clips, speakers, women, rate_hz`` (median rate of the files), ``level_dbfs`` (median RMS
        level of the trimmed clips) with ``level_low, level_high`` (10th and 90th percentile), ``quiet_db`` (median of
        the quietest tenth of a clip's frames relative to its loudest: speech, room and recorder together) and
        ``treble_db`` (mean level of the bands above 4 kHz minus that of the bands below 1 kHz).
    spectra : pd.DataFrame
        One column a corpus, one row a mel band, its centre in Hz as index: the mean over clips of the long-term
        level [dB re full scale].
    """
    config = replace(config, level="fixed")
    power = [np.square(track[0]) for track in extract(clips, config=config, kind="rms", progress=progress)]
    mean_db = np.stack([_long_term_db(S_db) for S_db in extract(clips, config=config, progress=progress)])
    hz = librosa.mel_frequencies(config.n_mels + 2, fmin=config.fmin_hz, fmax=config.fmax_hz)[1:-1]
    measured = clips.assign(
        rate_hz=[describe_audio(path).sr for path in clips["path"]],
        level_dbfs=[10 * np.log10(p.mean()) for p in power],
        quiet_db=[10 * np.log10((np.quantile(p, 0.1) + 1e-10) / p.max()) for p in power],
        treble_db=mean_db[:, hz > 4_000].mean(axis=1) - mean_db[:, hz < 1_000].mean(axis=1),
    )
    rows = {}
    for corpus, part in measured.groupby("corpus"):
        medians = part[["rate_hz", "level_dbfs", "quiet_db", "treble_db"]].median()
        low, high = part["level_dbfs"].quantile([0.1, 0.9])
        women = part.loc[part["sex"] == "female", "speaker"].nunique()
        rows[corpus] = {
            "clips": len(part), "speakers": part["speaker"].nunique(), "women": women,
            "rate_hz": int(medians["rate_hz"]), "level_dbfs": medians["level_dbfs"], "level_low": low,
            "level_high": high, "quiet_db": medians["quiet_db"], "treble_db": medians["treble_db"],
        }  # fmt: skip
    spectra = pd.DataFrame(mean_db, columns=hz).groupby(clips["corpus"].to_numpy()).mean().T
    return pd.DataFrame(rows).T.convert_dtypes(), spectra


def _long_term_db(S_db):
    return librosa.power_to_db(librosa.db_to_power(S_db).mean(axis=1), amin=1e-10, top_db=None)


def band_statistics(features):
    """Sum up spectrograms as one vector a clip.

    Parameters
    ----------
    features : list of np.ndarray [shape=(n_mels, n_frames)]

    Returns
    -------
    vectors : np.ndarray [shape=(n_clips, 2 * n_mels)]
        Mean and standard deviation over time of every band [dB].
    """
    return np.stack([np.concatenate([S_db.mean(axis=1), S_db.std(axis=1)]) for S_db in features])


def embed(model, features, *, config=FeatureConfig()):
    """Give what the house CNN makes of clips just before its last layer turns it into scores of the emotions.

    Parameters
    ----------
    model : sercore.models.cnn.CNN or sercore.models.Ensemble of such
        Of an ensemble the first member answers: the others have vectors of their own, on other axes.
    features : list of np.ndarray [shape=(n_mels, n_frames)]
    config : FeatureConfig

    Returns
    -------
    vectors : np.ndarray [shape=(n_clips, k)]
        Mean over a clip's windows.

    Raises
    ------
    ConfigError
        If the model is another.
    """
    network = model.members[0] if hasattr(model, "members") else model
    if not isinstance(network, CNN):
        raise ConfigError(f"Bad model {type(network).__name__}: expected the house CNN, or an ensemble of it.")
    body = deepcopy(network)
    body.head = torch.nn.Identity()
    return predict_logits(body, features, config=config, n_outputs=None)


def recognise(clips, vectors, *, what="corpus"):
    """Measure how well a linear model tells the corpus of a clip, or its emotion, on speakers that it has not met.

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
        Of several corpora.
    vectors : np.ndarray [shape=(n, k)]
    what : {"corpus", "emotion"}
        Or another column of `clips`.

    Returns
    -------
    recalls : pd.Series
        Of each class, by logistic regression over two folds by speaker, with every corpus in both. Their mean is the
        balanced accuracy, of which guessing has 1 / the number of classes.

    Raises
    ------
    ConfigError
        If a corpus has fewer than two speakers, who could not be both learned from and tested.
    """
    corpora, speakers, classes = (clips[column].to_numpy() for column in ("corpus", "speaker", what))
    if few := [name for name in np.unique(corpora) if len(np.unique(speakers[corpora == name])) < 2]:
        raise ConfigError(f"Too few speakers in {few}: expected at least two a corpus.")
    folds = list(StratifiedGroupKFold(2).split(vectors, corpora, speakers))
    # Strongly regularised: thousands of clips, but few speakers, which is what the other fold is made of.
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000))
    right = cross_val_predict(classifier, vectors, classes, cv=folds) == classes
    return pd.Series(right).groupby(classes).mean()


def dimension_scores(clips, proba, *, heard=EMOTIONS):
    """Score answers as arousal (loud or quiet emotions) and as valence (pleasant or unpleasant ones).

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
    proba : np.ndarray [shape=(n, 8)]
        What it gives to the emotions of one side is added up; the greater sum is the answer.
    heard : sequence of str
        Emotions in the training data, as in `on_shared_labels`.

    Returns
    -------
    scores : dict
        ``arousal`` and ``valence``: balanced accuracy over the clips whose emotion lies on one of the two sides in
        `DIMENSIONS`, 0.5 for guessing; NaN if one side has no clip.

    References
    ----------
    Russell (1980), "A circumplex model of affect", doi:10.1037/h0077714.
    """
    proba, truth = on_shared_labels(proba, targets_of(clips), heard=heard)
    row = {}
    for name, sides in DIMENSIONS.items():
        high, low = ([EMOTIONS.index(emotion) for emotion in side] for side in sides)
        answer = proba[:, high].sum(axis=1) > proba[:, low].sum(axis=1)
        recalls = [answer[np.isin(truth, high)], ~answer[np.isin(truth, low)]]
        row[name] = float(np.mean([r.mean() if len(r) else np.nan for r in recalls]))
    return row


def dimensions_table(clips, *, models, seed=settings.SEED, results_dir=None):
    """Lay side by side what of arousal and of valence reaches corpora that were left out of the training.

    Parameters
    ----------
    clips, models, seed, results_dir
        As in `corpora_table`.

    Returns
    -------
    table : pd.DataFrame
        One row a model and left-out corpus: ``model, tested_on`` and what `dimension_scores` gives.

    Raises
    ------
    ConfigError
        If nothing is recorded.
    """
    answers = _left_out_answers(clips, models, seed, results_dir)
    return pd.DataFrame(
        [facts | dimension_scores(part, proba, heard=heard) for facts, part, proba, heard, _ in answers]
    )


def not_speech(*, sr=16_000, duration_s=2.0):
    """Make sounds that nobody speaks.

    Parameters
    ----------
    sr : int > 0 [Hz]
    duration_s : float > 0 [s]

    Returns
    -------
    sounds : dict of str to np.ndarray [shape=(n_samples,)]
        "tone" (440 Hz), "hum" (mains, 50 Hz and harmonics), "hiss" (white noise), "siren" (300 to 900 Hz).
    """
    t = np.arange(round(duration_s * sr)) / sr
    sounds = {
        "tone": 0.3 * np.sin(2 * np.pi * 440 * t),
        "hum": 0.1 * sum(np.sin(2 * np.pi * 50 * k * t) / k for k in range(1, 20)),
        "hiss": 0.1 * np.random.default_rng(settings.SEED).normal(size=len(t)),
        "siren": 0.2 * np.sin(2 * np.pi * np.cumsum(600 + 300 * np.sin(2 * np.pi * t)) / sr),
    }
    return {name: y.astype(np.float32) for name, y in sounds.items()}


def novelty_table(clips, features, *, config=FeatureConfig()):
    """Try the warning "unlike the training data" on each corpus in turn, learned from the others.

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
        Of several corpora.
    features : list of np.ndarray [shape=(n_mels, n_frames)]
        Their log-mel spectrograms.
    config : FeatureConfig
        By which they were computed.

    Returns
    -------
    table : pd.DataFrame
        One row a left-out corpus: ``left_out``, then the share of clips that are warned of: ``heard`` (of the
        corpora learned from) and ``unheard`` (of the one left out); then for each sound of `not_speech` its distance,
        as a share of the limit: above 1 is warned of.
    """
    rows, corpora = [], clips["corpus"].to_numpy()
    sounds = {name: compute(y, config=config) for name, y in not_speech(sr=config.sr).items()}
    for left_out in np.unique(corpora):
        known = np.flatnonzero(corpora != left_out)
        novelty = fit_novelty([features[i] for i in known], clips["speaker"].iloc[known])
        warned = np.array([novelty(S_db) > 1 for S_db in features])
        row = {"left_out": left_out, "heard": warned[known].mean(), "unheard": warned[corpora == left_out].mean()}
        rows.append(row | {name: novelty(S_db) for name, S_db in sounds.items()})
    return pd.DataFrame(rows)
