"""Separate the reasoning of an answer from the answer itself.

A model that thinks writes its reasoning between tags, and then the answer. The releases have
different tags: Lite 1.0 writes `<think>…</think><answer>\\boxed{C}</answer>`, Lite 1.5
`<thinking>…`, Flash `<think>…</think>` and then plain text. If the tokens run out, the closing tags
are missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

THINKING_TOKENS = 8192
"""Longest answer with its reasoning unless asked otherwise, as in the examples of Flash."""

_OPEN_ANYWHERE = re.compile(r"<think(?:ing)?>")
_OPEN = re.compile(rf"\s*{_OPEN_ANYWHERE.pattern}")
_CLOSE = re.compile(r"</think(?:ing)?>")
_ANSWER = re.compile(r"<answer>")
_ANSWER_END = re.compile(r"</answer>")
_TAG = re.compile(r"<(?P<opens>think(?:ing)?)>|</?(?:think(?:ing)?|answer)>")
_PERHAPS_TAG = re.compile(r"<[/a-z]{0,9}$")
_BRACES = re.compile(r"(?P<box>\\boxed\s*\{)|\\.|[{}]", re.DOTALL)


@dataclass(frozen=True)
class Reasoned:
    """The parts of an answer. thinking, boxed: None where the model wrote none.

    answer: what is left without reasoning and tags; empty if the budget ran out while thinking.
    boxed: content of the last `\\boxed{…}` of the answer.
    """

    thinking: str | None
    answer: str
    boxed: str | None


def parse_thinking(text: str) -> Reasoned:
    """Split the whole text of an answer; text without tags is the answer itself.

    Tags count only where a model that thinks puts them: the reasoning opens the text (or its
    opening tag was lost), the answer follows. A plain answer *about* such tags stays whole. Of
    several `<answer>` blocks the last one counts.
    """
    thinking, rest = _split(text)
    if thinking is not None or rest.lstrip().startswith("<answer>"):
        rest = _ANSWER_END.split(_ANSWER.split(rest)[-1])[0]
    answer = rest.strip()
    return Reasoned(thinking, answer, last_boxed(answer))


def last_boxed(text: str) -> str | None:
    """Content of the last complete `\\boxed{…}`; braces inside may nest, `\\{` is a character."""
    found = None
    starts: list[int | None] = []  # of the open braces: where the content of a box begins
    for match in _BRACES.finditer(text):
        if match[0] == "}":
            start = starts.pop() if starts else None
            if start is not None:
                found = text[start : match.start()].strip()
        elif match[0] == "{":
            starts.append(None)
        elif match["box"]:
            starts.append(match.end())
    return found


def split_stream(pieces: Iterable[str]) -> Iterator[tuple[bool, str]]:
    """Split an answer while it is written. Yields (whether it is reasoning, text), without tags.

    Text that may be the beginning of a tag is held back until it is known.
    """
    thinking, held = False, ""
    for piece in pieces:
        held += piece
        while match := _TAG.search(held):
            if held[: match.start()]:
                yield thinking, held[: match.start()]
            thinking, held = match["opens"] is not None, held[match.end() :]
        perhaps = _PERHAPS_TAG.search(held)
        ready = perhaps.start() if perhaps else len(held)
        if ready:
            yield thinking, held[:ready]
        held = held[ready:]
    if held:
        yield thinking, held


def _split(text: str) -> tuple[str | None, str]:
    """Reasoning and the rest; the reasoning ends at its closing tag, or else at `<answer>`."""
    opening, closing = _OPEN.match(text), _CLOSE.search(text)
    if opening is None and (closing is None or _OPEN_ANYWHERE.search(text, 0, closing.start())):
        return None, text
    start = opening.end() if opening else 0
    if closing is not None:
        return text[start : closing.start()].strip(), text[closing.end() :]
    answer = _ANSWER.search(text, start)
    end = answer.start() if answer else len(text)
    return text[start:end].strip(), text[end:]
