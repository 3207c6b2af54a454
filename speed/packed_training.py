"""Training on packed rows against training on padded ones.

    python speed/packed_training.py [--samples 24] [--seconds 60] [--json FILE]

The language model of nano, in float32, and samples as long as those of the Ming reports: texts of
50 to 2000 tokens, pictures of 64 to 4096, sounds of 25 to 750, in equal numbers, their lengths even
on a logarithmic scale. An epoch plans and builds its batches, and runs forward, loss and backward
on each. "packed": rows of 4500 tokens, one row at a time. "padded": the samples in their order,
eight at a time, filled up to the longest; they need no mask, because padding comes last. Both see
the same tokens.

Claims: packed, an epoch takes at most half the time, and training makes 2.2 times as many useful
tokens a second, without the time to build batches.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from _turns import Ratio, finish, options, take_turns
from ming_core import load
from ming_core.modalities import AUDIO, IMAGE, TEXT
from ming_core.model.omni import Omni
from ming_core.training.losses import next_token_loss
from ming_core.training.packing import Packed, Placement, Sample, pack, plan_packing

KINDS = {TEXT: (50, 2000), IMAGE: (64, 4096), AUDIO: (25, 750)}
QUESTION = 24
"""Tokens of text around a medium."""
ROW = 4500
TOGETHER = 8


def draw(count: int) -> list[Sample]:
    """Samples of all kinds in turn; a medium is followed by its question and answer."""
    random = np.random.default_rng(0)
    generator = torch.Generator().manual_seed(0)
    samples = []
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        medium = round(float(np.exp(random.uniform(*np.log(KINDS[kind])))))
        length = medium + (QUESTION if kind != TEXT else 0)
        ids = torch.randint(10, 1000, (length,), generator=generator)
        modality = torch.full((length,), TEXT)
        modality[:medium] = kind
        positions = torch.arange(length).expand(3, -1)
        samples.append(Sample(ids, ids, positions, modality))
    return samples


def padded(samples: Sequence[Sample]) -> Iterator[Packed]:
    """One sample in each row."""
    for first in range(0, len(samples), TOGETHER):
        some = samples[first : first + TOGETHER]
        places = [Placement(row, 0) for row in range(len(some))]
        yield pack(some, places, max(map(len, some)))


def packed(samples: Sequence[Sample]) -> Iterator[Packed]:
    plan = plan_packing([len(sample) for sample in samples], ROW)
    for row in sorted({place.row for place in plan}):
        own = [i for i, place in enumerate(plan) if place.row == row]
        places = [Placement(0, plan[i].offset) for i in own]
        end = max(plan[i].offset + len(samples[i]) for i in own)
        yield pack([samples[i] for i in own], places, end)


def step(omni: Omni, batch: Packed) -> None:
    out = omni.backbone(
        omni.backbone.embed(batch.input_ids),
        batch.position_ids,
        modality_ids=batch.modality_ids,
        # Padding behind everything needs no mask; it is the fastest that padded rows can be.
        segment_ids=batch.segment_ids if int(batch.segment_ids.max()) else None,
    )
    next_token_loss(omni.backbone.lm_head(out.hidden), batch.labels).backward()
    omni.zero_grad()


def main() -> int:
    parser = options(__doc__, seconds=60)
    parser.add_argument("--samples", type=int, default=24, help="of an epoch (24)")
    args = parser.parse_args()
    omni = load("nano", parts="text", device="cpu", dtype="float32").omni.train()
    samples = draw(args.samples)
    useful = sum(map(len, samples))
    steps: dict[str, list[float]] = {"packed": [], "padded": []}

    def epoch(name: str) -> float:
        start, computing = time.perf_counter(), 0.0
        for batch in {"packed": packed, "padded": padded}[name](samples):
            begun = time.perf_counter()
            step(omni, batch)
            computing += time.perf_counter() - begun
        steps[name].append(computing)
        return time.perf_counter() - start

    epochs = take_turns({name: lambda name=name: epoch(name) for name in steps}, args.seconds)
    places = {
        name: sum(batch.input_ids.numel() for batch in build(samples))
        for name, build in {"packed": packed, "padded": padded}.items()
    }
    rows = [
        {
            "way": name,
            "seconds": sorted(epochs[name])[len(epochs[name]) // 2],
            "useful tokens/s": useful / sorted(steps[name])[len(steps[name]) // 2],
            "padding %": 100 * (1 - useful / places[name]),
        }
        for name in steps
    ]
    whole, alone = (Ratio.of(x["padded"], x["packed"]) for x in (epochs, steps))
    print(f"padded / packed: an epoch {whole}, useful tokens a second {alone}")
    claims = {
        "an epoch in at most half the time": whole.at_least(2.0),
        "2.2 times as many useful tokens a second": alone.at_least(2.2),
    }
    return finish(rows, claims, args.json)


if __name__ == "__main__":
    sys.exit(main())
