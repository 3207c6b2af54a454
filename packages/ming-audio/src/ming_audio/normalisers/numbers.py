"""English numbers in digits, following Whisper: `one oh one` -> `101`, `two million` -> `2000000`.

The value so far is an int while it is a quantity, and a str once its digits are merely joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction

_ZEROS = {"o", "oh", "zero"}
# fmt: off
_ONES = {
    "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8,
    "nine": 9, "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14,
    "fifteen": 15, "sixteen": 16, "seventeen": 17, "eighteen": 18, "nineteen": 19,
}
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80,
    "ninety": 90,
}
_MULTIPLIERS = {
    "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
    "quadrillion": 10**15, "quintillion": 10**18, "sextillion": 10**21, "septillion": 10**24,
    "octillion": 10**27, "nonillion": 10**30, "decillion": 10**33,
}
_CURRENCIES = {
    "pound": "£", "pounds": "£", "euro": "€", "euros": "€",
    "dollar": "$", "dollars": "$", "cent": "¢", "cents": "¢",
}
# fmt: on
_ONES_ENDING = (
    {"sixes" if name == "six" else f"{name}s": (value, "s") for name, value in _ONES.items()}
    | {
        name + ("h" if name.endswith("t") else "th"): (value, "th")
        for name, value in _ONES.items()
        if value > 3 and value not in (5, 12)
    }
    | {"zeroth": (0, "th"), "first": (1, "st"), "second": (2, "nd"), "third": (3, "rd")}
    | {"fifth": (5, "th"), "twelfth": (12, "th")}
)
_TENS_ENDING = {name.replace("y", "ies"): (value, "s") for name, value in _TENS.items()} | {
    name.replace("y", "ieth"): (value, "th") for name, value in _TENS.items()
}
_MULTIPLIERS_ENDING = {
    name + ending: (value, ending) for name, value in _MULTIPLIERS.items() for ending in ("s", "th")
}
_SIGNS = {"minus": "-", "negative": "-", "plus": "+", "positive": "+"}
_PREFIXES = {*_SIGNS.values(), *_CURRENCIES.values()}
_SPECIALS = {"and", "double", "triple", "point"}
_DECIMALS = {*_ONES, *_TENS, *_ZEROS}
_WORDS = {
    *_DECIMALS,
    *_ONES_ENDING,
    *_TENS_ENDING,
    *_MULTIPLIERS,
    *_MULTIPLIERS_ENDING,
    *_SIGNS,
    *_CURRENCIES,
    *_SPECIALS,
    "per",
    "percent",
}
_DIGITS = re.compile(r"\d+(\.\d+)?$")


def numbers_to_digits(text: str) -> str:
    """Lower-case words with numbers in digits; suffixes (`32nd`, `1960s`) stay, one stays `one`."""
    words = _with_halves(text)
    words = re.sub(r"([a-z])([0-9])", r"\1 \2", words)
    words = re.sub(r"([0-9])([a-z])", r"\1 \2", words)
    words = re.sub(r"([0-9])\s+(st|nd|rd|th|s)\b", r"\1\2", words)
    text = " ".join(_Reader(words.split()).read())
    text = re.sub(
        r"([€£$])([0-9]+) (?:and )?¢([0-9]{1,2})\b",
        lambda found: f"{found[1]}{found[2]}.{int(found[3]):02d}",
        text,
    )
    text = re.sub(r"[€£$]0.([0-9]{1,2})\b", lambda found: f"¢{int(found[1])}", text)
    return re.sub(r"\b1(s?)\b", r"one\1", text)


def _with_halves(text: str) -> str:
    """`three and a half` -> `three point five`."""
    *before, last = re.split(r"\band\s+a\s+half\b", text)
    pieces = []
    for segment in before:
        if segment.strip():
            number = segment.split()[-1] in _DECIMALS or segment.split()[-1] in _MULTIPLIERS
            pieces += [segment, "point five" if number else "and a half"]
    return " ".join([*pieces, last] if last.strip() else pieces)


class _Reader:
    """Goes through words once. value: the number being read. prefix: its sign or currency."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self._prefix = ""
        self._value: int | str | None = None

    def read(self) -> Iterator[str]:
        skip = False
        for i, word in enumerate(self._words):
            if skip:
                skip = False
                continue
            before = self._words[i - 1] if i else ""
            after = self._words[i + 1] if i + 1 < len(self._words) else ""
            number_next = _DIGITS.match(after) is not None
            if _DIGITS.match(word[1:] if word[0] in _PREFIXES else word):
                yield from self._digits(word)
            elif word not in _WORDS:
                yield from self._plain(word)
            elif word in _ZEROS:
                self._value = str(self._value or "") + "0"
            elif word in _ONES:
                self._value = self._add_ones(_ONES[word], before)
            elif word in _ONES_ENDING:
                value, ending = _ONES_ENDING[word]
                yield self._put(f"{self._add_ones(value, before)}{ending}")
            elif word in _TENS:
                self._value = self._add_tens(_TENS[word])
            elif word in _TENS_ENDING:
                value, ending = _TENS_ENDING[word]
                yield self._put(f"{self._add_tens(value)}{ending}")
            elif word in _MULTIPLIERS:
                yield from self._multiply(_MULTIPLIERS[word])
            elif word in _MULTIPLIERS_ENDING:
                value, ending = _MULTIPLIERS_ENDING[word]
                yield from self._multiply(value, ordinal=True)
                yield self._put(f"{self._value}{ending}")
            elif word in _SIGNS:
                yield from self._flush()
                if after in _WORDS or number_next:
                    self._prefix = _SIGNS[word]
                else:
                    yield self._put(word)
            elif word in _CURRENCIES:
                if self._value is not None:
                    self._prefix = _CURRENCIES[word]
                    yield from self._flush()
                else:
                    yield self._put(word)
            elif word in ("per", "percent"):
                skip = word == "per" and after == "cent" and self._value is not None
                if self._value is not None and (skip or word == "percent"):
                    yield self._put(f"{self._value}%")
                else:
                    yield from self._plain(word)
            elif after not in _WORDS and not number_next:
                yield from self._plain(word)
            elif word == "and":
                if before not in _MULTIPLIERS:
                    yield from self._plain(word)
            elif word == "point":
                if after in _DECIMALS or number_next:
                    self._value = str(self._value or "") + "."
            elif after in _ONES or after in _ZEROS:  # double, triple
                digit = str(_ONES.get(after, 0))
                self._value = str(self._value or "") + digit * (2 if word == "double" else 3)
                skip = True
            else:
                yield from self._plain(word)
        yield from self._flush()

    def _put(self, word: str) -> str:
        """A finished word, behind the prefix that waited for it."""
        word, self._prefix, self._value = self._prefix + word, "", None
        return word

    def _flush(self) -> Iterator[str]:
        if self._value is not None:
            yield self._put(str(self._value))

    def _plain(self, word: str) -> Iterator[str]:
        yield from self._flush()
        yield self._put(word)

    def _digits(self, word: str) -> Iterator[str]:
        if isinstance(self._value, str) and self._value.endswith("."):
            self._value += word  # decimals, parts of an IP address
            return
        yield from self._flush()
        if word[0] in _PREFIXES:
            self._prefix, word = word[0], word[1:]
        number = Fraction(word)
        self._value = number.numerator if number.denominator == 1 else word

    def _add_ones(self, ones: int, before: str) -> int | str:
        value = self._value
        if value is None:
            return ones
        if isinstance(value, str) or before in _ONES:
            if before in _TENS and ones < 10:  # the digit takes the place of the zero
                return str(value)[:-1] + str(ones)
            return f"{value}{ones}"
        return value + ones if value % (10 if ones < 10 else 100) == 0 else f"{value}{ones}"

    def _add_tens(self, tens: int) -> int | str:
        value = self._value
        if value is None:
            return tens
        return value + tens if isinstance(value, int) and value % 100 == 0 else f"{value}{tens}"

    def _multiply(self, multiplier: int, ordinal: bool = False) -> Iterator[str]:
        value = self._value
        if value is None:
            self._value = multiplier
        elif isinstance(value, str) or (value == 0 and not ordinal):
            product = _fraction(value)
            product = None if product is None else product * multiplier
            if product is not None and product.denominator == 1:
                self._value = product.numerator
            else:
                yield from self._flush()
                self._value = multiplier
        else:  # only what is below a thousand: `two thousand three hundred`
            self._value = value // 1000 * 1000 + value % 1000 * multiplier


def _fraction(value: int | str) -> Fraction | None:
    try:
        return Fraction(value)
    except ValueError:
        return None
