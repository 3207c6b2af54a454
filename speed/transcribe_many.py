"""Recordings a second: `model.many("transcribe")` against `model.transcribe` one by one, on nano.

    python speed/transcribe_many.py [--seconds 30] [--json FILE]

The recordings are the 64 of tests/speech, and every fourth of them with words to listen for, which
nano hears twice. Pieces of several recordings share a batch of 32. Claims: at least 1.8 times as
fast as one after the other, with words 1.5 times, and the texts are equal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from _turns import Ratio, Verdict, finish, in_turns, options
from ming_core import load
from ming_core.api import OmniModel

SPEECH = Path(__file__).parent.parent / "tests" / "speech"
GAINS = {"plain": 1.8, "with hotwords": 1.5}
BATCH = 32

Items = Sequence[dict[str, Any]]


def recordings() -> tuple[Items, Items]:
    """Arguments of `transcribe` for each recording: without and with words to listen for."""
    lines = (SPEECH / "utterances.jsonl").read_text("utf-8").splitlines()
    plain = [{"source": SPEECH / json.loads(line)["wav_path"]} for line in lines]
    words = [{"hotwords": json.loads(line)["context"]} for line in lines]
    listed = [{**item, **own} for item, own in zip(plain, words, strict=True)]
    return plain, listed[::4]


def together(model: OmniModel, items: Items) -> list[str]:
    return [outcome.result.text for outcome in model.many("transcribe", items, batch=BATCH)]


def alone(model: OmniModel, items: Items) -> list[str]:
    return [model.transcribe(**item).text for item in items]


def main() -> int:
    args = options(__doc__, seconds=30).parse_args()
    model = load("nano")
    rows, claims, equal = [], {}, True
    for (name, gain), items in zip(GAINS.items(), recordings(), strict=True):
        equal &= together(model, items) == alone(model, items)
        calls = {
            "many": partial(together, model, items),
            "one by one": partial(alone, model, items),
        }
        times = in_turns(calls, args.seconds / 2)
        ratio = Ratio.of(times["one by one"], times["many"])
        claims[f"{name}: many at least {gain} times as fast"] = ratio.at_least(gain)
        rows += [
            {
                "case": f"{name}, {way}",
                "recordings/s": len(items) / median(took),
                "of many": Ratio.of(took, times["many"]),
            }
            for way, took in times.items()
        ]
    claims["equal texts"] = Verdict.YES if equal else Verdict.NO
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
