"""Logs of a training: a JSON object a line, appended while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ming_core.output import replacing


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
        file.write(start + _line(row))


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


def cut_rows(path: Path, step: int) -> None:
    """Remove what was logged after a step: a training that goes on from there logs it again.

    Lines that are no rows with a step are removed, too. Raises OSError.
    """
    if not path.exists():
        return
    old = path.read_bytes()
    steps = ((row, row.get("step")) for row in read_rows(path))
    kept = b"".join(_line(row) for row, at in steps if isinstance(at, int) and at <= step)
    if kept != old:
        with replacing(path) as file:
            file.write(kept)


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
