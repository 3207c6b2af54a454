"""A training that takes a second, built as a recipe is: `python toy.py FOLDER name=value ...`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from ming_recipes.training.ranges import Range, check
from ming_recipes.training.recipe import Recipe
from ming_recipes.training.runs.folder import running
from ming_recipes.training.runs.keeping import Keep
from ming_recipes.training.runs.logs import append_row
from ming_recipes.training.runs.states import SafeCheckpoints, before, newest_state, other_weights


@dataclass
class Toy:
    out: str = "toy"
    steps: Annotated[int, Range(1, 1000)] = 20
    every: Annotated[int, Range(1)] = 5
    rate: Annotated[float, Range(0, 1, above=True)] = 0.1
    width: Annotated[int, Range(1)] = 4
    pause: Annotated[float, Range(0)] = 0.0  # seconds a step lasts
    nan_at: int = -1  # the step whose loss is none
    processes: int = 1


class Lines(IterableDataset[Tensor]):
    """The batches from a step on."""

    def __init__(self, config: Toy, start: int) -> None:
        self.config, self.start = config, start

    def __iter__(self) -> Iterator[Tensor]:
        for step in range(self.start, self.config.steps):
            yield torch.randn(8, self.config.width, generator=torch.Generator().manual_seed(step))


class Module(LightningModule):
    def __init__(self, config: Toy) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config, self.layer = config, nn.Linear(config.width, 1)

    def training_step(self, batch: Tensor, index: int) -> Tensor:
        time.sleep(self.config.pause)
        loss = (self.layer(batch) - batch.sum(-1, keepdim=True)).square().mean()
        step = self.global_step
        if self.global_rank == 0:
            append_row(
                Path(self.config.out) / "loss.jsonl", {"step": step, "loss": float(loss.detach())}
            )
        return loss * torch.nan if step == self.config.nan_at else loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.config.rate)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(Lines(self.config, self.trainer.global_step), batch_size=None)


def train(config: Toy, command: str) -> None:
    """Run or resume; the states are all that is left."""
    check(config)
    out = Path(config.out)
    with running(out, config, command, ("toy.ckpt",), config.processes) as run:
        module = Module(config)
        path = out / "toy.ckpt"

        def wrong(at: Path, state: dict[str, Any]) -> str | None:
            return other_weights(state, module)

        found = newest_state((path, before(path)), wrong, run.note)
        keep = Keep(path, config.every, run.stop)
        trainer = Trainer(
            accelerator="cpu",
            devices=config.processes,
            strategy="ddp" if config.processes > 1 else "auto",
            max_steps=config.steps,
            callbacks=[keep],
            plugins=[SafeCheckpoints()],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            logger=False,
        )
        trainer.fit(module, ckpt_path=found and found[0], weights_only=True)
        if keep.stopped_by:
            raise run.stopped(keep.stopped_by, f"at step {trainer.global_step}")


RECIPE = Recipe(Toy, train)

if __name__ == "__main__":
    import logging

    from ming_core.errors import MingError
    from ming_recipes.training.recipe import settings

    logging.basicConfig(format="ming: %(message)s")
    try:
        train(settings(RECIPE, [], [f"out={sys.argv[1]}", *sys.argv[2:]]), "toy")
    except MingError as error:
        print(f"ming: {error}", file=sys.stderr)
        sys.exit(2)
