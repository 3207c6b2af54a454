"""Logs of a training: a JSON object a line, appended while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Add a line. Raises OSError.

    If the last line is cut off, for example by a full disk or a power cut, the new row gets a line
    of its own. A missing folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        start = b""
        if file.tell():
            file.seek(-1, 2)
            start = b"" if file.read(1) == b"\n" else b"\n"
        file.write(start + json.dumps(row).encode() + b"\n")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that are JSON objects; the others are skipped. None if there is no file."""
    if not path.exists():
        return
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row
