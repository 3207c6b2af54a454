"""A release: one object that knows a family of checkpoints, and the only place that does.

A release says which config.json are its own and how they are read, how conversations are written,
where tokens stand, which sentences it was taught, and where its parts lie on disk. The releases of
the core are in `ming_core.releases`; a plugin adds its own with the hook `ming_register_releases`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from ming_core.chat.formats import ChatFormat
from ming_core.checkpoints.keymap import Slot, backbone_slots
from ming_core.errors import BadCheckpoint, BadConfig, MingError, MissingPlugin
from ming_core.fields import shown
from ming_core.model.config import BackboneConfig
from ming_core.model.positions import PositionRule
from ming_core.plugins import CORE, describe, get_plugins
from ming_core.plugins.kinds import ReleaseEntry


@dataclass(frozen=True)
class Place:
    """Where one part of a release lies on disk.

    Attributes:
        name: Of the part, such as `backbone`, `image` or `talker`.
        folder: Its folder below that of the checkpoint; "" is the folder of the checkpoint.
        section: The section of config.json with its settings. If its folder has a config.json of
            its own, the settings are that whole file.
        prefixes: How the names of its tensors begin, if several parts share a folder.
        files: Other files that it needs, in its own folder.
    """

    name: str
    folder: str = ""
    section: str = ""
    prefixes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """What is special about a family of checkpoints.

    Attributes:
        name: What messages and `ming models` call it.
        recognises: Says whether a config.json belongs to this release.
        backbone: Reads the configuration of the language model from a whole config.json.
        chat: Gives the chat format for a configuration.
        slots: Released tensor name -> place in `Backbone`.
        positions: Gives the rule for position ids.
        wording: The sentences that the models were trained with, by section of config.json
            (`audio_tasks`, `vision_tasks`). A section in a checkpoint overrides them.
        components: Its parts on disk.
        elsewhere: File that the release does not ship -> repository of the hub that has it.
    """

    name: str
    recognises: Callable[[Mapping[str, Any]], bool]
    backbone: Callable[[Mapping[str, Any]], BackboneConfig]
    chat: Callable[[BackboneConfig], ChatFormat]
    slots: Callable[[BackboneConfig], dict[str, Slot]] = backbone_slots
    positions: Callable[[BackboneConfig], PositionRule] = PositionRule.from_config
    wording: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    components: tuple[Place, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def refuse(field: str, expected: str) -> TypeError:
            value = shown(getattr(self, field))
            return TypeError(f"{field} of release {self.name!r} must {expected}, not {value}")

        for name in ("recognises", "backbone", "chat", "slots", "positions"):
            if not callable(getattr(self, name)):
                raise refuse(name, "be a function")
        sections = self.wording.values() if isinstance(self.wording, Mapping) else [None]
        if not all(isinstance(section, Mapping) for section in sections):
            raise refuse("wording", "map sections of config.json to sentences by name")
        if not all(isinstance(place, Place) for place in self.components):
            raise refuse("components", "be places")

    def folder(self, component: str) -> str:
        """The folder of a component below that of the model, "" for the model's own."""
        return next((place.folder for place in self.components if place.name == component), "")

    def worded(self, section: str, config: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """The sentences of the release and those of a config.json, which go before them.

        Raises BadConfig if the section is no object.
        """
        own = config.get(section, {})
        if not isinstance(own, Mapping):
            raise BadConfig(f"{section} must be an object of sentences, not {shown(own)}")
        return self.wording.get(section, {}), own


def release_of(config: Mapping[str, Any]) -> Release:
    """The release that a config.json belongs to.

    Releases of plugins are asked before those of the core, so a plugin may handle a special case.
    Raises BadCheckpoint if no release recognises it, or if the releases of two plugins do.
    """
    found: list[tuple[ReleaseEntry, Release]] = []
    entries = get_plugins().releases
    for own in (False, True):
        for entry in entries:
            if (entry.plugin == CORE) is own and (release := _recognised(entry, config)):
                found.append((entry, release))
        if found:
            break
    if not found:
        raise unknown_release(config)
    if len(found) > 1:
        names = " and ".join(f"{entry.name!r} of {entry.plugin}" for entry, _ in found)
        raise BadCheckpoint(
            f"config.json is recognised by the releases {names}; switch one off with "
            f"MING_DISABLE_PLUGINS={found[-1][0].plugin}"
        )
    return found[0][1]


def backbone_of(config: Mapping[str, Any]) -> BackboneConfig:
    """The configuration of the language model of a config.json, as its release reads it.

    Raises BadCheckpoint or BadConfig.
    """
    return release_of(config).backbone(config)


def unknown_release(config: Mapping[str, Any]) -> BadCheckpoint:
    """The error for a config.json that no installed release recognises."""
    llm = config.get("llm_config")
    if isinstance(llm, Mapping):
        scaling = llm.get("rope_scaling")
        rope = scaling.get("type") if isinstance(scaling, Mapping) else scaling
        found = f"a {shown(llm.get('model_type'))} language model with rope_scaling {shown(rope)}"
    else:
        found = f"model_type {shown(config.get('model_type'))} without an llm_config section"
    known = "; ".join(f"{entry.name}: {entry.summary}" for entry in get_plugins().releases)
    return BadCheckpoint(
        f"unknown checkpoint: config.json describes {found}; known are {known}. "
        "Use one of these releases or install the package that registers this one"
    )


def _recognised(entry: ReleaseEntry, config: Mapping[str, Any]) -> Release | None:
    """The release of an entry if it recognises a config.json; one that fails is reported."""
    try:
        release = entry.load()
        if not isinstance(release, Release):
            raise TypeError(f"{entry.target} is {shown(release)} and no Release")
        if not release.recognises(config):
            return None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        known = isinstance(error, MissingPlugin)
        reason = str(error) if known else f"release {entry.name!r} raised {describe(error)}"
        get_plugins().blame(entry, reason)
        return None
    return replace(
        release,
        name=entry.name,
        backbone=_guarded(entry, "backbone", release.backbone, BackboneConfig),
        chat=_guarded(entry, "chat", release.chat, ChatFormat),
        slots=_guarded(entry, "slots", release.slots, Mapping),
        positions=_guarded(entry, "positions", release.positions, PositionRule),
    )


def _guarded(entry: ReleaseEntry, field: str, function: Callable[..., Any], kind: type) -> Any:
    """A function of a release whose mistakes are sentences that name the release."""

    @wraps(function)
    def call(argument: Any) -> Any:
        who = f"{field} of release {entry.name!r} of {entry.plugin}"
        try:
            value = function(argument)
        except (KeyboardInterrupt, MingError):
            raise
        except Exception as error:
            raise BadCheckpoint(
                f"{who} raised {describe(error)}; update {entry.plugin}, or use a checkpoint that "
                "it knows"
            ) from error
        if not isinstance(value, kind):
            raise BadCheckpoint(
                f"{who} returned {shown(value)} and no {kind.__name__}; update {entry.plugin}"
            )
        return value

    return call
