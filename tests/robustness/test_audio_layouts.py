"""Sound of 1 to 24 channels, whole and damaged, in a process of its own: none may crash it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import io, random
import av, numpy as np
from av.audio.plane import AudioPlane
from ming_audio.reading import count_channels, open_audio
from ming_core.errors import MingError
from ming_core.notes import collected_notes

RATE, TYPES = 48_000, {"flt": np.float32, "dbl": np.float64, "s16": np.int16, "s32": np.int32}
NAMES = ["mono", "stereo", "2.1", "quad", "5.0", "5.1", "6.1", "7.1"]

def written(codec, kind, channels):
    layout = NAMES[channels - 1] if channels <= 8 else f"{channels}c"
    data = io.BytesIO()
    with av.open(data, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=RATE, layout=layout)
        name = stream.format.name
        size = 960 if codec == "libopus" else 1024
        full = {"s16": 16_000, "s32": 1 << 30}.get(name.removesuffix("p"), 0.5)
        wave = (full * np.sin(np.arange(size) / 9)).astype(TYPES[name.removesuffix("p")])
        for number in range(6):
            frame = av.AudioFrame(format=name, layout=layout, samples=size)
            frame.sample_rate, frame.pts = RATE, number * size
            if name.endswith("p"):
                for channel in range(channels):
                    AudioPlane(frame, channel).update(wave.tobytes())
            else:
                AudioPlane(frame, 0).update(np.repeat(wave, channels).tobytes())
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return data.getvalue()

seed = random.Random(0)
read = 0
for codec, kind, most in (("wavpack", "wv", 24), ("pcm_f64le", "matroska", 24), ("aac", "ipod", 8),
                          ("aac", "mpegts", 8), ("flac", "flac", 8), ("libopus", "matroska", 24)):
    for channels in range(1, most + 1):
        try:
            data = written(codec, kind, channels)
        except Exception:  # an encoder that does not know this layout
            continue
        for damage in (0, 3, 20):
            spoilt = bytearray(data)
            for _ in range(damage):
                spoilt[seed.randrange(len(spoilt))] = seed.randrange(256)
            with collected_notes():
                try:
                    samples = open_audio(bytes(spoilt)).samples
                    assert np.isfinite(samples).all()
                    if not damage:
                        assert count_channels(data) == channels, (codec, channels)
                        assert 0.2 < np.abs(samples[500:1000]).max() < 1, (codec, channels)
                        read += 1
                except MingError:
                    assert damage, (codec, channels)
print(read)
"""


def test_no_layout_crashes_the_process() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert int(result.stdout) >= 40
