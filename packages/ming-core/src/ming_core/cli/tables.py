"""Tables for terminals: aligned, and no wider than the line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from ming_core.cli.terminal import cells, columns, first_cells, show
from ming_core.text import one_line

NARROWEST = 12
"""Cells of a column that is still read with ease; below, rows become paragraphs."""


_BREAK = re.compile("[ \u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]")


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells in aligned columns, wrapped on a terminal, and whole lines elsewhere.

    $COLUMNS holds wherever it is set.
    """
    rows = [[one_line(cell) for cell in row] for row in rows]
    for line in _lines(rows, _width()):
        show(line)


def print_text(text: str) -> None:
    """Lines of words, wrapped as tables are, with the indent of each kept."""
    width = _width()
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        room = None if width is None else max(width - len(indent), NARROWEST)
        for part in [line[len(indent) :]] if room is None else _wrapped(line[len(indent) :], room):
            show(indent + part)


def _width() -> int | None:
    """Cells of a line; None where nothing is wrapped."""
    wrapped = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return max(columns(), NARROWEST) if wrapped else None


def _lines(rows: Sequence[Sequence[str]], width: int | None) -> Iterator[str]:
    columns = list(zip(*rows, strict=True))
    widths = [max(map(cells, column)) for column in columns]
    least = [max(map(_longest_word, column)) for column in columns]
    while width is not None and sum(widths) + 2 * (len(widths) - 1) > width:
        spare = [i for i in range(len(widths)) if widths[i] > max(least[i], NARROWEST)]
        if not spare:
            yield from _paragraphs(rows, width)
            return
        widths[max(spare, key=lambda i: (widths[i], i))] -= 1
    for row in rows:
        wrapped = [_wrapped(cell, room) for cell, room in zip(row, widths, strict=True)]
        for parts in zip_longest(*wrapped, fillvalue=""):
            padded = (part + " " * (room - cells(part)) for part, room in zip(parts, widths))
            yield "  ".join(padded).rstrip()


def _paragraphs(rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """The first cell of each row on a line of its own, the others indented below it."""
    for first, *others in rows:
        yield from _wrapped(first, width)
        for cell in filter(None, others):
            yield from (f"  {line}" for line in _wrapped(cell, width - 2))


def _longest_word(text: str) -> int:
    """Cells that stay together; lines of Chinese can end anywhere."""
    return max(map(cells, _BREAK.split(text)))


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most so many cells, broken at blanks where there are some."""
    lines = []
    while cells(text) > width:
        line = first_cells(text, width)
        blank = line.rfind(" ") if text[len(line)] != " " else len(line)
        if blank > 0:
            line = line[:blank]
        lines.append(line.rstrip())
        text = text[len(line) :].lstrip()
    return [*lines, text]
