"""labels: the eight emotions in RAVDESS order, or a set of one's own, with one colour-blind-safe colour each."""

from sercore import settings

#: RAVDESS codes 01 to 08.
EIGHT = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
#: The order of every probability vector and confusion matrix: the eight, or what `SERCORE_EMOTIONS` says.
EMOTIONS = settings.own_emotions() or EIGHT

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
_FREE = [color for emotion, color in COLORS.items() if emotion not in EMOTIONS]
COLORS = {emotion: COLORS.get(emotion) or _FREE.pop(0) for emotion in EMOTIONS}
