"""Every hook of the toolkit. A plugin is a module with functions of these names, marked `hookimpl`.

Hooks set up the program; no hook is called for each token or layer. An implementation may take any
of the arguments. A later version may add arguments and never removes one. docs/hooks.md shows an
example of each hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    import typer
    from torch import nn

    from ming_core.api import OmniModel
    from ming_core.doctor import Finding
    from ming_core.plugins.registry import Registrar

hookspec = HookspecMarker("ming")
hookimpl = HookimplMarker("ming")


@hookspec
def ming_register_encoders(register: Registrar) -> None:
    """Add encoders. An encoder turns media of one modality into embeddings of the backbone.

    The name is the `model_type` of a section of config.json. If the `model_type` has a colon, only
    the part before it is the name: `timm` gets `timm:resnet18` and reads the rest itself.
    `spellings` are further values of `model_type` for this encoder.
    """


@hookspec
def ming_register_heads(register: Registrar) -> None:
    """Add heads. A head turns hidden states into speech, pixels or other media."""


@hookspec
def ming_register_options(register: Registrar) -> None:
    """Add options of media: dataclasses that say how a medium is read (`ming_core.media.options`).

    Users make one and give it to a medium. The fields that were made by `option` are also options
    of `ming ask`. The module of the class must import nothing heavy.
    """


@hookspec
def ming_register_tasks(register: Registrar) -> None:
    """Add tasks. A task has one name in Python and on the command line."""


@hookspec
def ming_register_presets(register: Registrar) -> None:
    """Add presets, or add a part to a preset of several packages."""


@hookspec
def ming_register_releases(register: Registrar) -> None:
    """Add releases. The target is a `ming_core.release.Release`, the one object that knows a family
    of checkpoints: how it is recognised and read, its chat format, its wording and its parts.
    """


@hookspec
def ming_register_recipes(register: Registrar) -> None:
    """Add training recipes."""


@hookspec
def ming_register_benchmarks(register: Registrar) -> None:
    """Add benchmarks for `ming eval`: classes or functions that make a
    `ming_core.evaluation.Benchmark`.

    Their keyword-only parameters are options of the benchmark, which the user writes as
    `key=value`. If it needs data, register it with `data="what --data must be"`.
    """


@hookspec
def ming_register_chat_commands(register: Registrar) -> None:
    """Add commands to `ming chat`: functions `(model, argument, messages)`, typed as `/name`.

    argument: the text after the name. messages: the conversation so far, which must not be changed.
    The function returns a text, which is printed, a medium, which becomes part of the next
    question, or None.
    """


@hookspec
def ming_register_commands(app: typer.Typer) -> None:
    """Add commands to `ming`. Import heavy modules in the body of the command, not in the hook."""


@hookspec
def ming_component_loaded(model: OmniModel, name: str, module: nn.Module) -> None:
    """React to a component that has just been read: quantise it, add adapters, compile or log it.

    name: "backbone", "image", "audio", or a part of a head such as "image_head.vae". module has its
    weights and its place; change it in place. A component that nobody uses is not read, so the hook
    is not called for it.
    """


@hookspec
def ming_doctor() -> list[Finding]:
    """Report to `ming doctor` what works on this machine and what does not."""
    return []
