"""download: fetch a corpus from its home, go on after a cut, unpack it safely, and verify it."""

import json
import logging
import os
import re
import shutil
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import pooch
import requests
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError, ReadTimeoutError

from sercore import __version__, corpora, settings
from sercore.errors import ConfigError, CorpusError

logger = logging.getLogger(__name__)
pooch.get_logger().setLevel("WARNING")

NOTICE = "SOURCE.txt"
#: Speech packs to about a third; a zip that promises more than this is none of a corpus.
MAX_UNPACKED_RATIO = 20
N_CONNECTIONS = 4
_BLOCK = 1 << 16
_local = threading.local()


@dataclass(frozen=True)
class FetchConfig:
    """How patiently to fetch.

    Attributes
    ----------
    retries : int
        Failures in a row that brought nothing new, before giving up; two where the host was never reached.
    timeout_s : float [s]
        Silence after which a connection counts as dead.
    wait_s : float [s]
        Wait after the first failure; doubled with each further one.
    max_wait_s : float [s]
        Longest wait, also where the server asks for a longer one: then the download ends and says so.
    """

    retries: int = 5
    timeout_s: float = 30.0
    wait_s: float = 1.0
    max_wait_s: float = 120.0

    def __post_init__(self):
        if self.retries < 0 or self.timeout_s <= 0 or self.wait_s < 0 or self.max_wait_s < 0:
            raise ConfigError(f"Bad {self}: expected no negative number, and a timeout above 0 s.")


class _Passing(Exception):
    """A failure that may pass; `wait_s` where the server says how long it will take."""

    def __init__(self, reason, *, wait_s=None):
        super().__init__(reason)
        self.wait_s = wait_s


def download(name, root=None, *, home=None, config=FetchConfig(), progress=True):
    """Fetch a corpus, unpack it and verify it; what is there already, and sound, is not fetched again.

    Run it again after a cut or a kill: it goes on from the last byte if the server can and the file is the same, and
    completes a folder that was unpacked in part. Proxies are taken from ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``.

    Parameters
    ----------
    name : str
        A key of `corpora.CORPORA`.
    root : str or Path, optional
        Folder of the corpus. Default: `settings.data_root()` / name. Zip files with clips of the corpus that lie in it (or, with
        the default, beside it) are unpacked first.
    home : str, optional
        URL to fetch from in place of the corpus's own: a mirror with the same paths.
    config : FetchConfig
    progress : bool
        Whether to show bars.

    Returns
    -------
    report : corpora.VerifyReport

    Raises
    ------
    ConfigError
        If `name` is not a known corpus, or one made here.
    CorpusError
        If it cannot be fetched; the message says how to do it by hand.
    """
    module = corpora.module_of(name)
    if not hasattr(module, "BY_HAND"):
        raise ConfigError(f"Bad corpus {name!r}: there is nothing to fetch; expected one of {fetchable()}.")
    default = settings.data_root() / name
    root = Path(root).expanduser() if root is not None else default
    by_hand = f"By hand: {module.BY_HAND} into {root}; `sercore download {name}` then unpacks and verifies it."
    for archive in _zips_at_hand(module, root, beside=root == default):
        try:
            unpack(archive, root, progress=progress)
        except CorpusError as error:
            logger.warning("%s It is left aside.", error)
    if (report := _verified(name, root)) and (report.whole or not hasattr(module, "HOME")):
        settings.write_atomic(root / NOTICE, notice(name).encode())
        return report
    if not hasattr(module, "HOME"):
        raise CorpusError(f"{name} cannot be fetched by a program. {by_hand}")

    # Beside the folder, not in it: a folder that holds no clips yet must not pass for a corpus.
    staging, home = root.resolve().with_name(f".{root.name}.download"), (home or module.HOME).rstrip("/") + "/"
    staging.mkdir(parents=True, exist_ok=True)
    for stray in staging.glob("tmp*"):  # pooch's, of a run that was killed
        stray.unlink()
    try:
        if hasattr(module, "ARCHIVES"):
            for archive, (size, checksum) in module.ARCHIVES.items():
                # Room for the archive and what comes out of it, before the first byte.
                _check_space(
                    root, 4 * (size or 0) - sum(_size_of(staging / f"{archive}{end}") for end in ("", ".part"))
                )
                path = fetch(home + archive, staging / archive, size=size, checksum=checksum, config=config,
                             progress=progress)  # fmt: skip
                _unpack_fetched(path, root, progress=progress)
        else:
            _fetch_files(module, home, root, staging, config=config, progress=progress)
    except CorpusError as error:
        raise CorpusError(f"{error} {by_hand}") from error
    settings.write_atomic(root / NOTICE, notice(name).encode())
    report = corpora.verify(name, root)
    if report.whole:
        shutil.rmtree(staging)
    return report


def _unpack_fetched(path, root, *, progress):
    try:
        unpack(path, root, progress=progress)
    except CorpusError as error:
        if error.__cause__ is not None:  # damaged, which only a checksum would have told before
            path.unlink()
        raise


def fetchable():
    """List the corpora that `download` can fetch, or can tell where to get."""
    return [name for name, module in corpora.CORPORA.items() if hasattr(module, "BY_HAND")]


def notice(name):
    """Give title, home, licence and citation of a corpus; `download` puts it beside the clips.

    Parameters
    ----------
    name : str

    Returns
    -------
    text : str
    """
    module = corpora.module_of(name)
    lines = {
        "Corpus": module.TITLE,
        "Home": module.URL,
        "DOI": module.DOI,
        "Licence": module.LICENCE,
        "Please cite": module.CITATION,
    }
    return "".join(f"{label}: {text}\n" for label, text in lines.items() if text)


def fetch(url, path, *, size=None, checksum=None, config=FetchConfig(), progress=True):
    """Fetch one file, so that it is whole and right, or not there.

    Parameters
    ----------
    url : str
    path : str or Path
        What is received on the way is kept beside it, in ``….part``.
    size : int, optional [bytes]
    checksum : str, optional
        Such as ``"md5:…"`` or ``"sha256:…"``. A file that has it already is not fetched.
    config : FetchConfig
    progress : bool

    Returns
    -------
    path : Path

    Raises
    ------
    CorpusError
        If the server cannot be reached, refuses, or twice sends other bytes than the checksum says.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    receive = partial(_receive, part=part, size=size, config=config, progress=progress)
    for attempt in (1, 2):
        try:
            pooch.retrieve(url, known_hash=checksum, fname=path.name, path=path.parent, downloader=receive)
        except CorpusError:
            raise
        except ValueError as error:
            got = pooch.file_hash(str(part), alg=checksum.partition(":")[0]) if part.exists() else "nothing"
            _discard(part)
            if attempt == 2:
                raise CorpusError(f"Bad checksum of {url}: expected {checksum}, got {got}, twice.") from error
            logger.warning("%s: not the bytes of its checksum; fetching it anew", url)
        else:
            break
    _discard(part)
    return path


def _receive(url, output_file, _pooch, *, part, size, config, progress):
    """Be pooch's downloader: go on with `part` until it is whole, however often the connection is cut."""
    failures, furthest = 0, _size_of(part)
    with tqdm(total=size, desc=part.stem, unit="B", unit_scale=True, disable=not progress, leave=False) as bar:
        while True:
            try:
                _stream(url, part, size=size, config=config, bar=bar)
                break
            except (_Passing, requests.ConnectionError, requests.Timeout, HTTPError) as error:
                reached = _size_of(part)
                failures = 0 if reached > furthest else failures + 1
                furthest = max(furthest, reached)
                # Most often there is no network at all then, and nobody should have to wait for that news.
                unreached = isinstance(error, requests.ConnectionError) and furthest == 0
                wait_s = getattr(error, "wait_s", None)
                if failures > (min(2, config.retries) if unreached else config.retries):
                    kept = f" {reached} bytes are kept: run it again to go on from there." if reached else ""
                    raise CorpusError(f"Cannot fetch {url}: {_reason(error)}.{kept}") from error
                if wait_s is not None and wait_s > config.max_wait_s:
                    raise CorpusError(
                        f"Cannot fetch {url}: {_reason(error)} and asks to wait {wait_s:.0f} s. Run it again then."
                    ) from error
                if wait_s is None:
                    wait_s = min(config.wait_s * 2**failures / 2, config.max_wait_s) if failures else 0
                logger.info("%s: %s; going on at byte %d in %.1f s", url, _reason(error), reached, wait_s)
                bar.set_postfix_str(f"{_reason(error)}; waiting {wait_s:.0f} s")
                time.sleep(wait_s)
            except requests.RequestException as error:
                raise CorpusError(f"Cannot fetch {url}: {_reason(error)}.") from error
    # A second name for the same bytes: a kill between here and pooch's move costs nothing.
    os.remove(output_file)
    try:
        os.link(part, output_file)
    except OSError:
        shutil.copyfile(part, output_file)


def _stream(url, part, *, size, config, bar):
    """Ask once for what `part` lacks, and append it; begin anew where the server cannot, or the file has changed."""
    note = part.with_name(f"{part.name}.json")
    have, known = _size_of(part), {}
    with suppress(OSError, ValueError):
        known = json.loads(note.read_text())
    if have and have == known.get("total"):
        return
    headers = {"Accept-Encoding": "identity", "User-Agent": f"sercore/{__version__}"}
    if have and known.get("validator"):
        headers |= {"Range": f"bytes={have}-", "If-Range": known["validator"]}
    with _session().get(url, headers=headers, stream=True, timeout=config.timeout_s) as reply:
        status, length = reply.status_code, reply.headers.get("Content-Length", "")
        if status in (408, 429) or status >= 500:
            raise _Passing(f"the server answers {status} {reply.reason}", wait_s=_retry_after(reply))
        if status == 416:
            _discard(part)
            raise _Passing("the file has become shorter")
        if status not in (200, 206):
            raise CorpusError(f"Cannot fetch {url}: the server answers {status} {reply.reason}.")
        total = int(length) if length.isdecimal() else None
        if status == 206:
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", reply.headers.get("Content-Range", ""))
            if not match or int(match[1]) != have:
                _discard(part)
                raise _Passing("the server sends another part than it was asked for")
            total = int(match[2])
        if size is not None and total not in (None, size):
            raise CorpusError(f"Bad size of {url}: expected {size} bytes, the server has {total}.")
        if status == 200:
            # The note goes first and comes last: no kill leaves one beside bytes it does not speak of.
            _discard(part)
            have, etag = 0, reply.headers.get("ETag", "")
            validator = reply.headers.get("Last-Modified") if not etag or etag.startswith("W/") else etag
            note.write_text(json.dumps({"validator": validator, "total": total}))
        _check_space(part.parent, (total or have) - have)
        bar.total, bar.n = total, have
        bar.set_postfix_str("")
        with part.open("ab") as file:
            # What has come, at once: a cut or a stall costs not a byte of it.
            while block := reply.raw.read1(_BLOCK, decode_content=False):
                file.write(block)
                have += len(block)
                bar.update(len(block))
                if total is None and size is not None and have > size:
                    raise CorpusError(f"Bad size of {url}: expected {size} bytes, the server sends more.")
    if have != (total if total is not None else size if size is not None else have):
        raise _Passing(f"the connection ended at byte {have} of {total or size}")


def _session():
    if not hasattr(_local, "session"):
        _local.session = requests.Session()
    return _local.session


def _retry_after(reply):
    """Read the header Retry-After, seconds or a date (RFC 9110, 10.2.3); None if there is none."""
    value = reply.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    with suppress(ValueError, TypeError):
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    return None


def _reason(error):
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached, or refuses"
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return "the server does not answer"
    if isinstance(error, requests.ConnectionError) and "NameResolution" in str(error):
        return "no such host, or no network"
    return str(error) if isinstance(error, _Passing) else f"the connection failed ({type(error).__name__})"


def _size_of(path):
    return path.stat().st_size if path.exists() else 0


def _discard(part):
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def _check_space(folder, n_bytes):
    free = shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.exists())).free
    if n_bytes > free:
        raise CorpusError(
            f"Too little room in {folder}: {n_bytes / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free. "
            "Make room, or set SERCORE_DATA to a folder on another disk."
        )


def _verified(name, root):
    """Verify what may be there already; None if there is nothing."""
    try:
        return corpora.verify(name, root)
    except CorpusError:
        return None


def _zips_at_hand(module, root, *, beside):
    """List the zip files with clips of this corpus that somebody put into its folder, or beside it."""
    folders = (root, root.parent) if beside else (root,)
    return [path for folder in folders for path in sorted(folder.glob("*.zip")) if _has_clip(path, module)]


def _has_clip(path, module):
    try:
        with zipfile.ZipFile(path) as zipped:
            names = zipped.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        logger.warning("Bad archive %s: %s. It is left aside.", path, error)
        return False
    if hasattr(module, "expected_files"):
        return not {Path(name).stem for name in names}.isdisjoint(module.expected_files())
    for name in names:
        with suppress(CorpusError):
            return bool(module.parse(name))
    return False


def unpack(archive, root, *, progress=True):
    """Unpack a zip file: each file appears whole or not at all, and those there already, and right, are kept.

    Parameters
    ----------
    archive : str or Path
    root : str or Path
        Nothing is written outside it.
    progress : bool

    Returns
    -------
    paths : list of Path
        All files of the archive, in its order.

    Raises
    ------
    CorpusError
        If it is no zip file, damaged, encrypted, or unpacks to `MAX_UNPACKED_RATIO` times its size; or if it has a
        file outside `root` or one name twice: then nothing is written.
    """
    archive, root = Path(archive), Path(root)
    try:
        with zipfile.ZipFile(archive) as zipped:
            targets = _targets(zipped, archive, root)
            todo = [(path, member) for path, member in targets.items() if not _holds(path, member)]
            root.mkdir(parents=True, exist_ok=True)
            _check_space(root, sum(member.file_size for _, member in todo))
            for path, member in tqdm(todo, desc=archive.stem, unit="file", disable=not progress, leave=False):
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f"{path.name}.part")
                with zipped.open(member) as source, part.open("wb") as file:
                    shutil.copyfileobj(source, file, _BLOCK)
                os.replace(part, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise CorpusError(f"Bad archive {archive}: {error}. Expected a whole zip file; fetch it again.") from error
    return list(targets)


def _targets(zipped, archive, root):
    """Map each path to its member, or refuse the whole archive."""
    targets, inside = {}, root.resolve()
    members = [m for m in zipped.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
    total = sum(member.file_size for member in members)
    if total > MAX_UNPACKED_RATIO * archive.stat().st_size + (1 << 20):
        raise CorpusError(
            f"Bad archive {archive}: its {archive.stat().st_size / 1e6:.1f} MB would unpack to {total / 1e6:.0f} MB; "
            f"expected at most {MAX_UNPACKED_RATIO} times as much."
        )
    for member in members:
        name = member.filename
        path = root / name
        if "\\" in name or ":" in name or ".." in Path(name).parts or inside not in path.resolve().parents:
            raise CorpusError(f"Bad name {name!r} in {archive}: expected a file inside the folder.")
        if path in targets:
            raise CorpusError(f"Bad name {name!r} in {archive}: it is there twice.")
        targets[path] = member
    return targets


def _holds(path, member):
    """Tell whether a file has the bytes that the archive says."""
    if not path.is_file() or path.stat().st_size != member.file_size:
        return False
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc == member.CRC


def _fetch_files(module, home, root, staging, *, config, progress):
    """Fetch a corpus that is published file by file, each with its own checksum."""
    listing = fetch(home + module.LISTING, staging / "listing", config=config, progress=progress)
    try:
        remotes = module.read_listing(listing)
        if any(Path(name).name != name for name in remotes):
            raise ValueError("a file name holds a folder")
    except (CorpusError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        listing.unlink()
        raise CorpusError(f"Bad list of files at {home}{module.LISTING}: {error}.") from error
    todo = {name: remote for name, remote in remotes.items() if not _matches(root / name, remote)}
    _check_space(root, sum(size for _, size, _ in todo.values()))
    root.mkdir(parents=True, exist_ok=True)

    def one(name, remote):
        url, size, checksum = remote
        path = fetch(home + url, staging / name, size=size, checksum=checksum, config=config, progress=False)
        # By way of a name that is no sound's: the two folders may be on different disks.
        os.replace(shutil.move(path, root / f"{name}.part"), root / name)

    with ThreadPoolExecutor(N_CONNECTIONS) as pool:
        jobs = [pool.submit(one, *item) for item in todo.items()]
        try:
            bar = tqdm(as_completed(jobs), total=len(jobs), desc=module.NAME, unit="file", disable=not progress)
            for job in bar:
                job.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _matches(path, remote):
    _, size, checksum = remote
    algorithm, _, digest = checksum.partition(":")
    return path.is_file() and path.stat().st_size == size and pooch.file_hash(str(path), alg=algorithm) == digest
