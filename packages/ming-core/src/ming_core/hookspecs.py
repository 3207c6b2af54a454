"""Every hook of the toolkit. A plugin is a module with functions of these names, marked `hookimpl`.

Hooks assemble the program; none sits in a per-token or per-layer path. Arguments may be added,
never removed: an implementation accepts any subset of them. docs/hooks.md shows each in use.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    import typer

    from ming_core.api import OmniModel
    from ming_core.doctor import Finding
    from ming_core.registry import Registrar

hookspec = HookspecMarker("ming")
hookimpl = HookimplMarker("ming")


@hookspec
def ming_register_encoders(register: Registrar) -> None:
    """Add encoders: raw media of one modality to backbone embeddings.

    The name is the `model_type` of a section of config.json, up to a colon if it has one: `timm`
    gets `timm:resnet18` and reads the rest itself.
    `spellings` are further values of `model_type` that mean this encoder.
    """


@hookspec
def ming_register_heads(register: Registrar) -> None:
    """Add heads: backbone hidden states to speech, pixels or other media."""


@hookspec
def ming_register_tasks(register: Registrar) -> None:
    """Add tasks: what a user asks for, under one name in Python and on the command line."""


@hookspec
def ming_register_presets(register: Registrar) -> None:
    """Add presets, or one's own part of a preset that others contribute to as well."""


@hookspec
def ming_register_checkpoints(register: Registrar) -> None:
    """Add checkpoint families: how the tensors of a released folder map to our modules."""


@hookspec
def ming_register_recipes(register: Registrar) -> None:
    """Add training recipes."""


@hookspec
def ming_register_benchmarks(register: Registrar) -> None:
    """Add benchmarks for `ming eval`: functions `(model, data, limit, track, *, options)`.

    data: Path or None. limit: how many items, or None. track: `ming_core.benchmarks.Track`.
    options: texts, by name only. They give values for JSON, in them `scores`: {column: {row:
    fraction}}. Registered with `data="what --data must be"` if they need any.
    """


@hookspec
def ming_register_chat_commands(register: Registrar) -> None:
    """Add commands to `ming chat`: functions `(model, argument, messages)`, typed as `/name`.

    argument: what was typed behind the name. messages: the conversation so far, to be read. They
    give a text, which is printed; a medium, which the next question is about; or None.
    """


@hookspec
def ming_register_commands(app: typer.Typer) -> None:
    """Add commands to `ming`. Import nothing heavy here; do that in the command's body."""


@hookspec(firstresult=True)
def ming_detect_checkpoint(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Name the registered checkpoint family of a folder from its config.json, or None."""


@hookspec
def ming_model_loaded(model: OmniModel) -> None:
    """React to a loaded model, e.g. to quantise, compile or log it."""


@hookspec
def ming_doctor() -> list[Finding]:
    """Report what works here and what does not, for `ming doctor`."""
    return []
