"""download: against a real server on loopback that cuts, stalls, lies and refuses; killed at any point; no network at all."""

import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sercore import download as room
from sercore.corpora import CORPORA, emodb, load_corpus, ravdess, savee
from sercore.download import download, fetch, unpack, verify
from sercore.errors import ConfigError, CorpusError

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves `files`; each request first takes the next of `faults`, and is noted in `log` as (path, range, status)."""

    daemon_threads = True

    def __init__(self, files=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.faults, self.log = dict(files), [], []
        self.ranges, self.validators, self.slow_s = True, True, 0
        self.url = f"http://127.0.0.1:{self.server_port}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        """A client that was killed is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        fault, value = server.faults.pop(0) if server.faults else ("none", None)
        parts = urlsplit(self.path)  # a proxy is asked for the whole URL
        body = server.files.get(parts.path.lstrip("/") + (f"?{parts.query}" if parts.query else ""))
        if callable(body):
            body = body()
        if fault == "status":
            return self.answer(value[0], b"", value[1])
        if body is None:
            return self.answer(404, b"", {})
        etag = f'"{hashlib.md5(body).hexdigest()}"'
        start, status, headers = 0, 200, {"ETag": etag} if server.validators else {}
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and server.ranges and self.headers.get("If-Range") == etag:
            start, status = int(match[1]), 206
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if fault == "wrong":
            body = bytes(255 - byte for byte in body)
        if fault == "shifted":
            start += 1
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.answer(status, body[start:], headers, fault=fault, value=value)

    def answer(self, status, body, headers, *, fault="none", value=None):
        self.server.log.append((self.path, self.headers.get("Range"), status))
        self.send_response(status)
        for name, text in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        last = value if fault in ("cut", "stall") else len(body)
        for at in range(0, last, 8192):
            self.wfile.write(body[at : min(at + 8192, last)])
            time.sleep(self.server.slow_s)
        self.wfile.flush()
        if fault == "stall":
            time.sleep(60)
        if fault in ("cut", "stall"):
            self.close_connection = True


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(room, "TIMEOUT_S", 0.5)
    monkeypatch.setattr(room, "BACKOFF_S", 0)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    server = Server({"file.bin": CONTENT})
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def waits(monkeypatch):
    """The waits that were asked for, none of which is waited."""
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    monkeypatch.setattr(room, "BACKOFF_S", 0.5)
    return waits


def get(server, tmp_path, *, name="file.bin", **options):
    return fetch(server.url + name, tmp_path / "got" / name, progress=False, **options)


def wav(seed=0, n_samples=100):
    file = io.BytesIO()
    sf.write(file, 0.1 * np.random.default_rng(seed).standard_normal(n_samples), 16_000, format="WAV")
    return file.getvalue()


def zip_of(members, path=None):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.getvalue())
    return path or file.getvalue()


def small(monkeypatch, name, **changes):
    """Let a corpus have another number of clips, or other archives."""
    monkeypatch.setitem(CORPORA, name, replace(CORPORA[name], **changes))


def files_in(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- one file --------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_once(server, tmp_path):
    path = get(server, tmp_path, size=len(CONTENT), checksum=MD5)
    assert path.read_bytes() == CONTENT and os.listdir(path.parent) == ["file.bin"]
    assert get(server, tmp_path, checksum=MD5) == path
    assert server.log == [("/file.bin", None, 200)]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 20_000), min_size=1, max_size=5))
def test_a_cut_at_any_byte_is_gone_on_from(server, tmp_path_factory, cuts):
    """Of what was received, nothing is fetched again."""
    server.log.clear()
    server.faults[:] = [("cut", n) for n in cuts]
    path = get(server, tmp_path_factory.mktemp("cut"), checksum=MD5)
    assert path.read_bytes() == CONTENT
    starts = [int(asked[6:-1]) if asked else 0 for _, asked, _ in server.log]
    assert starts == [sum(cuts[:i]) for i in range(len(cuts) + 1)]


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server, tmp_path):
    server.faults = [("cut", 70_000), *[("cut", 0)] * 5]
    with pytest.raises(CorpusError, match="70000 bytes are kept: run it again to go on from there"):
        get(server, tmp_path, checksum=MD5)
    server.log.clear()
    assert get(server, tmp_path, checksum=MD5).read_bytes() == CONTENT
    assert server.log == [("/file.bin", "bytes=70000-", 206)]


def test_a_file_that_changed_is_begun_anew(server, tmp_path):
    versions = [CONTENT, CONTENT[::-1], CONTENT[::-1]]
    server.files["file.bin"] = lambda: versions.pop(0)
    server.faults = [("cut", 70_000)]
    assert get(server, tmp_path).read_bytes() == CONTENT[::-1]
    assert server.log == [("/file.bin", None, 200), ("/file.bin", "bytes=70000-", 200)]


@pytest.mark.parametrize("lacking", ["ranges", "validators"])
def test_a_server_that_cannot_resume_begins_anew(server, tmp_path, lacking):
    setattr(server, lacking, False)
    server.faults = [("cut", 70_000)]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.log == [("/file.bin", None, 200), ("/file.bin", "bytes=70000-" if lacking == "ranges" else None, 200)]


@pytest.mark.parametrize("fault", [("shifted", None), ("status", (416, {}))])
def test_a_part_that_was_not_asked_for_is_not_appended(server, tmp_path, fault):
    server.faults = [("cut", 70_000), fault]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_wrong_bytes_are_fetched_anew_once(server, tmp_path):
    server.faults = [("cut", 70_000), ("wrong", None)]
    assert get(server, tmp_path, checksum=MD5).read_bytes() == CONTENT
    server.faults = [("wrong", None)] * 2
    wrong = hashlib.md5(bytes(255 - byte for byte in CONTENT)).hexdigest()
    with pytest.raises(CorpusError, match=f"Bad checksum of .*file.bin: expected {MD5}, got md5:{wrong}, twice"):
        get(server, tmp_path / "again", checksum=MD5)
    assert os.listdir(tmp_path / "again" / "got") == []


def test_a_file_of_another_size_is_refused_before_it_fills_the_disk(server, tmp_path):
    with pytest.raises(CorpusError, match="expected 1000 bytes, the server has 300000"):
        get(server, tmp_path, size=1000)
    assert os.listdir(tmp_path / "got") == []


def test_a_stalled_server_is_left_and_asked_again(server, tmp_path):
    server.faults, begun = [("stall", 70_000)], time.monotonic()
    assert get(server, tmp_path, checksum=MD5).read_bytes() == CONTENT
    assert server.log[1:] == [("/file.bin", "bytes=70000-", 206)]
    assert time.monotonic() - begun < 30  # not the minute that the server is silent


def test_an_answer_without_end_is_cut_off(server, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "MAX_BYTES", len(CONTENT) // 2)
    with pytest.raises(CorpusError, match=r"Bad size of .*: more than the \d+ bytes expected"):
        fetch(f"{server.url}/file.bin", tmp_path / "file.bin", progress=False)


def test_a_busy_server_is_given_the_time_it_asks_for(server, tmp_path, waits):
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    server.faults = [("status", (429, {"Retry-After": "7"})), ("status", (503, {"Retry-After": at}))]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert waits[0] == 7 and 50 < waits[1] <= 60


def test_a_busy_server_that_does_not_say_how_long_is_asked_ever_more_rarely(server, tmp_path, waits):
    server.faults = [("status", (503, {}))] * 6
    with pytest.raises(CorpusError, match=r"Cannot fetch .*: the server answers 503 Service Unavailable"):
        get(server, tmp_path)
    assert waits == [1, 2, 4, 8] and len(server.log) == 6


def test_nobody_waits_for_an_hour(server, tmp_path, waits):
    server.faults = [("status", (429, {"Retry-After": "3600"}))]
    with pytest.raises(CorpusError, match=r"answers 429 and asks to wait 3600 s. Run it again then."):
        get(server, tmp_path)
    assert waits == []


def test_a_refusal_is_final(server, tmp_path):
    with pytest.raises(CorpusError, match=r"Cannot fetch .*nothing.bin: the server answers 404 Not Found"):
        get(server, tmp_path, name="nothing.bin")
    assert len(server.log) == 1


def test_proxies_of_the_environment_are_used(server, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    path = fetch("http://corpus.invalid/file.bin", tmp_path / "file.bin", progress=False)
    assert path.read_bytes() == CONTENT and server.log == [("http://corpus.invalid/file.bin", None, 200)]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    get(server, tmp_path)
    assert server.log[1:] == [("/file.bin", None, 200)]


# --- unpacking -------------------------------------------------------------------------------------------------------


def test_an_archive_is_unpacked_and_a_half_unpacked_folder_completed(tmp_path):
    members = {"Actor_01/a.wav": b"a" * 1000, "Actor_01/b.wav": b"b" * 1000, "c.wav": b"c" * 1000}
    archive, root = zip_of(members | {"__MACOSX/._c.wav": b"no sound"}, tmp_path / "x.zip"), tmp_path / "x"
    unpack(archive, root)
    assert files_in(root) == members
    kept = (root / "c.wav").stat().st_mtime_ns
    (root / "Actor_01" / "a.wav").unlink()
    (root / "Actor_01" / "b.wav").write_bytes(b"b" * 999 + b"x")  # the right size, not the right bytes
    unpack(archive, root)
    assert files_in(root) == members and (root / "c.wav").stat().st_mtime_ns == kept


@pytest.mark.parametrize("name", ["../x.wav", "a/../../x.wav", "/tmp/x.wav", "..\\x.wav", "C:x.wav", "link/x.wav"])
def test_nothing_is_written_outside_the_folder(tmp_path, name):
    (tmp_path / "outside").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    archive = zip_of({"good.wav": b"1", name: b"2"}, tmp_path / "x.zip")
    with pytest.raises(CorpusError, match=f"Bad name {re.escape(repr(name))} in .*expected a file inside the folder"):
        unpack(archive, tmp_path / "in")
    assert files_in(tmp_path) == {"x.zip": archive.read_bytes()}


def test_a_damaged_archive_is_named(tmp_path):
    whole = zip_of({"a.wav": CONTENT[:5000]})
    damaged = {
        "cut.zip": whole[:-100],
        "page.zip": b"<html>Please log in</html>",
        "bits.zip": whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:],
        "locked.zip": whole[:6]
        + b"\x01"
        + whole[7:].replace(b"PK\1\2\x14\x03\x14\x00\x00", b"PK\1\2\x14\x03\x14\x00\x01"),
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CorpusError, match=name):
            unpack(tmp_path / name, tmp_path / "in")
        assert not (tmp_path / "in" / "a.wav").exists(), name


def test_too_little_room_is_said_before_a_byte_is_written(server, tmp_path, monkeypatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100_000_000))
    with pytest.raises(CorpusError, match=r"834 MB are needed, 100 MB are free. Make room, or set SERCORE_DATA"):
        download("ravdess", tmp_path / "ravdess", home=server.url, progress=False)
    archive = zip_of({"a.wav": np.random.default_rng(0).bytes(1000)}, tmp_path / "x.zip")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 999))
    with pytest.raises(CorpusError, match="Too little room"):
        unpack(archive, tmp_path / "in")
    with pytest.raises(CorpusError, match="Too little room"):
        get(server, tmp_path)
    assert not (tmp_path / "ravdess").exists() and files_in(tmp_path / "in") == {}


# --- a corpus --------------------------------------------------------------------------------------------------------

EMODB = {f"wav/03{sentence}{emotion}a.wav": wav(i) for i, (sentence, emotion) in enumerate(
    (sentence, emotion) for sentence in emodb.STATEMENTS for emotion in "FLNW")}  # fmt: skip
EMODB |= {"erkennung.txt": "Nr.\tSatz\terkannt\tnatuerlich\n1  \t03a01Fa.wav\t90,00\t75,00\n".encode("latin-1")}


@pytest.fixture
def small_emodb(monkeypatch):
    """EMO-DB's own shape, with 40 clips for the whole."""
    small(monkeypatch, "emodb", n_files=40)


def test_a_corpus_is_fetched_unpacked_verified_and_not_fetched_again(server, tmp_path, small_emodb):
    server.files = {"download.zip": zip_of(EMODB)}
    report = download("emodb", tmp_path / "emodb", home=server.url.rstrip("/"), progress=False)
    assert report.ok and (report.n_expected, report.n_found) == (40, 40)
    notice = (tmp_path / "emodb" / "SOURCE.txt").read_text()
    assert all(words in notice for words in (emodb.CORPUS.licence, emodb.CORPUS.citation, emodb.CORPUS.url))
    assert files_in(tmp_path) == {f"emodb/{n}": c for n, c in (EMODB | {"SOURCE.txt": notice.encode()}).items()}
    assert len(load_corpus("emodb", tmp_path / "emodb")) == 30
    assert download("emodb", tmp_path / "emodb", home=server.url, progress=False).ok and len(server.log) == 1


def test_a_half_unpacked_corpus_is_completed_not_trusted(server, tmp_path, small_emodb):
    server.files = {"download.zip": zip_of(EMODB)}
    root = tmp_path / "emodb"
    unpack(zip_of(dict(list(EMODB.items())[:20]), tmp_path / "part.zip"), root)
    (root / "wav" / "03a01Fa.wav").write_bytes(EMODB["wav/03a01Fa.wav"][:50])
    assert download("emodb", root, home=server.url, progress=False).ok
    assert files_in(root).items() >= EMODB.items()


def test_a_corpus_that_lacks_clips_is_reported(server, tmp_path, monkeypatch):
    archive = zip_of({"Actor_01/03-01-01-01-01-01-01.wav": wav()})
    md5 = hashlib.md5(archive).hexdigest()
    small(monkeypatch, "ravdess", archives={"speech.zip": (len(archive), f"md5:{md5}")})
    server.files = {"speech.zip": archive}
    report = download("ravdess", tmp_path / "ravdess", home=server.url, progress=False)
    assert not report.ok and (report.n_found, len(report.missing)) == (1, 1439)


def test_without_a_network_the_way_by_hand_is_told_and_nothing_left_that_looks_like_a_corpus(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        home = f"http://127.0.0.1:{free.getsockname()[1]}/"
    with pytest.raises(CorpusError) as caught:
        download("ravdess", tmp_path / "ravdess", home=home, progress=False)
    for words in (
        f"Cannot fetch {home}Audio_Speech_Actors_01-24.zip",
        "By hand: get Audio_Speech_Actors_01-24.zip from https://zenodo.org/records/1188976",
        f"put it into {tmp_path / 'ravdess'}; `sercore download ravdess` then unpacks and verifies it",
    ):
        assert words in str(caught.value)
    assert not (tmp_path / "ravdess").exists()


@pytest.mark.parametrize(
    "place", ["ravdess/Actor_{:02d}.zip", "Actor_{:02d}.zip", "ravdess/Audio_Speech_Actors_01-24.zip"]
)
def test_zip_files_put_there_by_hand_are_unpacked(tmp_path, monkeypatch, place):
    monkeypatch.setenv("SERCORE_DATA", str(tmp_path))
    stems = [s for s in ravdess.expected_files() if s[-2:] in ("01", "02")]
    small(monkeypatch, "ravdess", expected_files=lambda channel="speech": stems)
    for actor in (1, 2):
        ours = [s for s in stems if int(s[-2:]) == actor or "{" not in place]
        zip_of({f"Actor_{s[-2:]}/{s}.wav": wav() for s in ours}, tmp_path / place.format(actor))
    if place.startswith("ravdess"):
        with pytest.raises(CorpusError, match=r"found zip files .`sercore download ravdess` unpacks them"):
            load_corpus("ravdess")
    report = download("ravdess", progress=False)
    assert report.ok and report.n_found == 120 and len(load_corpus("ravdess")) == 120


def test_a_broken_zip_put_there_by_hand_is_left_aside(server, tmp_path, small_emodb, caplog):
    server.files = {"download.zip": zip_of(EMODB)}
    (tmp_path / "emodb").mkdir()
    (tmp_path / "emodb" / "download.zip").write_bytes(server.files["download.zip"][:-50])
    assert download("emodb", tmp_path / "emodb", home=server.url, progress=False).ok
    assert "Bad archive" in caplog.text and "It is left aside." in caplog.text


def test_an_archive_that_came_damaged_is_fetched_anew_by_the_next_run(server, tmp_path, small_emodb):
    server.files = {"download.zip": b"<html>Please log in</html>"}
    with pytest.raises(CorpusError, match=r"Bad archive .*File is not a zip file.*By hand: get download\.zip from"):
        download("emodb", tmp_path / "emodb", home=server.url, progress=False)
    server.files = {"download.zip": zip_of(EMODB)}
    assert download("emodb", tmp_path / "emodb", home=server.url, progress=False).ok


def tess_server(server):
    clips = {name: wav(i) for i, name in enumerate(("OAF_back_angry.wav", "OA_bite_neutral.wav", "YAF_germ_ps.wav"))}
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in clips.items()}
    files = [
        {"label": name, "dataFile": {"id": 96_000 + i, "filesize": len(clips[name]), "md5": md5[name]}}
        for i, name in enumerate(clips)
    ]
    files.append({"label": "readme.txt", "dataFile": {"id": 1, "filesize": 4, "md5": "0"}})
    listing = json.dumps({"status": "OK", "data": {"latestVersion": {"files": files}}}).encode()
    server.files = {"datasets/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF": listing}
    server.files |= {f"access/datafile/{96_000 + i}": content for i, content in enumerate(clips.values())}
    return clips


def test_tess_is_fetched_file_by_file(server, tmp_path, monkeypatch):
    small(monkeypatch, "tess", n_files=3)
    clips, root = tess_server(server), tmp_path / "tess"
    assert download("tess", root, home=server.url, progress=False).ok
    assert {name: content for name, content in files_in(root).items() if name != "SOURCE.txt"} == clips
    (root / "OAF_back_angry.wav").write_bytes(clips["OAF_back_angry.wav"][:-20])
    server.log.clear()
    assert download("tess", root, home=server.url, progress=False).ok
    assert [path for path, _, _ in server.log[1:]] == ["/access/datafile/96000"]  # only what was damaged
    assert list(tmp_path.iterdir()) == [root]


def test_crema_d_is_fetched_by_the_pointers_of_its_repository(server, tmp_path, monkeypatch):
    small(monkeypatch, "crema_d", n_files=3)  # one of them is the broken one
    clips = {f"{stem}.wav": wav(i) for i, stem in enumerate(("1001_DFA_ANG_XX", "1091_IEO_HAP_LO", "1076_MTI_SAD_XX"))}
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
    members = {
        f"CREMA-D-master/AudioWAV/{name}": pointer.format(hashlib.sha256(content).hexdigest(), len(content))
        for name, content in clips.items()
    } | {"CREMA-D-master/AudioMP3/1001_DFA_ANG_XX.mp3": "not wanted", "CREMA-D-master/README.md": "nor this"}
    server.files = {"archive/refs/heads/master.zip": zip_of(members)}
    server.files |= {f"raw/master/AudioWAV/{name}": content for name, content in clips.items()}
    report = download("crema_d", tmp_path / "crema_d", home=server.url, progress=False)
    assert report.ok and (report.n_expected, report.n_found) == (2, 2)
    assert files_in(tmp_path / "crema_d").keys() == {*clips, "SOURCE.txt"}
    members["CREMA-D-master/AudioWAV/1001_DFA_ANG_XX.wav"] = "RIFF"
    server.files["archive/refs/heads/master.zip"] = zip_of(members)
    with pytest.raises(
        CorpusError, match=r"Bad list of files at .*Bad pointer CREMA-D-master/AudioWAV/1001_DFA_ANG_XX.wav"
    ):
        download("crema_d", tmp_path / "again", home=server.url, progress=False)


def test_a_list_of_files_is_not_trusted(server, tmp_path):
    path = "datasets/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF"
    entry = {"label": "../x.wav", "dataFile": {"id": 1, "filesize": 4, "md5": "0"}}
    for bad in (b"<html>", b"{}", json.dumps({"data": {"latestVersion": {"files": [entry]}}}).encode()):
        server.files = {path: bad}
        with pytest.raises(CorpusError, match=r"Bad list of files at .*By hand: choose Access Dataset"):
            download("tess", tmp_path / "tess", home=server.url, progress=False)
        assert not (tmp_path / "tess").exists()


def test_what_cannot_be_fetched_says_where_to_get_it(tmp_path):
    with pytest.raises(CorpusError, match=r"savee cannot be fetched by a program. By hand: register at http://kahlan"):
        download("savee", tmp_path / "savee", progress=False)
    zip_of({f"AudioData/{speaker}/a01.wav": wav() for speaker in savee.SPEAKERS}, tmp_path / "savee" / "AudioData.zip")
    assert download("savee", tmp_path / "savee", progress=False).n_found == 4
    for name in ("synthetic", "own"):
        with pytest.raises(ConfigError, match=f"Bad corpus '{name}': there is nothing to fetch; expected one of"):
            download(name, tmp_path)
    with pytest.raises(ConfigError, match="Bad corpus 'radvess'"):
        download("radvess", tmp_path)


def test_every_archive_that_publishes_a_checksum_has_it():
    archives = {name: of for corpus in CORPORA.values() for name, of in corpus.archives.items()}
    assert archives == {
        "Audio_Speech_Actors_01-24.zip": (208_468_073, "md5:bc696df654c87fed845eb13823edef8a"),
        "Audio_Song_Actors_01-24.zip": (225_505_317, "md5:5411230427d67a21e18aa4d466e6d1b9"),
        "download.zip": (None, None),
        "main.zip": (None, None),
    }


# --- killed at any point ---------------------------------------------------------------------------------------------

RUN = """
import sys
from dataclasses import replace
from sercore import download
from sercore.corpora import CORPORA
CORPORA["emodb"] = replace(CORPORA["emodb"], n_files=int(sys.argv[3]))
print(download.download("emodb", sys.argv[1], home=sys.argv[2], progress=False).ok)
"""


def killed_when(condition, *words):
    """Run until `condition` holds, and kill -9; tell whether the run was still going."""
    process = subprocess.Popen([sys.executable, "-c", RUN, *map(str, words)], stdout=subprocess.DEVNULL)
    while process.poll() is None and not condition():
        time.sleep(0.001)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_killed_at_any_point_and_run_again_the_bytes_are_the_same(server, tmp_path):
    sentences = [(s, t, e, v) for s in emodb.SPEAKERS for t in emodb.STATEMENTS for e in "FN" for v in "abcde"]
    clips = {f"wav/{s}{t}{e}{v}.wav": wav(i, 400) for i, (s, t, e, v) in enumerate(sentences)}
    archive, root = zip_of(clips), tmp_path / "emodb"
    server.files, server.slow_s = {"download.zip": archive}, 0.01
    part, staged = (tmp_path / ".emodb.download" / f"download.zip{end}" for end in (".part", ""))

    def size():
        return part.stat().st_size if part.exists() else 0

    for share in (0.0, 0.5, 0.99):
        assert killed_when(lambda: part.exists() and size() >= share * len(archive), root, server.url, len(clips))  # noqa: B023
    assert killed_when(staged.exists, root, server.url, len(clips))
    starts = [int(asked[6:-1]) if asked else 0 for _, asked, _ in server.log]
    assert starts == sorted(starts) and starts[-1] >= 0.99 * len(archive)  # it went on each time
    for n_unpacked in (1, 500):
        assert killed_when(lambda: len(list(root.glob("wav/*.wav"))) >= n_unpacked, root, server.url, len(clips))  # noqa: B023
        assert all(clips[f"wav/{path.name}"] == path.read_bytes() for path in root.glob("wav/*.wav"))
    server.log.clear()
    done = subprocess.run(
        [sys.executable, "-c", RUN, root, server.url, str(len(clips))], capture_output=True, text=True
    )
    assert done.stdout == "True\n", done.stderr
    assert server.log == []  # the archive was whole: unpacking alone went on
    assert {name: content for name, content in files_in(root).items() if name != "SOURCE.txt"} == clips
    assert os.listdir(tmp_path) == ["emodb"] and verify("emodb", root).unreadable == {}
