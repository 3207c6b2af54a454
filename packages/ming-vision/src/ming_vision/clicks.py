"""Actions that a model writes for a screenshot, such as `click(x=0.384,y=0.082)`.

`click` with fractions of width and height is the only published action. A small scanner reads any
other `name(key=value, …)` in the same way. It executes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from ming_core.output import write_file
from ming_core.text import json_text
from ming_vision.drawing import draw_point, save_picture
from ming_vision.image import full_size
from ming_vision.square import WHOLE, Place

UNPARSED = "unparsed"
Value = str | float | bool

_CALL = re.compile(r"\b([A-Za-z_]\w*)\(")
_ARGUMENT = re.compile(
    r"\s*(?P<key>[A-Za-z_]\w*)\s*=\s*"
    r"(?:\"(?P<double>(?:[^\"\\]|\\.)*)\"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<bare>[^\s,()\"']+))\s*",
    re.DOTALL,
)
_NUMBER = re.compile(r"[+-]?(\d{1,15}(\.\d{0,15})?|\.\d{1,15})")
_END = re.compile(r"\s*\)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t"}


@dataclass(frozen=True)
class Action:
    """The result of `click`: an action on a screen.

    Attributes:
        kind: Name of the action; `unparsed` if the answer has no usable action.
        x: Column of the place in px of the screenshot; None for an action without a place.
        y: Row of the place in px.
        arguments: All arguments as the model wrote them.
        call: The action as the model wrote it.
        thought: The text before the action.
        text: The whole answer.
        image: The screenshot.
        confidence: As in `Answer`.
        sure: As in `Answer`.
    """

    kind: str
    x: int | None
    y: int | None
    arguments: dict[str, Value]
    call: str
    thought: str
    text: str
    image: Image.Image = field(repr=False, compare=False)
    confidence: float = field(default=1.0, compare=False)
    sure: bool | None = field(default=None, compare=False)

    @property
    def parsed(self) -> bool:
        """Whether the answer has a usable action."""
        return self.kind != UNPARSED

    def __str__(self) -> str:
        """The action as written; the whole answer if there is none."""
        return self.call or self.text

    def draw(self) -> Image.Image:
        """A copy of the screenshot with a mark at the place of the action."""
        if self.x is None or self.y is None:
            return self.image.copy()
        scale = self.image.width / full_size(self.image)[0]
        return draw_point(self.image, self.x * scale, self.y * scale)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {
            "kind": self.kind,
            "x": self.x,
            "y": self.y,
            "arguments": dict(self.arguments),
            "call": self.call,
            "thought": self.thought,
            "image_size": list(full_size(self.image)),
            "text": self.text,
            "confidence": round(self.confidence, 4),
            "sure": self.sure,
        }

    def save(self, path: str | Path) -> Path:
        """The marked screenshot, or the values for a path in .json; complete or not at all."""
        if Path(path).suffix.lower() == ".json":
            return write_file(path, json_text(self.to_dict()) + "\n")
        return save_picture(self.draw(), path)


def parse_action(text: str, image: Image.Image, place: Place = WHOLE) -> Action:
    """The last well-formed action in an answer about a screenshot.

    place: where the screenshot lies on the canvas that the answer is about. The place of a click
    must be a fraction from 0 to 1 in both directions. Without such a place the result is
    `unparsed`.
    """
    calls = [call for match in _CALL.finditer(text) if (call := _read_call(text, match))]
    if calls:
        kind, (start, end), arguments = calls[-1]
        x, y = _pixel(arguments.get("x"), arguments.get("y"), full_size(image), place)
        nowhere = kind != "click" and not {"x", "y"} & arguments.keys()
        if nowhere or (x is not None and y is not None):
            return Action(kind, x, y, arguments, text[start:end], text[:start].strip(), text, image)
    return Action(UNPARSED, None, None, {}, "", "", text, image)


def write_click(
    x: float, y: float, size: tuple[int, int], scale: int = 1000, place: Place = WHOLE
) -> str:
    """A click on a pixel of a screenshot of `size` as a model writes it, see `parse_action`.

    scale: that of the model's boxes; fractions have as many digits as its numbers.
    """
    across, down = place.to_canvas((x + 0.5) / size[0], (y + 0.5) / size[1])
    digits = len(str(scale - 1))
    return f"click(x={across:.{digits}f},y={down:.{digits}f})"


def written_history(history: Sequence[Action | str]) -> str:
    """Earlier actions for a prompt, numbered, one a line."""
    return "\n".join(f"{number}. {action}" for number, action in enumerate(history, 1))


def _read_call(
    text: str, opening: re.Match[str]
) -> tuple[str, tuple[int, int], dict[str, Value]] | None:
    """Name, place in the text and arguments of one call; None if it is not well-formed."""
    arguments: dict[str, Value] = {}
    at = opening.end()
    if empty := _END.match(text, at):
        return opening[1], (opening.start(), empty.end()), arguments
    while match := _ARGUMENT.match(text, at):
        if match["bare"] is not None:
            arguments[match["key"]] = _value(match["bare"])
        else:
            quoted = match["double"] if match["double"] is not None else match["single"]
            arguments[match["key"]] = _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), quoted)
        at = match.end() + 1
        if text[match.end() : at] == ")":
            return opening[1], (opening.start(), at), arguments
        if text[match.end() : at] != ",":
            return None
    return None


def _value(bare: str) -> Value:
    if bare.lower() in ("true", "false"):
        return bare.lower() == "true"
    return float(bare) if _NUMBER.fullmatch(bare) else bare


def _pixel(
    x: Value | None, y: Value | None, size: tuple[int, int], place: Place
) -> tuple[int, int] | tuple[None, None]:
    """The pixel at fractions of the canvas; none if a fraction is missing or beside the picture."""
    if not isinstance(x, float) or not isinstance(y, float):
        return None, None
    across, down = place.to_picture(x, y)
    if not (0 <= across <= 1 and 0 <= down <= 1):
        return None, None
    return min(int(across * size[0]), size[0] - 1), min(int(down * size[1]), size[1] - 1)
