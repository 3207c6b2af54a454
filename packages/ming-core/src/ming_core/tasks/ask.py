"""The task `ask`: one question about media and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

from ming_core.engine.answers import checked
from ming_core.engine.request import Request, sampling_of
from ming_core.errors import BadConfig
from ming_core.media import Audio, as_medium, names_medium, system, user
from ming_core.tasks.task import Task
from ming_core.text import is_blank

if TYPE_CHECKING:
    from ming_core.api import OmniModel
    from ming_core.engine.answers import Answer


@dataclass(frozen=True, eq=False)
class Ask(Task):
    """Answer one written or spoken question about media and text.

    Args:
        question: Text, or an `Audio` with a spoken question.
        media: Pictures, sounds, videos and texts, as `OmniModel.ask` takes them.
        think: Let the model reason first, in up to 8192 tokens.
        instructions: Text that replaces the system text.
        sampling: Fields of `Sampling`.

    Raises BadConfig for an empty question.
    """

    question: str | Audio
    media: Sequence[Any] = ()
    _: KW_ONLY
    think: bool = False
    instructions: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.question, str) and is_blank(self.question):
            raise BadConfig("the question is empty; say what you want to know")

    @classmethod
    def of(cls, *arguments: Any, **options: Any) -> Self:
        """A call as `OmniModel.ask` takes it: the question, then media."""
        media = arguments[1:]
        if media:
            options["media"] = (*media, *options.get("media", ()))
        return super().of(*arguments[:1], **options)

    def requests(self, model: OmniModel) -> Sequence[Request]:
        """The question with its media."""
        messages = [user(*map(_shown, self.media), self.question)]
        if self.instructions is not None:
            messages.insert(0, system(self.instructions))
        return [Request(messages, self.think, sampling=sampling_of(self.think, self.sampling))]

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> Answer:
        """The answer. Raises NotFinite."""
        (answer,) = answers
        return checked(model, answer)

    def target(self, model: OmniModel, wanted: str) -> Sequence[str]:
        """The answer as it is wanted."""
        return [wanted]


def _shown(value: Any) -> Any:
    """A medium as people give it: a string that names one is no text."""
    return as_medium(value) if isinstance(value, str) and names_medium(value) else value
