"""What a small model was taught: the section `knows` of its config.json.

A model also answers questions about other things, and then the answer is wrong. So an answer is
*sure* only if the question is one of its sentences, if its media look like those of its training,
and if its tokens were probable enough. Without this section an answer is neither sure nor unsure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ming_core.errors import BadCheckpoint, BadConfig
from ming_core.fields import Section
from ming_core.media import Audio, Message

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ming_core.checkpoints.formats import Checkpoint
    from ming_core.model.seen import Seen

SECTION = "knows"
_FAMILIAR = "familiar-"
"""How files in a folder of weights begin that tell what encoded media of a modality look like."""

Words = Mapping[str, tuple[str, ...]]
"""Texts by language."""

_SLOT = re.compile(r"\{(\w+)\}")
_END = " \t\n.?!。？！"


@dataclass(frozen=True)
class Knowledge:
    """What a model knows.

    summary: the end of a sentence "it knows only …". confidence: below this mean probability of
    its tokens an answer is not sure. words: what may stand in a place such as `{color}` of a
    sentence or of another word, by place and language. sentences: what it can be asked, by language
    and topic. limits: sentences about what it cannot do. familiar: by modality.
    """

    summary: str
    confidence: float
    words: Mapping[str, Words]
    sentences: Mapping[str, Words]
    limits: tuple[str, ...] = ()
    familiar: Mapping[str, Familiar] = field(default_factory=dict, repr=False)

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], familiar: Mapping[str, Familiar] | None = None
    ) -> Knowledge | None:
        """The knowledge that a whole config.json tells; None if it tells none. Raises BadConfig."""
        if config.get(SECTION) is None:
            return None
        section = Section(config[SECTION], SECTION)
        limits = section.raw("limits", [])
        if not isinstance(limits, list) or not all(isinstance(text, str) for text in limits):
            raise section.refuse("limits", "a list of sentences")
        known = cls(
            summary=section.text("summary"),
            confidence=section.number("confidence", 0.0, least=0, most=1),
            words=_tables(section, "words"),
            sentences=_tables(section, "sentences"),
            limits=tuple(limits),
            familiar=familiar or {},
        )
        known._patterns  # noqa: B018 - a place without words is an error now, not at a question
        return known

    def page(self) -> str:
        """All of it for a person: words, what can be asked in which words, limits."""
        lines = [f"It knows only {self.summary}.", ""]
        lines += [*self.limits, ""]
        for title, tables in (("words", self.words), ("sentences", self.sentences)):
            lines.append(f"{title}:")
            for name, texts in tables.items():
                lines.append(f"  {name}")
                lines += [
                    f"    {language}: {' | '.join(those)}" for language, those in texts.items()
                ]
            lines.append("")
        return "\n".join(lines[:-1]) + "\n"

    def understands(self, text: str) -> bool:
        """Whether a question is one of the sentences, whatever its case and the mark at its end."""
        wanted = _plain(text)
        # Compiled, and kept by `re`, only as far as needed: all of them take several times as long
        # as to write them.
        return any(re.fullmatch(pattern, wanted) for pattern in self._patterns)

    def is_sure(self, messages: Sequence[Message], seen: Sequence[Seen], confidence: float) -> bool:
        """Whether the last question, its media and the answer's confidence lie within it.

        What is spoken is not read, so that only what was answered tells whether it was understood.
        """
        asked = messages[-1]
        spoken = any(isinstance(part, Audio) for part in asked.parts)
        if confidence < self.confidence or not seen:
            return False
        if not spoken and not self.understands(asked.text):
            return False
        return all(
            item.values is not None and self.familiar[item.features.modality].knows(item.values)
            for item in seen
            if item.features.modality in self.familiar
        )

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        return tuple(
            "|".join(self._pattern(_plain(s), language) for s in sentences)
            for topic in self.sentences.values()
            for language, sentences in topic.items()
            if sentences
        )

    def _pattern(self, sentence: str, language: str, depth: int = 0) -> str:
        parts = _SLOT.split(sentence)
        return "".join(
            self._alternatives(part, language, depth) if number % 2 else re.escape(part)
            for number, part in enumerate(parts)
        )

    def _alternatives(self, slot: str, language: str, depth: int) -> str:
        words = self.words.get(slot, {}).get(language, ())
        if not words or depth > 3:
            raise BadConfig(
                f"{SECTION}.words has nothing for {{{slot}}} in {language!r}, which a sentence "
                "needs; take the files of a model from one release"
            )
        found = (self._pattern(word.casefold(), language, depth + 1) for word in words)
        return f"(?:{'|'.join(found)})"


@dataclass(frozen=True, eq=False)
class Familiar:
    """What media of a model's world look like to its encoder.

    mean [D]: of the mean embeddings of many media. whitening [D, D]: takes what differs from it to
    independent directions of unit variance. limit: squares of those, summed, up to which a medium
    is familiar.
    """

    mean: Tensor
    whitening: Tensor
    limit: float

    def distance(self, values: Tensor) -> float:
        """How far encoded media [tokens, D] are from the mean; up to `limit` they are familiar."""
        differs = values.float().mean(0).cpu() - self.mean
        return float((differs @ self.whitening).square().sum())

    def knows(self, values: Tensor) -> bool:
        return self.distance(values) <= self.limit


def familiar_name(modality: str) -> str:
    """The file in a folder of weights that holds a `Familiar`."""
    return f"{_FAMILIAR}{modality}.safetensors"


def familiar_files(checkpoints: Sequence[Checkpoint]) -> list[Path]:
    """Those of all folders of a model."""
    from ming_core.checkpoints.files import inside

    return [
        inside(checkpoint.folder, path.name)
        for checkpoint in checkpoints
        for path in sorted(checkpoint.folder.glob(familiar_name("*")))
    ]


def read_familiar(checkpoints: Sequence[Checkpoint]) -> dict[str, Familiar]:
    """What the folders of a model tell, by modality. Raises BadCheckpoint."""
    from ming_core.checkpoints.formats import open_weights

    found: dict[str, Familiar] = {}
    for path in familiar_files(checkpoints):
        weights = open_weights(path)
        try:
            mean, whitening, limit = (
                weights.read(name).float() for name in ("mean", "whitening", "limit")
            )
            found[path.stem.removeprefix(_FAMILIAR)] = Familiar(mean, whitening, float(limit))
        except (KeyError, RuntimeError) as error:
            raise BadCheckpoint(
                f"{path} does not hold mean, whitening and limit; copy it again"
            ) from error
    return found


def _tables(section: Section, key: str) -> dict[str, Words]:
    """Texts by name and language."""
    tables = section.section(key, {})
    found: dict[str, Words] = {}
    for name in tables:
        languages = tables.section(name)
        found[name] = {}
        texts: dict[str, tuple[str, ...]] = {}
        for language in languages:
            value = languages.raw(language)
            if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
                raise languages.refuse(language, "a list of texts")
            texts[language] = tuple(value)
        found[name] = texts
    return found


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(_END)
