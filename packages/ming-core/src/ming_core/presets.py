"""Presets: named models. Each consists of the parts that the installed packages registered.

A part's target is `package:folder` (package data in the released layout) or `hub:owner/name`
(weights that are too large to ship; they count as present once the hub's local cache has them).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ming_core.errors import BadCheckpoint, MingError
from ming_core.plugins import get_plugins
from ming_core.plugins.directory import known_parts
from ming_core.plugins.kinds import PresetEntry
from ming_core.plugins.registry import packaged

HUB = "hub"
BACKBONE = "backbone"
"""The part with the language model; its summary is that of the preset."""

TOKENIZER = frozenset({"tokenizer.json", "tokenizer_config.json"})

BESIDE = ("preprocessor_config.json", *sorted(TOKENIZER))
"""Files that a whole published model needs besides its config.json and weights."""


@dataclass(frozen=True)
class PresetPart:
    """One part of a preset. folder: None while its weights are not on this machine."""

    name: str
    plugin: str
    target: str
    folder: Path | None

    @property
    def hub_id(self) -> str | None:
        """`owner/name` of weights that are published and not shipped; None for package data."""
        scheme, _, place = self.target.partition(":")
        return place if scheme == HUB else None

    @property
    def size(self) -> int:
        """Bytes on disk, 0 if not on this machine."""
        if self.folder is None:
            return 0
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())

    @property
    def lacks(self) -> list[str]:
        """Names of files that are not here yet, for example while a download is running."""
        from ming_core.checkpoints.files import INDEX, missing_files

        if self.folder is None:
            return []
        try:
            lacks = missing_files(self.folder, BESIDE if self.hub_id else ())
        except BadCheckpoint:
            return [INDEX]
        if not TOKENIZER.isdisjoint(lacks) and _has_tokenizer(self.folder):
            lacks = [name for name in lacks if name not in TOKENIZER]
        return lacks

    @property
    def ready(self) -> bool:
        """Whether all of its files are on this machine."""
        return self.folder is not None and not self.lacks


@dataclass(frozen=True)
class PresetParts:
    """A preset as installed. missing: part -> package that would bring it."""

    name: str
    summary: str
    parts: dict[str, PresetPart]
    missing: dict[str, str]

    @property
    def ready(self) -> bool:
        """Whether everything that was registered is on this machine."""
        return all(part.ready for part in self.parts.values())


def preset(name: str) -> PresetParts:
    """The parts of a preset. Raises UnknownName for a name that nobody registered."""
    registry = get_plugins().presets
    first = registry[name]  # raises for an unknown name
    entries = {entry.part: entry for entry in registry.find(name)}
    parts = {part: _part(entry) for part, entry in entries.items()}
    missing = {part: by for part, by in known_parts(name).items() if part not in parts}
    return PresetParts(name, entries.get(BACKBONE, first).summary, parts, missing)


def presets() -> list[PresetParts]:
    """All presets in name order."""
    return [preset(name) for name in get_plugins().presets.names()]


def preset_folders(name: str) -> dict[str, Path]:
    """Part -> folder of a preset whose weights are on this machine; else raises BadCheckpoint."""
    folders = {}
    for part in preset(name).parts.values():
        if part.folder is None:
            raise BadCheckpoint(_absent(name, part))
        folders[part.name] = part.folder
    return folders


def _absent(name: str, part: PresetPart) -> str:
    if part.hub_id is None:
        return f"preset {name!r} lacks {part.target!r}; reinstall {part.plugin}"
    return (
        f"the weights of {name!r} ({part.hub_id}) are not on this machine; download them and give "
        "their folder as the model, or choose a preset that `ming models` shows as ready"
    )


def _has_tokenizer(folder: Path) -> bool:
    """Whether the tokenizer of a release that is published without one lies somewhere else."""
    from ming_core.checkpoints.formats import read_config  # imports torch, so only when asked for
    from ming_core.checkpoints.tokenizers import tokenizer_of
    from ming_core.release import release_of

    try:
        config = read_config(folder)
        tokenizer_of(folder, release_of(config), config)
    except MingError:
        return False
    return True


def _part(entry: PresetEntry) -> PresetPart:
    scheme, _, place = entry.target.partition(":")
    folder = _hub_folder(place) if scheme == HUB else _package_folder(entry.target)
    return PresetPart(entry.part, entry.plugin, entry.target, folder)


def _package_folder(target: str) -> Path | None:
    folder = packaged(target)
    return folder if folder is not None and (folder / "config.json").is_file() else None


def _hub_folder(hub_id: str) -> Path | None:
    """The folder in the cache of the hub that has a config.json. Nothing is downloaded.

    Whether every shard has arrived is checked when the checkpoint is opened.
    """
    from huggingface_hub import try_to_load_from_cache

    config = try_to_load_from_cache(hub_id, "config.json")
    return Path(config).parent if isinstance(config, str) else None
