"""Mandarin transcripts as characters that can be compared, digits as they are read aloud."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from importlib.resources import files

from ming_audio.normalisers.scripts import CJK

_DIGITS = "零一二三四五六七八九"
_UNITS = ("", "十", "百", "千")
_GROUPS = ("", "万", "亿")
_MEASURES = re.compile(
    "[个位名只条张本件次种天年岁周家台辆部块杯瓶首篇场双座间套匹头颗朵句段根片把趟封盒包箱袋碗盘]"
    "|分钟|小时|公里|公斤|星期"
)
"""Before these a single 2 is read 两."""

_FOLDED = (
    (re.compile("两(?=[十百千万亿点])"), "二"),
    (re.compile(f"廿(?=[{_DIGITS[1:]}年月日号天岁])"), "二十"),
    (re.compile(f"卅(?=[{_DIGITS[1:]}年月日号天岁])"), "三十"),
    (re.compile(f"幺(?=[{_DIGITS}幺])|(?<=[{_DIGITS}])幺"), "一"),
)
"""Characters of which a number has several, and the one that stands for all."""

_TOKEN = re.compile(f"[{CJK}]|[^\\s{CJK}]+")
_NUMBER = re.compile(
    r"(?<![a-z0-9.])(?P<minus>-)?(?P<whole>\d{1,3}(?:,\d{3})+|\d+)(?:\.(?P<decimals>\d+))?"
    r"(?P<percent>[%‰])?(?![a-z0-9])",
    re.ASCII,
)


def mandarin_tokens(text: str) -> list[str]:
    """Characters of Chinese (Latin words as they are): what a character error rate counts.

    Full width becomes half width, traditional simplified, upper case lower, numbers their reading
    (`read_number`); punctuation separates Latin words and is otherwise dropped, apostrophes vanish.
    Within numbers 两 counts as 二, 廿 as 二十 and 幺 as 一: 两万, 二万 and 2万 are the same.
    """
    text = unicodedata.normalize("NFKC", text).lower().translate(_simplified()).replace("〇", "零")
    text = _NUMBER.sub(_reading, text)
    for pattern, one in _FOLDED:
        text = pattern.sub(one, text)
    text = text.replace("'", "").replace("’", "")
    return _TOKEN.findall("".join(" " if _is_mark(char) else char for char in text))


def read_number(digits: str) -> str:
    """`1050` -> 一千零五十, as a quantity; digit by digit after a leading 0 or beyond 12."""
    if len(digits) > 4 * len(_GROUPS) or (digits[0] == "0" and len(digits) > 1):
        return _one_by_one(digits)
    if not int(digits):
        return _DIGITS[0]
    groups = [int(digits[max(end - 4, 0) : end]) for end in range(len(digits), 0, -4)]
    text, gap = "", False
    for index in reversed(range(len(groups))):
        value = groups[index]
        if not value:
            gap = True
            continue
        if text and (gap or value < 1000):
            text += _DIGITS[0]
        text += _read_group(value) + _GROUPS[index]
        gap = False
    text = re.sub("^一十", "十", text)
    return re.sub("^二(?=[千万亿])", "两", text)


def _read_group(value: int) -> str:
    """1 to 9999."""
    text, gap = "", False
    for power in (3, 2, 1, 0):
        digit = value // 10**power % 10
        if digit:
            text += (_DIGITS[0] if gap and text else "") + _DIGITS[digit] + _UNITS[power]
        gap = not digit
    return text


def _reading(number: re.Match[str]) -> str:
    whole = number["whole"].replace(",", "")
    before, after = number.string[: number.start()][-1:], number.string[number.end() :]
    plain = not (number["decimals"] or number["percent"] or number["minus"])
    if plain and ((len(whole) == 4 and after.startswith("年")) or _is_code(number["whole"])):
        return _one_by_one(whole)
    if plain and whole == "2" and before != "第" and _MEASURES.match(after):
        return "两"
    text = read_number(whole)
    if number["decimals"]:
        text += "点" + _one_by_one(number["decimals"])
    if number["percent"]:
        text = ("百分之" if number["percent"] == "%" else "千分之") + text
    return "负" + text if number["minus"] else text


def _is_code(whole: str) -> bool:
    """Telephone numbers and the like: long, and neither grouped nor round."""
    return len(whole) > 8 and "," not in whole and not whole.endswith("0000")


def _one_by_one(digits: str) -> str:
    return "".join(_DIGITS[int(digit)] for digit in digits)


def _is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] in "PSCZ"


@cache
def _simplified() -> dict[int, int]:
    """Traditional to simplified, character by character, from the tables of OpenCC."""
    path = files("ming_audio.normalisers") / "simplified.json"
    table = json.loads(path.read_text("utf-8"))
    return str.maketrans(table["traditional"], table["simplified"])
