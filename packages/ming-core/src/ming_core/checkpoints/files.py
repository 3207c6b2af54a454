"""The files of a checkpoint folder, without their tensors: which are there, safe paths, JSON.

Nothing here needs torch, so that listing models is quick.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeGuard

from ming_core.errors import BadCheckpoint
from ming_core.fields import plain, shown

SUFFIX = ".safetensors"
STEMS = ("model", "diffusion_pytorch_model")
"""Names of files of weights without their ending: those of the releases and of diffusers."""

SINGLE = f"{STEMS[0]}{SUFFIX}"
INDEX = f"{SINGLE}.index.json"

ENDINGS = ("", ".index.json")
"""What follows `SUFFIX`: one file, or the index of several shards."""

MAX_JSON_BYTES = 100_000_000
"""The safetensors format's own limit; the released index of 7,495 names has 0.7 MB."""

POINTER = b"version https://git-lfs"
"""How the small file begins that git-lfs leaves in place of a large one."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. A repeated key keeps its last value, as in every JSON reader:
    the released Lite configs hold `auto_map` twice."""
    return parse_object(path, read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """A whole file of text of a checkpoint folder; raises BadCheckpoint if it cannot be one."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise BadCheckpoint(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_JSON_BYTES:
        raise BadCheckpoint(
            f"{path} has more than {MAX_JSON_BYTES} bytes; it is no file of a checkpoint"
        )
    refuse_pointer(path, data)
    return data.removeprefix(codecs.BOM_UTF8)


def weight_map(index: Path) -> dict[str, str]:
    places = parse_object(index, read_bytes(index), strict=True).get("weight_map")
    if not texts(places):
        raise BadCheckpoint(f"{index} has no weight_map of tensor names to file names")
    return places


def find_weights(root: Path, sub: str = "", stem: str = "") -> Path | None:
    """The file of weights in a folder, or the index of its shards; None if there is neither.

    sub: a folder below `root`, "" for `root` itself. stem: name of the file without its ending, ""
    for those of `STEMS`. Raises BadCheckpoint for two sets of weights, and for a name that leads
    out of `root`.
    """
    names = [f"{name}{SUFFIX}{end}" for name in ([stem] if stem else STEMS) for end in ENDINGS]
    found = [path for name in names if (path := inside(root, joined(sub, name))).is_file()]
    if len(found) > 1:
        raise BadCheckpoint(
            f"{root / sub} holds {found[0].name} and {found[1].name}, which are two sets of "
            "weights; remove the one that does not belong to the release"
        )
    return found[0] if found else None


def weight_files(path: Path) -> dict[str, str] | None:
    """Tensor -> file name if `path` is an index, None if it is a file of weights itself."""
    return weight_map(path) if path.suffix == ".json" else None


def missing_files(folder: Path, beside: Iterable[str] = ()) -> list[str]:
    """Files of a checkpoint that are not here, by name; reads neither headers nor weights.

    beside: files that it needs besides config.json and the weights. A folder that needs none may
    have its weights in folders below it, as a head has. A pointer of git-lfs is not the file.
    Raises BadCheckpoint for an index that cannot be read.
    """
    names = ["config.json", *beside]
    if _is_here(folder / INDEX) and not _is_here(folder / SINGLE):
        names += sorted(set(weight_map(inside(folder, INDEX)).values()))
    elif beside or not any(folder.glob(f"*/*{SUFFIX}")):
        names.append(SINGLE)
    return [name for name in names if not _is_here(folder / name)]


def joined(sub: str, name: str) -> str:
    """The path of a file in a sub-folder, "" for the folder itself."""
    return f"{sub}/{name}" if sub else name


def _is_here(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(POINTER)) != POINTER
    except OSError:
        return False


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused when it leads out of the folder by `..`, a root or a link."""
    root = folder.resolve()
    roots = [root]
    for above in (root, *root.parents):
        if above.parent.name == "snapshots":
            # The download cache of huggingface-hub: <repo>/snapshots/<revision>/x -> blobs/y.
            roots.append(above.parent.parent / "blobs")
            break
    try:
        path = folder / name
        real = path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a zero byte in the name
        raise BadCheckpoint(f"{folder} refers to the impossible path {shown(name)}") from None
    plain = not Path(name).is_absolute() and ".." not in Path(name).parts
    if not plain or not any(real.is_relative_to(r) for r in roots):
        raise BadCheckpoint(
            f"{folder} refers to {shown(name)}, which lies outside of it; "
            "only files of the checkpoint folder itself are read"
        )
    return path


def refuse_pointer(path: Path, data: bytes) -> None:
    if data.startswith(POINTER):
        raise BadCheckpoint(
            f"{path} is only a pointer to the real file, which git-lfs keeps; "
            f"run `git lfs pull` in {path.parent} to fetch it"
        )


def texts(value: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def parse_object(path: Path, data: bytes, strict: bool = False) -> dict[str, Any]:
    """strict: as the safetensors library reads headers, no key twice and no NaN."""
    rules: dict[str, Any] = {}
    if strict:
        rules = {
            "object_pairs_hook": _unique_keys,
            "parse_constant": _no_number,
            "parse_int": _natural,
        }
    try:
        value = json.loads(data.decode(), **rules)
    except (ValueError, RecursionError) as error:
        raise BadCheckpoint(
            f"{path} holds no valid JSON ({plain(str(error))}); copy it again"
        ) from None
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _natural(digits: str) -> int:
    return -1 if digits.startswith("-") else int(digits)  # -0 is no size


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Where a key is a tensor name, a repeated one would be ambiguous."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the name {shown(twice)} occurs twice")
    for key in result:
        key.encode()  # raises UnicodeEncodeError, a ValueError, for half a character
    return result


def listing(names: Iterable[str], limit: int = 5) -> str:
    """`a, b, c and 4 more`, for messages."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(plain, names[:limit])) + more
