"""download: fetch a corpus from its home, go on after a cut, unpack it safely, and verify it."""

import filecmp
import json
import logging
import os
import re
import shutil
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pooch
import requests
from requests.adapters import HTTPAdapter
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from sercore import __version__, corpora, settings
from sercore.audio import load_audio
from sercore.errors import AudioError, ConfigError, CorpusError

logger = logging.getLogger(__name__)

NOTICE = "SOURCE.txt"
N_CONNECTIONS = 4
#: Silence after which a connection counts as dead, and the longest wait that a server may ask for [s].
TIMEOUT_S, MAX_WAIT_S = 30.0, 120.0
#: So many cuts in a row that brought nothing new: given up; the first waits [s]; most bytes of an untold size.
MAX_CUTS, BACKOFF_S, MAX_BYTES = 5, 0.5, 4 * 10**9
#: What a server answers while it is busy.
BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found: numbers of clips, and path and reason of files that are not as they should be.

    `missing` are stems of the official list; `skipped` are files whose name or place cannot be right; `copies` are
    second copies, as mirrors ship them, which do no harm.
    """

    name: str
    n_expected: int
    n_found: int
    missing: list = field(default_factory=list)
    unreadable: dict = field(default_factory=dict)
    skipped: dict = field(default_factory=dict)
    copies: dict = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Every clip is there and can be decoded, whatever else lies beside them."""
        return self.n_found >= self.n_expected and not (self.missing or self.unreadable)

    @property
    def ok(self) -> bool:
        """The corpus is whole and nothing in its folder had to be skipped."""
        return self.whole and not self.skipped


def verify(name: str, root: str | Path | None = None) -> VerifyReport:
    """Decode every clip of a corpus, and say what is missing or unreadable; arguments and errors as in `load_corpus`.

    >>> verify("ravdess").ok
    True
    """
    clips, corpus = corpora.load_corpus(name, root), corpora.corpus_of(name)
    paths, missing = [*clips["path"], *clips.attrs["dropped"]], []
    n_expected = (corpus.n_files or len(paths)) - len(corpus.broken)
    if corpus.expected_files:
        expected = set().union(*map(corpus.expected_files, clips["vocal_channel"].unique()))
        missing, n_expected = sorted(expected - {Path(path).stem for path in paths}), len(expected)
    unreadable = {path: reason for path in paths if (reason := _unreadable(path))}
    reasons = {entry["path"]: entry["reason"] for entry in clips.attrs["skipped"]}
    reasons = {path: reason for path, reason in reasons.items() if Path(path).stem not in corpus.broken}
    copies = {path: reason for path, reason in reasons.items() if reason.startswith("Duplicate")}
    skipped = {path: reason for path, reason in reasons.items() if path not in copies}
    return VerifyReport(name, n_expected, len(paths) - len(unreadable), missing, unreadable, skipped, copies)


def _unreadable(path):
    with open(path, "rb") as file:
        if file.read(19) == b"version https://git":
            return "is a pointer of git-lfs, not the sound: fetch it with `git lfs pull`"
    try:
        load_audio(path, max_missing_s=0.0)
    except AudioError as error:
        return str(error)
    return ""


def notice(name: str) -> str:
    """Give title, home, licence and citation of a corpus; `download` puts it beside the clips."""
    corpus = corpora.corpus_of(name)
    lines = {"Corpus": corpus.title, "Home": corpus.url, "DOI": corpus.doi}
    lines |= {"Licence": corpus.licence, "Please cite": corpus.citation}
    return "".join(f"{label}: {text}\n" for label, text in lines.items() if text)


def download(
    name: str, root: str | Path | None = None, *, home: str | None = None, progress: bool = True
) -> VerifyReport:
    """Fetch a corpus, unpack it and verify it; what is there already, and sound, is not fetched again.

    Run it again after a cut or a kill: it goes on from the last byte if the server can and the file is the same, and
    completes a folder that was unpacked in part. Proxies are taken from ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``.

    Parameters
    ----------
    name : str
        A key of `corpora.CORPORA`.
    root : str or Path, optional
        Folder of the corpus. Default: `settings.data_root()` / name. Zip files with clips of the corpus that lie in
        it (or, with the default, beside it) are unpacked first.
    home : str, optional
        URL to fetch from in place of the corpus's own: a mirror with the same paths.

    Raises
    ------
    ConfigError
        If `name` is not a known corpus, or one made here.
    CorpusError
        If it cannot be fetched; the message says how to do it by hand.

    Examples
    --------
    >>> download("ravdess").n_found
    1440
    """
    corpus = corpora.corpus_of(name)
    if not corpus.by_hand:
        known = [other for other in corpora.CORPORA if corpora.corpus_of(other).by_hand]
        raise ConfigError(f"Bad corpus {name!r}: there is nothing to fetch; expected one of {known}.")
    default = settings.data_root() / name
    root = default if root is None else Path(root).expanduser()
    by_hand = f"By hand: {corpus.by_hand} into {root}; `sercore download {name}` then unpacks and verifies it."
    folders = (root, root.parent) if root == default else (root,)
    for archive in [path for folder in folders for path in sorted(folder.glob("*.zip"))]:
        try:
            if _has_clip(archive, corpus):
                unpack(archive, root)
        except CorpusError as error:
            logger.warning("%s It is left aside.", error)
    with suppress(CorpusError):  # nothing is there
        report = verify(name, root)
        if report.whole or not corpus.home:
            settings.write_atomic(root / NOTICE, notice(name).encode())
            return report
    if not corpus.home:
        raise CorpusError(f"{name} cannot be fetched by a program. {by_hand}")
    # Beside the folder, not in it: a folder without clips must not pass for a corpus.
    staging, home = root.resolve().with_name(f".{root.name}.download"), (home or corpus.home).rstrip("/") + "/"
    staging.mkdir(parents=True, exist_ok=True)
    try:
        if corpus.listing:
            _fetch_files(corpus, home, root, staging, progress=progress)
        for archive, (size, checksum) in corpus.archives.items():
            # Room for the archive and what comes out of it, before the first byte.
            _check_space(root, 4 * (size or 0) - sum(path.stat().st_size for path in staging.glob(f"{archive}*")))
            path = fetch(home + archive, staging / archive, size=size, checksum=checksum, progress=progress)
            try:
                unpack(path, root)
            except CorpusError as error:
                if error.__cause__ is not None:  # damaged, which only a checksum would have told before
                    path.unlink()
                raise
    except CorpusError as error:
        raise CorpusError(f"{error} {by_hand}") from error
    settings.write_atomic(root / NOTICE, notice(name).encode())
    report = verify(name, root)
    if report.whole:
        shutil.rmtree(staging)
    return report


def fetch(
    url: str, path: str | Path, *, size: int | None = None, checksum: str | None = None, progress: bool = True
) -> Path:
    """Fetch one file, so that it is whole and right, or not there; what has come is kept beside it, in ``….part``.

    A file that has the checksum ("md5:…" or "sha256:…") is not fetched again; wrong bytes are fetched anew once.
    """
    path = Path(path)
    part, note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and _checksum(path, checksum) == checksum:
        return path
    for last in (False, True):
        _receive(url, part, note, size, progress)
        got = _checksum(part, checksum)
        if got == checksum:
            os.replace(part, path)
            note.unlink()
            return path
        part.unlink()
        note.unlink()
        if not last:
            logger.warning("%s: not the bytes of its checksum; fetching it anew", url)
    raise CorpusError(f"Bad checksum of {url}: expected {checksum}, got {got}, twice.")


def _checksum(path, like):
    algorithm = like and like.partition(":")[0]
    return like and path.is_file() and f"{algorithm}:{pooch.file_hash(str(path), alg=algorithm)}"


class _Patience(Retry):
    """urllib3's retries, which wait as long as a server asks, but not for ever."""

    def get_retry_after(self, response):
        wait_s = super().get_retry_after(response)
        if wait_s and wait_s > MAX_WAIT_S:
            status = response.status
            raise CorpusError(f"The server answers {status} and asks to wait {wait_s:.0f} s. Run it again then.")
        return wait_s


def _session(connect):
    waits = {"backoff_factor": BACKOFF_S, "backoff_max": MAX_WAIT_S}
    retries = _Patience(MAX_CUTS, connect=connect, status_forcelist=BUSY, raise_on_status=False, **waits)
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    session.headers = {"Accept-Encoding": "identity", "User-Agent": f"sercore/{__version__}"}
    return session


def _receive(url, part, note, size, progress):
    """Receive what `part` lacks. urllib3 asks again until a reply begins; a body that is cut is ours to go on with."""
    n_cuts = 0
    with tqdm(total=size, desc=part.stem, unit="B", unit_scale=True, disable=not progress) as bar:
        while True:
            before = _size_of(part)
            try:
                # Where nothing ever came there is most often no network, and nobody should wait for that news.
                with _session(connect=MAX_CUTS if before else 2) as session:
                    return _stream(session, url, part, note, size, bar)
            except (requests.RequestException, HTTPError) as error:
                reached = _size_of(part)
                n_cuts = 0 if reached > before else n_cuts + 1
                if n_cuts >= MAX_CUTS or not isinstance(error, HTTPError):
                    kept = f" {reached} bytes are kept: run it again to go on from there." if reached else ""
                    raise CorpusError(f"Cannot fetch {url}: {_reason(error)}.{kept}") from error
                logger.info("%s: %s; going on at byte %d", url, _reason(error), reached)


def _size_of(path):
    return path.stat().st_size if path.exists() else 0


def _stream(session, url, part, note, size, bar):
    """Ask once for the rest, and append it; begin anew where the server cannot, or the file has changed."""
    have, known = _size_of(part), {}
    with suppress(OSError, ValueError):
        known = json.loads(note.read_text())
    if have and have == known.get("total"):
        return
    resume = {"Range": f"bytes={have}-", "If-Range": known["validator"]} if have and known.get("validator") else {}
    with session.get(url, headers=resume, stream=True, timeout=TIMEOUT_S) as reply:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", reply.headers.get("Content-Range", ""))
        if reply.status_code == 416 or (reply.status_code == 206 and (not match or int(match[1]) != have)):
            part.unlink(missing_ok=True)
            raise HTTPError("the server sends another part than it was asked for")
        if reply.status_code not in (200, 206):
            raise CorpusError(f"Cannot fetch {url}: the server answers {reply.status_code} {reply.reason}.")
        length = reply.headers.get("Content-Length", "")
        total = int(match[2]) if reply.status_code == 206 else int(length) if length.isdecimal() else None
        if size is not None and total not in (None, size):
            raise CorpusError(f"Bad size of {url}: expected {size} bytes, the server has {total}.")
        if reply.status_code == 200:
            # The note goes first and comes last: no kill leaves one beside bytes it does not speak of.
            note.unlink(missing_ok=True)
            part.unlink(missing_ok=True)
            have, etag = 0, reply.headers.get("ETag", "")
            validator = reply.headers.get("Last-Modified") if not etag or etag.startswith("W/") else etag
            note.write_text(json.dumps({"validator": validator, "total": total}))
        _check_space(part.parent, (total or have) - have)
        bar.total, bar.n = total, have
        with part.open("ab") as file:
            # What has come, at once (iter_content would hold it back): a cut costs not a byte of it.
            while block := reply.raw.read1(1 << 16, decode_content=False):
                bar.update(file.write(block))
                if (have := have + len(block)) > (size or MAX_BYTES):
                    raise CorpusError(f"Bad size of {url}: more than the {size or MAX_BYTES} bytes expected.")
    have = _size_of(part)
    if have < (total or size or 0):
        raise HTTPError(f"the connection ended at byte {have} of {total or size}")


def _reason(error):
    signs = {
        "ProxyError": "the proxy cannot be reached, or refuses",
        "timed out": "the server does not answer",
        "NameResolution": "no such host, or no network",
    }
    kind = type(error).__name__
    plain = str(error) if type(error) is HTTPError else f"the connection failed ({kind})"
    return next((words for sign, words in signs.items() if sign in f"{kind} {error}"), plain)


def _check_space(folder, n_bytes):
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
    if n_bytes > free:
        raise CorpusError(
            f"Too little room in {folder}: {n_bytes / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free. "
            "Make room, or set SERCORE_DATA to a folder on another disk."
        )


def _has_clip(path, corpus):
    try:
        with zipfile.ZipFile(path) as zipped:
            names = zipped.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise CorpusError(f"Bad archive {path}: {error}.") from error
    if corpus.expected_files:
        return not {Path(name).stem for name in names}.isdisjoint(corpus.expected_files())
    for name in names:
        with suppress(CorpusError):
            return bool(corpus.parse(name))
    return False


def unpack(archive: str | Path, root: str | Path) -> None:
    """Unpack a zip file: each file appears whole or not at all, and one that is there already, and right, is kept.

    CorpusError if it is no zip file, damaged or encrypted, or has a file that would land outside `root`.
    """
    archive, root = Path(archive), Path(root)
    fresh = root.with_name(f".{root.name}.unpacked")
    shutil.rmtree(fresh, ignore_errors=True)  # of a run that was killed
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [member for member in zipped.infolist() if not member.filename.startswith("__MACOSX/")]
            for member in members:
                name = member.filename
                inside = root.resolve() in (root / name).resolve().parents or member.is_dir()
                if "\\" in name or ":" in name or ".." in Path(name).parts or not inside:
                    raise CorpusError(f"Bad name {name!r} in {archive}: expected a file inside the folder.")
            _check_space(root, sum(member.file_size for member in members))
            zipped.extractall(fresh, members)
        for path in filter(Path.is_file, sorted(fresh.rglob("*"))):
            place = root / path.relative_to(fresh)
            if not (place.is_file() and filecmp.cmp(path, place, shallow=False)):
                place.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, place)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CorpusError(f"Bad archive {archive}: {error}. Expected a whole zip file; fetch it again.") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _fetch_files(corpus, home, root, staging, *, progress):
    """Fetch a corpus that is published file by file, each with its own checksum."""
    listing = fetch(home + corpus.listing, staging / "listing", progress=progress)
    try:
        remotes = corpus.read_listing(listing)
        if any(Path(name).name != name for name in remotes):
            raise ValueError("a file name holds a folder")
    except (CorpusError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"Bad list of files at {home}{corpus.listing}: {error}.") from error
    finally:
        listing.unlink()  # it may be another next time
    todo = [name for name, (_, _, checksum) in remotes.items() if _checksum(root / name, checksum) != checksum]
    _check_space(root, sum(remotes[name][1] for name in todo))
    root.mkdir(parents=True, exist_ok=True)

    def one(name):
        place, size, checksum = remotes[name]
        path = fetch(home + place, staging / name, size=size, checksum=checksum, progress=False)
        # By way of a name that is no sound's: the two folders may be on different disks.
        os.replace(shutil.move(path, root / f"{name}.part"), root / name)

    with ThreadPoolExecutor(N_CONNECTIONS) as pool:  # at an error map cancels what has not begun
        for _ in tqdm(pool.map(one, todo), total=len(todo), desc=corpus.name, unit="file", disable=not progress):
            pass
