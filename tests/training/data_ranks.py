"""What two processes read of the same rows: `torchrun data_ranks.py ROWS FOLDER` writes it."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import distributed

from ming_core import load
from ming_recipes.training.batch import Batch
from ming_recipes.training.data import DataSet, OmniData, measure_sets
from ming_recipes.training.examples import Parts, work_of

STEPS = 6


def costs(batch: Batch, parts: Parts) -> dict[str, float]:
    """Tokens and rows of input of the encoders in a batch, and both in tokens."""
    work = {item.modality: float(work_of(item)) for item in batch.omni.features}
    cost = batch.tokens + sum(parts.costs[name] * count for name, count in work.items())
    return {"tokens": batch.tokens, "cost": cost, **work}


def main(rows: str, folder: Path) -> None:
    distributed.init_process_group("gloo")
    rank, size = distributed.get_rank(), distributed.get_world_size()
    parts = Parts.of(load("nano", device="cpu"))
    # Both measure into one file at once.
    sets = measure_sets([DataSet(rows)], parts, 1024, folder / "sizes", workers=0)
    data = OmniData(sets, parts, capacity=1024, workers=0)
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_step=0, global_rank=rank, world_size=size, strategy=None
    )
    batches = list(islice(data.train_dataloader(), STEPS))
    mine = {
        "kept": sets[0].kept(),
        "costs": [costs(batch, parts) for batch in batches],
        "ids": [[sample.id for sample in batch.samples] for batch in batches],
    }
    every: list[Any] = [None] * size
    distributed.all_gather_object(every, mine)
    if rank == 0:
        (folder / "ranks.json").write_text(json.dumps(every))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
