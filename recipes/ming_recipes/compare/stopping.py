"""Stop a training that makes the model worse at what it could do before."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from ming_core.evaluation.comparing import Asked, ask, compare, probes
from ming_core.notes import note_to_user

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_recipes.training.settings import FineTuning


class StopOnRegression(Callback):
    """Asks the small sets of the packages before the first step and then every `every` steps.

    The training ends if a share of right answers has fallen by more than `points` percentage
    points, and the whole 95 % interval of the difference lies below 0. In a run of several
    processes the first one asks, so each must hold the whole model (one device, or DDP).

    Args:
        model: The model that is trained: its modules are those of the LightningModule.
        folder: Keeps the predictions. Those of the base are made once.
    """

    def __init__(self, model: OmniModel, folder: Path, every: int, points: float) -> None:
        self.model, self.folder = model, folder
        self.every, self.points = every, points
        self.probes = probes()
        self.before: Asked | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            # A run that goes on finds the answers of its base here.
            self.before = self._asked(pl_module, "before", again=False)
        trainer.strategy.barrier()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        done = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not done or step % self.every:
            return
        fell = torch.zeros((), device=pl_module.device)
        if trainer.is_global_zero:
            assert self.before is not None
            after = self._asked(pl_module, "after", again=True)
            worse = compare(self.probes, self.before, after).worse(self.points)
            for change in worse:
                score = change.before
                note_to_user(
                    f"after step {step} {score.name} of {change.benchmark} ({score.column}) is "
                    f"{100 * change.after.value:.1f} %, and it was {100 * score.value:.1f} %; the "
                    "training ends; train with a lower rate, or with more rows of the old kind"
                )
            fell += bool(worse)
        trainer.should_stop |= bool(trainer.strategy.reduce(fell, reduce_op="max"))

    def _asked(self, module: LightningModule, part: str, again: bool) -> Asked:
        training = module.training
        module.eval()
        try:
            return ask(self.model, self.probes, self.folder / part, again=again)
        finally:
            module.train(training)


def stop_on_regression(settings: FineTuning, model: OmniModel) -> list[StopOnRegression]:
    """The callback that the settings of a fine-tuning ask for, or none."""
    wanted, folder = settings.regression, Path(settings.out) / "regression"
    if not wanted.every:
        return []
    return [StopOnRegression(model, folder, wanted.every, wanted.points)]
