"""A loaded model as one checkpoint folder that `load` takes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ming_core.checkpoints.components import Loaded
from ming_core.checkpoints.files import STEMS, inside, joined
from ming_core.checkpoints.formats import open_part
from ming_core.checkpoints.keymap import Slot
from ming_core.checkpoints.knowledge import familiar_files
from ming_core.checkpoints.tokenizers import FILES
from ming_core.checkpoints.writing import (
    Entry,
    checkpoint_folder,
    of_parts,
    of_stored,
    write_json,
    write_weights,
)
from ming_core.errors import BadCheckpoint
from ming_core.fields import shown

if TYPE_CHECKING:
    from ming_core.loading import Sources

_OTHERS = ("special_tokens_map.json", "generation_config.json")
"""Read by other engines only."""

_Parts = Mapping[str, tuple[nn.Module, Mapping[str, Slot]]]
_Given = Callable[[Mapping[str, Slot]], Iterable[Entry]] | None


def save_model(
    loaded: Mapping[str, Loaded],
    sources: Sources,
    folder: str | Path,
    entries: _Given = None,
) -> Path:
    """Write everything that `load` needs into a new folder, and return its path.

    Components that are loaded are written as they are now. Everything else is copied: the tensors
    of other components as they are stored, and sub-folders and files bit by bit, so that a tuned
    model keeps its talker. The folders of a preset become one. The folder appears at once,
    complete, or not at all. Raises BadCheckpoint if it exists and is not empty, if it cannot be
    written, or if a component is no longer built as it was when it was loaded.

    entries: gives the tensors of a component by its slots, for modules that hold only a part of
    them; None takes them from the modules.
    """
    with checkpoint_folder(folder) as target:
        _write_top(target, _parts_in(loaded, ""), sources, entries)
        for checkpoint in sources.checkpoints:
            for sub in _folders(checkpoint.root):
                if not (target / sub).exists():  # the first folder of a preset wins
                    (target / sub).mkdir()
                    _write_folder(target / sub, checkpoint.root, sub, loaded, entries)
    return Path(folder)


def _parts_in(loaded: Mapping[str, Loaded], sub: str, stem: str = "") -> _Parts:
    """The loaded components of one folder, and of one file if its name is given."""
    return {
        name: (part.module, part.slots)
        for name, part in loaded.items()
        if (part.folder, part.weights) == (sub, stem)
    }


def _write_top(target: Path, parts: _Parts, sources: Sources, given: _Given) -> None:
    """The files of the model's own folder."""
    only = sources.checkpoints[0] if len(sources.checkpoints) == 1 else None
    if only is not None:
        weights = only.tensors.files
        if weights:
            only.verify()
        _copy(only.root, "", target, leave=weights if parts else ())
    for path in _needed(sources):
        if not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)
    texts = {"config.json": sources.config, "preprocessor_config.json": sources.preprocessor}
    for name, value in texts.items():
        if value and (only is None or value not in (only.config, only.preprocessor)):
            write_json(target / name, value)
    if only is None or parts:
        stored = [checkpoint for checkpoint in sources.checkpoints if checkpoint.tensors.files]
        entries = [*_entries(parts, given), *of_stored(parts, stored)]
        write_weights(target, entries)


def _needed(sources: Sources) -> Iterator[Path]:
    """The files beside the weights that a model needs, from wherever they lie."""
    try:
        home = sources.tokenizer.folder
    except BadCheckpoint:  # a part that needs none, as a talker alone
        home = None
    if home is not None:
        yield from (inside(home, name) for name in FILES)
        for name in _OTHERS:
            if (path := inside(home, name)).is_file():
                yield path
    yield from familiar_files(sources.checkpoints)


def _write_folder(
    target: Path, root: Path, sub: str, loaded: Mapping[str, Loaded], given: _Given
) -> None:
    """A sub-folder: weights of loaded components as they are now, all else as it is."""
    rewritten: list[Path] = []
    stems = {part.weights for part in loaded.values() if part.folder == sub}
    for stem in stems:
        part = open_part(root, sub, stem)
        files = part.tensors.files
        rewritten += files
        parts = _parts_in(loaded, sub, stem)
        entries = [*_entries(parts, given), *of_stored(parts, [part])]
        write_weights(target, entries, stem=stem or _stem(files))
    _copy(root, sub, target, leave=rewritten)


def _entries(parts: _Parts, given: _Given) -> Iterator[Entry]:
    if given is not None:
        for _, slots in parts.values():
            yield from given(slots)
        return
    try:
        yield from of_parts(parts, None)
    except ValueError as error:
        raise BadCheckpoint(
            f"the model cannot be written in the released layout: {error}; a component was changed "
            "after it was loaded, so undo that first, as by merging an adapter"
        ) from error


def _stem(files: list[Path]) -> str:
    """`diffusion_pytorch_model` of its file or index."""
    return files[0].name.partition(".")[0] if files else STEMS[0]


def _folders(root: Path) -> list[str]:
    """All folders below a model's, outer ones first, without hidden ones.

    Raises BadCheckpoint for one that is a link: what it leads to is no part of the model.
    """
    found: list[str] = []
    for place, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in names:
            sub = (Path(place) / name).relative_to(root).as_posix()
            if (root / sub).is_symlink():
                raise BadCheckpoint(
                    f"{root} has a folder {shown(sub)} that is a link; replace it by the folder "
                    "itself, because only files of the model's own folder are copied"
                )
            found.append(sub)
    return found


def _copy(root: Path, sub: str, target: Path, leave: Iterable[Path]) -> None:
    """The files of one folder, bit by bit. Raises BadCheckpoint for a link out of the model."""
    left = {path.name for path in leave}
    for path in sorted((root / sub).iterdir()):
        if path.name in left or path.name.startswith(".") or not path.is_file():
            continue
        shutil.copyfile(inside(root, joined(sub, path.name)), target / path.name)
