"""Export to the released layout: per-expert tensors, shards, index and JSON files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ming_core.checkpoints.files import ENDINGS, STEMS, SUFFIX
from ming_core.checkpoints.formats import DTYPES, Weights, byte_view
from ming_core.checkpoints.keymap import Slot
from ming_core.checkpoints.reading import module_tensors
from ming_core.errors import BadCheckpoint
from ming_core.output import new_folder
from ming_core.text import one_line

MAX_SHARD_BYTES = 5_000_000_000
"""As in the releases."""

_TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def export(
    parts: Mapping[str, tuple[nn.Module, Mapping[str, Slot]]],
    folder: Path | str,
    config: Mapping[str, Any],
    max_shard_bytes: int = MAX_SHARD_BYTES,
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
    entries = [*of_parts(parts, dtype), *of_stored(parts, stored)]
    texts = {"config.json": config}
    if preprocessor is not None:
        texts["preprocessor_config.json"] = preprocessor
    with checkpoint_folder(folder) as beside:
        for file in files:
            shutil.copyfile(file, beside / Path(file).name)
        for name, value in texts.items():
            write_json(beside / name, value)
        write_weights(beside, entries, max_shard_bytes)


@contextmanager
def checkpoint_folder(folder: Path | str) -> Iterator[Path]:
    """A folder to fill, which appears as `folder` at once, complete, or not at all.

    Raises BadCheckpoint if it exists and is not empty, or cannot be written.
    """
    try:
        with new_folder(folder) as beside:
            yield beside
    except FileExistsError as error:
        raise BadCheckpoint(
            f"{one_line(str(error.filename))} exists and is not empty; choose another folder or "
            "remove it"
        ) from error
    except OSError as error:
        reason, named = error.strerror or error, error.filename
        if named is not None and ".part" not in str(named):  # a file that was to be copied
            reason = f"{reason}: {one_line(str(named))}"
        raise BadCheckpoint(
            f"cannot write {one_line(str(folder))}: {reason}; free space or choose another folder"
        ) from error


@dataclass(frozen=True)
class Entry:
    """One tensor to write: `tensor` gives it when its turn comes, in any type and place."""

    name: str
    shape: Sequence[int]
    dtype: torch.dtype
    tensor: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def of_parts(
    parts: Mapping[str, tuple[nn.Module, Mapping[str, Slot]]], dtype: torch.dtype | None
) -> Iterator[Entry]:
    """Tensors of modules in table order."""
    owners: dict[str, str] = {}
    for part, (module, slots) in parts.items():
        state = module_tensors(module, slots)
        for released, slot in slots.items():
            if released in owners:
                raise ValueError(f"parts {owners[released]} and {part} both hold {released}")
            owners[released] = part
            yield _entry(released, slot, state[slot.name], dtype)


def of_stored(
    parts: Mapping[str, tuple[nn.Module, Mapping[str, Slot]]], stored: Iterable[Weights]
) -> Iterator[Entry]:
    """Tensors of checkpoints that no module has, each from the first checkpoint with its name."""
    known: set[str] = set()
    for _, slots in parts.values():
        known |= {name for released, slot in slots.items() for name in (released, *slot.aliases)}
    for weights in stored:
        for name, info in weights.tensors.items():
            if name not in known:
                known.add(name)
                yield Entry(name, info.shape, info.dtype, partial(weights.read, name))


def _shards(entries: Iterable[Entry], max_shard_bytes: int) -> list[list[Entry]]:
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        if shards[-1] and size + entry.nbytes > max_shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += entry.nbytes
    return shards


def _entry(released: str, slot: Slot, tensor: Tensor, dtype: torch.dtype | None) -> Entry:
    if tensor.is_meta:
        raise ValueError(f"{slot.name} is on the meta device: there are no weights to export")
    wanted = tensor.dtype
    if tensor.is_floating_point():
        wanted = slot.dtype or dtype or tensor.dtype
    if wanted not in _TYPE_NAMES:
        raise ValueError(f"{slot.name} is {wanted}, which the released layout does not store")
    source = slot.of(tensor)
    return Entry(released, source.shape, wanted, lambda: source)


def write_weights(
    folder: Path,
    entries: Iterable[Entry],
    max_shard_bytes: int = MAX_SHARD_BYTES,
    stem: str = STEMS[0],
) -> None:
    """Write tensors as `stem.safetensors`, or as several shards with an index."""
    shards = _shards(entries, max_shard_bytes)
    if len(shards) == 1:
        _write_shard(folder / f"{stem}{SUFFIX}", shards[0])
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"{stem}-{number:05}-of-{len(shards):05}{SUFFIX}"
        _write_shard(folder / name, shard)
        weight_map.update({entry.name: name for entry in shard})
    total = sum(entry.nbytes for shard in shards for entry in shard)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / f"{stem}{SUFFIX}{ENDINGS[1]}", index)


def _write_shard(path: Path, entries: list[Entry]) -> None:
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


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")
