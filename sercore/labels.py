"""labels: the eight emotions in RAVDESS order, with one colour-blind-safe colour each."""

from sercore.errors import ConfigError

#: The order of every probability vector and confusion matrix in sercore: RAVDESS codes 01 to 08.
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")

#: Okabe & Ito (2008), "Color Universal Design", with the black taken by a mid grey for neutral.
COLORS = {
    "neutral": "#7F7F7F",
    "calm": "#56B4E9",
    "happy": "#E69F00",
    "sad": "#0072B2",
    "angry": "#D55E00",
    "fearful": "#CC79A7",
    "disgust": "#009E73",
    "surprised": "#B8A800",
}


def emotion_index(emotion):
    """Give the position of an emotion in `EMOTIONS`.

    Parameters
    ----------
    emotion : str

    Returns
    -------
    index : int in [0, 7]

    Raises
    ------
    ConfigError
        If `emotion` is not one of `EMOTIONS`.
    """
    try:
        return EMOTIONS.index(emotion)
    except ValueError:
        raise ConfigError(f"Bad emotion {emotion!r}: expected one of {list(EMOTIONS)}.") from None
