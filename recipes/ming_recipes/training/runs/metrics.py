"""What a training measures: one row a step in `metrics.jsonl`, and the same for other loggers."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor

from ming_recipes.training.norms import gradient_norm
from ming_recipes.training.runs.logs import append_row, cut_rows
from ming_recipes.training.strategies import ranks

METRICS = "metrics.jsonl"

Terms = Mapping[str, tuple[Any, Any, float]]
"""Of each term of the loss: its total, what it is divided by, and its weight in the loss. One with
weight 0 is only told."""


class Sums:
    """Sums of terms over batches and processes."""

    def __init__(self) -> None:
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])

    def add(self, terms: Terms) -> None:
        for name, (total, count, weight) in terms.items():
            sums = self.sums[name]
            sums[0] += _number(total)
            sums[1] += _number(count)
            sums[2] = float(weight)

    def gather(self, trainer: Trainer) -> None:
        """Add what the other processes have, which may know other terms."""
        place = ranks(trainer)
        if place.size == 1:
            return
        found: list[Any] = [None] * place.size
        torch.distributed.all_gather_object(found, dict(self.sums), place.group)
        self.sums.clear()
        for sums in found:
            self.add(sums)

    def values(self) -> dict[str, float]:
        """The mean of each term; none of one that nothing counts for."""
        return {name: total / count for name, (total, count, _) in self.sums.items() if count}

    def weights(self) -> dict[str, float]:
        """Of the terms that have a value and are part of the loss."""
        return {name: weight for name, (_, count, weight) in self.sums.items() if count and weight}


class Metrics(Callback):
    """Writes a row every `every` steps, after the first one and after the last one.

    A row has the number of the step, `loss`, each term and its `weight/`, the learning rate of each
    group, `grad_norm` before clipping, `tokens_per_second`, `padding` (the share of the batch), and
    `seconds`, the time of all steps until now without validations and saving. A module whose
    `training_step` gives no terms has only its loss.

    When a training goes on from a state, rows of later steps are removed.
    """

    def __init__(self, folder: Path, every: int, loggers: Iterable[Logger] = ()) -> None:
        self.path, self.every, self.loggers = folder / METRICS, every, list(loggers)
        self.seconds = 0.0
        self.row: dict[str, Any] = {}  # the newest one
        self._step = 0
        self._begin()

    def _begin(self) -> None:
        """Begin a step."""
        self._terms, self._tokens, self._places = Sums(), 0, 0
        self._rates: dict[str, float] = {}
        self._norm: float | None = None

    def restart_clock(self) -> None:
        """The time until now belongs to no step."""
        self._since = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = float(state_dict["seconds"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        if trainer.is_global_zero:
            cut_rows(self.path, self._step)
        self.restart_clock()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        groups = optimizer.param_groups
        self._rates = {_rate_name(group, i): float(group["lr"]) for i, group in enumerate(groups)}
        if self._is_due(trainer, trainer.global_step + 1):
            self._norm = _number(gradient_norm(pl_module.parameters()))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if self._is_due(trainer, step if step > self._step else step + 1):
            terms = outputs.get("terms")
            self._terms.add({"loss": (outputs["loss"], 1, 0.0)} if terms is None else terms)
        self._tokens += getattr(batch, "tokens", 0)
        self._places += getattr(batch, "places", 0)
        if step == self._step:
            return
        self._step = step
        now = time.monotonic()
        self.seconds, taken = self.seconds + now - self._since, now - self._since
        if self._is_due(trainer, step):
            self.write(trainer, self._row(trainer, taken))
        self._begin()
        self._since = now

    def _is_due(self, trainer: Trainer, step: int) -> bool:
        return step == 1 or step % self.every == 0 or step >= trainer.max_steps

    def _row(self, trainer: Trainer, taken: float) -> dict[str, Any]:
        self._terms.add({_TOKENS: (self._tokens, 1, 0.0), _PLACES: (self._places, 1, 0.0)})
        self._terms.gather(trainer)
        tokens, places = (self._terms.sums.pop(name)[0] for name in (_TOKENS, _PLACES))
        values, weights = self._terms.values(), self._terms.weights()
        row: dict[str, Any] = {"step": self._step}
        if weights:
            row["loss"] = sum(weights[name] * values[name] for name in weights)
        row |= values | {f"weight/{name}": weight for name, weight in weights.items()}
        row |= self._rates
        if self._norm is not None:
            row["grad_norm"] = self._norm
        if places:
            row["tokens_per_second"] = round(tokens / taken, 1)
            row["padding"] = round(1 - tokens / places, 4)
        row["seconds"] = round(self.seconds, 2)
        self.row = row
        return row

    def write(self, trainer: Trainer, row: Mapping[str, Any]) -> None:
        """Add a row to the file, and tell the other loggers. It has a `step`."""
        if not trainer.is_global_zero:
            return
        append_row(self.path, row)
        numbers = {name: value for name, value in row.items() if name != "step"}
        for logger in self.loggers:
            logger.log_metrics(numbers, row["step"])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for logger in self.loggers if trainer.is_global_zero else ():
            logger.finalize("success")


_TOKENS, _PLACES = "tokens in all", "places in all"


def _rate_name(group: Mapping[str, Any], place: int) -> str:
    """`lr` for the first group of an optimiser, then their names or numbers."""
    return "lr" if place == 0 else f"lr/{group.get('name', place)}"


def _number(value: Any) -> float:
    if isinstance(value, Tensor):
        value = getattr(value, "full_tensor", lambda: value)()
    return float(value)
