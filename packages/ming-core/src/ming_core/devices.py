"""Where and in which numbers a model can run on this machine."""

from __future__ import annotations

import torch

from ming_core.errors import BadConfig
from ming_core.fields import shown

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def usable_devices() -> list[str]:
    """`cpu`, and each accelerator that torch finds, as `cuda:0`."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return ["cpu"]
    return ["cpu", *(f"{found.type}:{i}" for i in range(torch.accelerator.device_count()))]


def find_device(name: str | torch.device) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one. Raises BadConfig if it is not here."""
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
    """The type of a name, None for "auto". Raises BadConfig for one that no model runs in."""
    if name == "auto":
        return None
    dtype = DTYPES.get(name) if isinstance(name, str) else name
    if dtype not in DTYPES.values():
        raise BadConfig(f"unknown dtype {shown(name)}; use auto, {', '.join(DTYPES)}")
    return dtype


def _numbered(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _listed() -> str:
    return ", ".join(usable_devices())
