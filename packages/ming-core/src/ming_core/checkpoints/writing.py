"""Export to the released layout: per-expert tensors, shards, index and JSON files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, nn

from ming_core.checkpoints.files import INDEX, SINGLE
from ming_core.checkpoints.formats import DTYPES, byte_view
from ming_core.checkpoints.keymap import Slot
from ming_core.checkpoints.reading import module_tensors
from ming_core.errors import BadCheckpoint

_TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def export(
    parts: Mapping[str, tuple[nn.Module, Mapping[str, Slot]]],
    folder: Path | str,
    config: Mapping[str, Any],
    max_shard_bytes: int = 5_000_000_000,
    dtype: torch.dtype | None = None,
    files: Iterable[Path] = (),
) -> None:
    """Write modules as a released checkpoint folder; loading it gives the same bits back.

    parts: part name -> (module, its key map). config becomes config.json; `files` (tokenizer,
    preprocessor_config.json, ...) are copied beside it. dtype casts floating-point tensors except
    float32 islands; None keeps what the modules hold. One shard is written as model.safetensors,
    several with an index; a tensor above `max_shard_bytes` gets a shard of its own.

    The folder appears at once, complete, or not at all. Raises BadCheckpoint if it exists and is
    not empty, or cannot be written.
    """
    folder = Path(folder)
    shards = _plan(parts, max_shard_bytes, dtype)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise BadCheckpoint(f"{folder} exists and is not empty; choose another folder or remove it")
    partial = folder.parent / f".{folder.name}.{uuid4().hex[:8]}.partial"
    try:
        partial.mkdir(parents=True)
        _write(partial, shards, config, files)
        partial.replace(folder)
    except OSError as error:
        raise BadCheckpoint(
            f"cannot write {folder} ({error}); free space or choose another folder"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class _Entry:
    """One tensor to write: `source` is a view into a parameter, cast while writing."""

    name: str
    source: Tensor
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return self.source.numel() * self.dtype.itemsize


def _plan(
    parts: Mapping[str, tuple[nn.Module, Mapping[str, Slot]]],
    max_shard_bytes: int,
    dtype: torch.dtype | None,
) -> list[list[_Entry]]:
    """Tensors in table order, cut into shards."""
    shards: list[list[_Entry]] = [[]]
    owners: dict[str, str] = {}
    size = 0
    for part, (module, slots) in parts.items():
        state = module_tensors(module, slots)
        for released, slot in slots.items():
            if released in owners:
                raise ValueError(f"parts {owners[released]} and {part} both hold {released}")
            owners[released] = part
            entry = _entry(released, slot, state[slot.name], dtype)
            if shards[-1] and size + entry.nbytes > max_shard_bytes:
                shards.append([])
                size = 0
            shards[-1].append(entry)
            size += entry.nbytes
    return shards


def _entry(released: str, slot: Slot, tensor: Tensor, dtype: torch.dtype | None) -> _Entry:
    if tensor.is_meta:
        raise ValueError(f"{slot.name} is on the meta device: there are no weights to export")
    wanted = tensor.dtype
    if tensor.is_floating_point():
        wanted = slot.dtype or dtype or tensor.dtype
    if wanted not in _TYPE_NAMES:
        raise ValueError(f"{slot.name} is {wanted}, which the released layout does not store")
    return _Entry(released, slot.of(tensor), wanted)


def _write(
    folder: Path, shards: list[list[_Entry]], config: Mapping[str, Any], files: Iterable[Path]
) -> None:
    for file in files:
        shutil.copyfile(file, folder / Path(file).name)
    _write_json(folder / "config.json", config)
    if len(shards) == 1:
        _write_shard(folder / SINGLE, shards[0])
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_shard(folder / name, shard)
        weight_map.update({entry.name: name for entry in shard})
    total = sum(entry.nbytes for shard in shards for entry in shard)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    _write_json(folder / INDEX, index)


def _write_shard(path: Path, entries: list[_Entry]) -> None:
    """A safetensors file, streamed: host memory holds one tensor, not one shard."""
    # Wide types first, as the library does, so that every tensor is aligned to its type.
    entries = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in entries:
        header[entry.name] = {
            "dtype": _TYPE_NAMES[entry.dtype],
            "shape": list(entry.source.shape),
            "data_offsets": [end, end := end + entry.nbytes],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            tensor = entry.source.detach().to("cpu", entry.dtype).contiguous()
            file.write(byte_view(tensor))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
