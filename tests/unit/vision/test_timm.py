"""timm backbones as encoders: their grids, their own sizes and colours, meta, errors, loading."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ming_core import media
from ming_core.checkpoints.formats import Checkpoint, open_checkpoint
from ming_core.checkpoints.reading import on_meta
from ming_core.errors import BadConfig, BadMedia, MingError, MissingPlugin, UnknownName
from ming_core.loading import Sources
from ming_core.plugins.directory import missing_encoder
from ming_core.releases.nano import NANO
from ming_vision.timm_encoder import TimmEncoder

CONFIGS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "a sequence with a class token": ({"model_type": "timm:test_vit"}, (10, 10)),
    "a convolutional network": ({"model_type": "timm:test_resnet"}, (5, 5)),
    "another size": ({"model_type": "timm:test_vit", "image_size": 64}, (4, 4)),
    "merged": ({"model_type": "timm:test_vit", "spatial_merge_size": 2}, (5, 5)),
    "tables that no checkpoint holds": (
        {"model_type": "timm:eva02_tiny_patch14_224", "image_size": 56},
        (4, 4),
    ),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def make(section: Mapping[str, Any], preprocessor: Mapping[str, Any] | None = None) -> TimmEncoder:
    config = {"vision_config": section, "llm_config": {"hidden_size": 24}, "mlp_depth": 2}
    return TimmEncoder.from_config(config, preprocessor or {}).eval()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("case", CONFIGS)
def test_tokens_of_a_backbone(case: str) -> None:
    section, (rows, columns) = CONFIGS[case]
    encoder = make(section)
    parts = [media.Image(picture(50, 70)), media.Image(picture(90, 30))]
    features = encoder.processor(parts)
    assert features.tokens == [rows * columns] * 2
    assert features.grid is not None
    # In units of which the backbone's position rule makes one of each two.
    assert features.grid.tolist() == [[1, 2 * rows, 2 * columns]] * 2

    embeds = encoder(features)
    assert embeds.shape == (2 * rows * columns, 24)
    torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(len(embeds)))
    with torch.no_grad():
        single = torch.cat([encoder(encoder.processor([part])) for part in parts])
    torch.testing.assert_close(embeds, single, rtol=0, atol=1e-5)
    embeds[0].sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None]
    assert silent == []

    with on_meta():
        shell = make(section)
    assert all(p.is_meta for p in shell.parameters())
    shell.load_state_dict(encoder.state_dict(), assign=True)
    assert not any(t.is_meta for t in (*shell.parameters(), *shell.buffers()))
    with torch.no_grad():
        assert torch.equal(shell.eval()(features), encoder(features))


def test_tokens_are_in_reading_order() -> None:
    """A change in the lower left quarter moves the tokens there most."""
    encoder = make({"model_type": "timm:test_resnet", "image_size": 128})
    plain = np.full((128, 128, 3), 90, np.uint8)
    spotted = plain.copy()
    spotted[96:, :32] = 255
    with torch.no_grad():
        a, b = (encoder(encoder.processor([media.Image(x)])) for x in (plain, spotted))
    change = (a - b).norm(dim=-1).view(4, 4)
    assert divmod(int(change.argmax()), 4) == (3, 0)


def test_pixels_are_resized_and_normalised_as_timm_says() -> None:
    encoder = make({"model_type": "timm:test_resnet"})
    grey = Image.new("RGB", (37, 90), (128, 128, 128))
    pixels = encoder.processor.pixels(grey)
    assert pixels.shape == (3, 160, 160)
    torch.testing.assert_close(pixels[:, 80, 80], torch.full((3,), (128 / 255 - 0.5) / 0.5))
    own = {"image_mean": [0.4] * 3, "image_std": [0.25] * 3}
    pixels = make({"model_type": "timm:test_resnet"}, own).processor.pixels(grey)
    torch.testing.assert_close(pixels[:, 0, 0], torch.full((3,), (128 / 255 - 0.4) / 0.25))


@pytest.mark.parametrize(
    ("section", "error", "sentence"),
    [
        ({"model_type": "timm"}, BadConfig, "model_type must name a model, as in 'timm:resnet18'"),
        ({"model_type": "timm:resnet81"}, UnknownName, "timm model 'resnet81'; did you mean 'resn"),
        ({"model_type": "timm:hf-hub:a/b"}, UnknownName, "unknown timm model 'hf-hub:a/b'"),
        (
            {"model_type": "timm:test_resnet", "image_size": 100},
            BadConfig,
            "the 100 x 100 pixels that 'timm:test_resnet' sees must be a multiple of the 32 of",
        ),
    ],
)
def test_bad_configuration(section: dict[str, Any], error: type[MingError], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        make(section)


def test_a_video_is_refused() -> None:
    encoder = make({"model_type": "timm:test_resnet"})
    with pytest.raises(BadMedia, match="reads still images, not video input; give single frames"):
        encoder.processor([media.Video("clip.mp4")])


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", cast(Any, None))
    sentence = "'timm:resnet18' needs 'ming-vision.timm.': pip install 'ming-vision.timm.'"
    with pytest.raises(MissingPlugin, match=sentence):
        make({"model_type": "timm:resnet18"})


def sources(config: dict[str, Any], checkpoints: Sequence[Checkpoint] = ()) -> Sources:
    return Sources(
        release=NANO,
        config=config,
        preprocessor={},
        checkpoints=checkpoints,
        find_tokenizer=cast(Any, None),
        device=torch.device("cpu"),
        dtype=torch.float32,
        parts=None,
    )


def test_a_checkpoint_gives_its_weights_to_the_encoder(tmp_path: Path) -> None:
    section, _ = CONFIGS["tables that no checkpoint holds"]
    config = {"vision_config": section, "llm_config": {"hidden_size": 24}, "mlp_depth": 2}
    encoder = make(section)
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(encoder.state_dict(), tmp_path / "model.safetensors")
    loaded = sources(config, [open_checkpoint(tmp_path)]).load("image").module
    assert not loaded.training
    features = encoder.processor([media.Image(picture(50, 70))])
    with torch.no_grad():
        assert torch.equal(loaded(features), encoder(features))


def test_config_json_finds_the_encoder_by_the_name_before_the_colon() -> None:
    known = sources({"vision_config": {"model_type": "timm:resnet18"}})
    assert known.encoder_entry("image").load() is TimmEncoder
    other = sources({"vision_config": {"model_type": "timmy:resnet18"}})
    with pytest.raises(MissingPlugin, match="the encoder 'timmy:resnet18'"):
        other.encoder_entry("image")
    assert "ming-vision" in str(missing_encoder("timm:resnet18"))
