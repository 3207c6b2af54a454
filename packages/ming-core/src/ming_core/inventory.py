"""What the folders of a model hold: each component, where it lies, and which package reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ming_core.checkpoints.formats import Checkpoint, open_part
from ming_core.plugins import get_plugins
from ming_core.plugins.directory import package_for
from ming_core.plugins.manager import CORE
from ming_core.presets import BACKBONE
from ming_core.release import Place, Release, release_of

_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".onnx", ".ckpt")


@dataclass(frozen=True)
class Found:
    """One component of a model on disk.

    Attributes:
        name: Of the component, as `backbone` or `vae`; of one that the release does not know, the
            name of its folder, or how the names of its tensors begin.
        folder: Where it lies.
        nbytes: Of its weights in the model's own folder, or of all files in a folder of its own.
        reader: The installed package that reads it, None if there is none.
        package: The package to install that reads it, None if none is known.
        lacks: Files that it needs and that are not there.
    """

    name: str
    folder: Path
    nbytes: int
    reader: str | None
    package: str | None
    lacks: tuple[str, ...]


def inventory(folders: Sequence[Path]) -> list[Found]:
    """The components in the folders of a preset, or in one folder; reads headers, no weights.

    A component of the release that is not on this machine is left out. Raises BadCheckpoint.
    """
    checkpoints = [open_part(folder) for folder in folders]
    config: dict[str, Any] = {}
    for checkpoint in checkpoints:
        config |= checkpoint.config
    release = release_of(config)
    found: dict[str, Found] = {}
    for checkpoint in checkpoints:
        for item in _of_folder(checkpoint, release, config):
            found.setdefault(item.name, item)
    return list(found.values())


def _of_folder(
    checkpoint: Checkpoint, release: Release, config: Mapping[str, Any]
) -> Iterator[Found]:
    left = dict(_sizes(checkpoint))
    for place in release.components:
        if place.folder:
            continue
        mine = [name for name in left if name.startswith(place.prefixes)]
        if mine:
            nbytes = sum(left.pop(name) for name in mine)
            yield _found(place, checkpoint.root, nbytes, release, config)
    words = dict.fromkeys(name.partition(".")[0] for name in left)
    for word in words:
        nbytes = sum(size for name, size in left.items() if name.partition(".")[0] == word)
        yield Found(f"{word}.*", checkpoint.root, nbytes, None, None, ())
    yield from _of_sub_folders(checkpoint, release, config)


def _of_sub_folders(
    checkpoint: Checkpoint, release: Release, config: Mapping[str, Any]
) -> Iterator[Found]:
    known = {place.folder: place for place in release.components if place.folder}
    sizes: dict[str, int] = dict.fromkeys(known, 0)
    for path in sorted(checkpoint.root.rglob("*")):
        sub = path.relative_to(checkpoint.root).parent
        if not path.is_file() or sub == Path() or any(p.startswith(".") for p in sub.parts):
            continue
        above = [folder for folder in (sub, *sub.parents) if folder.as_posix() in known]
        if above or path.suffix in _WEIGHTS:
            owner = (above[0] if above else sub).as_posix()
            sizes[owner] = sizes.get(owner, 0) + path.stat().st_size
    for folder, nbytes in sizes.items():
        if not checkpoint.has(folder):
            continue
        place = known.get(folder)
        if place is None:
            yield Found(folder, checkpoint.root / folder, nbytes, None, None, ())
        else:
            yield _found(place, checkpoint.root / folder, nbytes, release, config)


def _sizes(checkpoint: Checkpoint) -> Iterator[tuple[str, int]]:
    if checkpoint.tensors.files:
        for name, info in checkpoint.tensors.items():
            yield name, info.nbytes


def _found(
    place: Place, folder: Path, nbytes: int, release: Release, config: Mapping[str, Any]
) -> Found:
    lacks = tuple(name for name in place.files if not (folder / name).is_file())
    reader = _reader(place, release, config)
    package = None if reader else _package(place, config)
    return Found(place.name, folder, nbytes, reader, package, lacks)


def _reader(place: Place, release: Release, config: Mapping[str, Any]) -> str | None:
    """The installed package that reads a component."""
    plugins = get_plugins()
    if place.name == BACKBONE:
        return next((e.plugin for e in plugins.releases if e.name == release.name), CORE)
    for encoder in plugins.encoders:
        named = _model_type(config, encoder.extra["section"])
        if encoder.extra["modality"] == place.name and named in (
            encoder.name,
            *encoder.extra.get("spellings", ()),
        ):
            return encoder.plugin
    return None


def _package(place: Place, config: Mapping[str, Any]) -> str | None:
    """The package of the toolkit that reads an encoder."""
    return package_for("encoders", _model_type(config, place.section) or "")


def _model_type(config: Mapping[str, Any], section: str) -> str | None:
    """What a section of config.json names, None without a section."""
    found = config.get(section)
    if not isinstance(found, Mapping):
        return None
    kind = found.get("model_type")
    return kind.partition(":")[0] if isinstance(kind, str) else ""
