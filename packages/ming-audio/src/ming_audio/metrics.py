"""Error rates of transcripts: WER, CER, and those of named entities, NE-WER and NE-FNR.

Rates are fractions of the whole corpus (errors of all utterances over words of all references), so
they may exceed 1: insertions are unbounded. Counts are added with `sum(counts, Errors())`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Self

from ming_audio.edits import count_edits
from ming_audio.normalisers import Language, contextasr_text, english_tokens, mandarin_tokens

Tokens = Sequence[str]


@dataclass(frozen=True)
class _Counts:
    def __add__(self, other: Self) -> Self:
        names = [field.name for field in fields(self)]
        return type(self)(*(getattr(self, name) + getattr(other, name) for name in names))


@dataclass(frozen=True)
class Errors(_Counts):
    """What turns a reference of `length` tokens into the hypothesis with the fewest edits."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    @property
    def total(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """total / length. For references without words: 0 if nothing was heard, else infinity."""
        if not self.length:
            return math.inf if self.total else 0.0
        return self.total / self.length

    @property
    def missed(self) -> tuple[int, int]:
        """The two numbers whose quotient is the rate."""
        return self.total, self.length


@dataclass(frozen=True)
class Recall(_Counts):
    """How many of `total` entity occurrences the hypothesis holds exactly."""

    hits: int = 0
    total: int = 0

    @property
    def false_negative_rate(self) -> float:
        return 1 - self.hits / self.total if self.total else 0.0

    @property
    def missed(self) -> tuple[int, int]:
        """The two numbers whose quotient is the rate."""
        return self.total - self.hits, self.total


def rate(count: Errors | Recall) -> float:
    """The rate that a count is about: the lower, the better."""
    return count.rate if isinstance(count, Errors) else count.false_negative_rate


@dataclass(frozen=True)
class EntityCase:
    """An utterance of a benchmark with entities, as tokens joined by single spaces.

    occurrences: the entities of the reference in its order, with repeats. exact, fuzzy: those found
    in the hypothesis; a fuzzy one may differ in less than half of its tokens.
    """

    reference: str
    hypothesis: str
    entities: tuple[str, ...]
    occurrences: tuple[str, ...]
    exact: tuple[str, ...]
    fuzzy: tuple[str, ...]

    @property
    def wer(self) -> Errors:
        return count_errors(self.reference.split(), self.hypothesis.split())

    @property
    def ne_wer(self) -> Errors:
        return count_errors(" ".join(self.occurrences).split(), " ".join(self.fuzzy).split())

    @property
    def ne_fnr(self) -> Recall:
        return Recall(len(self.exact), len(self.occurrences))


def wer(
    references: Iterable[str],
    hypotheses: Iterable[str],
    tokens: Callable[[str], Tokens] = english_tokens,
) -> Errors:
    """Word errors of a corpus, by Whisper's English rules unless `tokens` says otherwise.

    Raises ValueError for unequal numbers of texts.
    """
    pairs = zip(references, hypotheses, strict=True)
    return sum((count_errors(tokens(said), tokens(heard)) for said, heard in pairs), Errors())


def cer(references: Iterable[str], hypotheses: Iterable[str]) -> Errors:
    """Character errors of a Mandarin corpus; a Latin word counts as one character."""
    return wer(references, hypotheses, mandarin_tokens)


def entity_case(
    reference: str, hypothesis: str, entities: Iterable[str], language: Language
) -> EntityCase | None:
    """An utterance made ready for WER, NE-WER and NE-FNR as ContextASR-Bench counts them.

    None where the benchmark drops it: an entity is not in the reference, or none is as whole words.
    """
    said, heard = (contextasr_text(text, language) for text in (reference, hypothesis))
    names = tuple(contextasr_text(entity, language) for entity in entities)
    if any(name not in said for name in names):
        return None
    occurrences = _occurrences(said.split(), names)
    if not occurrences:
        return None
    return EntityCase(
        reference=said,
        hypothesis=heard,
        entities=names,
        occurrences=occurrences,
        exact=_exact(heard.split(), names, occurrences),
        fuzzy=_fuzzy(heard.split(), names),
    )


def count_errors(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Errors:
    """Fewest edits; among equally few, from the end, a substitution before a deletion before an
    insertion. Two books take seconds and a few megabytes.
    """
    return Errors(*count_edits(reference, hypothesis), len(reference))


def _occurrences(text: Tokens, names: Iterable[str]) -> tuple[str, ...]:
    found = []
    for name in names:
        entity = name.split()
        if entity:
            starts = range(len(text) - len(entity) + 1)
            found += [(i, len(entity), name) for i in starts if text[i : i + len(entity)] == entity]
    return tuple(name for _, _, name in sorted(found, key=lambda match: match[:2]))


def _exact(text: Tokens, names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Occurrences in the hypothesis, of each entity at most as many as in the reference."""
    left = {name: wanted.count(name) for name in names}
    found = []
    for start in range(len(text)):
        for name in names:
            entity = name.split()
            if left[name] and text[start : start + len(entity)] == entity:
                left[name] -= 1
                found.append(name)
    return tuple(found)


def _fuzzy(text: Tokens, names: Iterable[str]) -> tuple[str, ...]:
    """What may be meant by the entities, from left to right, each piece of text once."""
    found: dict[tuple[int, str], int] = {}
    for name in names:
        for start, match in _fuzzy_matches(text, name):
            found[start, match] = len(match.split())
    matches = sorted(found, key=lambda match: (match[0], found[match]))
    return tuple(match for _, match in matches)


def _fuzzy_matches(text: Tokens, name: str) -> Iterable[tuple[int, str]]:
    """(start, words) of windows that differ from the entity in less than half of its tokens."""
    entity = name.split()
    n, known = len(entity), set(entity)
    tolerance = math.ceil(n / 2) - 1
    lengths = [*range(n, max(0, n - tolerance - 1), -1), *range(n + 1, n + tolerance + 1)]
    next_start = 0
    for start in range(len(text)):
        if start < next_start:
            continue
        for length in lengths:
            if not length or start + length > len(text):
                break
            window = text[start : start + length]
            # Every token that the entity lacks costs an edit: most windows need no alignment.
            if sum(token not in known for token in window) > tolerance:
                continue
            if count_errors(entity, window).total > tolerance:
                continue
            heard = " ".join(window)
            next_start = start + length
            _, inside, after = heard.partition(name)
            if inside:
                next_start -= len(after.split())
            yield start, name if inside else heard
            break
