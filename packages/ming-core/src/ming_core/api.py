"""What most people use: `load` a model, `ask` it, `chat` with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import nn

from ming_core.chat.dialects import as_messages
from ming_core.chat.formats import ChatFormat
from ming_core.chat.tokenizer import Tokenizer
from ming_core.checkpoints.components import Loaded, Prepared
from ming_core.checkpoints.knowledge import Knowledge, read_familiar
from ming_core.engine.answers import Answer
from ming_core.engine.engine import Engine
from ming_core.engine.request import Request, sampling_of
from ming_core.engine.session import Memory, Session
from ming_core.errors import NotFinite
from ming_core.loading import HEAD, TEXT, Sources, open_sources
from ming_core.media import Audio, Message
from ming_core.model.config import BackboneConfig
from ming_core.model.encoder import Encoder
from ming_core.model.omni import Omni
from ming_core.model.positions import PositionRule
from ming_core.notes import note_to_user
from ming_core.plugins import get_plugins
from ming_core.plugins.directory import missing_task
from ming_core.presets import BACKBONE
from ming_core.release import Release
from ming_core.tasks import Outcome, Progress, method_of
from ming_core.tasks.ask import Ask
from ming_core.tasks.available import NoTask, Tasks, tasks_of, why_not
from ming_core.tasks.many import many
from ming_core.tasks.running import BATCH

if TYPE_CHECKING:
    from typing import Unpack

    from ming_core.engine.sampling import SamplingOptions
    from ming_core.heads import Painter, Speaker
    from ming_core.inventory import Found


def load(
    model: str | Path = "nano",
    device: str | torch.device | Mapping[str, str | torch.device] = "auto",
    dtype: str | torch.dtype | Mapping[str, str | torch.dtype] = "auto",
    parts: str | Sequence[str] | None = None,
) -> OmniModel:
    """Load a preset by name, or a checkpoint folder in the released layout.

    Args:
        model: Name of a preset or path of a folder. If a folder has the name of a preset, write
            `./name`.
        device: Name of a device, or "auto": the GPU if there is one. A mapping gives some parts
            devices of their own, as `{"image": "cpu"}`.
        dtype: Name of a dtype, or "auto": on a GPU the dtype of the checkpoint; on a CPU float32
            for small models and bfloat16 for large ones. A mapping gives some parts dtypes of their
            own.
        parts: What to load now, one or several of "text" (the language model), "image", "audio"
            and the heads of installed packages. Nothing else is read, and all other parts are
            refused. None reads each part when it is first needed.

    Raises UnknownName, BadCheckpoint, BadConfig or MissingPlugin.
    """
    sources = open_sources(model, device, dtype, parts)
    loaded = OmniModel(str(model), Omni().eval(), sources)
    if sources.parts is None:
        loaded.check(BACKBONE)
    if sources.parts is None or TEXT in sources.parts:
        _say_what_it_knows(loaded)
    for part in sources.parts or ():
        for component in sources.components(part):
            loaded.component(component)
    return loaded


@cache
def _say_once(sentence: str) -> None:
    note_to_user(sentence)


def _say_what_it_knows(model: OmniModel) -> None:
    """One line for each kind of small model in a process."""
    if model.knowledge is not None:
        _say_once(f"{model.short_name} knows only {model.knowledge.summary}")


class OmniModel:
    """A loaded model, made by `load`. The tasks of installed packages are its methods:
    `model.describe`, `model.transcribe`, …
    """

    def __init__(self, name: str, omni: Omni, sources: Sources) -> None:
        self.name = name
        self.sources = sources
        self.loaded: dict[str, Loaded] = {}
        """The components that were read, by name."""
        self.engine = Engine(self)
        self._omni = omni
        self._checked: dict[str, Prepared] = {}
        self._heads: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A copy has requests and conversations of its own, and checks again what was not read.
        own = ("engine", "_memory", "_checked")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self.engine = Engine(self)
        self._checked = {}

    @cached_property
    def _memory(self) -> Memory:
        """Of the session in which `chat` answers."""
        return Session(self).memory

    @property
    def release(self) -> Release:
        """The family of checkpoints that it belongs to."""
        return self.sources.release

    @property
    def omni(self) -> Omni:
        """The language model with its encoders.

        Reads the language model, unless the model was loaded without it.
        """
        if self.sources.parts is None or TEXT in self.sources.parts:
            self.component(BACKBONE)
        return self._omni

    @property
    def config(self) -> BackboneConfig:
        """The configuration of the language model; its weights are not needed."""
        backbone = self._omni.backbone
        return self.sources.backbone_config if backbone is None else backbone.config

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises BadCheckpoint if the model has none."""
        return self.sources.tokenizer

    @cached_property
    def format(self) -> ChatFormat:
        """How conversations are written."""
        return self.release.chat(self.config)

    @cached_property
    def rule(self) -> PositionRule:
        """The rule for position ids of the model's release."""
        return self.release.positions(self.config)

    @cached_property
    def knowledge(self) -> Knowledge | None:
        """What a small model knows; None for a model that does not say it."""
        told = Knowledge.from_config(self.sources.config)
        return told and replace(told, familiar=read_familiar(self.sources.checkpoints))

    def wording(self, section: str) -> tuple[Mapping[str, Any], ...]:
        """The sentences that the model was trained with, for a section of config.json such as
        `audio_tasks`: those of its release, then those of its config.json, which override them.
        Raises BadConfig.
        """
        return self.release.worded(section, self.sources.config)

    @property
    def short_name(self) -> str:
        """The name without the folders in front of it."""
        return Path(self.name).name

    @property
    def tasks(self) -> Tasks:
        """The tasks that this model can do with the installed packages: a summary by name.

        Its attribute `missing` says what the other tasks need.
        """
        return tasks_of(self)

    def component(self, name: str) -> nn.Module:
        """A component with its weights. They are read at the first call.

        name: "backbone", "image", "audio", or a part of a head such as "image_head.vae". When it
        has arrived, the hook `ming_component_loaded` is called.
        Raises MissingPlugin, UnknownName, BadCheckpoint or BadConfig.
        """
        name = BACKBONE if name == TEXT else name
        with self.engine.lock:
            module = self.present(name)
            if module is None:
                self.loaded[name] = self.sources.load(name, self._checked.pop(name, None))
                module = self.loaded[name].module
                if name == BACKBONE:
                    self._omni.register_module(name, module)
                elif "." not in name:
                    self._omni.encoders[name] = module
                arrived = {"model": self, "name": name, "module": module}
                list(get_plugins().each("ming_component_loaded", **arrived))
        return module

    def check(self, name: str) -> None:
        """Compare a component with the headers of its files. No weights are read.

        Raises as `component` does, but for values that are not finite.
        """
        with self.engine.lock:
            if self.present(name) is None and name not in self._checked:
                self._checked[name] = self.sources.prepare(name)

    def components(self) -> list[Found]:
        """What the folders of the model hold, and which installed package reads it."""
        from ming_core.inventory import inventory

        return inventory(replace(self.sources, parts=None))

    def encoder(self, modality: str) -> Encoder:
        """The encoder of "image" or "audio", loaded when it is first needed.

        Raises MissingPlugin with the package to install, or BadCheckpoint.
        """
        return self.component(modality)  # type: ignore[return-value]

    @overload
    def head(self, gives: Literal["image"]) -> Painter: ...
    @overload
    def head(self, gives: Literal["audio"]) -> Speaker[Any]: ...
    def head(self, gives: str) -> Any:
        """The head that makes "image" or "audio", loaded when it is first needed.

        A head that reads nothing of the backbone does not load it.
        Raises MissingPlugin with the package to install, BadCheckpoint or BadConfig.
        """
        with self.engine.lock:
            if gives not in self._heads:
                names = self.sources.components(gives + HEAD)
                parts = {name.partition(".")[2]: self.component(name) for name in names}
                self._heads[gives] = self.sources.head(gives, parts).eval()
        return self._heads[gives]

    def save(self, folder: str | Path) -> Path:
        """Write the whole model with all of its parts into a new folder, which `load` can read.

        Raises BadCheckpoint if the folder is not empty or cannot be written. Then nothing is left.
        """
        from ming_core.checkpoints.saving import save_model

        return save_model(self._written(), self.sources, folder)

    def present(self, name: str) -> nn.Module | None:
        """A component that was read, or that the model was made with."""
        if name == BACKBONE:
            return self._omni.backbone
        if name in self._omni.encoders:
            return self._omni.encoders[name]
        return self.loaded[name].module if name in self.loaded else None

    def _written(self) -> dict[str, Loaded]:
        """What `save` writes: the modules that are in their places now."""
        found = dict(self.loaded)
        for name in (BACKBONE, *self._omni.encoders):
            module = self.present(name)
            if module is not None and (name not in found or found[name].module is not module):
                found[name] = self.sources.made(name, module)
        return found

    def session(self) -> Session:
        """A new conversation, which keeps what the model has computed for it."""
        return Session(self)

    @overload
    def ask(
        self,
        question: str | Audio,
        *media: Any,
        stream: Literal[False] = False,
        think: bool = False,
        instructions: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer: ...
    @overload
    def ask(
        self,
        question: str | Audio,
        *media: Any,
        stream: Literal[True],
        think: bool = False,
        instructions: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Iterator[str]: ...
    def ask(
        self,
        question: str | Audio,
        *media: Any,
        stream: bool = False,
        think: bool = False,
        instructions: str | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer | Iterator[str]:
        """Answer one written or spoken question about media and text.

        Args:
            question: Text, or an `Audio` with a spoken question.
            media: Pictures, sounds, videos and texts, which stand before the question in the given
                order. Everything that `as_medium` takes is allowed. A string is a path if such a
                file exists or if it looks like one; any other string is text.
            stream: Return the pieces of text while the model writes them.
            think: Let the model reason first, in up to 8192 tokens.
            instructions: Text that replaces the system text.
            sampling: Fields of `Sampling`.

        Raises BadConfig, BadMedia, MissingPlugin or NotFinite.
        """
        task = Ask.of(question, *media, think=think, instructions=instructions, **sampling)
        (request,) = task.requests(self)
        return self.engine.stream(request) if stream else self.engine.answer(request)

    @overload
    def chat(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        stream: Literal[False] = False,
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer: ...
    @overload
    def chat(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        stream: Literal[True],
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> Iterator[str]: ...
    def chat(
        self,
        messages: Sequence[Message | Mapping[str, Any]],
        *,
        stream: bool = False,
        think: bool = False,
        **sampling: Unpack[SamplingOptions],
    ) -> Answer | Iterator[str]:
        """Answer the last turn of a conversation, in a session that the model has of its own.

        The start that this conversation shares with the one before (same text, same media objects,
        or a video that has grown) is not computed again, so a follow-up question costs only its own
        tokens. Conversations that take turns need a `session` each to have the same.

        Args:
            messages: Messages, or mappings as other tools write them.
            stream: Return the pieces of text while the model writes them.
            think: Let the model reason first, in up to 8192 tokens.
            sampling: Fields of `Sampling`.

        Raises BadConfig, BadMedia, MissingPlugin or NotFinite.
        """
        session = Session(self, self._memory)
        if stream:
            return session.chat(messages, stream=True, think=think, **sampling)
        return session.chat(messages, think=think, **sampling)

    def room(self, messages: Sequence[Message | Mapping[str, Any]], think: bool = False) -> int:
        """Number of tokens that are left for an answer in the context; below 1 if there is no room.

        `ming_core.chat.with_room` removes old turns until there is room. Raises BadMedia.
        """
        return Session(self, self._memory).room(messages, think)

    def answer_batch(
        self,
        conversations: Sequence[Sequence[Message | Mapping[str, Any]]],
        think: bool = False,
        begin: str = "",
        **sampling: Unpack[SamplingOptions],
    ) -> list[Answer]:
        """Answer several conversations together, with any mix of media.

        Args:
            conversations: One list of messages for each answer.
            think: Let the model reason first, in up to 8192 tokens.
            begin: Text with which every answer begins. The answers do not repeat it.
            sampling: Fields of `Sampling`.

        If the values of a row are not finite, its answer has an `error`, and the other answers are
        right. Raises NotFinite if no row has an answer; also BadConfig, BadMedia or MissingPlugin.
        """
        settings = sampling_of(think, sampling)
        requests = [Request(as_messages(talk), think, begin, settings) for talk in conversations]
        answers = list(self.engine.run(requests))
        errors = [answer.error for answer in answers if answer.error]
        if errors and len(errors) == len(answers):
            raise NotFinite(errors[0])
        for error in errors:
            note_to_user(error)
        return answers

    def many(
        self,
        task: str,
        items: Iterable[Any],
        *,
        batch: int = BATCH,
        progress: Progress | None = None,
        **options: Any,
    ) -> Iterator[Outcome]:
        """Do a task for many items. Their requests share batches.

        Args:
            task: Name of the task, such as "ground".
            items: What each call is about: its first argument, a tuple of its arguments, or a
                mapping of arguments by name. A pair (array, samples per second) is a sound. Items
                are taken when it is their turn.
            batch: How many requests are answered together.
            progress: Function of the items that are done, and of how many there are if that is
                known.
            options: Arguments that are the same for all items.

        Gives an `Outcome` for each item, in their order and as soon as it is there: its `result`,
        or the `error` of this item alone. Raises UnknownName for a task or an option, BadConfig for
        a task that cannot be done so, and BadCheckpoint or MissingPlugin.
        """
        return many(self, task, items, batch, progress, options)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            found = get_plugins().tasks.find(name)
            reason = why_not(self, found[0]) if found else None
            if found and reason is None:
                # A method, so that `help` and `inspect` show the task's own text and signature.
                return MethodType(method_of(found[0].load()), self)
            hint = reason or missing_task(name)
            if hint is not None:
                raise NoTask(str(hint))
        raise AttributeError(f"{type(self).__name__} has no attribute or task {name!r}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.tasks]
