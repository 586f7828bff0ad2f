"""sercore: from a voice recording to an emotion, with a CNN, and with honest numbers about unseen speakers."""

__version__ = "0.1.0"
__all__ = ["Predictor", "load_corpus", "predict_emotion"]

_HOMES = {"Predictor": "sercore.predict", "predict_emotion": "sercore.predict", "load_corpus": "sercore.corpora"}


def __getattr__(name):
    # Imported on first use: `import sercore` alone stays quick, and `sercore --help` need not wait for torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sercore' has no attribute {name!r}")
