"""A request: a conversation and the rules of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ming_core.chat.thinking import THINKING_TOKENS
from ming_core.engine.sampling import Sampling, SamplingOptions
from ming_core.errors import BadConfig, UnknownName
from ming_core.media import Message

if TYPE_CHECKING:
    from ming_core.model.queries import Queries
    from ming_core.model.transformer import Layer


@dataclass(frozen=True)
class Request:
    """One answer that is wanted.

    Attributes:
        messages: The conversation. The last message is the user's.
        think: Let the model reason before it answers.
        begin: Text with which the answer begins. The answer does not repeat it.
        sampling: How tokens are chosen.
        keep: Layers whose hidden states the answer brings, see `Layer`.
        keep_from: First token whose hidden states are kept. A negative number counts from the end
            of the prompt: -1 is the token whose state chose the first token of the answer.
        queries: Tokens that a head adds to the prompt. Its answer has no text: only the prompt is
            computed, and `keep` says what is read of it.
        inputs: What else a head is told, by name.
    """

    messages: Sequence[Message]
    think: bool = False
    begin: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    keep: Sequence[Layer] = ()
    keep_from: int = 0
    queries: Queries | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)


def sampling_of(think: bool, options: SamplingOptions) -> Sampling:
    """Settings of one answer from keyword arguments. With `think` the answer may be longer.

    Raises UnknownName or BadConfig.
    """
    known = [field.name for field in fields(Sampling)]
    for name in options:
        if name not in known:
            raise UnknownName("option of an answer", name, known)
    if think:
        options = {"max_new_tokens": THINKING_TOKENS, **options}
    return Sampling(**options)


def check_batch(batch: int) -> None:
    """Raises BadConfig for a number of requests that cannot be answered together."""
    if not isinstance(batch, Integral):
        raise BadConfig(f"batch is {batch!r}; it must be a whole number")
    if batch < 1:
        raise BadConfig(f"batch is {batch}; it must be at least 1")
