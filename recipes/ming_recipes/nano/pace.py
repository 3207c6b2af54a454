"""How fast the stages are, and stages that end in time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ming_recipes.nano.config import STAGES, NanoPerception, StageName
from ming_recipes.training.module import OmniModule
from ming_recipes.training.runs.logs import append_row, read_rows

PACE = "pace.jsonl"
WARM_UP = 10
"""Steps that are not measured: caches are filled, and kernels are chosen."""

EVERY = 10  # steps between two looks at the clock


def seconds_of(config: NanoPerception, name: StageName, begun: float) -> float | None:
    """How long a stage may take now: its share of the time that is left; None if time does not
    matter.

    begun: by `time.monotonic`, when this attempt began. What stages do not share is for preparing
    data and for the result.
    """
    if not config.minutes:
        return None
    left = config.minutes * 60 - (time.monotonic() - begun)
    shares = [config.stage(other).share for other in STAGES]
    place = STAGES.index(name)
    # Preparing the data is over: the rest is shared by this stage, those behind it and the result.
    return max(0.0, left) * shares[place] / max(1e-9, 1 - sum(shares[:place]))


class Pace(Callback):
    """Adds a row to <out>/pace.jsonl for each stage, and lets it end in time.

    If not all steps fit into `seconds`, there are fewer of them, and the learning rate comes down
    with them as it should.
    """

    def __init__(self, config: NanoPerception, name: StageName, seconds: float | None) -> None:
        self.file, self.name, self.seconds = Path(config.out) / PACE, name, seconds
        self.planned = config.stage(name).steps
        self.begun = self.measured = self.ended = time.monotonic()
        self.first = 0
        self.waited = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.begun = self.measured = self.ended = time.monotonic()
        self.first = trainer.global_step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step >= self.first + WARM_UP:
            self.waited += time.monotonic() - self.ended

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.ended = time.monotonic()
        made = trainer.global_step - self.first
        if made == WARM_UP:
            _wait_for(pl_module.device)
            self.measured = self.ended = time.monotonic()
        if self.seconds is not None and made and made % EVERY == 0:
            # The first process decides for all.
            steps = trainer.strategy.broadcast(self._fitting(trainer.global_step, made))
            cast(OmniModule, pl_module).steps = steps
            trainer.fit_loop.epoch_loop.max_steps = steps

    def _fitting(self, step: int, made: int) -> int:
        """How many steps the stage has if it is to end in time, `made` of them in this attempt."""
        assert self.seconds is not None
        now = time.monotonic()
        left = self.seconds - (now - self.begun)
        if made > WARM_UP:
            each = (now - self.measured) / (made - WARM_UP)
        else:
            each = (now - self.begun) / made
        return min(self.planned, step + max(0, int(left / each)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank:
            return
        _wait_for(pl_module.device)
        now = time.monotonic()
        made = trainer.global_step - self.first
        row = {"stage": self.name, "step": trainer.global_step, "planned": self.planned}
        row |= {"steps": made, "seconds": round(now - self.begun, 2)}
        if made > WARM_UP:
            measured = max(now - self.measured, 1e-9)
            row["steps_per_second"] = round((made - WARM_UP) / measured, 3)
            row["waiting"] = round(self.waited / measured, 3)
        append_row(self.file, row)


def pace_table(out: Path) -> list[Sequence[str]]:
    """A line for each attempt at a stage: its steps of those planned, the time, steps a second, and
    the share of the time that the training waited for data."""
    lines: list[Sequence[str]] = [("stage", "steps", "seconds", "steps/s", "waiting for data")]
    for row in read_rows(out / PACE):
        speed, waiting = row.get("steps_per_second"), row.get("waiting")
        lines.append(
            (
                str(row["stage"]),
                f"{row['step']} of {row['planned']}",
                f"{row['seconds']:.1f}",
                "" if speed is None else f"{speed:.2f}",
                "" if waiting is None else f"{waiting:.0%}",
            )
        )
    return lines


def _wait_for(device: torch.device) -> None:
    """A GPU computes behind the program's back; wait until it has ended."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
