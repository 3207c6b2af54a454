"""What a person sees of a training: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ming_core.cli.terminal import moves_back
from ming_recipes.training.runs.attempts import log
from ming_recipes.training.runs.metrics import Metrics

PAUSE = 30.0
"""Seconds between two lines where no bar can be drawn, and in the log."""


class Watch(Callback):
    """Shows step, loss, tokens a second, share of padding and remaining time. It has to be behind
    every other callback, so that the time of a step is known."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._bar: Progress | None = None
        self._told = 0.0
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begun, self._first = time.monotonic(), trainer.global_step
        self._step, self._told = trainer.global_step, 0.0
        if trainer.is_global_zero and moves_back(sys.stderr):
            self._bar = Progress(
                TextColumn("step {task.completed:.0f} of {task.total:.0f}"),
                BarColumn(),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=trainer.max_steps, completed=self._step)
        self.metrics.restart_clock()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, now = trainer.global_step, time.monotonic()
        if step == self._step:
            return
        self._step = step
        self.metrics.restart_clock()
        if not trainer.is_global_zero:
            return
        text = describe(self.metrics.row, self._remaining(trainer.max_steps, now))
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=text)
        if now - self._told > PAUSE or step >= trainer.max_steps:
            self._told = now
            line = f"step {step} of {trainer.max_steps}: {text}"
            log.info(line)
            if self._bar is None:
                print(line, file=sys.stderr, flush=True)

    def _remaining(self, steps: int, now: float) -> float:
        """Seconds until the last step, if steps, validations and saving go on as until now."""
        return (steps - self._step) * (now - self._begun) / max(1, self._step - self._first)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(row: dict[str, Any], remaining: float) -> str:
    """`loss 1.234, 5300 tokens/s, 4 % padding, 0:12:05 left`; what is not known is left out."""
    parts = []
    if "loss" in row:
        parts.append(f"loss {row['loss']:.4g}")
    if "tokens_per_second" in row:
        parts.append(f"{row['tokens_per_second']:.0f} tokens/s")
    if "padding" in row:
        parts.append(f"{100 * row['padding']:.0f} % padding")
    parts.append(f"{timedelta(seconds=round(remaining))} left")
    return ", ".join(parts)
