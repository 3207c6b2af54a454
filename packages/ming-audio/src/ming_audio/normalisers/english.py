"""The English normaliser of Whisper, behind most published word error rates.

Same results as the class of the same purpose in OpenAI's `whisper` and in transformers.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from importlib.resources import files

from ming_audio.normalisers.numbers import numbers_to_digits

_LETTERS = str.maketrans(  # what NFKD does not take apart
    {"œ": "oe", "ø": "o", "æ": "ae", "ß": "ss", "đ": "d", "ð": "d", "þ": "th", "ł": "l"}
)
_TITLES = {
    "mr": "mister",
    "mrs": "missus",
    "st": "saint",
    "dr": "doctor",
    "prof": "professor",
    "capt": "captain",
    "gov": "governor",
    "ald": "alderman",
    "gen": "general",
    "sen": "senator",
    "rep": "representative",
    "pres": "president",
    "rev": "reverend",
    "hon": "honorable",
    "asst": "assistant",
    "assoc": "associate",
    "lt": "lieutenant",
    "col": "colonel",
    "jr": "junior",
    "sr": "senior",
    "esq": "esquire",
}
_REPLACEMENTS = [  # in this order
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"[<\[][^>\]]*[>\]]", ""),
        (r"\(([^)]+?)\)", ""),
        (r"\b(hmm|mm|mhm|mmm|uh|um)\b", ""),
        (r"\s+'", "'"),
        (r"\bwon't\b", "will not"),
        (r"\bcan't\b", "can not"),
        (r"\blet's\b", "let us"),
        (r"\bain't\b", "aint"),
        (r"\by'all\b", "you all"),
        (r"\bwanna\b", "want to"),
        (r"\bgotta\b", "got to"),
        (r"\bgonna\b", "going to"),
        (r"\bi'ma\b", "i am going to"),
        (r"\bimma\b", "i am going to"),
        (r"\bwoulda\b", "would have"),
        (r"\bcoulda\b", "could have"),
        (r"\bshoulda\b", "should have"),
        (r"\bma'am\b", "madam"),
        *((rf"\b{short}\b", f"{long} ") for short, long in _TITLES.items()),
        (r"'d been\b", " had been"),
        (r"'s been\b", " has been"),
        (r"'d gone\b", " had gone"),
        (r"'s gone\b", " has gone"),
        (r"'d done\b", " had done"),
        (r"'s got\b", " has got"),
        (r"n't\b", " not"),
        (r"'re\b", " are"),
        (r"'s\b", " is"),
        (r"'d\b", " would"),
        (r"'ll\b", " will"),
        (r"'t\b", " not"),
        (r"'ve\b", " have"),
        (r"'m\b", " am"),
        (r"(\d),(\d)", r"\1\2"),
        (r"\.([^0-9]|$)", r" \1"),
    )
]
_KEPT = ".%$¢€£"  # the numbers need them


def english_text(text: str) -> str:
    """Lower case without brackets, fillers, accents and punctuation; contractions written out,
    numbers in digits, American spelling, single spaces."""
    text = text.lower()
    for pattern, replacement in _REPLACEMENTS:
        text = pattern.sub(replacement, text)
    text = numbers_to_digits("".join(map(_cleaned, unicodedata.normalize("NFKD", text))))
    text = " ".join(_spelling().get(word, word) for word in text.split())
    text = re.sub(r"[.$¢€£]([^0-9])", r" \1", text)
    text = re.sub(r"([^0-9])%", r"\1 ", text)
    return " ".join(text.split())


def english_tokens(text: str) -> list[str]:
    """The words that a word error rate counts."""
    return english_text(text).split()


def _cleaned(char: str) -> str:
    if char in _KEPT:
        return char
    category = unicodedata.category(char)
    if category == "Mn":
        return ""
    return " " if category[0] in "MSP" else char.translate(_LETTERS)


@cache
def _spelling() -> dict[str, str]:
    """British to American spelling, from the table of Whisper."""
    return json.loads((files("ming_audio.normalisers") / "spelling.json").read_text("utf-8"))
