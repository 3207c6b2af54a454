"""A Lightning callback that keeps a training safe: it saves, stops when asked, and stops at NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ming_core.errors import MingError
from ming_recipes.training.runs.stopping import Stop


class Diverged(MingError):
    """The loss or the weights of a training are no numbers any more."""


class Keep(Callback):
    """Saves the state as `path` every `every` steps and after the last one, also if a callback
    ends the training before.

    If it is asked to stop, it saves the state after the step and ends the training. All processes
    of a training stop at the same step, whichever was asked. From the first step to the last one
    `stop` is patient. If the loss or the weights are not finite, it raises Diverged and saves
    nothing. It has to be the last callback: what the others do after a step belongs to the state.
    """

    def __init__(self, path: Path, every: int, stop: Stop) -> None:
        self.path, self.every, self.stop = path, every, stop
        self.stopped_by = 0  # the signal for which all processes have stopped
        self._step = 0  # optimiser steps; one has several batches where gradients accumulate

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        self.stop.patient = True
        self.stop.answer()  # Lightning has taken SIGTERM

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        finite = torch.isfinite(outputs["loss"].detach()).all()
        unfinite, asked = agreed(trainer, float(not finite), float(self.stop.asked))
        if unfinite:
            raise Diverged(_diverged("loss", step))
        if step == self._step:
            return
        self._step, self.stopped_by = step, int(asked)
        trainer.should_stop = trainer.should_stop or bool(self.stopped_by)
        if step % self.every and step < trainer.max_steps and not trainer.should_stop:
            return
        if not all(bool(torch.isfinite(value).all()) for value in pl_module.parameters()):
            raise Diverged(_diverged("weights", step))
        trainer.save_checkpoint(self.path, weights_only=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.stopped_by:  # asked since the last step
            (asked,) = agreed(trainer, float(self.stop.asked))
            self.stopped_by = int(asked)
        self.stop.patient = False


def agreed(trainer: Trainer, *values: float) -> list[float]:
    """The largest value that a process of the training has, so that all of them do the same."""
    device = trainer.strategy.root_device
    found = trainer.strategy.reduce(torch.tensor(values, device=device), reduce_op="max")
    return found.tolist()


def _diverged(what: str, step: int) -> str:
    return (
        f"after step {step} the {what} of the training is no finite number; the states that were "
        "saved before are kept; train in another folder with lower learning rates"
    )
