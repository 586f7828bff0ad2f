"""labels: the eight emotions in RAVDESS order, with one colour-blind-safe colour each."""

from sercore.errors import ConfigError

#: The order of every probability vector and confusion matrix in sercore: RAVDESS codes 01 to 08.
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")

#: Okabe & Ito (2008), "Color Universal Design", with a dark grey for its black, and Tol's wine
#: (2021, "Colour schemes") for its yellow, which is too pale on white. Told apart in every colour vision (tests).
COLORS = {
    "neutral": "#5F5F5F",
    "calm": "#56B4E9",
    "happy": "#E69F00",
    "sad": "#0072B2",
    "angry": "#D55E00",
    "fearful": "#CC79A7",
    "disgust": "#009E73",
    "surprised": "#661100",
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
