"""Loggers beside `metrics.jsonl`: TensorBoard and Weights & Biases, through Lightning."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from ming_core.errors import MissingPlugin, UnknownName
from ming_core.output import write_file

TENSORBOARD, WANDB = "tensorboard", "wandb"
_NEEDS = {TENSORBOARD: ("tensorboard", "tensorboardX"), WANDB: ("wandb",)}
"""Packages of which one is needed."""


def check_loggers(names: Sequence[str]) -> None:
    """Raises MissingPlugin for a logger whose package is not installed, UnknownName for an
    unknown one."""
    for name in names:
        if name not in _NEEDS:
            raise UnknownName("logger", name, _NEEDS)
        if not any(map(find_spec, _NEEDS[name])):
            raise MissingPlugin(
                f"loggers has {name!r}, and its package is not installed; install it with "
                f"`pip install 'ming-recipes[{name}]'`, or leave it out"
            )


def open_loggers(names: Sequence[str], folder: Path, step: int) -> list[Logger]:
    """The loggers of a run, which goes on behind `step`."""
    made: list[Logger] = []
    for name in names:
        if name == TENSORBOARD:
            # What was logged after that step is logged again.
            made.append(TensorBoardLogger(folder, TENSORBOARD, version="", purge_step=step + 1))
        else:
            made.append(
                WandbLogger(name=folder.name, save_dir=folder, id=_wandb_id(folder), resume="allow")
            )
    return made


def _wandb_id(folder: Path) -> str:
    """The same for all attempts at a run."""
    path = folder / "wandb.id"
    if not path.exists():
        write_file(path, uuid4().hex)
    return path.read_text("utf-8").strip()
