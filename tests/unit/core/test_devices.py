"""Devices and types by name or as torch objects, and what this machine has."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ming_core.devices import find_device, find_dtype, usable_devices
from ming_core.errors import BadConfig


def test_devices_that_are_here() -> None:
    assert find_device("cpu") == find_device(torch.device("cpu")) == torch.device("cpu")
    assert find_device("auto").type in ("cpu", "cuda")
    assert usable_devices()[0] == "cpu"
    for name in usable_devices():
        assert find_device(name) == torch.device(name)


@pytest.mark.parametrize(
    "name", ["xpu", "vulkan", "hpu", "meta", "privateuseone", "cuda:99", "cpu:1"]
)
def test_devices_that_are_not(name: str) -> None:
    sentence = rf"^device '{name}' is not on this machine, which has cpu.*; use one of these$"
    with pytest.raises(BadConfig, match=sentence):
        find_device(name)
    with pytest.raises(BadConfig, match=sentence):
        find_device(torch.device(name))


@pytest.mark.parametrize("name", ["", "gpu", "cuda:-1", "cpu:x", None, [], 1.5])
def test_devices_that_nobody_has(name: Any) -> None:
    with pytest.raises(BadConfig, match=r"^unknown device .*; use auto, cpu, cuda, .*has cpu"):
        find_device(name)


def test_an_accelerator_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("mps")
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    assert usable_devices() == ["cpu", "mps:0"]
    assert find_device("mps") == torch.device("mps")
    with pytest.raises(BadConfig, match="'cuda' is not on this machine, which has cpu, mps:0;"):
        find_device("cuda")


def test_types() -> None:
    assert find_dtype("auto") is None
    assert find_dtype("bfloat16") == find_dtype(torch.bfloat16) == torch.bfloat16
    for name in ("int8", torch.int8, torch.float64, None, ["float32"], 16):
        with pytest.raises(BadConfig, match=r"^unknown dtype .*; use auto, float32, bfloat16"):
            find_dtype(name)  # type: ignore[arg-type]
