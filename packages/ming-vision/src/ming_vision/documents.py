"""Text or markdown that was read from a picture, and the tables in it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ming_core.errors import BadMedia
from ming_core.output import write_file
from ming_core.text import json_text

DocumentFormat = Literal["text", "markdown", "table"]

_RULE = re.compile(r"\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?")
_FENCE = re.compile(r"\A\s*```(markdown|md)?[ \t]*\n(.*?)\n?(?:```\s*)?\Z", re.DOTALL)
_BAR = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Table:
    """Rows of cells, the heading row first; all rows are equally long."""

    rows: tuple[tuple[str, ...], ...]

    def to_csv(self) -> str:
        """RFC 4180: commas, quotes where needed, lines ending in CR LF."""
        page = io.StringIO(newline="")
        csv.writer(page).writerows(self.rows)
        return page.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write as .csv."""
        return write_file(path, self.to_csv())


@dataclass(frozen=True)
class Document:
    """The result of `read`.

    Attributes:
        text: The text or the markdown.
        format: The format that was asked for.
        complete: False if the token budget ended before the text.
        repeated: As in `Answer`.
        confidence: As in `Answer`; that of the worst page.
        sure: As in `Answer`.
    """

    text: str
    format: DocumentFormat
    complete: bool
    repeated: bool = False
    confidence: float = field(default=1.0, compare=False)
    sure: bool | None = field(default=None, compare=False)

    @property
    def tables(self) -> tuple[Table, ...]:
        """The markdown tables in the text."""
        return tuple(parse_tables(self.text))

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        tables = [[list(row) for row in table.rows] for table in self.tables]
        return {
            "text": self.text,
            "tables": tables,
            "complete": self.complete,
            "repeated": self.repeated,
            "confidence": round(self.confidence, 4),
            "sure": self.sure,
        }

    def save(self, path: str | Path) -> Path:
        """Write the text; the tables if the path ends in .csv; or all values if it ends in .json.

        The file is written completely or not at all. Raises BadMedia for .csv if there is no table.
        """
        suffix = Path(path).suffix.lower()
        if suffix == ".json":
            return write_file(path, json_text(self.to_dict()) + "\n")
        if suffix != ".csv":
            return write_file(path, self.text + "\n")
        if not self.tables:
            raise BadMedia(
                f"no table was read, so {str(path)!r} is not written; save as .md instead"
            )
        return write_file(path, "\r\n".join(table.to_csv() for table in self.tables))


def unfenced(text: str) -> str:
    """Markdown without the code fence that models like to put around a whole page."""
    match = _FENCE.match(text)
    whole = match and (match[1] or "```" not in match[2])
    return match[2] if match and whole else text


def parse_tables(markdown: str) -> Iterator[Table]:
    """The tables in a markdown text. A table is a row of headings, a line of hyphens, and rows.

    It ends at the first line without a bar. Short rows get empty cells; long rows keep all cells.
    """
    lines = [line.strip() for line in markdown.splitlines()]
    at = 0
    while at + 1 < len(lines):
        heading, rule = lines[at], lines[at + 1]
        if "|" not in heading or "|" not in rule or not _RULE.fullmatch(rule):
            at += 1
            continue
        end = at + 2
        while end < len(lines) and "|" in lines[end]:
            end += 1
        rows = [_cells(line) for line in (heading, *lines[at + 2 : end])]
        width = max(map(len, rows))
        yield Table(tuple(tuple(row + [""] * (width - len(row))) for row in rows))
        at = end


def _cells(line: str) -> list[str]:
    line = line.removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [cell.strip().replace("\\|", "|") for cell in _BAR.split(line)]
