"""Segments as subtitles. A cue has at most two lines, and cues never overlap."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ming_audio.segments import is_wide

if TYPE_CHECKING:
    from ming_audio.transcripts import Segment

LINE = 42
"""Most letters of a line, the usual limit of subtitles."""

WIDE = LINE / 18
"""Letters that a Chinese character takes the place of: 18 of them fill a line."""

SENTENCE, CLAUSE = 0.35, 0.15
"""How far from the middle of a text a cue may rather end, as a share of the text."""

SHORTEST = 1.0
"""Seconds that a cue stays although another channel begins to speak."""

_WORD = re.compile(r"\s*\S+")
_AFTER = "，。！？、；：,.!?;:)]}）】」』》”’…"
"""What stays with the character before it."""


@dataclass(frozen=True)
class Cue:
    """What is shown from one second to another. lines: one or two, none of them empty."""

    start: float
    end: float
    lines: tuple[str, ...]


def cues(segments: Iterable[Segment]) -> Iterator[Cue]:
    """The cues of all segments with words, in order; a long segment gives several of them.

    Their times are shared out by the width of the text.
    """
    found = [cue for segment in segments for cue in _of_segment(segment)]
    found.sort(key=lambda cue: cue.start)
    before: Cue | None = None
    for cue in found:
        if before is not None:
            if cue.start < before.end:
                start = max(cue.start, min(before.end, before.start + SHORTEST))
                before = replace(before, end=start)
                cue = replace(cue, start=start)
            yield before
        before = replace(cue, end=max(cue.end, cue.start + 0.001))
    if before is not None:
        yield before


def _of_segment(segment: Segment) -> Iterator[Cue]:
    text = " ".join(segment.text.split()).replace("-->", "→")
    if not text:
        return
    parts = list(_parts(_tokens(text)))
    widths = [sum(map(_width, lines)) or 1.0 for lines in parts]
    start, done = segment.start, 0.0
    for lines, width in zip(parts, widths, strict=True):
        done += width
        end = segment.start + (segment.end - segment.start) * done / sum(widths)
        if segment.channel is not None:
            lines = (f"[{segment.channel}] {lines[0]}", *lines[1:])
        yield Cue(start, end, lines)
        start = end


def _parts(tokens: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Lines of each cue."""
    widths = [_width(token) for token in tokens]
    total = sum(widths)
    if total <= LINE:
        yield ("".join(tokens).strip(),)
        return
    ends: list[float] = []  # width up to and with each token but the last
    for width in widths[:-1]:
        ends.append((ends[-1] if ends else 0.0) + width)
    middle = min(range(len(ends)), key=lambda i: abs(ends[i] - total / 2)) + 1
    if max(ends[middle - 1], total - ends[middle - 1]) <= LINE:
        yield "".join(tokens[:middle]).strip(), "".join(tokens[middle:]).strip()
        return

    def cost(i: int) -> float:
        end = tokens[i][-1]
        bonus = SENTENCE if end in ".!?。！？…" else CLAUSE if end in ",;:，、；：" else 0.0
        return abs(ends[i] / total - 0.5) - bonus

    cut = min(range(len(ends)), key=cost) + 1
    yield from _parts(tokens[:cut])
    yield from _parts(tokens[cut:])


def _tokens(text: str) -> list[str]:
    """Where a line may break: words with the space before them, and wide characters one by one."""
    tokens: list[str] = []
    for word in _WORD.findall(text):
        token = ""
        for character in word:
            stays = character in _AFTER or unicodedata.combining(character) or not token.strip()
            apart = is_wide(character) or (token and is_wide(token[-1]))
            if token and ((apart and not stays) or _width(token + character) > LINE):
                tokens.append(token)
                token = ""
            token += character
        tokens.append(token)
    return tokens


def _width(text: str) -> float:
    """In letters."""
    return sum(0 if unicodedata.combining(c) else WIDE if is_wide(c) else 1 for c in text)
