"""The real configurations and the real Lite 1.0 index: names and bytes to the last one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ming_core.checkpoints.formats import read_config
from ming_core.checkpoints.keymap import Slot, backbone_slots
from ming_core.checkpoints.reading import module_tensors, on_meta
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of, release_of


@pytest.fixture(scope="module")
def released() -> Path:
    return Path(__file__).parents[2] / "golden/released"


def account(folder: Path) -> tuple[dict[str, Slot], dict[str, int]]:
    """The key map of a release and the number of elements of each released tensor."""
    config = backbone_of(read_config(folder))
    with on_meta():
        backbone = Backbone(config)
    slots = backbone_slots(config)
    state = module_tensors(backbone, slots)
    return slots, {name: slot.of(state[slot.name]).numel() for name, slot in slots.items()}


def test_lite_1_0_language_model_is_exactly_the_released_part(released: Path) -> None:
    folder = released / "ming-lite-omni-1.0"
    index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
    assert index["metadata"]["total_size"] == 76_219_321_216
    assert len(index["weight_map"]) == 7495
    slots, sizes = account(folder)
    assert set(slots) == {name for name in index["weight_map"] if name.startswith("model.")}
    assert len(slots) == 5659
    assert 4 * sum(sizes.values()) == 67_237_257_216


def test_lite_1_5_has_the_same_tensors(released: Path) -> None:
    _, older = account(released / "ming-lite-omni-1.0")
    _, sizes = account(released / "ming-lite-omni-1.5")
    assert sizes == older
    assert sum(sizes.values()) == 16_809_314_304


def test_flash_tensors(released: Path) -> None:
    slots, sizes = account(released / "ming-flash-omni")
    assert len(slots) == 24_285
    assert sum(sizes.values()) == 102_954_732_800
    islands = [name for name, slot in slots.items() if slot.dtype is torch.float32]
    assert len(islands) == 93
    assert all(name.endswith("gate.expert_bias") for name in islands)
    assert sizes["model.model.layers.0.mlp.down_proj.weight"] == 4096 * 9216
    assert sizes["model.model.layers.31.mlp.experts.255.up_proj.weight"] == 1024 * 4096
    assert sizes["model.model.layers.31.attention.q_norm.weight"] == 128


@pytest.mark.parametrize(
    ("folder", "family"),
    [
        ("ming-lite-omni-1.0", "lite-1.0"),
        ("ming-lite-omni-1.5", "lite-1.5"),
        ("ming-flash-omni", "flash"),
    ],
)
def test_families_of_the_real_configs(released: Path, folder: str, family: str) -> None:
    assert release_of(read_config(released / folder)).name == family


def test_the_repeated_auto_map_of_the_released_config_is_accepted(released: Path) -> None:
    folder = released / "ming-lite-omni-1.0"
    assert (folder / "config.json").read_text("utf-8").count(
        '  "auto_map": {\n    "AutoConfig": "configuration_bailingmm.'
    ) == 2
    auto_map = read_config(folder)["auto_map"]
    assert auto_map == {"AutoConfig": "configuration_bailingmm.BailingMMConfig"}
