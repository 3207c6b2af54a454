"""English contractions written out, as `contractions.fix(text, leftovers=False, slang=False)` does.

The table is that of contractions 0.1.73, on which published ContextASR-Bench numbers rest.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files


def expand_contractions(text: str) -> str:
    """`it's` -> `it is`, `Jan.` -> `January`; `Priya's` stays. The case of a match is kept."""
    table, pattern = _table()
    return pattern.sub(lambda found: _cased_like(found[0], table[found[0].lower()]), text)


@cache
def _table() -> tuple[dict[str, str], re.Pattern[str]]:
    path = files("ming_audio.normalisers") / "contractions.json"
    table: dict[str, str] = json.loads(path.read_text("utf-8"))
    table |= {short.replace("'", "’"): long for short, long in table.items()}
    longest_first = "|".join(map(re.escape, sorted(table, key=len, reverse=True)))
    edge = "[A-Za-z0-9_]"
    pattern = rf"(?<!{edge})(?:{longest_first})(?!{edge})"
    return table, re.compile(pattern, re.IGNORECASE | re.ASCII)


def _cased_like(found: str, replacement: str) -> str:
    if found == found.upper():
        return replacement.upper()
    if found == found.title():
        return replacement.title()
    if found == found.lower():
        return replacement.lower()
    if found == found.capitalize():
        return replacement.capitalize()
    return replacement
