"""Real-time factor of `transcribe` on nano: recorded sentences, joined to one recording.

    python benchmarks/transcribe.py [--json FILE]

The recording is the English part of tests/speech with pauses between the sentences: read, cut,
heard and written down by `load("nano")`, 8 pieces at a time, against one after another. Claims:
faster than the speech (a factor below 1), and together at least 1.5 times as fast as one by one.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np

from _bench import fastest, finish, options
from ming_audio.datasets import read_folder
from ming_audio.lengths import RATE
from ming_audio.reading import stream_audio
from ming_core import load

SPEECH = Path(__file__).parent.parent / "tests" / "speech"
PAUSE = 0.8  # seconds between sentences
SLOWEST = 1.0
GAIN = 1.5


def recording() -> np.ndarray:
    """All English sentences in order, [N] float32 at 16 kHz."""
    parts = []
    _, utterances = read_folder(SPEECH)
    for said in utterances:
        if said.language == "English":
            parts += [*stream_audio(said.audio), np.zeros(round(PAUSE * RATE))]
    return np.concatenate(parts).astype(np.float32)


def main() -> int:
    args = options(__doc__).parse_args()
    model, sound = load("nano"), recording()
    hear = partial(model.transcribe, sound, "en", cut=True)
    calls = {"8 at a time": partial(hear, batch=8), "one by one": partial(hear, batch=1)}
    took = fastest(calls, 30)
    seconds = len(sound) / RATE
    rows = [
        {"case": name, "speech s": seconds, "took s": time, "real-time factor": time / seconds}
        for name, time in took.items()
    ]
    together, alone = took.values()
    claims = {
        f"real-time factor below {SLOWEST}": together < SLOWEST * seconds,
        f"8 at a time at least {GAIN} times as fast": alone >= GAIN * together,
    }
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
