"""transcripts: what was said, by Whisper, for models that read words; an optional extra."""

import logging

from tqdm.auto import tqdm

from sercore.audio import load_audio
from sercore.errors import AudioError, ConfigError

logger = logging.getLogger(__name__)

#: Rate [Hz] that Whisper listens at.
SR = 16_000


def transcribe(paths, *, size="base", progress=True):
    """Write down what is said in each recording, for the ``statement`` of a corpus that has no transcripts.

    Parameters
    ----------
    paths : sequence of str or Path
    size : str
        Of the Whisper model: "tiny", "base", "small", …; with ".en" after it, for English alone. Fetched once.
    progress : bool

    Returns
    -------
    texts : list of str or None
        None for a recording that cannot be used; a warning says why.

    Raises
    ------
    ConfigError
        If the extra is not installed.

    References
    ----------
    Radford et al. (2022), "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv:2212.04356, run by
    https://github.com/SYSTRAN/faster-whisper.
    """
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise ConfigError("No faster-whisper: transcripts need `pip install 'sercore[transcripts]'`.") from error
    model = WhisperModel(size, device="cpu", compute_type="int8")
    texts = []
    for path in tqdm(paths, desc="transcripts", unit="clip", disable=not progress):
        try:
            segments, _ = model.transcribe(load_audio(path, sr=SR))
            texts.append(" ".join(segment.text.strip() for segment in segments))
        except AudioError as error:
            logger.warning("Left out: %s", error)
            texts.append(None)
    return texts
