"""recipes: everything that makes a training but the data, the division and the seed; by name."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace

from sercore import settings
from sercore.augment import SpectrogramWarp, WaveformAugment
from sercore.errors import ConfigError
from sercore.features import FeatureConfig
from sercore.labels import EIGHT, EMOTIONS
from sercore.models import MODELS, WhisperSummary, all_options
from sercore.train import TrainConfig

#: Test-time augmentation: a clip as it is, a tenth slower and a tenth faster, as far as a warp goes in training.
TEMPOS = (0.9, 1.0, 1.1)


@dataclass(frozen=True)
class Recipe:
    """All that makes a training, but the data, the division and the seed."""

    #: Key of `RECIPES`, recorded with the scores.
    name: str = "standard"
    #: Key of `sercore.models.MODELS`, and options of the architecture.
    model: str = "cnn"
    model_config: dict = field(default_factory=dict)
    features: FeatureConfig = FeatureConfig()
    #: How copies of training clips are varied, how many each clip has, and how often one stands in for it.
    augment: WaveformAugment | None = WaveformAugment()
    copies: int = 6
    augmented_share: float = 0.5
    #: Varies every training window anew each epoch, copies too; copies alone where the network reads no spectrogram.
    warp: SpectrogramWarp | None = None
    #: Networks of odd seeds are shown vectors in other voices, as `sercore.dataset.Voices` makes them; those of even seeds
    #: as they are. Together they know strangers better than the even ones, and the corpora heard better than the odd ones.
    other_voices: bool = False
    #: Of the masks.
    max_bands: int = 8
    max_frames: int = 20
    n_val_speakers: int = 4
    #: Design whose answers are learned besides the labels, as `sercore.crossval.taught` says.
    teacher: str | None = None
    #: At which a clip is scored, as `sercore.models.Ensemble` says.
    tempos: tuple = (1.0,)
    #: Train twice a fold, the first time with validation speakers held out, for the temperature.
    calibrate: bool = True
    #: Find the temperature on corpora left out in turn, not on validation speakers, where there are several.
    across: bool = False
    train: TrainConfig = TrainConfig()

    @property
    def key(self) -> str:
        """Short fingerprint of what is trained, for names of folders; the seed is no part of it."""
        settled = asdict(self.seeded(settings.SEED))
        settled["model_config"] = all_options(self.model, self.model_config)
        del settled["calibrate"], settled["across"], settled["name"], settled["tempos"]
        for newer in ("teacher", "other_voices"):  # as before there were any, so that older runs are found
            if not settled[newer]:
                del settled[newer]
        if EMOTIONS != EIGHT:
            settled["emotions"] = EMOTIONS
        return hashlib.blake2b(json.dumps(settled, sort_keys=True).encode(), digest_size=4).hexdigest()

    @property
    def kind(self) -> str:
        """Feature that is computed of a clip: a key of `sercore.features.KINDS`, or "words"."""
        return "log_mel" if self.embed else MODELS[self.model].kind

    @property
    def embed(self) -> WhisperSummary | None:
        """What is made of that feature before the network reads it."""
        if MODELS[self.model].kind != "whisper":
            return None
        return WhisperSummary(self.features, all_options(self.model, self.model_config)["layers"], self.warp)

    def seeded(self, seed: int) -> "Recipe":
        """Give the same recipe with another seed."""
        return replace(self, train=replace(self.train, seed=seed))


#: What a name changes in the standard recipe. What is never seen twice takes longer to learn, so "warped" trains twice
#: as long. "any_voice" is for voices, rooms and microphones of no corpus at hand: no copies, whose kinds of change the
#: warp has too, and a third of the epochs, after which a network begins to know its own speakers too well.
RECIPES = {
    "standard": {},
    "warped": {
        "warp": SpectrogramWarp(),
        "tempos": TEMPOS,
        "train": TrainConfig(epochs=120, patience=120),
    },
    "any_voice": {
        "features": FeatureConfig(level="clip"),
        "copies": 0,
        "train": TrainConfig(epochs=20),
        "warp": SpectrogramWarp(
            max_gain_db=3.0, equalizer_db=6.0, channel_share=0.4, max_shift_bands=3.0, max_stretch=0.15
        ),
    },
}
RECIPES["small"] = RECIPES["any_voice"] | {
    "warp": SpectrogramWarp(),
    "train": TrainConfig(epochs=60, label_smoothing=0.0),
    "calibrate": False,
    "teacher": "whisper_head",
}
#: Whisper's own front end, but for the level: its loudest bin is 0 dB, so that no gain of a recorder changes an answer.
WHISPER_FEATURES = FeatureConfig(
    n_fft=400,
    win_length=400,
    hop_length=160,
    n_mels=80,
    fmin_hz=0.0,
    level="clip",
    db_center=-40.0,
    db_scale=40.0,
    n_frames=300,
)
#: What a design needs whatever the recipe: two take four to seven times as long as the house CNN for an epoch, and
#: vectors have no tempo.
DESIGNS = {
    "cnn_transformer": {"train": TrainConfig(epochs=30)},
    "resnet18": {"train": TrainConfig(epochs=20), "model_config": {"pretrained": True}},
    "whisper_head": {
        "features": WHISPER_FEATURES,
        "augment": None,
        "copies": 6,
        "augmented_share": 0.8,
        "warp": SpectrogramWarp(
            max_shift_bands=2.5, max_stretch=0.12, equalizer_db=4.0, channel_share=0.3, max_noise_db=-20.0
        ),
        "calibrate": True,
        "train": TrainConfig(
            epochs=25, batch_size=128, lr=2e-3, weight_decay=0.05, mixup_alpha=0.3, label_smoothing=0.1
        ),
    },
    "conv1d": {"tempos": (1.0,)},
    "functionals_svm": {"tempos": (1.0,)},
    "transcript_rnn": {"tempos": (1.0,)},
}
#: With several corpora an epoch is longer, and what is learned of their speakers serves nobody else.
DESIGNS["whisper_head", "any_voice"] = DESIGNS["whisper_head"] | {
    "across": True,
    "other_voices": True,
    "copies": 4,
    "train": replace(DESIGNS["whisper_head"]["train"], epochs=16),
}
#: Few clips make few steps: smaller batches, a running mean of the weights with a shorter memory, and for the house CNN
#: a quarter of the spectrogram, so that in the same time it learns for more epochs.
SMOKE = {"epochs": 12, "batch_size": 16, "ema_decay": 0.9}
SMOKE_FEATURES = {"n_mels": 32, "hop_length": 512, "n_frames": 88}


def recipe_for(name: str = "standard", *, model: str = "cnn", profile: str | None = None, **changes) -> Recipe:
    """Give a documented recipe.

    Parameters
    ----------
    name : str
        A key of `RECIPES`.
    model : str
        A design, trained as the house CNN is but for what `DESIGNS` says, and without a temperature.
    profile : {"full", "smoke"}, optional
        Default: `settings.profile()`. "smoke" trains a few epochs on the synthetic corpus.
    **changes
        Other fields of `Recipe`.

    Raises
    ------
    ConfigError
        If there is no recipe or design of that name.

    Examples
    --------
    >>> recipe_for("warped", profile="full").train.epochs
    120
    """
    if name not in RECIPES:
        raise ConfigError(f"Bad recipe {name!r}: expected one of {list(RECIPES)}.")
    if model not in (designs := sorted(set(MODELS) - {"ensemble", "whisper_encoder"})):
        raise ConfigError(f"Bad model {model!r}: expected one of {designs}; several seeds answer together.")
    options = (
        {"calibrate": model == "cnn"} | RECIPES[name] | (DESIGNS.get((model, name)) or DESIGNS.get(model, {})) | changes
    )
    recipe = Recipe(name=name, model=model, **options)
    if (profile or settings.profile()) == "full":
        return recipe
    if model == "cnn":
        features = replace(recipe.features, **SMOKE_FEATURES)
        recipe = replace(recipe, features=features, max_bands=4, max_frames=10)
    return replace(recipe, copies=min(recipe.copies, 1), n_val_speakers=2, train=replace(recipe.train, **SMOKE))
