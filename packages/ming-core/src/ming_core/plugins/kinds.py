"""What plugins register, one dataclass for each kind; its fields are the keywords of `register`."""

from __future__ import annotations

from dataclasses import dataclass
from keyword import iskeyword
from typing import ClassVar

from ming_core.modalities import KINDS
from ming_core.plugins.registry import BadEntry, Claim, Entry, is_place, is_word

MODALITIES = tuple(sorted({kind.modality for kind in KINDS.values()}))
"""What encoders read and heads make."""

TAKEN = ("text", *KINDS)
"""What a task may take."""


@dataclass(frozen=True, kw_only=True)
class PartEntry(Entry):
    """A part of a model that config.json names: its name is the `model_type` of a section.

    section: of config.json. spellings: further values of `model_type` for it.
    """

    section: str
    spellings: tuple[str, ...] = ()

    def check(self) -> None:
        if not is_word(self.section):
            raise self.refuse("section", "the name of a section of config.json")
        if ":" in self.name:
            raise BadEntry(
                f"{self.word} {self.name!r}: its name must have no colon; it gets every model_type "
                "whose part before the colon is its name"
            )

    def reads(self, model_type: str) -> bool:
        """Whether it is meant by a `model_type`; what follows a colon is its own business."""
        return model_type.partition(":")[0] in (self.name, *self.spellings)

    @property
    def claims(self) -> tuple[Claim, ...]:
        kinds = {(self.section, kind) for kind in (self.name, *self.spellings)}
        return *super().claims, *sorted(kinds)

    def called(self, claim: Claim) -> str:
        if claim in super().claims:
            return super().called(claim)
        return f"the model_type {claim[1]!r} of {claim[0]}"


@dataclass(frozen=True, kw_only=True)
class EncoderEntry(PartEntry):
    """An encoder. modality: what it reads, "image" or "audio"."""

    modality: str

    word: ClassVar[str] = "encoder"

    def check(self) -> None:
        super().check()
        if self.modality not in MODALITIES:
            raise self.refuse("modality", " or ".join(map(repr, MODALITIES)))


@dataclass(frozen=True, kw_only=True)
class HeadEntry(PartEntry):
    """A head. gives: what it makes, "image" or "audio"."""

    gives: str

    word: ClassVar[str] = "head"

    def check(self) -> None:
        super().check()
        if self.gives not in MODALITIES:
            raise self.refuse("gives", " or ".join(map(repr, MODALITIES)))


@dataclass(frozen=True, kw_only=True)
class OptionsEntry(Entry):
    """A class of options, which say how a medium is read."""

    word: ClassVar[str] = "class of options"


@dataclass(frozen=True, kw_only=True)
class TaskEntry(Entry):
    """A task, which is a method of a model and a command.

    takes: kinds of media of which one is enough; "text" means that it needs none. gives: what comes
    out; a head must make "image" and "audio".
    """

    takes: tuple[str, ...] = TAKEN
    gives: str = "text"

    word: ClassVar[str] = "task"

    def check(self) -> None:
        if not self.name.isidentifier() or self.name.startswith("_") or iskeyword(self.name):
            raise BadEntry(f"task {self.name!r}: its name must be that of a method in Python")
        if not self.takes or not set(self.takes) <= set(TAKEN):
            raise self.refuse("takes", f"one or several of {', '.join(TAKEN)}")
        if not is_word(self.gives):
            raise self.refuse("gives", "one word, as text or image")


@dataclass(frozen=True, kw_only=True)
class PresetEntry(Entry):
    """A part of a preset. target: `package:folder` or `hub:owner/name`."""

    part: str

    word: ClassVar[str] = "preset"

    def check(self) -> None:
        if not is_word(self.part):
            raise self.refuse("part", "one word")
        if "/" in self.name or "\\" in self.name:
            raise BadEntry(f"preset {self.name!r}: its name must be no path")

    @property
    def claims(self) -> tuple[Claim, ...]:
        return ((self.name, self.part),)

    def called(self, claim: Claim) -> str:
        return f"part {self.part!r} of preset {self.name!r}"


@dataclass(frozen=True, kw_only=True)
class ReleaseEntry(Entry):
    """A release. target: a `ming_core.release.Release`."""

    word: ClassVar[str] = "release"


@dataclass(frozen=True, kw_only=True)
class RecipeEntry(Entry):
    """A training recipe. settings: `package:file.yaml`."""

    settings: str

    word: ClassVar[str] = "recipe"

    def check(self) -> None:
        if not is_place(self.settings):
            raise self.refuse("settings", "'package:file.yaml'")


@dataclass(frozen=True, kw_only=True)
class BenchmarkEntry(Entry):
    """A benchmark. data: what `--data` must be; None if it brings its own.

    probe_data: `package:folder` with a small set that ships with the package. probe_limit: highest
    number of samples. `ming compare` asks the benchmarks that have one of them, with the options
    `probe_options`, each as `key=value`.
    """

    data: str | None = None
    probe_data: str | None = None
    probe_limit: int | None = None
    probe_options: tuple[str, ...] = ()

    word: ClassVar[str] = "benchmark"

    def check(self) -> None:
        if self.probe_data is not None and not is_place(self.probe_data):
            raise self.refuse("probe_data", "'package:folder'")
        if self.probe_limit is not None and self.probe_limit < 1:
            raise self.refuse("probe_limit", "at least 1")
        if not all(word.partition("=")[1] for word in self.probe_options):
            raise self.refuse("probe_options", "a list of 'key=value'")
        if self.data is None and self.probe_data is not None:
            raise self.refuse("probe_data", "left out where the benchmark brings its own data")


@dataclass(frozen=True, kw_only=True)
class ChatCommandEntry(Entry):
    """A command of `ming chat`."""

    word: ClassVar[str] = "chat command"
