"""The answer of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ming_core.chat.thinking import Reasoned, parse_thinking
from ming_core.errors import NotFinite
from ming_core.notes import note_to_user
from ming_core.output import write_file
from ming_core.text import json_text

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.heads.states import States


@dataclass(frozen=True)
class Answer:
    """The answer of a model. `str(answer)` is the answer without the reasoning.

    Attributes:
        text: The whole text, with reasoning and tags. A text that repeats itself is there once.
        tokens: Number of generated tokens.
        stopped: False if the answer was cut off, by the token budget or because it was `repeated`.
        confidence: Mean probability of the tokens, 0 to 1.
        repeated: True if the model repeated the same tokens without end.
        sure: Whether the model knows such questions and media and the confidence is high enough.
            None for a model that does not say what it knows.
        error: Why there is no answer. Only in a batch whose other rows have answers.
        states: Hidden states of the layers that the request kept: of the prompt, then of all
            generated tokens but the last. The state of a token chose the token after it.
    """

    text: str
    tokens: int
    stopped: bool
    confidence: float = field(default=1.0, compare=False)
    repeated: bool = False
    sure: bool | None = field(default=None, compare=False)
    error: str | None = None
    states: States | None = field(default=None, compare=False, repr=False)

    @cached_property
    def _parts(self) -> Reasoned:
        return parse_thinking(self.text)

    @property
    def thinking(self) -> str | None:
        """The reasoning; None if there is none."""
        return self._parts.thinking

    @property
    def answer(self) -> str:
        """The text without reasoning and tags; empty if the reasoning used all tokens."""
        return self._parts.answer

    @property
    def boxed(self) -> str | None:
        """The content of the last `\\boxed{…}` of the answer; None if there is none."""
        return self._parts.boxed

    def __str__(self) -> str:
        return self.answer

    def to_dict(self) -> dict[str, Any]:
        """All fields as values for JSON."""
        parts = {"answer": self.answer, "thinking": self.thinking, "boxed": self.boxed}
        values = {
            "text": self.text,
            **parts,
            "tokens": self.tokens,
            "stopped": self.stopped,
            "repeated": self.repeated,
            "confidence": round(self.confidence, 4),
            "sure": self.sure,
        }
        return values if self.error is None else {**values, "error": self.error}

    def save(self, path: str | Path) -> Path:
        """Write the answer as UTF-8 text, or all fields if the path ends in .json.

        The file is written completely or not at all. Raises CannotWrite.
        """
        if Path(path).suffix.lower() == ".json":
            return write_file(path, json_text(self.to_dict()) + "\n")
        return write_file(path, self.answer + "\n")


LOOPED = (
    "the answer was cut off because it said the same thing over and over; max_loop=0 lets it go on"
)


def checked(model: OmniModel, answer: Answer) -> Answer:
    """The answer, with notes to the user about a loop and about what the model does not know.

    Raises NotFinite if there is none.
    """
    if answer.error is not None:
        raise NotFinite(answer.error)
    if answer.repeated:
        note_to_user(LOOPED)
    if answer.sure is False and model.knowledge is not None:
        note_to_user(f"{model.short_name} is not sure: it knows only {model.knowledge.summary}")
    return answer
