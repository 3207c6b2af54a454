"""Sparse shards of 4 to 100 GB: their headers are read, and their last tensors."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError, safe_open

from ming_audio.encoder import AudioEncoder
from ming_core.checkpoints.files import INDEX
from ming_core.checkpoints.formats import open_checkpoint, open_weights, read_header
from ming_core.checkpoints.keymap import backbone_slots, identity_slots
from ming_core.checkpoints.reading import module_tensors, on_meta
from ming_core.errors import BadCheckpoint
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of
from ming_vision.encoder import QwenVisionEncoder

GB = 2**30


def write_sparse(path: Path, shapes: dict[str, tuple[int, ...]], last: float = 0.0) -> None:
    """A shard of float32 tensors, all holes but its last number."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        span = [end, end := end + 4 * prod(shape)]
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": span}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
        if last:
            file.seek(-4, 2)
            file.write(torch.tensor([last]).numpy().tobytes())


@pytest.mark.parametrize("size", [4, 5, 16, 40, 100])
def test_a_shard_of_any_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "model.safetensors"
    quarter = size * GB // 16
    shapes = dict.fromkeys("abcd", (quarter // 64, 64)) | {"end": (3,)}
    write_sparse(path, shapes, last=2.5)
    assert path.stat().st_size > size * 10**9
    weights = open_weights(path)
    assert {name: info.shape for name, info in weights.tensors.items()} == shapes
    assert weights.read("end").tolist() == [0, 0, 2.5]
    try:
        with safe_open(path, "pt") as other:
            assert set(other.keys()) == set(shapes)
    except RuntimeError as error:  # a small machine cannot map it into its memory
        if "mmap" not in str(error):
            raise


@pytest.mark.parametrize("change", [-1, 1])
def test_a_large_shard_of_the_wrong_size(tmp_path: Path, change: int) -> None:
    path = tmp_path / "model.safetensors"
    write_sparse(path, {"a": (5 * GB // 4,), "b": (GB,)})
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size + change)
    with pytest.raises(BadCheckpoint, match="truncated" if change < 0 else "damaged"):
        read_header(path)
    with pytest.raises((SafetensorError, RuntimeError)), safe_open(path, "pt"):
        pass


def test_lite_1_0_as_it_is_published(tmp_path: Path, repository: Path) -> None:
    """The real index over shards of the real sizes, 76 GB in all but for the speech part."""
    released = repository / "tests/golden/released/ming-lite-omni-1.0"
    for name in ("config.json", "preprocessor_config.json", INDEX):
        (tmp_path / name).write_bytes((released / name).read_bytes())
    shapes = shapes_of(json.loads((released / "config.json").read_text("utf-8")))
    places = json.loads((released / INDEX).read_text("utf-8"))["weight_map"]
    assert {name.split(".")[0] for name in places.keys() - shapes.keys()} == {"talker"}
    for shard in set(places.values()):
        held = [name for name in sorted(places) if places[name] == shard]
        write_sparse(tmp_path / shard, {name: shapes.get(name, (1,)) for name in held}, last=1.5)
    assert max(file.stat().st_size for file in tmp_path.iterdir()) > 3.05 * 10**9
    checkpoint = open_checkpoint(tmp_path)
    assert len(checkpoint.tensors) == 7495
    assert sum(info.nbytes for info in checkpoint.tensors.values()) > 70 * 10**9
    norm = checkpoint.read("model.model.norm.weight")
    assert norm.shape == (2048,)
    last = max(checkpoint.tensors.values(), key=lambda info: info.offset)
    assert last.offset + last.nbytes == last.file.stat().st_size


def shapes_of(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of the parts that this toolkit has."""
    backbone_config = backbone_of(config)
    with on_meta():
        modules = [
            (backbone := Backbone(backbone_config), backbone_slots(backbone_config)),
            *(
                (encoder := kind.from_config(config, {}), identity_slots(encoder))
                for kind in (QwenVisionEncoder, AudioEncoder)
            ),
        ]
    assert backbone.word_embeddings.weight.is_meta
    return {
        released: tuple(slot.of(state[slot.name]).shape)
        for module, slots in modules
        for state in [module_tensors(module, slots)]
        for released, slot in slots.items()
    }
