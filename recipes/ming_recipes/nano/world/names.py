"""Names of people, of which some sound alike, and number words: what only speech speaks of."""

from __future__ import annotations

import re

import numpy as np

from ming_recipes.nano.world.scene import pick
from ming_recipes.nano.world.vocabulary import Language

HOMOPHONES: dict[Language, tuple[tuple[str, ...], ...]] = {
    "en": (
        ("Catherine", "Katherine"),
        ("Sean", "Shaun", "Shawn"),
        ("John", "Jon"),
        ("Sara", "Sarah"),
        ("Mark", "Marc"),
        ("Steven", "Stephen"),
        ("Philip", "Phillip"),
        ("Brian", "Bryan"),
        ("Eric", "Erik"),
        ("Ann", "Anne"),
        ("Chris", "Kris"),
        ("Alan", "Allen"),
        ("Jeff", "Geoff"),
        ("Carl", "Karl"),
        ("Lee", "Leigh"),
        ("Rachel", "Rachael"),
        ("Zack", "Zac"),
        ("Lily", "Lilly"),
        ("Claire", "Clare"),
        ("Megan", "Meghan"),
        ("Cory", "Corey"),
        ("Neil", "Neal"),
    ),
    "zh": (
        ("张伟", "章玮"),
        ("王芳", "汪方"),
        ("陈静", "陈婧"),
        ("李娜", "李纳"),
        ("周杰", "周洁"),
        ("吴婷", "吴廷"),
    ),
}
"""Spellings that sound the same: only a list of who may be meant tells which one is right."""

_OTHER_NAMES = (
    "David Emma Oliver Maria Peter Grace Henry Lucy Daniel Sophie Robert Alice Tom Julia Simon "
    "Laura"
)
NAMES: dict[Language, tuple[str, ...]] = {
    "en": (*(name for group in HOMOPHONES["en"] for name in group), *_OTHER_NAMES.split()),
    "zh": tuple(name for group in HOMOPHONES["zh"] for name in group),
}

_SMALL_NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen"
)
_UNITS = tuple(_SMALL_NUMBERS.split())
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS = (*_UNITS, *_TENS)
CHINESE_DIGITS = "一二三四五六七八九"


def alike(name: str, language: Language) -> tuple[str, ...]:
    """All spellings that sound like a name, itself among them."""
    return next((group for group in HOMOPHONES[language] if name in group), (name,))


def by_sound(text: str, language: Language) -> str:
    """A transcript in which each name has the first spelling of those that sound like it."""
    for first, *others in HOMOPHONES[language]:
        for name in others:
            text = re.sub(rf"\b{name}\b" if language == "en" else name, first, text)
    return text


def number_words(rng: np.random.Generator, language: Language) -> str:
    """A number from 1 to 99 as it is spoken; in Chinese below 10, or from 21 on."""
    if language == "en":
        unit = pick(rng, _UNITS)
        if rng.random() < 0.4:
            return unit
        tens = pick(rng, _TENS)
        return f"{tens} {unit}" if unit in _UNITS[:9] else tens
    unit = pick(rng, CHINESE_DIGITS)
    return unit if rng.random() < 0.5 else f"{pick(rng, CHINESE_DIGITS[1:])}十{unit}"
