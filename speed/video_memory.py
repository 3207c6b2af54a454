"""Peak memory of a long video against a short one, and against decoding everything.

    python speed/video_memory.py [--minutes 10] [--frames 32] [--json FILE]

Two videos of 640 x 360 pixels at 5 frames per second, mp4 with H.264, one of 1 minute and one of
`--minutes`, are made first. Each is turned into patches in a fresh process, the same number of
frames of both, with the limits of Flash. Memory is what the process peaks at above what it held
before it opened the video (its imports). "everything" decodes all frames of the short video into
a list, the obvious alternative.

Claims: the long video takes at most 1.2 times the memory of the short one at the same number of
frames; the short one less than decoding it whole.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from _turns import Ratio, finish, options, take_turns

SIZE, FPS = (640, 360), 5

PEAK = """
import gc, resource, sys
import av, torch
from ming_core.media import Video
from ming_vision import VideoSampling
from ming_vision.processing import ImageProcessor

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024

path, frames, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
kind = {"image_processor_type": "BailingMM2ImageProcessor", "patch_size": 16}
processor = ImageProcessor.from_config({"patch_size": 16}, kind)
torch.set_num_threads(1)
gc.collect()
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew here
before = peak()
if how == "sampled":
    patches = processor([Video(path, VideoSampling(frames=frames))])
    assert patches.grid[0, 0] == -(-frames // 2)
else:
    with av.open(path) as container:
        patches = [frame.to_image() for frame in container.decode(video=0)]
print(peak() - before)
"""


def make(path: Path, seconds: int) -> None:
    """A moving gradient: cheap to encode, and no frame repeats another."""
    import av

    width, height = SIZE
    base = np.add.outer(np.arange(height), np.arange(width)).astype(np.uint8)
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for i in range(seconds * FPS):
            frame = av.VideoFrame.from_ndarray(np.roll(base, i, axis=1), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def measure(path: Path, frames: int, how: str) -> tuple[float, float]:
    """(peak MiB, seconds) of a fresh process."""
    start = time.perf_counter()
    command = [sys.executable, "-c", PEAK, str(path), str(frames), how]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(result.stderr)
    return float(result.stdout), time.perf_counter() - start


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--minutes", type=int, default=10, help="length of the long video")
    parser.add_argument("--frames", type=int, default=32, help="frames that are looked at")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        paths = {minutes: Path(folder) / f"{minutes}.mp4" for minutes in (1, args.minutes)}
        for minutes, path in paths.items():
            make(path, 60 * minutes)
        whole = "everything, 1 min"

        def peak(case: str) -> float:
            how, _, length = case.partition(", ")
            found, took = measure(paths[int(length.split()[0])], args.frames, how)
            seconds[case].append(took)
            return found

        cases = ["sampled, 1 min", whole, f"sampled, {args.minutes} min"]
        peaks = take_turns({case: partial(peak, case) for case in cases}, 0)
    short, everything, long = peaks.values()
    rows = [
        {
            "case": case,
            "MiB": median(found),
            "seconds": median(seconds[case]),
            "of the short one": Ratio.of(found, short),
        }
        for case, found in peaks.items()
    ]
    claims = {
        f"{args.minutes} minutes within 1.2 times the memory of 1 minute": Ratio.of(
            long, short
        ).at_most(1.2),
        "less than decoding the short video whole": Ratio.of(short, everything).at_most(1),
    }
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
