"""What a list of words to listen for may change in a text: the words that it names, nothing else.

A model that was taught with lists of names only hears other words wrongly when it is given others.
It therefore listens twice, with and without the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from ming_audio.segments import bare, tokens_of


def with_listed(plain: str, listed: str, words: Sequence[str]) -> str:
    """The text heard without a list, with those words of the other one that the list names.

    plain, listed: what was heard without and with the list `words`. Where the two differ, the
    second one counts only if a listed word, as it is spelt there, lies in the difference; as many
    words in the place of as many others are looked at one by one.
    """
    before, after = tokens_of(plain), tokens_of(listed)
    named = _named(after, words)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    merged: list[str] = []
    for change, i, i_end, j, j_end in matcher.get_opcodes():
        if change == "replace" and i_end - i == j_end - j:
            pairs = zip(before[i:i_end], range(j, j_end), strict=True)
            merged += [after[place] if place in named else word for word, place in pairs]
            continue
        towards = change != "equal" and not named.isdisjoint(range(j, j_end))
        merged += after[j:j_end] if towards else before[i:i_end]
    return "".join(merged)


def _named(tokens: Sequence[str], words: Sequence[str]) -> set[int]:
    """Places of all tokens that belong to a listed word or phrase."""
    spelt = [bare(token) for token in tokens]
    found: set[int] = set()
    for word in words:
        phrase = [bare(token) for token in tokens_of(word)]
        for start in range(len(spelt) - len(phrase) + 1):
            if phrase and spelt[start : start + len(phrase)] == phrase:
                found |= set(range(start, start + len(phrase)))
    return found
