"""What would spoil a training is told before it begins, and what ends one in one sentence."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning import LightningModule
from torch import nn

from ming_core.errors import BadConfig, MingError

SPARE = 64 * 2**20
"""Bytes for logs and sample answers."""


class NoMemory(MingError):
    """A training step needs more memory than there is."""


class NoSpace(MingError):
    """The states of a training would not fit on the disk."""


def refuse_frozen(parameters: Iterable[nn.Parameter]) -> None:
    """Raises BadConfig if no weight is trained."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in parameters]
    if not any(size for size, trained in sizes if trained):
        raise BadConfig(
            f"no weight is trained, of {sum(size for size, _ in sizes):,}; name some with train=, "
            "or add new ones with lora.rank="
        )


def state_bytes(module: LightningModule) -> tuple[int, int]:
    """Bytes of a whole state and of the weights alone: those in the state dict of the module, and
    for each trained one two moments and a master in float32."""
    weights = sum(
        value.numel() * value.element_size()
        for value in module.state_dict().values()
        if isinstance(value, torch.Tensor)
    )
    trained = (p for p in module.parameters() if p.requires_grad)
    moments = sum(p.numel() * (8 if p.dtype == torch.float32 else 12) for p in trained)
    return weights + moments, weights


def check_space(folder: Path, module: LightningModule) -> str:
    """A sentence that says what the states of a run need. Raises NoSpace if it is not there.

    Two states and the best weights are kept, and another one of each is being written.
    """
    state, weights = state_bytes(module)
    needed = 3 * state + 2 * weights + SPARE
    kept = sum(path.stat().st_size for path in folder.glob("checkpoints/*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if needed - kept > free:
        raise NoSpace(
            f"the states of this run need {size(needed)} in {folder}, and {size(free + kept)} are "
            "free; free space, or choose a folder on another disk with out="
        )
    return f"states of this run take up to {size(needed)} in {folder}, where {size(free)} are free"


def size(count: float) -> str:
    """A number of bytes for people: `1.2 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


@contextmanager
def telling_of_memory(kept: str) -> Iterator[None]:
    """Turn the errors of a machine without memory into one sentence. kept: what is kept."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        where = _without_memory(error)
        if where is None:
            raise
        raise NoMemory(
            f"{where} has not enough memory for a step of this training; set a smaller "
            "capacity= or rows= (with a larger accumulate=), switch on checkpointing, or train "
            f"less with lora; {kept}"
        ) from error


def _without_memory(error: BaseException) -> str | None:
    """Which device has no memory left, if that is what an error says."""
    if isinstance(error, torch.OutOfMemoryError):
        return f"GPU {torch.cuda.current_device()}" if torch.cuda.is_available() else "the device"
    text = str(error).lower()
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return f"this machine ({os.uname().nodename})" if hasattr(os, "uname") else "this machine"
    return None
