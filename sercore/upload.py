"""upload: a drop zone, by which files of a browser reach the kernel whole or are refused."""

import anywidget
import traitlets

from sercore.decoder import SUFFIXES
from sercore.pieces import script

#: Largest recording [MB] that is taken, unless `build_demo` is told otherwise.
MAX_UPLOAD_MB = 30
ACCEPT = ",".join(["audio/*", *sorted(SUFFIXES)])


class Upload(anywidget.AnyWidget):
    """A drop zone with a button, which hands each file on as ``on_file(name, content, size)``, and ``on_idle()`` after the last.

    A file comes in parts, since Jupyter drops a message above 10 MB without a word; one above `max_mb` stays in the
    browser, and comes with its size and no content.
    """

    _esm = script("upload")
    words = traitlets.Dict().tag(sync=True)
    accept = traitlets.Unicode(ACCEPT).tag(sync=True)
    max_mb = traitlets.Float(MAX_UPLOAD_MB).tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)

    def __init__(self, on_file, on_idle, **options):
        super().__init__(**options)
        self._on_idle = on_idle
        # Here, for the browser can change what is synchronised.
        self._on_file, self._parts, self._max_bytes = on_file, bytearray(), self.max_mb * 10**6
        self.on_msg(self._receive)

    def _receive(self, _, message, buffers):
        name, size, offset = str(message["name"]), int(message["size"]), int(message["offset"])
        try:
            if offset == 0:
                self._parts = bytearray()
            # Two pages on one kernel may send at once; a file with a gap is worse than one that is refused.
            whole = offset == len(self._parts) and size <= self._max_bytes
            if whole:
                self._parts += b"".join(buffers)
            if not whole or len(self._parts) >= size:
                content, self._parts = bytes(self._parts) if whole else b"", bytearray()
                self._on_file(name, content, size)
        finally:
            self.send({"kind": "arrived"})
        if not self._parts and not message.get("waiting"):
            self._on_idle()
