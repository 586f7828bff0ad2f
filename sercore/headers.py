"""headers: how long a recording really is, where its header guesses, lies or speaks of its first part alone.

libsndfile believes a header. So it is given another one where that is wrong, and the parts of a joined file one by one.
"""

import zlib
from typing import BinaryIO

#: More parts are no recording.
_MAX_LINKS = 10_000
#: Bit rates of MPEG 1, and of 2 and 2.5, layer III.
_KBPS = {
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
#: Bytes with their bits in reverse.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def bytes_at(file: BinaryIO, position: int, n: int) -> bytes:
    """Read some bytes from a place in a file."""
    file.seek(position)
    return file.read(n)


def _size(file):
    return file.seek(0, 2)


def id3_size(head: bytes) -> int:
    """Bytes of the ID3 tag that begins here, 0 if none does."""
    size = int("".join(f"{byte & 0x7F:07b}" for byte in head[6:10]) or "0", 2)
    return 10 + size if head[:3] == b"ID3" else 0


def links_of(file: BinaryIO, container: str) -> list[tuple[int, int, bytes]]:
    """List the parts that are decoded one after the other: first and last byte, and the header to be read before it."""
    found = _LINKS[container](file) if container in _LINKS else []
    return found if 0 < len(found) <= _MAX_LINKS else [(0, _size(file), b"")]


def _ogg_links(file):
    """Each link begins with the first pages of its streams. A page whose checksum is wrong, libsndfile skips unsaid."""
    starts, position, size, first = [], 0, _size(file), False
    while (head := bytes_at(file, position, 282))[:4] == b"OggS" and len(head) > 27:
        n_bytes = 27 + head[26] + sum(head[27 : 27 + head[26]])
        page = bytes_at(file, position, n_bytes)
        if len(page) < n_bytes:
            break
        # zlib computes the same polynomial with every byte mirrored.
        told, page = page[22:26], page[:22] + bytes(4) + page[26:]
        found = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        if int(f"{found:032b}"[::-1], 2) != int.from_bytes(told, "little"):
            raise OSError(f"Damaged page at byte {position}")
        if page[5] & 2 and not first:
            starts.append(position)
        first, position = page[5] & 2, position + n_bytes
    if b"OggS" in bytes_at(file, position + 1, 1 << 17):
        raise OSError(f"Damaged between pages at byte {position}")
    return [(start, end, b"") for start, end in zip(starts, [*starts[1:], size], strict=True)]


def _mp3_frame(head):
    """Of a frame of layer III: its size [bytes], and what all frames of a stream have in common; or None."""
    bits = int.from_bytes(head[:4], "big")
    version, kbps, rate = bits >> 19 & 3, bits >> 12 & 15, bits >> 10 & 3
    if len(head) < 4 or bits >> 21 != 0x7FF or version == 1 or bits >> 17 & 3 != 1 or kbps in (0, 15) or rate == 3:
        return None
    sr = (44_100, 48_000, 32_000)[rate] >> (0, 1, 2)[(3, 2, 0).index(version)]
    return (144 if version == 3 else 72) * 1000 * _KBPS[version == 3][kbps - 1] // sr + (
        bits >> 9 & 1
    ), bits & 0xFFFE0C00


def _tag_place(head):
    """Where in a frame the words "Xing" or "Info" stand: behind four bytes and what stereo and MPEG 1 need."""
    mono, version_1 = head[3] >> 6 == 3, head[1] & 8
    return 4 + ((17 if mono else 32) if version_1 else (9 if mono else 17))


def _mp3_links(file):
    """Count the frames: without a header that tells it (Xing's), libsndfile guesses the length from the first bit rate."""
    size, position, links, before = _size(file), 0, [], None
    while position < size - 4:
        head = bytes_at(file, position, 200).ljust(200, b"\0")
        frame = _mp3_frame(head)
        if frame is None or (before and frame[1] != before):
            step = id3_size(head) or _next_frame(file, position + 1, before)
            if step is None:
                break
            before = before if head[:3] != b"ID3" else None
            position = position + step if head[:3] == b"ID3" else step
            continue
        n_bytes, before = frame
        tag = _tag_place(head)
        told = int.from_bytes(head[tag + 8 : tag + 12], "big") if head[tag : tag + 4] in (b"Xing", b"Info") else None
        if told is not None and not head[tag + 7] & 1:
            told = -1
        if told is not None or not links:
            links.append([position, head[:4], told, 0, position + (n_bytes if told is not None else 0)])
        links[-1][3] += told is None
        position += n_bytes
    whole = []
    for (start, head, told, n, sound), end in zip(links, [*(link[0] for link in links[1:]), size], strict=True):
        if told is not None and told >= n:
            whole.append((start, end, b""))
        else:
            whole.append((sound, end, _info_frame(head, n)))
    return whole


def _next_frame(file, position, before):
    """Where the next frame begins that another follows, within 128 kB; None if there is none."""
    data = bytes_at(file, position, 1 << 17)
    k = -1
    while (k := data.find(b"\xff", k + 1)) >= 0:
        frame = _mp3_frame(data[k : k + 4])
        if frame and before in (None, frame[1]):
            following = _mp3_frame(data[k + frame[0] : k + frame[0] + 4])
            if following and following[1] == frame[1]:
                return position + k
    return None


def _info_frame(head, n_frames):
    """A first frame that tells how many follow, for streams that were written without one."""
    head = bytes((head[0], head[1] | 1, 0x90 | head[2] & 0x0C, head[3]))
    body = head.ljust(_tag_place(head), b"\0") + b"Info" + (1).to_bytes(4, "big") + n_frames.to_bytes(4, "big")
    return body.ljust(_mp3_frame(head)[0], b"\0")


def _wav_links(file):
    """A recorder that was killed leaves a size of 0 in front of its samples."""
    size, position = _size(file), 12
    while (head := bytes_at(file, position, 8)) and len(head) == 8 and head[:4] != b"data":
        position += 8 + int.from_bytes(head[4:], "little") + (head[4] & 1)
    follows = bytes_at(file, position + 8, 4)
    if head != b"data\0\0\0\0" or len(follows) < 4 or (follows.isalpha() and follows.isascii()):
        return []
    n_bytes = min(size - position - 8, 0xFFFF_FFFE)
    return [(position + 8, size, bytes_at(file, 0, position + 4) + n_bytes.to_bytes(4, "little"))]


def _flac_links(file):
    """The last frame tells its number, so how much there is; the header may promise less, and be believed."""
    head, size = bytes_at(file, 0, 42), _size(file)
    if len(head) < 42 or head[4] & 0x7F:
        return []
    block, promised = int.from_bytes(head[8:10], "big"), int.from_bytes(head[21:26], "big") & 0xF_FFFF_FFFF
    start = max(42, size - (1 << 17))
    data = bytes_at(file, start, 1 << 17)
    k = len(data)
    while (k := max(data.rfind(b"\xff\xf8", 0, k), data.rfind(b"\xff\xf9", 0, k))) >= 0:
        if n_frames := _flac_end(data[k : k + 16], block):
            if n_frames <= promised:
                break
            if _crc(data[k:], 16, 0x8005):  # compressed sound that looks like a frame: the last one ends with the file
                continue
            total = (int.from_bytes(head[18:26], "big") & ~0xF_FFFF_FFFF | n_frames).to_bytes(8, "big")
            return [(26, size, head[:18] + total)]
    return []


def _flac_end(head, block):
    """Sample that a FLAC frame ends before, or None if these bytes begin none."""
    n_more = max(0, 8 - (head[4] ^ 0xFF).bit_length() - 1) if len(head) > 4 else 0
    code = head[2] >> 4 if len(head) > 4 else 0
    at = 5 + n_more
    n_extra = (code in (6, 7)) + (code == 7) + {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0) if code else 0
    if (
        not code
        or len(head) <= at + n_extra
        or (n_more == 0 and head[4] > 0x7F)
        or _crc(head[: at + n_extra + 1], 8, 0x07)
    ):
        return None
    number = head[4] & (0x7F if n_more == 0 else 0x3F >> n_more)
    for byte in head[5:at]:
        number = number << 6 | byte & 0x3F
    if code in (6, 7):
        length = int.from_bytes(head[at : at + code - 5], "big") + 1
    else:
        length = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    return number + length if head[1] & 1 else number * block + length


def _crc(data, bits, polynomial):
    crc, top = 0, 1 << bits - 1
    for byte in data:
        crc ^= byte << bits - 8
        for _ in range(8):
            crc = crc << 1 ^ (polynomial if crc & top else 0)
        crc &= (top << 1) - 1
    return crc


_LINKS = {"ogg": _ogg_links, "mp3": _mp3_links, "wav": _wav_links, "flac": _flac_links}
