"""What a training is looked at with: the loss on other data, and sample answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ming_core.errors import BadConfig
from ming_recipes.training.runs.keeping import agreed
from ming_recipes.training.runs.logs import append_row, cut_rows
from ming_recipes.training.runs.metrics import Metrics, Sums
from ming_recipes.training.runs.states import ALONE
from ming_recipes.training.runs.stopping import Stop

SAMPLES = "samples.jsonl"

Samples = Callable[[], Iterable[Mapping[str, Any]]]
"""Gives rows such as {"id", "question", "answer", "expected"}, made by the model as it is now."""


class Validation(Callback):
    """Every `every` steps and after the last one: the terms of the loss over the validation data,
    as `validation/<term>` in the metrics; sample answers in `samples.jsonl`; and if the value of
    `best` is the smallest until now, the weights as `path`.

    It runs the module's `validation_step`, which returns {"terms"} as `training_step` does. A
    signal interrupts it; then it begins anew when the training goes on, so that nothing is missing.
    """

    def __init__(
        self,
        folder: Path,
        path: Path,
        every: int,
        best: str,
        metrics: Metrics,
        stop: Stop,
        samples: Samples | None = None,
    ) -> None:
        self.samples_path, self.path, self.every = folder / SAMPLES, path, every
        self.metrics, self.stop, self.samples = metrics, stop, samples
        self.best_of = best
        self.best: float | None = None
        self.best_step = 0
        self._due = False  # one was begun at this step and has not ended
        self._step = 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step, "due": self._due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]
        self._due = state_dict["due"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        if trainer.is_global_zero:
            cut_rows(self.samples_path, self._step)
        if self._due:
            self._validate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._step:
            return
        self._step = step
        if (self.every and step % self.every == 0) or step >= trainer.max_steps:
            self._validate(trainer, pl_module)

    def _validate(self, trainer: Trainer, module: LightningModule) -> None:
        self._due = True
        with looking_at(module):
            found = self._losses(trainer, module)
            rows = None if found is None else self._samples(trainer)
            if found is None or rows is None:
                return
            row = {f"validation/{name}": value for name, value in found.items()}
            if row:
                self.metrics.write(trainer, {"step": self._step, **row})
            if trainer.is_global_zero:
                for sample in rows:
                    append_row(self.samples_path, {"step": self._step, **sample})
            if row:
                self._keep_best(trainer, row)
        self._due = False

    def _losses(self, trainer: Trainer, module: LightningModule) -> dict[str, float] | None:
        """The mean of each term over the validation data; None if a signal came."""
        sums = Sums()
        for index, batch in enumerate(_validation_data(trainer)):
            if self._is_stopped(trainer):
                return None
            batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
            with trainer.precision_plugin.val_step_context():
                outputs: Any = module.validation_step(batch, index)
            sums.add(outputs["terms"])
        sums.gather(trainer)
        weights, values = sums.weights(), sums.values()
        if weights:
            values["loss"] = sum(weights[name] * values[name] for name in weights)
        return values

    def _samples(self, trainer: Trainer) -> list[Mapping[str, Any]] | None:
        rows = []
        for row in self.samples() if self.samples else ():
            rows.append(row)
            if self._is_stopped(trainer):
                return None
        return rows

    def _is_stopped(self, trainer: Trainer) -> bool:
        """After the last step there is no later time for a validation."""
        (asked,) = agreed(trainer, float(self.stop.asked))
        return bool(asked) and self._step < trainer.max_steps

    def _keep_best(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        if self.best_of not in row:
            raise BadConfig(
                f"best is {self.best_of!r}, which this validation does not measure; it measures "
                f"{', '.join(sorted(row))}"
            )
        value = row[self.best_of]
        if self.best is None or value < self.best:
            self.best, self.best_step = value, self._step
            trainer.save_checkpoint(self.path, weights_only=True, storage_options=ALONE)


@contextmanager
def looking_at(module: LightningModule) -> Iterator[None]:
    """The module as it will be used: in evaluation, with averaged weights if there are."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with getattr(module, "averaged", nullcontext)(), torch.no_grad():
            yield
    finally:
        for part, training in modes.items():
            part.training = training


def _validation_data(trainer: Trainer) -> Iterable[Any]:
    anything: Any = trainer
    data: LightningDataModule = anything.datamodule
    if type(data).val_dataloader is LightningDataModule.val_dataloader:  # there is none
        return ()
    return data.val_dataloader() or ()
