"""Checkpoint folders on disk: JSON files and safetensors shards, checked before a byte is used.

Headers are parsed here rather than by a memory map: every claim of a header is compared with the
file, and reading one tensor at a time into ordinary memory keeps the peak at the model plus one
tensor, whatever the page cache does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ming_core.errors import BadCheckpoint

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Safetensors type names that a Ming checkpoint may hold."""

# The safetensors format's own limit; the released index of 7,495 names has 0.7 MB.
_MAX_JSON_BYTES = 100_000_000
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: `nbytes` bytes at `offset` of `file`."""

    file: Path
    offset: int
    nbytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Weights:
    """The tensors of one safetensors file or of a sharded set; `source` names it in messages."""

    source: Path
    tensors: Mapping[str, TensorInfo]

    def read(self, name: str) -> Tensor:
        """One tensor in host memory with its stored dtype; raises BadCheckpoint if cut off."""
        info = self.tensors[name]
        buffer = torch.empty(info.nbytes, dtype=torch.uint8)
        view, done = byte_view(buffer), 0
        try:
            with info.file.open("rb", buffering=0) as file:
                file.seek(info.offset)
                while done < info.nbytes:
                    count = file.readinto(view[done:])
                    if not count:
                        raise BadCheckpoint(f"{info.file} ends inside {name!r}; copy it again")
                    done += count
        except OSError as error:
            raise BadCheckpoint(f"cannot read {info.file}: {error.strerror}") from None
        return buffer.view(info.dtype).reshape(info.shape)


@dataclass(frozen=True)
class Checkpoint(Weights):
    """A checkpoint folder: its weights, config.json and preprocessor_config.json ({} if absent)."""

    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        return self.source


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """Open a folder in the released layout; reads the JSON files and every shard's header.

    Raises BadCheckpoint for a missing, truncated, lying or unsafe file (pickles, paths that leave
    the folder), naming it.
    """
    folder = Path(folder)
    config = read_config(folder)
    preprocessor = _inside(folder, "preprocessor_config.json")
    return Checkpoint(
        source=folder,
        tensors=_folder_tensors(folder),
        config=config,
        preprocessor=read_json(preprocessor) if preprocessor.is_file() else {},
    )


def read_config(folder: Path | str) -> dict[str, Any]:
    """The folder's config.json alone, without looking at its weights."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadCheckpoint(f"{folder} is not a folder; expected one with config.json and weights")
    path = _inside(folder, "config.json")
    if not path.is_file():
        raise BadCheckpoint(f"{folder} has no config.json; expected a released checkpoint folder")
    return read_json(path)


def open_weights(path: Path | str) -> Weights:
    """Open one safetensors file, or the weights of a folder that needs no config.json."""
    path = Path(path)
    if path.is_dir():
        return Weights(path, _folder_tensors(path))
    if not path.is_file():
        raise BadCheckpoint(f"{path} does not exist; expected a safetensors file or a folder")
    _refuse_pickle(path.name, path)
    return Weights(path, read_header(path))


def byte_view(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous host tensor, shared."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def fingerprint(weights: Weights) -> str:
    """SHA-256 over names, dtypes, shapes and bytes in name order; independent of the sharding."""
    digest = hashlib.sha256()
    for name in sorted(weights.tensors):
        info = weights.tensors[name]
        digest.update(json.dumps([name, str(info.dtype), info.shape]).encode())
        digest.update(byte_view(weights.read(name)))
    return digest.hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. A repeated key keeps its last value, as in every JSON reader:
    the released Lite configs hold `auto_map` twice."""
    return _parse_object(path, _read_bytes(path, 0, path.stat().st_size), dict)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Parse a safetensors header and check every claim in it against the file.

    The tensors must tile the rest of the file exactly: no holes, no overlaps, nothing behind.
    """
    size = path.stat().st_size
    if size < 8:
        raise BadCheckpoint(f"{path} is no safetensors file: it has {size} bytes; copy it again")
    length = int.from_bytes(_read_bytes(path, 0, 8), "little")
    if length > size - 8:
        raise BadCheckpoint(
            f"{path} is truncated or no safetensors file: it claims a header of {length} bytes "
            f"and has {size}; copy it again"
        )
    header = _parse_object(path, _read_bytes(path, 8, length), _unique_keys)
    header.pop("__metadata__", None)
    base = 8 + length
    tensors = {name: _tensor_info(path, name, claim, base) for name, claim in header.items()}
    end = base
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if info.offset != end:
            raise BadCheckpoint(
                f"{path} is damaged: {name!r} starts at byte {info.offset}, expected {end}; "
                "copy it again"
            )
        end += info.nbytes
    if end != size:
        state = "truncated" if size < end else "damaged"
        raise BadCheckpoint(
            f"{path} is {state}: it has {size} bytes, its header describes {end}; copy it again"
        )
    return tensors


def _tensor_info(path: Path, name: str, claim: Any, base: int) -> TensorInfo:
    def sizes(value: Any) -> bool:
        return (
            isinstance(value, list)
            and len(value) <= 8
            and all(type(n) is int and n >= 0 for n in value)
            and prod(max(n, 1) for n in value) < 2**63  # also what torch can address
        )

    if (
        not isinstance(claim, dict)
        or set(claim) != {"dtype", "shape", "data_offsets"}
        or not sizes(claim["shape"])
        or not sizes(claim["data_offsets"])
        or len(claim["data_offsets"]) != 2
    ):
        raise BadCheckpoint(f"{path} has a malformed header entry for {name!r}; copy it again")
    dtype = DTYPES.get(claim["dtype"]) if isinstance(claim["dtype"], str) else None
    if dtype is None:
        raise BadCheckpoint(
            f"{path} stores {name!r} as {claim['dtype']!r}; supported are {', '.join(DTYPES)}"
        )
    begin, end = claim["data_offsets"]
    nbytes = prod(claim["shape"]) * dtype.itemsize
    if end - begin != nbytes:
        raise BadCheckpoint(
            f"{path} is damaged: {name!r} of shape {claim['shape']} and type {claim['dtype']} "
            f"needs {nbytes} bytes, its header gives {end - begin}; copy it again"
        )
    return TensorInfo(path, base + begin, nbytes, dtype, tuple(claim["shape"]))


def _folder_tensors(folder: Path) -> dict[str, TensorInfo]:
    single, index = _inside(folder, SINGLE), _inside(folder, INDEX)
    if single.is_file():
        return read_header(single)
    if index.is_file():
        return _sharded_tensors(folder, index)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
    if pickles:
        _refuse_pickle(pickles[0], folder)
    raise BadCheckpoint(f"{folder} has no weights; expected {SINGLE} or {INDEX}")


def _sharded_tensors(folder: Path, index: Path) -> dict[str, TensorInfo]:
    data = _read_bytes(index, 0, index.stat().st_size)
    places = _parse_object(index, data, _unique_keys).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
        raise BadCheckpoint(f"{index} has no weight_map of tensor names to file names")
    shards: dict[str, Mapping[str, TensorInfo]] = {}
    names = sorted(set(places.values()))
    paths = {name: _inside(folder, name) for name in names}
    for name in names:
        _refuse_pickle(name, index)
    missing = [name for name in names if not paths[name].is_file()]
    if missing:
        raise BadCheckpoint(
            f"{folder} lacks {len(missing)} of {len(names)} shards: {listing(missing)}; "
            "finish the download or copy them again"
        )
    for name in names:
        shards[name] = read_header(paths[name])
    absent = [name for name, shard in places.items() if name not in shards[shard]]
    if absent:
        raise BadCheckpoint(
            f"{index} places {absent[0]!r} in {places[absent[0]]}, which does not hold it "
            f"({len(absent)} such names); index and shards are of different downloads"
        )
    return {name: shards[shard][name] for name, shard in places.items()}


def _inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused when it leads out of the folder by `..`, a root or a link."""
    root = folder.resolve()
    roots = [root]
    if root.parent.name == "snapshots":
        # The download cache of huggingface-hub: <repo>/snapshots/<revision>/x -> <repo>/blobs/y.
        roots.append(root.parent.parent / "blobs")
    try:
        path = folder / name
        real = path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a zero byte in the name
        raise BadCheckpoint(f"{folder} refers to the impossible path {name!r}") from None
    plain = not Path(name).is_absolute() and ".." not in Path(name).parts
    if not plain or not any(real.is_relative_to(r) for r in roots):
        raise BadCheckpoint(
            f"{folder} refers to {name!r}, which lies outside of it; "
            "only files of the checkpoint folder itself are read"
        )
    return path


def _refuse_pickle(name: str, where: Path) -> None:
    if Path(name).suffix != ".safetensors":
        raise BadCheckpoint(
            f"{where} offers {name!r} as weights; only safetensors files are read, because pickles "
            "run code when they are opened: convert it to safetensors first"
        )


def _read_bytes(path: Path, offset: int, count: int) -> bytes:
    if count > _MAX_JSON_BYTES:
        raise BadCheckpoint(
            f"{path} has {count} bytes of JSON, more than {_MAX_JSON_BYTES}; "
            "it is no file of a checkpoint"
        )
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(count)
    except OSError as error:
        raise BadCheckpoint(f"cannot read {path}: {error.strerror}") from None


def _parse_object(
    path: Path, data: bytes, build: Callable[[list[tuple[str, Any]]], dict[str, Any]]
) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=build)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{path} holds no valid JSON ({error}); copy it again") from None
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Where a key is a tensor name, a repeated one would be ambiguous."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the name {twice!r} occurs twice")
    return result


def listing(names: Iterable[str], limit: int = 5) -> str:
    """`a, b, c and 4 more`, for messages."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
