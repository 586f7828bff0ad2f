"""Visit the web page without a browser, over and over, and print what it costs.

    python tests/benchmarks/soak.py --record                                     an hour on two cores
    python tests/benchmarks/soak.py --uploads 50 --sessions 10 --strays 50       a few minutes

Together: so many visitors at once, each of whom uploads one recording. Strays: so many requests for the page by crawlers
while a visitor works. Sessions: so many visitors in sequence. Uploads: so many recordings in one session. Memory is
proportional set size (Pss): pages shared by several processes are counted once.
"""

import argparse
import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import soundfile as sf
from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1, serialize_msg_to_ws_v1
from websocket import ABNF, WebSocketException, WebSocketTimeoutException, create_connection

from sercore import settings
from sercore.corpora.synthetic import synthesize
from sercore.records import record
from sercore.train import processor

ROOT = Path(__file__).resolve().parents[2]
PROTOCOL = "v1.kernel.websocket.jupyter.org"
START_S, ANSWER_S = 600, 120


@contextlib.contextmanager
def serve(folder, *options, **environment):
    """Start the web page with its own home folder; give its address and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "notebooks/app/serve.py", f"--port={port}", "--Voila.port_retries=0", *options]
    places = {"HOME": str(folder), "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | places | environment, stdout=log, stderr=log, cwd=folder)
    base = next((option.split("=")[1] for option in options if option.startswith("--base_url=")), "/")
    try:
        deadline = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The web page did not start:\n{(folder / 'log').read_text()[-3000:]}")
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}{base}", psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


class Visitor:
    """One session: opens the page, finds its widgets, uploads, closes."""

    def __init__(self, address, query=""):
        self.address = address
        request = urllib.request.urlopen(address + query, timeout=ANSWER_S)
        self.html = request.read().decode()
        self.cookies = "; ".join(cookie.split(";")[0] for cookie in request.headers.get_all("Set-Cookie", ()))
        self.kernel = re.search(r'"kernelId": "([^"]+)"', self.html).group(1)
        self.socket = self.connect()
        self.states = self._states()

    def connect(self, **options):
        place = (
            f"{self.address.replace('http', 'ws', 1)}api/kernels/{self.kernel}/channels?session_id={uuid.uuid4().hex}"
        )
        return create_connection(place, timeout=ANSWER_S, **{"subprotocols": [PROTOCOL]} | options)

    def send(self, msg_type, content, *, channel="shell", buffers=()):
        header = {"msg_id": uuid.uuid4().hex, "msg_type": msg_type, "username": "", "session": "visitor"}
        header |= {"version": "5.3", "date": "2026-01-01T00:00:00Z"}
        message = {"header": header, "parent_header": {}, "content": content}
        message["metadata"] = {"version": "1.0.0"}  # of the protocol by which widgets list themselves
        parts = [json.dumps(message[part]).encode() for part in ("header", "parent_header", "metadata", "content")]
        self.socket.send_binary(serialize_msg_to_ws_v1([*parts, *buffers], channel))

    def receive(self, timeout_s=ANSWER_S):
        """Give the next message, or None if none comes; the server's pings are none."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left_s)
            try:
                kind, message = self.socket.recv_data(control_frame=True)
            except WebSocketTimeoutException:
                break
            if kind == ABNF.OPCODE_BINARY:
                channel, parts = deserialize_msg_from_ws_v1(message)
                return {"channel": channel, "header": json.loads(parts[0]), "content": json.loads(parts[3])}
            if kind == ABNF.OPCODE_PING:
                self.socket.pong(message)
            if kind == ABNF.OPCODE_CLOSE:
                raise ConnectionError(f"The server closed the connection: {message!r}.")
        return None

    def _states(self):
        comm = uuid.uuid4().hex
        self.send("comm_open", {"comm_id": comm, "target_name": "jupyter.widget.control", "data": {}})
        self.send("comm_msg", {"comm_id": comm, "data": {"method": "request_states"}})
        while message := self.receive():
            if message["content"].get("data", {}).get("method") == "update_states":
                return {name: model["state"] for name, model in message["content"]["data"]["states"].items()}
        raise TimeoutError("The page's kernel did not list its widgets.")

    def tell(self, kind, *, buffers=(), **values):
        """Send the demo a message, as its scripts do."""
        model = next(name for name, state in self.states.items() if "page" in state)
        data = {"method": "custom", "content": {"kind": kind, **values}}
        self.send("comm_msg", {"comm_id": model, "data": data}, buffers=buffers)

    def shown(self):
        """Give what the demo tells a page that is opened: its cards, and then its table."""
        told = []
        self.tell("hello")
        while message := self.receive():
            told.append(message["content"].get("data", {}).get("content", {}))
            if told[-1].get("kind") == "table":
                return told
        raise TimeoutError("The demo did not say what it shows.")

    def upload(self, name, content):
        """Upload as the drop zone does; give the HTML of the verdict or of the complaint, and the seconds it took."""
        start = time.monotonic()
        self.tell("file", buffers=[content], name=name, size=len(content), offset=0)
        card, took_s = None, None
        while message := self.receive():
            text = json.dumps(message["content"])
            if card is None and ("ser-verdict" in text or "ser-error" in text):
                card, took_s = text, time.monotonic() - start
            if card and message["content"].get("data", {}).get("content", {}).get("kind") == "arrived":
                return card, took_s
        raise TimeoutError(f"No answer to {name}.")

    def close(self):
        """Leave as a page does that is closed; a session that is over already is no error."""
        token = re.search("_xsrf=([^;]+)", self.cookies).group(1)
        request = urllib.request.Request(f"{self.address}voila/api/shutdown/{self.kernel}", data=b"")
        request.add_header("Cookie", self.cookies)
        request.add_header("X-XSRFToken", token)
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=ANSWER_S)
        with contextlib.suppress(OSError, WebSocketException):
            self.socket.close()


def memory_mb(process):
    """Give the memory of a process and all it started [MB], as (whole, each session on average)."""
    parts = {p.pid: p.memory_full_info().pss / 2**20 for p in [process, *process.children(recursive=True)]}
    sessions = [parts[p.pid] for child in process.children() for p in child.children()]
    return sum(parts.values()), sum(sessions) / max(1, len(sessions))


def recording(seconds=3):
    """Give a WAV file of synthetic speech."""
    file = io.BytesIO()
    sf.write(file, np.resize(synthesize("happy", sr=16_000), seconds * 16_000), 16_000, format="WAV")
    return file.getvalue()


def soak_uploads(address, process, n):
    """Upload n recordings in one session, none explained; give the seconds of each answer and the memory [MB] at ten moments."""
    visitor, content, seconds, memory = Visitor(address), recording(), [], []
    visitor.tell("explain", on=False)  # or each would wait for the explanation of the one before
    for i in range(n):
        card, took_s = visitor.upload(f"{i}.wav", content)
        assert "ser-verdict" in card, card
        seconds.append(took_s)
        if (i + 1) % max(1, n // 10) == 0:
            _rest(process)
            memory.append(memory_mb(process)[0])
    visitor.close()
    return seconds, memory


def soak_sessions(address, process, n):
    """Let n visitors come one after the other; give the same, for the seconds until the widgets are there."""
    content, seconds, memory = recording(), [], []
    for i in range(n):
        start = time.monotonic()
        visitor = Visitor(address)
        seconds.append(time.monotonic() - start)
        visitor.upload("one.wav", content)
        visitor.close()
        if (i + 1) % max(1, n // 10) == 0:
            memory.append(memory_mb(process)[0])
    return seconds, memory


def soak_together(address, process, n):
    """Let n visitors come at once, then upload at once; give seconds until widgets, until answers, memory [MB]."""
    content = recording()
    with ThreadPoolExecutor(n) as pool:
        start = time.monotonic()
        visitors = list(pool.map(lambda _: Visitor(address), range(n)))
        opened_s = time.monotonic() - start
        answers = list(pool.map(lambda i: visitors[i].upload(f"visitor-{i}.wav", content), range(n)))
        whole, each = memory_mb(process)
        list(pool.map(Visitor.close, visitors))
    for i, (card, _) in enumerate(answers):
        assert "ser-verdict" in card and f"visitor-{i}.wav" in card, card
    return opened_s, [took_s for _, took_s in answers], whole, each


def soak_strays(address, process, n):
    """Let crawlers ask for the page n times while a visitor works; give the seconds of the visitor's answers, and memory."""
    visitor, content, seconds, memory = Visitor(address), recording(), [], [memory_mb(process)[0]]
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(_stray, address) for _ in range(n)]
        while not all(one.done() for one in asked):
            seconds.append(visitor.upload(f"{len(seconds)}.wav", content)[1])
    memory.append(memory_mb(process)[0])
    visitor.close()
    n_full = sum(one.result() == 503 for one in asked)
    time.sleep(45)  # a session that no page meets ends after 30 s
    Visitor(address).close()
    print(f"{n_full} of {n} stray requests met a full house; after 45 s a visitor came in")
    return seconds, memory


def _stray(address):
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_S) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--together", type=int, default=20)
    parser.add_argument("--strays", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--uploads", type=int, default=1000)
    parser.add_argument("--record", action="store_true", help="write the rows to data/results/load.csv")
    wanted, rows = parser.parse_args(), []
    with tempfile.TemporaryDirectory() as folder:
        with serve(Path(folder), f"--Sessions.max_sessions={wanted.together + 1}") as (address, process):
            if wanted.together:
                opened_s, answers, whole, each = soak_together(address, process, wanted.together)
                rows.append(["at once: until the page is there", wanted.together, opened_s, opened_s, whole, whole])
                rows.append(["at once: an answer", wanted.together, np.median(answers), max(answers), each, each])
            for what, soak, n in (
                ("stray requests, an answer meanwhile", soak_strays, wanted.strays),
                ("sessions, one after the other: until the page is there", soak_sessions, wanted.sessions),
                ("recordings in one session, an answer", soak_uploads, wanted.uploads),
            ):
                if n:
                    seconds, memory = soak(address, process, n)
                    print(f"{n} {what}: memory {', '.join(f'{mb:.0f}' for mb in memory)} MB", flush=True)
                    rows.append([what, n, np.median(seconds), max(seconds), memory[0], memory[-1]])
    table = pd.DataFrame(rows, columns=["what", "n", "median_s", "longest_s", "first_mb", "last_mb"]).round(3)
    table = table.assign(processor=processor(), load=round(os.getloadavg()[0], 1), commit=settings.commit())
    print(table.iloc[:, :6].to_string(index=False))
    if wanted.record:
        record(settings.results_dir() / "load.csv", table, keys=("what",))


def _rest(process):
    """Wait until nothing computes any more: the explanation of a clip comes after its answer."""
    before = -1
    while (now := sum(sum(p.cpu_times()[:2]) for p in process.children(recursive=True))) - before > 0.05:
        before = now
        time.sleep(1)


def _listens(port):
    with socket.socket() as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    main()
