"""A training of a second with `fit`, built as a recipe is: `python toy_run.py OUT name=1 ...`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from ming_recipes.training.recipe import Recipe
from ming_recipes.training.runs.fit import RunSettings, fit
from ming_recipes.training.runs.folder import running
from ming_recipes.training.runs.stopping import leave_signals
from ming_recipes.training.strategies import Strategy, layout, ranks, trainer_arguments

WIDTH = 4


@dataclass
class Toy:
    out: str = "toy"
    seed: int = 0
    accumulate: int = 1
    processes: int = 1
    workers: int = 0  # that make batches
    pause: float = 0.0  # seconds a batch lasts
    look: float = 0.0  # seconds a batch of the validation lasts
    fault: str = "none"  # what happens in the third step
    run: RunSettings = field(
        default_factory=lambda: RunSettings(
            steps=8, save_every=3, validate_every=2, best="validation/answers"
        )
    )


@dataclass
class Batch:
    """Lines of two data sets; some places are padding."""

    lines: Tensor
    places: int
    tokens: int
    dataset: str

    def to(self, device: torch.device) -> Batch:
        return Batch(self.lines.to(device), self.places, self.tokens, self.dataset)


def batch(number: int, size: int = 8) -> Batch:
    lines = torch.randn(size, WIDTH, generator=torch.Generator().manual_seed(number))
    return Batch(lines, size * WIDTH, size * WIDTH - 4, "even" if number % 2 == 0 else "odd")


class Batches(IterableDataset[Batch]):
    """Micro-batches of one process from a step on; all of them do not depend on the processes."""

    def __init__(self, start: int, steps: int, each: int, rank: int, size: int) -> None:
        self.numbers = range(start * each * size + rank, steps * each * size, size)

    def __iter__(self) -> Iterator[Batch]:
        return map(batch, self.numbers)


class Data(LightningDataModule):
    def __init__(self, config: Toy) -> None:
        super().__init__()
        self.config = config

    def train_dataloader(self) -> DataLoader[Batch]:
        config, trainer = self.config, self.trainer
        assert trainer is not None
        place = ranks(trainer)
        lines = Batches(
            trainer.global_step, config.run.steps, config.accumulate, place.rank, place.size
        )
        return DataLoader(
            lines, batch_size=None, num_workers=config.workers, worker_init_fn=leave_signals
        )

    def val_dataloader(self) -> list[Batch]:
        assert self.trainer is not None
        place = ranks(self.trainer)
        return [batch(1000 + number) for number in range(place.rank, 4, place.size)]


class Module(LightningModule):
    def __init__(self, config: Toy) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = config
        self.first = nn.Linear(WIDTH, 8)
        self.layers = nn.Sequential(self.first, nn.Dropout(0.5), nn.Linear(8, 1))
        self.fault = FAULTS.get(config.fault)

    def _terms(self, batch: Batch) -> dict[str, tuple[Tensor, int, float]]:
        errors = (self.layers(batch.lines) - batch.lines.sum(-1, keepdim=True)).square()
        total, count = errors.sum(), len(errors)
        small = self.first.weight.square().sum()
        return {
            "answers": (total, count, 1.0),
            f"answers/{batch.dataset}": (total.detach(), count, 0.0),
            "size": (small, 1, 0.01),
        }

    def training_step(self, batch: Batch, index: int) -> dict[str, Any]:
        time.sleep(self.config.pause)
        terms = self._terms(batch)
        loss = torch.stack([total * weight / count for total, count, weight in terms.values()])
        if self.fault and self.global_step == 2:
            loss = self.fault(loss)
        told = {name: (total.detach(), *rest) for name, (total, *rest) in terms.items()}
        return {"loss": loss.sum(), "terms": told}

    def validation_step(self, batch: Batch, index: int) -> dict[str, Any]:
        time.sleep(self.config.look)
        return {"terms": self._terms(batch)}

    def samples(self) -> Iterator[dict[str, Any]]:
        for number in range(2):
            value = float(self.layers(batch(2000 + number, 1).lines))
            yield {"question": f"line {number}", "answer": f"{value:.6f}"}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 0.05)
        curve = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": curve, "interval": "step"}}


def _memory(loss: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def _host_memory(loss: Tensor) -> Tensor:
    return torch.empty(2**48) + loss.sum()


FAULTS = {"gpu memory": _memory, "memory": _host_memory, "nan": lambda loss: loss * torch.nan}


def train(config: Toy, command: str) -> None:
    """Run or resume."""
    with running(Path(config.out), config, command, ("checkpoints",), config.processes) as run:
        torch.set_num_threads(1)
        module = Module(config)
        plan = layout(Strategy(devices=config.processes))
        fit(
            module,
            Data(config),
            run,
            config.run,
            seed=config.seed,
            accumulate=config.accumulate,
            trainer={**trainer_arguments(plan), "accelerator": "cpu"},
            samples=module.samples,
        )


RECIPE = Recipe(Toy, train)

if __name__ == "__main__":
    from ming_core.cli.terminal import say, standard_streams
    from ming_core.errors import MingError
    from ming_recipes.training.recipe import settings
    from ming_recipes.training.runs.stopping import answering_signals

    with standard_streams(), answering_signals():
        try:
            train(settings(RECIPE, [], [f"out={sys.argv[1]}", *sys.argv[2:]]), "toy")
        except MingError as error:
            say(error)
            sys.exit(2)
