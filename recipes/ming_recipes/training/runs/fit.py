"""One call that trains a LightningModule in the folder of a run, safely and visibly."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from ming_core.errors import BadCheckpoint
from ming_recipes.training.ranges import Range
from ming_recipes.training.runs.folder import Run
from ming_recipes.training.runs.guard import check_space, telling_of_memory
from ming_recipes.training.runs.keeping import Keep
from ming_recipes.training.runs.loggers import check_loggers, open_loggers
from ming_recipes.training.runs.metrics import Metrics
from ming_recipes.training.runs.progress import Watch
from ming_recipes.training.runs.states import (
    SafeCheckpoints,
    before,
    newest_state,
    read_state,
)
from ming_recipes.training.runs.validating import Samples, Validation
from ming_recipes.training.strategies import ranks

STATES = "checkpoints"
LAST, BEST = f"{STATES}/last.ckpt", f"{STATES}/best.ckpt"


@dataclass
class RunSettings:
    """How a run is kept and looked at.

    Attributes:
        steps: Of the optimiser, in the whole run.
        save_every: Steps between two states from which the run can go on.
        validate_every: Steps between two validations; 0 is one after the last step only.
        log_every: Steps between two rows of `metrics.jsonl`.
        best: The measure of the validation whose smallest value marks the best weights.
        loggers: Of "tensorboard" and "wandb".
    """

    steps: Annotated[int, Range(1)] = 1000
    save_every: Annotated[int, Range(1)] = 200
    validate_every: Annotated[int, Range(0)] = 200
    log_every: Annotated[int, Range(1)] = 1
    best: str = "validation/loss"
    loggers: list[str] = field(default_factory=list)


def fit(
    module: LightningModule,
    data: LightningDataModule,
    run: Run,
    settings: RunSettings,
    *,
    seed: int,
    accumulate: int = 1,
    trainer: Mapping[str, Any] | None = None,
    samples: Samples | None = None,
    callbacks: Sequence[Callback] = (),
) -> None:
    """Train until the last step, from the newest state in the folder of the run.

    A resumed run computes what one without a stop computes: the data must depend on the number of
    the step alone, as random numbers do here.

    Args:
        module: Its `training_step` and `validation_step` give "terms", see `metrics.Terms`.
        data: Gives the batches of this process from step `trainer.global_step` on, and for the
            validation the same number of batches in every process.
        seed: Of all random numbers.
        accumulate: Batches of a process in one step of the optimiser.
        trainer: Arguments of Lightning's Trainer: devices, strategy, precision.
        samples: Gives sample answers of the model as it is, for `samples.jsonl`.
        callbacks: More of them. They act before the state of a step is saved.

    Raises Stopped for a signal, Diverged, NoMemory, NoSpace, Unsaved, BadCheckpoint.
    """
    check_loggers(settings.loggers)
    last, best = run.folder / LAST, run.folder / BEST
    found = newest_state((last, before(last)), lambda path, state: None, run.note)
    step = found[1]["global_step"] if found else 0
    if step:
        run.note(f"this run goes on after step {step} of {settings.steps}")
    loggers = open_loggers(settings.loggers, run.folder, step) if rank_zero_only.rank == 0 else []
    metrics = Metrics(run.folder, settings.log_every, loggers)
    keep = Keep(last, settings.save_every, run.stop)
    looks = Validation(
        run.folder, best, settings.validate_every, settings.best, metrics, run.stop, samples
    )
    made = Trainer(
        **(trainer or {}),
        max_steps=settings.steps,
        accumulate_grad_batches=accumulate,
        callbacks=[
            Seeds(seed, accumulate),
            Space(run),
            metrics,
            looks,
            *callbacks,
            keep,
            Watch(metrics),
        ],
        plugins=[SafeCheckpoints(found)],
        default_root_dir=run.folder,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        limit_val_batches=0,  # `Validation` runs it
        num_sanity_val_steps=0,
        logger=False,
    )
    path = found and found[0]
    del found
    kept = f"what was saved in {run.folder} is kept"
    with telling_of_memory(kept):
        made.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
    if keep.stopped_by:
        raise run.stopped(keep.stopped_by, f"at step {made.global_step} of {settings.steps}")


def best_state(folder: Path) -> dict[str, torch.Tensor] | None:
    """The weights of the validation with the smallest loss, as `module.state_dict()` gave them.

    None if no validation has measured one. Raises BadCheckpoint.
    """
    path = folder / BEST
    if not path.exists():
        return None
    try:
        return read_state(path, ("global_step", "state_dict"))["state_dict"]
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path} cannot be used: {error}; remove it to use the last") from None


class Seeds(Callback):
    """Random numbers depend on the seed and on the number of the batch, counted over all processes.

    So nothing of them has to be saved, and two processes draw what one draws that accumulates two
    batches.
    """

    def __init__(self, seed: int, accumulate: int) -> None:
        self.seed, self.accumulate = seed, accumulate
        self._step, self._batch = -1, 0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        step, place = trainer.global_step, ranks(trainer)
        self._batch = self._batch + 1 if step == self._step else 0
        self._step = step
        number = (step * self.accumulate + self._batch) * place.size + place.rank
        state = np.random.SeedSequence((self.seed, number)).generate_state(1)
        drawn = int(state[0])
        random.seed(drawn)
        np.random.seed(drawn)
        torch.manual_seed(drawn)


class Space(Callback):
    """Says how much of the disk the run will take, before it is taken."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sentence = check_space(self.run.folder, pl_module)
        if trainer.global_step == 0:  # later most of it is taken
            self.run.note(sentence)
