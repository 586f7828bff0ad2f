"""Change recordings at random, and count what comes of it: python tests/benchmarks/fuzz.py --inputs 5000

Bytes are flipped, zeroed, cut out, doubled or spliced in from another recording. Every input is decoded in a process
that may die. What should be: foreign exceptions 0, crashes 0, hangs 0, memory below the bound. "Other sound" is what was
accepted and differs from the unchanged recording: some formats cannot tell.
"""

import argparse
import io
import multiprocessing
import resource
from collections import Counter

import av
import numpy as np
import pandas as pd
import soundfile as sf

from sercore.audio import describe_audio, load_audio
from sercore.corpora.synthetic import SR, synthesize
from sercore.errors import AudioError

#: More above the import than this [MB] is too much; a call that takes longer [s] hangs.
MAX_MB, MAX_S = 200, 20
CHUNK = 50
BY_PYAV = {
    "m4a": ("ipod", "aac"), "alac": ("ipod", "alac"), "webm": ("webm", "libopus"), "flac in mkv": ("matroska", "flac"),
    "aac": ("adts", "aac"), "amr": ("amr", "libopencore_amrnb"), "avi": ("avi", "libmp3lame"), "ts": ("mpegts", "aac"),
    "mp3 without length": ("mp3", "libmp3lame"), "caf": ("caf", "alac"),
}  # fmt: skip
BY_SOUNDFILE = {
    "wav": ("WAV", "PCM_16"), "wav float": ("WAV", "FLOAT"), "adpcm": ("WAV", "IMA_ADPCM"), "flac": ("FLAC", None),
    "vorbis": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", None), "aiff": ("AIFF", None), "au": ("AU", None),
    "w64": ("W64", None), "rf64": ("RF64", None),
}  # fmt: skip


def recordings():
    """One recording in every format."""
    y, found = synthesize("happy", speaker=3), {}
    for name, (kind, subtype) in BY_SOUNDFILE.items():
        sf.write(buffer := io.BytesIO(), y, SR, format=kind, subtype=subtype)
        found[name] = buffer.getvalue()
    for name, (kind, codec) in BY_PYAV.items():
        sr = 8_000 if kind == "amr" else 48_000
        options = {"write_xing": "0"} if kind == "mp3" else {}
        with av.open(buffer := io.BytesIO(), "w", format=kind, options=options) as container:
            stream = container.add_stream(codec, rate=sr, layout="mono")
            frame = av.AudioFrame.from_ndarray(y[None].astype(np.float32), "flt", "mono")
            frame.sample_rate, frame.pts = SR, 0
            size = stream.codec_context.frame_size or 1024
            parts = av.AudioResampler(stream.codec_context.format, "mono", sr, frame_size=size)
            for part in (*parts.resample(frame), *parts.resample(None), None):
                container.mux(stream.encode(part))
        found[name] = buffer.getvalue()
    return found


def changed(data, other, rng):
    """A recording with one to three changes, more of them in its first bytes."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        place = int(rng.integers(min(len(data), 200 if rng.random() < 0.5 else len(data))))
        n = int(rng.integers(1, 64))
        match rng.integers(6):
            case 0:
                data[place] ^= 1 << int(rng.integers(8))
            case 1:
                data[place : place + n] = bytes(len(data[place : place + n]))
            case 2:
                del data[place : place + n]
            case 3:
                data[place:place] = data[place : place + n]
            case 4:
                data[place : place + n] = other[place : place + n]
            case 5:
                data = data[: max(1, place)]
    return bytes(data)


def outcome(data, whole):
    """What `load_audio` and `describe_audio` make of some bytes."""
    try:
        describe_audio(io.BytesIO(data))
        y = load_audio(io.BytesIO(data))
    except AudioError:
        return "refused"
    except Exception as error:
        return f"foreign: {type(error).__name__} {error}"[:120]
    same = len(y) == len(whole) and np.abs(y - whole).max() < 1e-3
    return "same sound" if same else "other sound"


def work(format, seed, count, pipe):
    """Answer for some inputs of a format; the pipe tells which one is being decoded."""
    found, rng = recordings(), np.random.default_rng(seed)
    whole, names = load_audio(io.BytesIO(found[format])), list(found)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(count):
        pipe.send(outcome(changed(found[format], found[names[rng.integers(len(names))]], rng), whole))
    pipe.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3)


def main():
    """Print a row a format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    formats = [*BY_SOUNDFILE, *BY_PYAV]
    counts, peak = {name: Counter() for name in formats}, Counter()
    context = multiprocessing.get_context("spawn")
    for k in range(-(-options.inputs // CHUNK)):
        name = formats[k % len(formats)]
        here, there = context.Pipe()
        process = context.Process(target=work, args=(name, (options.seed, k), CHUNK, there))
        process.start()
        there.close()
        try:
            for _ in range(CHUNK):
                if not here.poll(MAX_S + 20):
                    counts[name]["hang"] += 1
                    break
                counts[name][here.recv()] += 1
            else:
                peak[name] = max(peak[name], round(here.recv()))
        except EOFError:
            counts[name]["crash"] += 1
        process.kill()
    table = pd.DataFrame(counts).T.fillna(0).astype(int)
    table["peak MB"] = pd.Series(peak)
    print(table.to_string())
    print(table.drop(columns="peak MB").sum().to_string())
    bad = [column for column in table if column in ("crash", "hang") or column.startswith("foreign")]
    raise SystemExit(int(bool(bad) or table["peak MB"].max() > MAX_MB))


if __name__ == "__main__":
    main()
