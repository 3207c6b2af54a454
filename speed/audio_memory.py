"""Peak memory of cutting a recording of 2 hours into segments, against one of 10 minutes.

    python speed/audio_memory.py [--hours 2] [--format flac] [--json FILE]

Writes synthetic speech (noise with pauses, 22.05 kHz, one channel) block by block to a temporary
folder. Each recording is read, resampled to 16 kHz, cut at pauses and turned into log-mel frames in
a fresh process: once streamed, as `transcribe` does, once the obvious way, read into memory as a
whole before it is cut. Memory is the peak resident size above that of the process with everything
imported. Claim: streamed, the long recording takes at most 1.2 times the memory of the short one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from _turns import Ratio, finish, options, take_turns
from ming_audio.logmel import log_mel
from ming_audio.reading import open_audio, stream_audio
from ming_audio.segments import segments

CLAIM = 1.2
RATE = 22_050
SHORT = 600
PERIOD = 12
"""Seconds after which the pattern of speech and pauses comes again."""

METHODS: dict[str, Callable[[Path], Iterator[np.ndarray]]] = {
    "streamed": stream_audio,
    "read whole": lambda path: iter([open_audio(path).samples]),
}


def write_recording(path: Path, seconds: int) -> None:
    """Bursts of 1 to 6 s over a little noise, 16 bit."""
    random = np.random.default_rng(0)
    loudness = np.full(PERIOD * RATE, 1e-3)
    for start, end in ((0.5, 1.5), (2.2, 5.2), (5.9, 11.6)):
        loudness[round(start * RATE) : round(end * RATE)] = 0.1
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(seconds // PERIOD):
            file.write(random.normal(0, loudness).clip(-1, 1).astype(np.float32))


def resident(field: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(method: str, path: Path) -> dict[str, float]:
    """Cut one recording in this process; run in a fresh one."""
    log_mel(np.zeros(RATE, np.float32))
    before, start = resident("VmRSS"), time.perf_counter()
    found = [len(log_mel(segment.samples)) for segment in segments(METHODS[method](path))]
    return {
        "segments": len(found),
        "megabytes": (resident("VmHWM") - before) / 1e6,
        "process megabytes": resident("VmHWM") / 1e6,
        "seconds": time.perf_counter() - start,
    }


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--hours", type=float, default=2, help="length of the long recording")
    parser.add_argument("--format", default="flac", choices=("flac", "wav", "ogg", "mp3"))
    parser.add_argument("--measure", nargs=2, metavar=("METHOD", "FILE"), help="one run, as JSON")
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure[0], Path(args.measure[1]))))
        return 0
    rows = []
    with tempfile.TemporaryDirectory(prefix="ming-bench-") as folder:
        runs: dict[str, Callable[[], float]] = {}
        for seconds in (SHORT, round(args.hours * 3600)):
            path = Path(folder) / f"{seconds}.{args.format}"
            write_recording(path, seconds)
            for method in METHODS:
                case = f"{method}, {seconds / 60:.0f} min"
                command = [sys.executable, __file__, "--measure", method, str(path)]

                def run(case: str = case, command: Sequence[str] = command) -> float:
                    result = json.loads(subprocess.run(command, check=True, stdout=-1).stdout)
                    rows.append({"case": case, **result})
                    return result["megabytes"]

                if method == "streamed":
                    runs[case] = run
                else:
                    run()  # once is enough to show it
        short, long = take_turns(runs, 0).values()
    ratio = Ratio.of(long, short)
    print(f"streamed, long / short: {ratio}")
    return finish(rows, {f"at most {CLAIM}": ratio.at_most(CLAIM)}, args.json)


if __name__ == "__main__":
    sys.exit(main())
