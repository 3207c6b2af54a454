"""Export to the released layout: per-expert tensors, shards, index and JSON files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor, nn

from ming_core.checkpoints.files import INDEX, SINGLE
from ming_core.checkpoints.formats import DTYPES, Weights, byte_view
from ming_core.checkpoints.keymap import Slot
from ming_core.checkpoints.reading import module_tensors
from ming_core.errors import BadCheckpoint
from ming_core.text import one_line

_TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def export(
    parts: Mapping[str, tuple[nn.Module, Mapping[str, Slot]]],
    folder: Path | str,
    config: Mapping[str, Any],
    max_shard_bytes: int = 5_000_000_000,
    dtype: torch.dtype | None = None,
    files: Iterable[Path] = (),
    preprocessor: Mapping[str, Any] | None = None,
    stored: Iterable[Weights] = (),
) -> None:
    """Write modules as a released checkpoint folder; loading it gives the same bits back.

    parts: part name -> (module, its key map). config becomes config.json, preprocessor
    preprocessor_config.json if it is given; `files` (tokenizer, ...) are copied beside them.
    stored: checkpoints whose tensors are copied as they are, but for those of `parts`.

    dtype casts floating-point tensors except float32 islands; None keeps what the modules hold. One
    shard is written as model.safetensors, several with an index; a tensor above `max_shard_bytes`
    gets a shard of its own.

    The folder appears at once, complete, or not at all. Raises BadCheckpoint if it exists and is
    not empty, or cannot be written.
    """
    folder = _free(folder)
    shards = _shards([*_of_parts(parts, dtype), *_of_stored(parts, stored)], max_shard_bytes)
    texts = {"config.json": config}
    if preprocessor is not None:
        texts["preprocessor_config.json"] = preprocessor
    beside = folder.parent / f".{folder.name}.{uuid4().hex[:8]}.partial"
    try:
        beside.mkdir(parents=True)
        _write(beside, shards, texts, files)
        if folder.is_dir():  # an empty one, which not every system replaces
            folder.rmdir()
        beside.replace(folder)
    except OSError as error:
        raise _unwritten(folder, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@dataclass(frozen=True)
class _Entry:
    """One tensor to write: `tensor` gives it when its turn comes, in any type and place."""

    name: str
    shape: Sequence[int]
    dtype: torch.dtype
    tensor: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def _free(folder: Path | str) -> Path:
    """Where a link to a folder leads. Raises BadCheckpoint if something lies there."""
    try:
        path = Path(os.path.realpath(folder))
        taken = any(path.iterdir()) if path.is_dir() else path.exists()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise _unwritten(folder, error) from error
    if taken:
        raise BadCheckpoint(
            f"{one_line(str(path))} exists and is not empty; choose another folder or remove it"
        )
    return path


def _unwritten(folder: Path | str, error: OSError | ValueError) -> BadCheckpoint:
    reason = getattr(error, "strerror", None) or error
    named = getattr(error, "filename", None)
    if named is not None and ".partial" not in str(named):  # a file that was to be copied
        reason = f"{reason}: {one_line(str(named))}"
    return BadCheckpoint(
        f"cannot write {one_line(str(folder))}: {reason}; free space or choose another folder"
    )


def _of_parts(
    parts: Mapping[str, tuple[nn.Module, Mapping[str, Slot]]], dtype: torch.dtype | None
) -> Iterator[_Entry]:
    """Tensors of modules in table order."""
    owners: dict[str, str] = {}
    for part, (module, slots) in parts.items():
        state = module_tensors(module, slots)
        for released, slot in slots.items():
            if released in owners:
                raise ValueError(f"parts {owners[released]} and {part} both hold {released}")
            owners[released] = part
            yield _entry(released, slot, state[slot.name], dtype)


def _of_stored(
    parts: Mapping[str, tuple[nn.Module, Mapping[str, Slot]]], stored: Iterable[Weights]
) -> Iterator[_Entry]:
    """Tensors of checkpoints that no module has, each from the first checkpoint with its name."""
    known: set[str] = set()
    for _, slots in parts.values():
        known |= {name for released, slot in slots.items() for name in (released, *slot.aliases)}
    for weights in stored:
        for name, info in weights.tensors.items():
            if name not in known:
                known.add(name)
                yield _Entry(name, info.shape, info.dtype, partial(weights.read, name))


def _shards(entries: Iterable[_Entry], max_shard_bytes: int) -> list[list[_Entry]]:
    shards: list[list[_Entry]] = [[]]
    size = 0
    for entry in entries:
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
    source = slot.of(tensor)
    return _Entry(released, source.shape, wanted, lambda: source)


def _write(
    folder: Path,
    shards: list[list[_Entry]],
    texts: Mapping[str, Mapping[str, Any]],
    files: Iterable[Path],
) -> None:
    for file in files:
        shutil.copyfile(file, folder / Path(file).name)
    for name, value in texts.items():
        _write_json(folder / name, value)
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
            "shape": list(entry.shape),
            "data_offsets": [end, end := end + entry.nbytes],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            tensor = entry.tensor().detach().to("cpu", entry.dtype).contiguous()
            file.write(byte_view(tensor))


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
