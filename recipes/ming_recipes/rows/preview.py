"""Rows as the model sees them, in the terminal and as a page."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ming_core.chat.prompt import Chars, MediaTokens, Patches, Special, expand, render_example
from ming_core.cli.terminal import note
from ming_core.errors import CannotWrite, MingError
from ming_core.media import Media, with_sound
from ming_core.model.encoder import item_seconds
from ming_core.output import check_target, write_file
from ming_core.text import printable
from ming_recipes.training.examples import Example, Parts, read_example
from ming_recipes.training.files import Rows, open_rows
from ming_recipes.training.records import BadRow

LONGEST = 2000
"""Characters of a piece of text that are shown."""


@dataclass(frozen=True)
class Piece:
    """A piece of a prompt: a special token, text, or the patches of a medium.

    target: the model learns to write it. medium: the number of the medium, else None.
    """

    kind: Literal["special", "text", "medium"]
    text: str
    target: bool = False
    medium: int | None = None


@dataclass(frozen=True)
class View:
    """A row as the model sees it, or what is wrong with it.

    media: each with the number of its tokens. fault: why the row is left out.
    """

    where: str
    id: str = ""
    tokens: int = 0
    targets: int = 0
    pieces: Sequence[Piece] = ()
    media: Sequence[tuple[Media, int]] = ()
    fault: BadRow | None = None
    notes: Sequence[str] = ()


def draw(rows: Rows, parts: Parts, number: int, seed: int, capacity: int) -> list[View]:
    """Rows that are drawn without putting back, in the order of the file."""
    drawn = np.random.default_rng(seed).permutation(len(rows))[:number]
    return [view(rows, int(place), parts, capacity) for place in sorted(drawn)]


def view(rows: Rows, place: int, parts: Parts, capacity: int) -> View:
    """One row as the model sees it."""
    try:
        example = read_example(rows[place], parts)
    except BadRow as error:
        return View(rows.where(place), fault=error)
    fault = None
    if example.tokens > capacity:
        fault = BadRow(
            "too long",
            example.record.where,
            f"the row has {example.tokens} tokens, and a packed row holds {capacity}; nothing of "
            "it is cut, it is left out",
        )
    sizes = [item.tokens[0] for item in example.features]
    return View(
        example.record.where,
        example.record.id,
        example.tokens,
        example.targets,
        pieces(example, parts),
        list(zip(example.prompt.media, sizes, strict=True)),
        fault,
        example.notes,
    )


def pieces(example: Example, parts: Parts) -> list[Piece]:
    """The prompt of an example in pieces. Neighbouring texts are one, as their tokens are."""
    record, found = example.record, list[Piece]()
    messages = [with_sound(message) for message in record.messages]
    sizes = [MediaTokens(item.tokens[0], item_seconds(item)[0]) for item in example.features]
    for segment in expand(render_example(messages, parts.format, think=record.think), sizes):
        if isinstance(segment, Special):
            found.append(Piece("special", segment.text, segment.target))
        elif isinstance(segment, Patches):
            medium = example.prompt.media[segment.index]
            text = f"{medium.kind}: {segment.count} tokens"
            found.append(Piece("medium", text, medium=segment.index))
        elif isinstance(segment, Chars):
            before = found[-1] if found else None
            if before and (before.kind, before.target) == ("text", segment.target):
                found[-1] = replace(before, text=before.text + segment.text)
            else:
                found.append(Piece("text", segment.text, segment.target))
    return found


def shortened(text: str) -> str:
    """The text without what is longer than a page takes."""
    more = len(text) - LONGEST
    return text if more <= 0 else f"{text[:LONGEST]} … ({more} more characters)"


def show_preview(
    path: str,
    model: str,
    number: int,
    out: Path | None,
    seed: int,
    media: Path | None,
    capacity: int | None,
) -> None:
    """The command. Raises what `load` and `open_rows` raise, and CannotWrite."""
    from ming_core import load

    if out is not None:
        _check_page(out)
    rows = open_rows(path, media=media)
    parts = Parts.of(load(model))
    views = draw(rows, parts, number, seed, capacity or parts.context)
    print_views(views, len(rows), parts.name)
    if out is not None:
        from ming_recipes.rows.page import page

        write_file(out, page(views, len(rows), parts.name, str(path)))
        note(f"wrote {out}", False)
    if all(one.fault for one in views):
        fault = views[0].fault
        raise MingError(f"none of the drawn rows can be trained on; the first: {fault}")


def _check_page(out: Path) -> None:
    """Raises CannotWrite where no page can be written, and for a file that is none: perhaps the
    rows themselves."""
    check_target(out)
    if not out.is_file():
        return
    with out.open("rb") as file:
        start = file.read(15)
    if start and start.lower() != b"<!doctype html>":
        raise CannotWrite(f"{out} holds something else than a page; name another file with -o")


def print_views(views: Iterable[View], count: int, model: str) -> None:
    """Rows in the terminal: targets green, special tokens dim, media blue.

    Where there are no colours, targets stand between « and ».
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)
    plain = not console.is_terminal or bool(os.environ.get("NO_COLOR"))
    legend = Text("what the model learns to write is ")
    legend.append("«marked»" if plain else "green", "bold green")
    console.print(legend)
    for number, one in enumerate(views, 1):
        head = f"{one.where} ({number} drawn of {count}), id {one.id}: " if one.id else one.where
        console.print()
        numbers = f"{one.tokens} tokens of {model}, {one.targets} of them targets"
        console.print(Text(printable(head + numbers if one.id else head), "bold"))
        for place, (medium, tokens) in enumerate(one.media, 1):
            console.print(Text(printable(f"  {place}. {medium}: {tokens} tokens"), "blue"))
        if one.fault is not None:
            console.print(
                Text(printable(f"left out ({one.fault.fault}): {one.fault.reason}"), "red")
            )
        for sentence in one.notes:
            console.print(Text(printable(f"note: {sentence}"), "yellow"))
        text = Text()
        for piece in one.pieces:
            if piece.kind == "medium":
                text.append(f"[{piece.text}]", "blue")
                continue
            shown = printable(shortened(piece.text))
            if piece.target:
                text.append(f"«{shown}»" if plain else shown, "bold green")
            else:
                text.append(shown, "dim" if piece.kind == "special" else "")
        if one.pieces:
            console.print(text)
