"""Everything that is registered here does what its kind needs, and what does not is found."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pillow
from torch import nn

from ming_core.contract import (
    BrokenContract,
    EncoderExample,
    check_encoder,
    check_entry,
    check_light,
)
from ming_core.errors import BadConfig
from ming_core.media import Audio, Image, Media
from ming_core.model.encoder import Features
from ming_core.plugins import Plugins, get_plugins
from ming_core.plugins.hooks import hookimpl
from ming_core.plugins.registry import Entry
from ming_core.release import Release

ENTRIES = [entry for registry in get_plugins().registries.values() for entry in registry]


@pytest.mark.parametrize(
    "entry", ENTRIES, ids=[f"{entry.word}-{entry.name}-{entry.plugin}" for entry in ENTRIES]
)
def test_what_is_registered(entry: Entry) -> None:
    check_entry(entry)


def test_listing_plugins_imports_nothing_heavy() -> None:
    check_light([entry.value for entry in entry_points(group="ming")])


def picture(height: int, width: int) -> Image:
    rng = np.random.default_rng(height)
    return Image(pillow.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)))


def noise(seconds: float) -> Audio:
    samples = np.random.default_rng(0).normal(size=int(16000 * seconds)).astype(np.float32)
    return Audio(0.1 * samples)


PICTURES = (picture(32, 48), picture(40, 24))
SOUNDS = (noise(0.5), noise(1.3))
TOWER = {
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "out_hidden_size": 64,
    "patch_size": 4,
    "window_size": 16,
    "fullatt_block_indexes": [1],
    "deepstack_visual_indexes": [0],
    "num_position_embeddings": 25,
}
WHISPER = {"n_mels": 128, "n_ctx": 200, "n_state": 24, "n_head": 4, "n_layer": 2}
SANM = {
    "input_size": 560,
    "output_size": 32,
    "attention_heads": 4,
    "linear_units": 48,
    "num_blocks": 2,
    "kernel_size": 11,
    "sanm_shfit": 0,
}
PIXELS = {"min_pixels": 256, "max_pixels": 1024, "patch_size": 4, "merge_size": 2}


def example(
    section: str, media: Sequence[Media], kind: str = "", **settings: Any
) -> EncoderExample:
    named = {"model_type": kind, **settings} if kind else settings
    config = {"llm_config": {"hidden_size": 40}, "mlp_depth": 2, section: named}
    return EncoderExample(config, media, PIXELS if section == "vision_config" else {})


EXAMPLES = {
    "qwen2_5_vit": example("vision_config", PICTURES, "qwen2_5_vit", **TOWER),
    "qwen3_moe_vit": example("vision_config", PICTURES, "qwen3_moe_vit", **TOWER),
    "navit": example("vision_config", PICTURES, "navit", **TOWER),
    "timm": example("vision_config", PICTURES, "timm:test_vit", image_size=64),
    "whisper": example("audio_config", SOUNDS, whisper_encoder_config=WHISPER),
    "sanm": example(
        "audio_config", SOUNDS, audio_encoder_config_sanm=SANM, audio_encoder_output_size=32
    ),
}


@pytest.mark.parametrize("name", get_plugins().encoders.names())
def test_encoders(name: str) -> None:
    assert name in EXAMPLES, f"give an example of the encoder {name!r} in this file"
    torch.manual_seed(0)
    check_encoder(get_plugins().encoders[name].load(), EXAMPLES[name])


class Mean(nn.Module):
    """An encoder that keeps the contract: each medium becomes one token."""

    modality = "image"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(3, width)

    @classmethod
    def from_config(cls, config: Any, preprocessor: Any) -> Mean:
        if "vision_config" not in config:
            raise BadConfig("config.json has no vision_config; take it from the release")
        return cls(config["llm_config"]["hidden_size"])

    def processor(self, parts: Sequence[Media]) -> Features:
        means = [np.asarray(part.source, np.float32).mean((0, 1)) / 255 for part in parts]
        grid = torch.tensor([[1, 2, 2]] * len(parts))
        return Features("image", {"x": torch.tensor(np.stack(means))}, grid, [1] * len(parts))

    def forward(self, features: Features) -> torch.Tensor:
        return self.proj(features.tensors["x"])


SMALL = example("vision_config", PICTURES, "mean")


def test_a_small_encoder_keeps_the_contract() -> None:
    check_encoder(Mean, SMALL)


BROKEN: dict[str, dict[str, Any]] = {
    "allocates weights": {
        "from_config": classmethod(
            lambda cls, config, preprocessor: _on_cpu(cls, config["llm_config"]["hidden_size"])
        )
    },
    "gives no Features": {"processor": lambda self, parts: {}},
    "features of another modality": {"modality": "audio"},
    "how many tokens each medium takes": {
        "processor": lambda self, parts: replace(Mean.processor(self, parts), tokens=[2])
    },
    "must have one row": {
        "processor": lambda self, parts: replace(
            Mean.processor(self, parts), grid=torch.ones(1, 3, dtype=torch.long)
        )
    },
    "expected [2, 40]": {"forward": lambda self, features: Mean.forward(self, features)[:1]},
    "not finite": {"forward": lambda self, features: Mean.forward(self, features) / 0},
    "other tokens of a medium in a batch": {
        "forward": lambda self, f: Mean.forward(self, f) - Mean.forward(self, f).mean(0)
    },
    "saved and loaded": {
        "forward": lambda self, f: Mean.forward(self, f) + id(self) % 1000,
    },
    "when it is in bfloat16": {"forward": lambda self, f: Mean.forward(self, f).float()},
    "without its section": {
        "from_config": classmethod(lambda cls, *_: _on_the_device(cls, 40)),
    },
}


def _on_the_device(cls: Any, width: int) -> Mean:
    return cls(width)


def _on_cpu(cls: Any, width: int) -> Mean:
    with torch.device("cpu"):
        return cls(width)


@pytest.mark.parametrize("sentence", BROKEN)
def test_a_broken_encoder_is_found(sentence: str) -> None:
    with pytest.raises(BrokenContract, match=re.escape(sentence)):
        check_encoder(type("Broken", (Mean,), BROKEN[sentence]), SMALL)


def undocumented(model: Any) -> None: ...


@dataclass
class Bare:
    fps: float


def documented(*, model: Any = None) -> None:
    """Its only argument has no place."""


NO_RELEASE = Release("x", lambda config: bool(config["llm_config"]), lambda _: None, lambda _: None)  # type: ignore[arg-type,return-value]
EVERY_RELEASE = Release("x", lambda config: True, lambda _: None, lambda _: None)  # type: ignore[arg-type,return-value]


class Acme:
    """A plugin; each test registers one thing."""

    def __init__(self, kind: str, target: str, options: dict[str, Any]) -> None:
        def hook(register: Any) -> None:
            register("acme", target, **options)

        name = f"ming_register_{kind}"
        hook.__name__ = name
        setattr(self, name, hookimpl(hook))


@pytest.mark.parametrize(
    ("kind", "target", "options", "sentence"),
    [
        ("encoders", "math:pi", {"modality": "image", "section": "x"}, "a class of nn.Module"),
        ("encoders", "torch.nn:Linear", {"modality": "image", "section": "x"}, "no method from_c"),
        ("encoders", "no_such_acme:X", {"modality": "image", "section": "x"}, "cannot be loaded"),
        ("encoders", "MINE:Mean", {"modality": "audio", "section": "x"}, "another modality"),
        ("heads", "MINE:Mean", {"gives": "image", "section": "x"}, "no method components or cond"),
        ("tasks", "MINE:undocumented", {"summary": "x"}, "needs a docstring"),
        ("tasks", "MINE:documented", {"summary": "x"}, "must be the model"),
        ("tasks", "MINE:SMALL", {"summary": "x"}, "a class of tasks or a function"),
        ("tasks", "MINE:undocumented", {}, "a summary of one line"),
        ("presets", "ming_core:presets/none", {"part": "x", "summary": "x"}, "with a config.json"),
        ("releases", "math:pi", {"summary": "x"}, "must be a Release"),
        ("releases", "MINE:NO_RELEASE", {"summary": "x"}, "raises for {}: KeyError"),
        ("recipes", "math:pi", {"settings": "ming_core:x.yaml", "summary": "x"}, "no file of set"),
        ("benchmarks", "MINE:documented", {"summary": "x"}, "must make a ming_core.evaluation"),
        ("benchmarks", "no_such_acme:X", {"summary": "x"}, "cannot be loaded"),
        ("options", "MINE:Mean", {}, "must be a dataclass"),
        ("options", "MINE:Bare", {}, "each field of the options 'acme' of acme-plugin needs a def"),
        ("chat_commands", "MINE:undocumented", {"summary": "x"}, "an argument and messages"),
        ("releases", "MINE:EVERY_RELEASE", {"summary": "x"}, "which says nothing"),
    ],
)
def test_a_wrong_registration_is_found(
    kind: str,
    target: str,
    options: dict[str, Any],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "MINE", sys.modules[__name__])
    plugins = Plugins()
    plugins.add(Acme(kind, target, options), "acme", "acme-plugin")
    assert plugins.failures == []
    (entry,) = plugins.registries[kind]
    with pytest.raises(BrokenContract, match=re.escape(sentence)):
        check_entry(entry)


def test_a_heavy_plugin_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acme_heavy.py").write_text("import numpy")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(BrokenContract, match="what acme_heavy register imports numpy"):
        check_light(["acme_heavy"])
