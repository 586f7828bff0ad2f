"""errors: what can go wrong, in a few names, each message saying what was met, where, and what was expected."""

import errno

#: Numbers of `OSError` that speak of a recording's path; all others, such as a full disk, are the machine's, never a clip's.
OF_THE_PATH = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP}


class SerError(Exception):
    """Root of every error that sercore raises on purpose."""


class AudioError(SerError, ValueError):
    """A recording or waveform that cannot be used."""


class SilenceError(AudioError):
    """A recording, or a part of one, without any sound."""


class CorpusError(SerError, ValueError):
    """A corpus folder, file name or label that cannot be right."""


class ConfigError(SerError, ValueError):
    """An option, setting or checkpoint that does not fit."""


def readable(name) -> str:
    """Write a file's name, which need not be UTF-8, as text that is: for tables and messages."""
    return str(name).encode("utf-8", "backslashreplace").decode()
