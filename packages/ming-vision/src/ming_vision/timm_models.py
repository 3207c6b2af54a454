"""Models of the timm library as parts of our encoders; timm itself is an optional dependency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ming_core.errors import MissingPlugin
from ming_core.plugins.directory import missing


def require_timm(what: str) -> None:
    """Import timm, or raise MissingPlugin with the command that installs it.

    what: the start of the sentence, e.g. `the encoder 'navit'`.
    """
    try:
        import timm  # noqa: F401
    except ModuleNotFoundError:
        raise missing(what, "'ming-vision[timm]'") from None
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        reason = str(error).partition("\n")[0]
        raise MissingPlugin(
            f"{what} needs timm, which cannot be imported here ({reason}): install the torchvision "
            f"made for torch {torch.__version__}"
        ) from error


def build(make: Callable[[], Any]) -> Any:
    """What `make` returns; inside `torch.device("meta")` complete once its weights are assigned.

    timm's models compute tables (rotary bands, window indices) that no checkpoint holds and that
    would be lost on `meta`. So they are built on CPU, and then all that a checkpoint does hold is
    taken back to `meta`. The initial values are skipped there: only the tables take memory.
    """
    if torch.get_default_device().type != "meta":
        return make()
    with torch.device("cpu"):
        model = make()
    for name, value in model.state_dict(keep_vars=True).items():
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        empty = torch.empty_like(value, device="meta")
        if isinstance(value, nn.Parameter):
            owner.register_parameter(leaf, nn.Parameter(empty, value.requires_grad))
        else:
            owner.register_buffer(leaf, empty)
    return model
