"""corpora.synthetic: a made-up corpus of voice-like clips, so that everything runs without a download."""

from io import BytesIO
from numbers import Integral
from pathlib import Path

import librosa
import numpy as np
import soundfile as sf
import soxr
from joblib import Parallel, delayed
from scipy.ndimage import gaussian_filter1d
from scipy.signal import fftconvolve

from sercore import settings
from sercore.corpora import ravdess
from sercore.corpora.corpus import Corpus
from sercore.errors import ConfigError
from sercore.labels import EIGHT

#: Raise it with any change of sound: it names the cache folder, so old clips are never taken for new ones.
VERSION = "v2"
SR = 16000
#: Twelve of the RAVDESS actor numbers: a man and a woman in every RAVDESS fold and in every run of four.
SPEAKERS = (1, 4, 5, 6, 11, 12, 13, 14, 17, 18, 23, 24)

#: The two RAVDESS sentences, "Kids are talking by the door" and "Dogs are sitting by the door", in the
#: phones below; `_` is the closure before a stop, `'` marks a stressed vowel.
STATEMENTS = (
    "_ k ih' _ d z aa r _ t ao' _ k ih ng _ b aa iy dh ah _ d ao' r",
    "_ d ao' _ g z aa r s ih' _ t ih ng _ b aa iy dh ah _ d ao' r",
)

#: F1, F2, F3 [Hz] of a man (vowels: Peterson & Barney, 1952, "Control methods used in a study of the
#: vowels", JASA 24), voicing and friction [0..1], centre of the friction [Hz], duration [ms].
PHONES = {
    "iy": (270, 2290, 3010, 1.0, 0.0, 3000, 90),
    "ih": (390, 1990, 2550, 1.0, 0.0, 3000, 85),
    "aa": (730, 1090, 2440, 1.0, 0.0, 3000, 110),
    "ao": (570, 840, 2410, 1.0, 0.0, 3000, 120),
    "ah": (640, 1190, 2390, 0.9, 0.0, 3000, 70),
    "r": (490, 1350, 1690, 0.7, 0.0, 3000, 70),
    "ng": (280, 1900, 2600, 0.4, 0.0, 3000, 70),
    "dh": (300, 1400, 2600, 0.4, 0.1, 4500, 45),
    "z": (300, 1600, 2600, 0.3, 0.5, 5800, 70),
    "s": (350, 1600, 2600, 0.0, 0.9, 6000, 95),
    "b": (250, 900, 2300, 0.3, 0.2, 900, 15),
    "d": (250, 1700, 2600, 0.3, 0.5, 4000, 20),
    "g": (250, 1900, 2300, 0.3, 0.4, 2000, 25),
    "t": (350, 1700, 2600, 0.0, 0.9, 4500, 45),
    "k": (350, 1900, 2400, 0.0, 0.8, 2200, 45),
    "_": (300, 1400, 2500, 0.04, 0.0, 2500, 45),
}

#: Pitch, accent height, final movement [semitones], tempo [log2], level [dB re full scale], spectral tilt [dB/octave],
#: rate of the tremor [log2 re 4.5 Hz], breathiness, roughness, tremor [share of full]: the neutral way to speak, and each
#: emotion's departure from it, after the tendencies in Scherer (2003), "Vocal communication of emotion", Speech
#: Communication 40. No mean or deviation over a clip tells the rate: it is for networks.
PROSODY = ("pitch", "accent", "final", "tempo", "level", "tilt", "rate", "breath", "rough", "tremor")
NEUTRAL_WAY = np.array([0.0, 2.0, -3.0, 0.0, -28.0, -2.0, 0.0, 0.10, 0.10, 0.25])
DEPARTURES = {
    "neutral": (0.0, 0.0, 0.0, 0.00, 0.0, 0.0, 0.0, 0.00, 0.00, 0.00),
    "calm": (-1.0, -0.7, 0.5, -0.15, -2.5, -0.6, -0.6, 0.08, 0.00, 0.10),
    "happy": (4.0, 2.5, 2.0, 0.05, 3.5, 1.0, 0.3, 0.00, 0.00, 0.30),
    "sad": (-1.5, -1.2, -1.0, -0.24, -4.0, -1.2, -0.8, 0.20, 0.08, 0.35),
    "angry": (3.5, 1.5, -2.0, 0.15, 7.0, 1.9, 0.7, -0.05, 0.24, 0.25),
    "fearful": (5.5, -0.5, 1.0, 0.22, 2.0, 0.4, 1.0, 0.16, 0.12, 0.50),
    "disgust": (-0.5, 0.8, -2.5, -0.20, 0.4, 0.5, -0.4, 0.04, 0.40, 0.40),
    "surprised": (4.0, 2.0, 11.0, 0.00, 1.6, 0.4, 0.2, 0.12, 0.00, 0.20),
}
#: One standard deviation of what chance does to a clip, of a speaker's neutral way, and of each speaker's habits with
#: each emotion: a known speaker's can be learned, an unseen one's cannot, and that is what real corpora teach.
CHANCE = np.array([0.45, 0.35, 0.5, 0.035, 0.9, 0.25, 0.06, 0.025, 0.025, 0.05])
OWN = np.array([2.0, 0.7, 1.0, 0.12, 3.0, 0.9, 0.15, 0.06, 0.08, 0.05])
HABITS = 0.8 * np.std(list(DEPARTURES.values()), axis=0)
INTENSITIES = {"normal": 0.85, "strong": 1.3}  # how much of its emotion's departure a clip shows

_HOP, _N_FFT = 80, 512  # samples: the vocal tract moves every 5 ms
_BINS_HZ = np.fft.rfftfreq(_N_FFT, 1 / SR)[:, None]


def write_corpus(root: str | Path) -> Path:
    """Write RAVDESS's first repetitions by `SPEAKERS` as 16-bit WAV files; files already there are left alone."""
    todo = []
    for stem in ravdess.expected_files():
        path, fields = Path(root, f"Actor_{stem[-2:]}", f"{stem}.wav"), ravdess.parse(stem)
        if fields["actor"] in SPEAKERS and fields["repetition"] == 1 and not path.exists():
            todo.append((path, fields, int(stem[12:14])))
    # To start processes takes longer than to speak a few clips.
    Parallel(n_jobs=-1 if len(todo) > 100 else 1)(delayed(_write)(*one) for one in todo)
    return Path(root)


def _write(path, fields, statement):
    how = {"speaker": fields["actor"], "intensity": fields["intensity"], "statement": statement}
    sound = BytesIO()
    sf.write(sound, synthesize(fields["emotion"], **how), SR, subtype="PCM_16", format="WAV")
    settings.write_atomic(path, sound.getvalue())


def synthesize(
    emotion: str, *, speaker: int = 1, statement: int = 1, repetition: int = 1, intensity: str = "normal", sr: int = SR
) -> np.ndarray:
    """Speak a sentence by a source-filter synthesiser: glottal pulses and noise through moving formants.

    Parameters
    ----------
    emotion : str
        One of `labels.EIGHT`.
    speaker : int in [1, 24]
        Odd speakers have a man's pitch and vocal tract, even ones a woman's, as in RAVDESS.
    statement, repetition : int in [1, 2]
    intensity : {"normal", "strong"}
        Neutral is always normal, as in RAVDESS.
    sr : int > 0 [Hz]

    Returns
    -------
    y : np.ndarray [shape=(n_samples,)]
        Float32, full scale ±1, about two seconds; the same arguments give the same wave.

    Raises
    ------
    ConfigError
        If an argument has none of the values above.

    Examples
    --------
    >>> synthesize("angry", speaker=12).dtype
    dtype('float32')
    """
    if emotion not in EIGHT:
        raise ConfigError(f"Bad emotion {emotion!r}: expected one of {list(EIGHT)}.")
    emotion_code = EIGHT.index(emotion)
    for name, value, last in (("speaker", speaker, 24), ("statement", statement, 2), ("repetition", repetition, 2)):
        if not isinstance(value, Integral) or not 1 <= value <= last:
            raise ConfigError(f"Bad {name} {value!r}: expected an integer from 1 to {last}.")
    allowed = list(INTENSITIES)[: 1 if emotion == "neutral" else 2]
    if intensity not in allowed:
        raise ConfigError(f"Bad intensity {intensity!r} for {emotion}: expected one of {allowed}.")
    if not isinstance(sr, Integral) or sr <= 0:
        raise ConfigError(f"Bad sr {sr!r}: expected a positive integer, in Hz.")

    # What a speaker keeps in every clip; a shorter vocal tract moves all formants up.
    own = np.random.default_rng(speaker)
    pitch_hz, tract = (112, 1.0) if speaker % 2 else (200, 1.16)
    way = NEUTRAL_WAY + OWN * own.standard_normal(len(PROSODY))
    habits = HABITS * own.standard_normal((len(DEPARTURES), len(PROSODY)))
    voice = {"pitch_hz": pitch_hz, "tract": tract, "formants": tract * own.uniform(0.92, 1.08, (3, 1))}

    rng = np.random.default_rng((speaker, emotion_code, allowed.index(intensity), statement, repetition))
    values = way + INTENSITIES[intensity] * (DEPARTURES[emotion] + habits[emotion_code])
    values += CHANCE * rng.standard_normal(len(PROSODY))
    values[-3:] = values[-3:].clip(0, 1)
    way = dict(zip(PROSODY, values, strict=True))

    y = _sound(_articulate(STATEMENTS[statement - 1].split(), way, voice, rng), way, voice, rng)
    y *= 10 ** (way["level"] / 20) / np.std(y)
    y += 10 ** (-66 / 20) * gaussian_filter1d(rng.standard_normal(y.size), 1)  # the room's own noise
    y = 0.9 * np.tanh(y / 0.9)  # a soft limit: strong anger must not clip
    return (y if sr == SR else soxr.resample(y, SR, sr).clip(-1, 1)).astype(np.float32)


def _articulate(tokens, way, voice, rng):
    """Turn phones into tracks of one value per 5 ms: formants, voicing, friction and its centre, pitch."""
    rows = np.array([PHONES[token.rstrip("'")] for token in tokens])
    stress = np.array([token.endswith("'") for token in tokens]).astype(float)
    n_frames = rows[:, 6] / 5 * (1 + 0.4 * stress) * rng.uniform(0.9, 1.1, len(rows)) / 2 ** way["tempo"]
    n_frames[-2:] *= 1.4  # the last syllable is drawn out
    n_frames = n_frames.round().astype(int)
    silence = rng.integers(24, 44, 2)  # frames before and after
    held = np.column_stack([rows[:, :6], stress])
    held = np.pad(np.repeat(held, n_frames, axis=0), (silence, (0, 0)), mode="edge")
    held[: silence[0], 3:] = held[-silence[1] :, 3:5] = held[-silence[1] :, 6] = 0

    t = (np.arange(len(held)) - silence[0]) / n_frames.sum()  # 0 to 1 over the sentence
    pitch_st = way["pitch"] + 2 * (0.5 - t) + 1.5 * way["accent"] * gaussian_filter1d(held[:, 6], 9)
    pitch_st += way["final"] * ((t - 0.75) / 0.25).clip(0, 1) ** 2
    pitch_st += 1.6 * gaussian_filter1d(rng.standard_normal(len(t)), 12)  # no voice is steady
    tremor = way["tremor"] * np.sin(2 * np.pi * 4.5 * 2 ** way["rate"] * 0.005 * np.arange(len(held)))
    strength = (1.15 - 0.4 * t.clip(0, 1)) * (1 + tremor)
    return {
        "formants_hz": gaussian_filter1d(held[:, :3], 4, axis=0).T * voice["formants"],
        "voicing": gaussian_filter1d(held[:, 3] * (1 + 0.25 * held[:, 6]), 2.5) * strength,
        "friction": gaussian_filter1d(held[:, 4], 1.2),
        "friction_hz": gaussian_filter1d(np.maximum(held[:, 5], 500), 2) * voice["tract"] ** 0.5,
        "pitch_hz": voice["pitch_hz"] * 2 ** ((pitch_st + 1.2 * tremor) / 12),
    }


def _sound(tracks, way, voice, rng):
    """Send glottal pulses and breath through the vocal tract, add friction noise, and a small room."""
    n_frames = tracks["pitch_hz"].size
    frame = np.arange((n_frames - 1) * _HOP) / _HOP
    pitch_hz, voicing, friction = (
        np.interp(frame, np.arange(n_frames), tracks[name]) for name in ("pitch_hz", "voicing", "friction")
    )
    # Roughness is jitter (of a period's length) and shimmer (of its height); breath opens the glottis longer.
    period = np.cumsum(pitch_hz / SR).astype(int)
    jitter, shimmer = way["rough"] * rng.standard_normal((2, period[-1] + 1))[:, period]
    x = np.cumsum(pitch_hz / SR * (1 + 0.06 * jitter)) % 1 / (0.38 + 0.12 * way["breath"])
    # Rosenberg (1971), "Effect of glottal pulse shape on the quality of natural vowels", JASA 49, pulse C.
    flow = np.where(x < 1, 0.5 - 0.5 * np.cos(np.pi * x), np.where(x < 1.4, np.cos(np.pi * (x - 1) / 0.8), 0))
    pulses = np.diff(flow, prepend=0)
    source = pulses / pulses.std() * (1 + 0.4 * shimmer) * voicing
    source += 0.4 * way["breath"] * (0.4 + flow) * rng.standard_normal(frame.size) * (voicing + 0.5 * friction)
    tilt = 10 ** (way["tilt"] / 20 * np.log2(np.maximum(_BINS_HZ, 400) / 400))
    y = _filter(source, tilt * _tract(tracks["formants_hz"], voice["tract"]))

    octaves = np.log2(np.maximum(_BINS_HZ, 50) / tracks["friction_hz"])
    noise = _filter(friction * rng.standard_normal(frame.size), np.exp(-((octaves / 0.5) ** 2)))
    y = y / y.std() + 0.2 * noise / noise.std()
    echo = rng.standard_normal(2000) * np.exp(-np.arange(2000) / 400)
    return y + 0.1 * fftconvolve(y, echo / np.linalg.norm(echo))[: y.size]


def _tract(formants_hz, scale):
    """Response of a chain of resonators [shape=(n_bins, n_frames)], as in Klatt (1980), JASA 67."""
    z = np.exp(-2j * np.pi * _BINS_HZ / SR)
    numerator = denominator = 1
    higher_hz = scale * np.array([3500, 4500, 5500, 6500])
    for hz, width_hz in zip([*higher_hz, *formants_hz], (150, 180, 210, 240, 70, 110, 160), strict=True):
        radius = np.exp(-np.pi * width_hz / SR)
        a1, a2 = -2 * radius * np.cos(2 * np.pi * hz / SR), radius**2
        numerator, denominator = numerator * (1 + a1 + a2), denominator * (1 + a1 * z + a2 * z**2)
    return numerator / denominator


def _filter(y, response):
    frames = librosa.stft(y, n_fft=_N_FFT, hop_length=_HOP)
    return librosa.istft(frames * response, n_fft=_N_FFT, hop_length=_HOP, length=y.size)


CORPUS = Corpus(
    name="synthetic",
    title="Synthetic voice-like clips: nobody spoke them, and no score on them is a result",
    parse=ravdess.parse,
    licence="MIT, with sercore",
    n_files=360,
    official_path=ravdess.official_path,
)
