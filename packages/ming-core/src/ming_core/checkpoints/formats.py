"""Checkpoint folders on disk: JSON files and safetensors shards, checked before a byte is used.

We parse the headers ourselves and use no memory map. So every claim of a header is compared with
the file, and one tensor at a time is read into ordinary memory: the peak is the model plus one
tensor.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from ming_core.checkpoints.files import (
    INDEX,
    MAX_JSON_BYTES,
    POINTER,
    SINGLE,
    SUFFIX,
    find_weights,
    inside,
    joined,
    listing,
    parse_object,
    read_json,
    refuse_pointer,
    texts,
    weight_files,
)
from ming_core.errors import BadCheckpoint
from ming_core.fields import shown

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

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


class Stamp(NamedTuple):
    """What tells whether a file is still the one that was opened before."""

    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, file: IO[bytes]) -> Stamp:
        found = os.fstat(file.fileno())
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class TensorInfo:
    """Where one tensor lies: `nbytes` bytes at `offset` of `file`, as `stamp` knows the file."""

    file: Path
    offset: int
    nbytes: int
    dtype: torch.dtype
    shape: tuple[int, ...]
    stamp: Stamp


@dataclass(frozen=True)
class Weights:
    """The tensors of one safetensors file or of a sharded set; `source` names it in messages."""

    source: Path
    tensors: Mapping[str, TensorInfo]

    def read(self, name: str) -> Tensor:
        """One tensor in host memory with its stored dtype.

        Raises BadCheckpoint if the file is not the one whose header was read: parts of a model are
        loaded when they are first needed, and the file may have been replaced since.
        """
        return self.read_part(name, ())

    def read_part(self, name: str, part: tuple[slice, ...]) -> Tensor:
        """The part of a tensor that slices of its first dimensions name; nothing else is read.

        A slice has a start and a stop inside of its dimension. Raises as `read`.
        """
        info = self.tensors[name]
        bounds = [(cut.start, cut.stop) for cut in part]
        bounds += [(0, size) for size in info.shape[len(part) :]]
        shape = [stop - start for start, stop in bounds]
        buffer = torch.empty(prod(shape) * info.dtype.itemsize, dtype=torch.uint8, device="cpu")
        view, done = byte_view(buffer), 0
        try:
            with info.file.open("rb", buffering=0) as file:
                for start, size in _runs(info, bounds):
                    file.seek(info.offset + start)
                    end = done + size
                    while done < end:
                        count = file.readinto(view[done:end])
                        if not count:
                            raise BadCheckpoint(
                                f"{info.file} ends inside {shown(name)}: it was changed after the "
                                "model was opened; copy it again, then load the model again"
                            )
                        done += count
                _same(file, info)
        except OSError as error:
            raise BadCheckpoint(f"cannot read {info.file}: {error.strerror}") from None
        return buffer.view(info.dtype).reshape(shape)

    def verify(self) -> None:
        """Raises BadCheckpoint if a file is not the one whose header was read."""
        for info in {info.file: info for info in self.tensors.values()}.values():
            try:
                with info.file.open("rb") as file:
                    _same(file, info)
            except OSError as error:
                raise BadCheckpoint(f"cannot read {info.file}: {error.strerror}") from None


@dataclass(frozen=True)
class Checkpoint(Weights):
    """A folder of weights: config.json and preprocessor_config.json ({} if absent) and tensors.

    root: the folder of the whole model. sub: where below it this one lies, "" for `root` itself.
    """

    tensors: Headers
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    root: Path
    sub: str = ""

    @property
    def folder(self) -> Path:
        return self.source

    def path(self, name: str) -> Path:
        """A file of this folder. Raises BadCheckpoint if it leads out of the model's folder."""
        return inside(self.root, joined(self.sub, name))

    def has(self, sub: str) -> bool:
        """Whether there is a folder below it. Raises BadCheckpoint for a name that leads out."""
        return self.path(sub).is_dir()


def open_checkpoint(folder: Path | str) -> Checkpoint:
    """Open a folder in the released layout; reads the JSON files and every shard's header.

    Raises BadCheckpoint for a missing, truncated, lying or unsafe file (pickles, paths that leave
    the folder), naming it.
    """
    checkpoint = open_part(folder)
    checkpoint.tensors.check()
    return checkpoint


def open_part(root: Path | str, sub: str = "", stem: str = "") -> Checkpoint:
    """Open a model's folder, or one below it, and read nothing but its JSON files.

    A header is read when one of the tensors of its file is asked for; the errors of
    `open_checkpoint` are raised then. stem: name of the file of weights without its ending, "" for
    `model` and `diffusion_pytorch_model`. Only the folder of the model itself must have a
    config.json. Raises BadCheckpoint.
    """
    root = Path(root)
    if sub and not inside(root, sub).is_dir():
        raise BadCheckpoint(
            f"{root} has no folder {shown(sub)}; finish the download or copy it from the release"
        )
    folder = root / sub
    own = inside(root, joined(sub, "config.json"))
    config = read_json(own) if sub and own.is_file() else {} if sub else read_config(root)
    preprocessor = inside(root, joined(sub, "preprocessor_config.json"))
    return Checkpoint(
        source=folder,
        tensors=Headers(root, sub, stem),
        config=config,
        preprocessor=read_json(preprocessor) if preprocessor.is_file() else {},
        root=root,
        sub=sub,
    )


def read_config(folder: Path | str) -> dict[str, Any]:
    """The folder's config.json alone, without looking at its weights."""
    folder = Path(folder)
    if not folder.is_dir():
        raise BadCheckpoint(f"{folder} is not a folder; expected one with config.json and weights")
    path = inside(folder, "config.json")
    if not path.is_file():
        raise BadCheckpoint(f"{folder} has no config.json; expected a released checkpoint folder")
    return read_json(path)


def open_weights(path: Path | str) -> Weights:
    """Open one safetensors file, or the weights of a folder that needs no config.json."""
    path = Path(path)
    if path.is_dir():
        headers = Headers(path)
        headers.check()
        return Weights(path, headers)
    if not path.is_file():
        raise BadCheckpoint(f"{path} does not exist; expected a safetensors file or a folder")
    _refuse_pickle(path.name, path)
    return Weights(path, read_header(path))


def _same(file: IO[bytes], info: TensorInfo) -> None:
    if Stamp.of(file) != info.stamp:
        raise BadCheckpoint(
            f"{info.file} was changed or replaced after the model was opened, so its parts may not "
            "belong together; load the model again"
        )


def _runs(info: TensorInfo, bounds: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """First byte and size of each run of bytes that is one piece in the file, in order."""
    inner = len(bounds)  # from here on every dimension is whole
    while inner and bounds[inner - 1] == (0, info.shape[inner - 1]):
        inner -= 1
    outer = max(inner - 1, 0)
    strides = [prod(info.shape[dim + 1 :]) * info.dtype.itemsize for dim in range(len(bounds))]
    if not bounds:
        yield 0, info.nbytes
        return
    start, stop = bounds[outer]
    size = (stop - start) * strides[outer]
    for places in product(*(range(*bound) for bound in bounds[:outer])):
        first = sum(place * stride for place, stride in zip(places, strides, strict=False))
        yield first + start * strides[outer], size


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


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Parse a safetensors header and check every claim in it against the file.

    The tensors must tile the rest of the file exactly: no holes, no overlaps, nothing behind.
    """
    stamp, text = _header_text(path)
    header = parse_object(path, text, strict=True)
    notes = header.pop("__metadata__", None)
    if notes is not None and not texts(notes):
        raise BadCheckpoint(f"{path} has __metadata__ that is no object of texts; copy it again")
    base = 8 + len(text)
    tensors = {name: _tensor_info(path, name, claim, base, stamp) for name, claim in header.items()}
    end = base
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if info.offset != end:
            raise BadCheckpoint(
                f"{path} is damaged: {shown(name)} starts at byte {info.offset}, expected {end}; "
                "copy it again"
            )
        end += info.nbytes
    if end != stamp.size:
        state = "truncated" if stamp.size < end else "damaged"
        raise BadCheckpoint(
            f"{path} is {state}: it has {stamp.size} bytes, its header describes {end}; "
            "copy it again"
        )
    return tensors


def _header_text(path: Path) -> tuple[Stamp, bytes]:
    try:
        with path.open("rb") as file:
            stamp = Stamp.of(file)
            start = file.read(8)
            if len(start) < 8:
                raise BadCheckpoint(
                    f"{path} is no safetensors file: it has {stamp.size} bytes; copy it again"
                )
            length = int.from_bytes(start, "little")
            if length <= min(stamp.size - 8, MAX_JSON_BYTES):
                return stamp, file.read(length)
            refuse_pointer(path, start + file.read(len(POINTER)))
    except OSError as error:
        raise BadCheckpoint(f"cannot read {path}: {error.strerror}") from None
    if length <= stamp.size - 8:
        raise BadCheckpoint(
            f"{path} has {length} bytes of JSON, more than {MAX_JSON_BYTES}; "
            "it is no file of a checkpoint"
        )
    raise BadCheckpoint(
        f"{path} is truncated or no safetensors file: it claims a header of {length} bytes "
        f"and has {stamp.size}; copy it again"
    )


def _tensor_info(path: Path, name: str, claim: Any, base: int, stamp: Stamp) -> TensorInfo:
    def whole(value: Any, most: int) -> bool:
        return (
            isinstance(value, list)
            and len(value) <= most
            and all(type(n) is int and n >= 0 for n in value)
        )

    if (
        not isinstance(claim, dict)
        or not claim.keys() >= {"dtype", "shape", "data_offsets"}
        or not whole(claim["shape"], most=8)
        or prod(max(n, 1) for n in claim["shape"]) >= 2**63  # what torch can address
        or not whole(claim["data_offsets"], most=2)
        or len(claim["data_offsets"]) != 2
    ):
        raise BadCheckpoint(f"{path} has a malformed header entry for {shown(name)}; copy it again")
    dtype = DTYPES.get(claim["dtype"]) if isinstance(claim["dtype"], str) else None
    if dtype is None:
        raise BadCheckpoint(
            f"{path} stores {shown(name)} as {shown(claim['dtype'])}; "
            f"supported are {', '.join(DTYPES)}"
        )
    begin, end = claim["data_offsets"]
    nbytes = prod(claim["shape"]) * dtype.itemsize
    if end - begin != nbytes:
        raise BadCheckpoint(
            f"{path} is damaged: {shown(name)} of shape {claim['shape']} and type {claim['dtype']} "
            f"needs {nbytes} bytes, its header gives {end - begin}; copy it again"
        )
    return TensorInfo(path, base + begin, nbytes, dtype, tuple(claim["shape"]), stamp)


class Headers(Mapping[str, TensorInfo]):
    """The tensors of a folder by name; the header of a file is read when it is needed."""

    def __init__(self, root: Path, sub: str = "", stem: str = "") -> None:
        self._root, self._sub, self._stem = root, sub, stem
        self._shards: dict[str, Mapping[str, TensorInfo]] = {}

    def check(self) -> None:
        """Read all headers."""
        if self._places is None:
            _ = self._single
        else:
            for name in self._files:
                self._shard(name)

    def nbytes(self) -> int:
        """Size of the files; reads no header."""
        return sum(path.stat().st_size for path in self._files.values() if path.is_file())

    def __getitem__(self, name: str) -> TensorInfo:
        if self._places is None:
            return self._single[name]
        return self._shard(self._places[name])[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._single if self._places is None else self._places)

    def __len__(self) -> int:
        return len(self._single if self._places is None else self._places)

    def __contains__(self, name: object) -> bool:
        return name in (self._single if self._places is None else self._places)

    @property
    def files(self) -> list[Path]:
        """The file of weights, or the index and its shards; empty if there are none."""
        if self._path is None:
            return []
        return [self._path] if self._places is None else [self._path, *self._files.values()]

    @cached_property
    def _path(self) -> Path | None:
        return find_weights(self._root, self._sub, self._stem)

    @cached_property
    def _places(self) -> Mapping[str, str] | None:
        """Tensor -> shard; None if there are no shards."""
        return None if self._path is None else weight_files(self._path)

    @cached_property
    def _files(self) -> Mapping[str, Path]:
        """Shard -> path."""
        if self._path is None:
            return {}
        if self._places is None:
            return {self._path.name: self._path}
        names = sorted(set(self._places.values()))
        paths = {name: inside(self._root, joined(self._sub, name)) for name in names}
        for name in names:
            _refuse_pickle(name, self._path)
        return paths

    @cached_property
    def _single(self) -> Mapping[str, TensorInfo]:
        if self._path is None:
            self._refuse()
        return read_header(self._path)

    def _shard(self, name: str) -> Mapping[str, TensorInfo]:
        if name not in self._shards:
            self._shards[name] = self._read_shard(name)
        return self._shards[name]

    def _read_shard(self, name: str) -> Mapping[str, TensorInfo]:
        paths, places = self._files, self._places or {}
        missing = [other for other in paths if not paths[other].is_file()]
        if name in missing:
            raise BadCheckpoint(
                f"{self._root / self._sub} lacks {len(missing)} of {len(paths)} shards: "
                f"{listing(missing)}; finish the download or copy them again"
            )
        shard = read_header(paths[name])
        absent = [tensor for tensor, at in places.items() if at == name and tensor not in shard]
        if absent:
            raise BadCheckpoint(
                f"{self._path} places {shown(absent[0])} in {shown(name)}, which does not hold "
                f"it ({len(absent)} such names); index and shards are of different downloads"
            )
        return shard

    def _refuse(self) -> NoReturn:
        folder = self._root / self._sub
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        if pickles:
            _refuse_pickle(pickles[0], folder)
        expected = f"{self._stem}{SUFFIX}" if self._stem else f"{SINGLE} or {INDEX}"
        raise BadCheckpoint(f"{folder} has no weights; expected {expected}")


def _refuse_pickle(name: str, where: Path) -> None:
    if Path(name).suffix != ".safetensors":
        raise BadCheckpoint(
            f"{where} offers {shown(name)} as weights; only safetensors files are read, because "
            "pickles run code when they are opened: convert it to safetensors first"
        )
