"""What the folders of a model hold: each component, where it lies, and which package reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ming_core.checkpoints.formats import Checkpoint
from ming_core.errors import MingError
from ming_core.plugins import get_plugins
from ming_core.plugins.directory import package_for
from ming_core.plugins.manager import CORE
from ming_core.presets import BACKBONE
from ming_core.release import Place

if TYPE_CHECKING:
    from ming_core.loading import Sources

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


def inventory(sources: Sources) -> list[Found]:
    """The components in the folders of a model; reads headers, no weights.

    A component of the release that is not on this machine is left out. Raises BadCheckpoint.
    """
    found: dict[str, Found] = {}
    for checkpoint in sources.checkpoints:
        for item in _of_folder(checkpoint, sources):
            found.setdefault(item.name, item)
    return list(found.values())


def _of_folder(checkpoint: Checkpoint, sources: Sources) -> Iterator[Found]:
    left = dict(_sizes(checkpoint))
    for place in sources.release.components:
        if place.folder:
            continue
        mine = [name for name in left if name.startswith(place.prefixes)]
        if mine:
            nbytes = sum(left.pop(name) for name in mine)
            yield _found(place, checkpoint.root, nbytes, sources)
    if left:
        yield from _of_others(left, checkpoint, sources)
    words = dict.fromkeys(name.partition(".")[0] for name in left)
    for word in words:
        nbytes = sum(size for name, size in left.items() if name.partition(".")[0] == word)
        yield Found(f"{word}.*", checkpoint.root, nbytes, None, None, ())
    yield from _of_sub_folders(checkpoint, sources)


def _of_others(left: dict[str, int], checkpoint: Checkpoint, sources: Sources) -> Iterator[Found]:
    """The backbone and encoders that the release does not place; takes their tensors away."""
    placed = {place.name for place in sources.release.components}
    modalities = {entry.modality for entry in get_plugins().encoders}
    for name in sorted({BACKBONE, *modalities} - placed):
        try:
            prepared = sources.prepare(name)
        except MingError:  # none, or one that does not fit
            continue
        mine = [tensor for tensor in prepared.match if tensor in left]
        if mine and prepared.part.source == checkpoint.source:
            nbytes = sum(left.pop(tensor) for tensor in mine)
            yield _found(Place(name), checkpoint.root, nbytes, sources)


def _of_sub_folders(checkpoint: Checkpoint, sources: Sources) -> Iterator[Found]:
    known = {place.folder: place for place in sources.release.components if place.folder}
    heads = _heads(sources)
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
        place = known.get(folder, Place(folder, folder))
        yield _found(place, checkpoint.root / folder, nbytes, sources, heads.get(folder))


def _sizes(checkpoint: Checkpoint) -> Iterator[tuple[str, int]]:
    if checkpoint.tensors.files:
        for name, info in checkpoint.tensors.items():
            yield name, info.nbytes


def _found(
    place: Place, folder: Path, nbytes: int, sources: Sources, reader: str | None = None
) -> Found:
    lacks = tuple(name for name in place.files if not (folder / name).is_file())
    reader = reader or _reader(place, sources)
    named = _model_type(sources.config, place.section) or ""
    package = None if reader else package_for("encoders", named)
    return Found(place.name, folder, nbytes, reader, package, lacks)


def _reader(place: Place, sources: Sources) -> str | None:
    """The installed package that reads the backbone or an encoder."""
    plugins = get_plugins()
    if place.name == BACKBONE:
        return next((e.plugin for e in plugins.releases if e.name == sources.release.name), CORE)
    try:
        return sources.encoder_entry(place.name).plugin
    except MingError:  # no encoder, or none that is installed
        return None


def _heads(sources: Sources) -> dict[str, str]:
    """Folder -> installed package that reads the component of a head in it."""
    from ming_core.loading import components_of

    found: dict[str, str] = {}
    for gives in {entry.gives for entry in get_plugins().heads}:
        try:
            entry = sources.head_entry(gives)
            components = components_of(entry, sources.config)
        except MingError:  # a model without this head, or one that cannot be loaded
            continue
        found |= {component.folder: entry.plugin for component in components}
    return found


def _model_type(config: Mapping[str, Any], section: str) -> str | None:
    """What a section of config.json names, None without a section."""
    found = config.get(section)
    if not isinstance(found, Mapping):
        return None
    kind = found.get("model_type")
    return kind.partition(":")[0] if isinstance(kind, str) else ""
