"""Real-time factor of `transcribe` on nano: recorded sentences, joined to one recording.

    python speed/transcribe.py [--seconds 30] [--json FILE]

The recording is the English part of tests/speech with pauses between the sentences: read, cut,
heard and written down by `load("nano")`, 8 pieces at a time, against one after another. Claims:
faster than the speech (a factor below 1), and together at least 1.5 times as fast as one by one.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from _turns import Ratio, finish, in_turns, options
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
    args = options(__doc__, seconds=30).parse_args()
    model, sound = load("nano"), recording()
    hear = partial(model.transcribe, sound, "en", cut=True)
    calls = {"8 at a time": partial(hear, batch=8), "one by one": partial(hear, batch=1)}
    times = in_turns(calls, args.seconds)
    seconds = len(sound) / RATE
    together, alone = times["8 at a time"], times["one by one"]
    rows = [
        {
            "case": name,
            "speech s": seconds,
            "took s": median(took),
            "real-time factor": median(took) / seconds,
            "of 8 at a time": Ratio.of(took, together),
        }
        for name, took in times.items()
    ]
    claims = {
        f"real-time factor below {SLOWEST}": Ratio.to(SLOWEST * seconds, together).at_most(1),
        f"8 at a time at least {GAIN} times as fast": Ratio.of(alone, together).at_least(GAIN),
    }
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
