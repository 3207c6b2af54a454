"""Where and in which numbers a model can run on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

from ming_core.errors import BadConfig
from ming_core.fields import shown

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def usable_devices() -> list[str]:
    """`cpu`, and each accelerator that torch finds, as `cuda:0`."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return ["cpu"]
    return ["cpu", *(f"{found.type}:{i}" for i in range(torch.accelerator.device_count()))]


def find_device(name: str | torch.device) -> torch.device:
    """The device of this name. "auto" is a GPU if there is one. Raises BadConfig."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise BadConfig(
            f"unknown device {shown(name)}; use auto, cpu, cuda, cuda:1 or mps "
            f"(this machine has {_listed()})"
        ) from None
    if f"{device.type}:{device.index or 0}" not in [_numbered(n) for n in usable_devices()]:
        raise BadConfig(
            f"device {str(name)!r} is not on this machine, which has {_listed()}; use one of these"
        )
    return device


def find_dtype(name: str | torch.dtype) -> torch.dtype | None:
    """The dtype of this name; None for "auto". Raises BadConfig for a dtype that no model uses."""
    if name == "auto":
        return None
    dtype = DTYPES.get(name) if isinstance(name, str) else name
    if dtype not in DTYPES.values():
        raise BadConfig(f"unknown dtype {shown(name)}; use auto, {', '.join(DTYPES)}")
    return dtype


def by_part(value: T | Mapping[str, T], name_of: Callable[[str], str], default: T) -> dict[str, T]:
    """A setting by the name of the part it is for; "" is the setting of all others.

    value: one setting for all parts, or some by name. name_of: checks a name.
    """
    if not isinstance(value, Mapping):
        return {"": value}
    return {"": default} | {name_of(name): own for name, own in value.items()}


def _numbered(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _listed() -> str:
    return ", ".join(usable_devices())
