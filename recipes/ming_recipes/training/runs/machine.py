"""What a run was computed with: versions, machine, devices. The same ones give the same result."""

from __future__ import annotations

import os
import platform
from importlib.metadata import distributions
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """Versions of Python and of every installed package, and what the machine has."""
    packages = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": _devices(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def summary() -> str:
    """The same in one line, as far as it is asked for most."""
    return f"python {platform.python_version()}, torch {torch.__version__}, {', '.join(_devices())}"


def _devices() -> list[str]:
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"]
