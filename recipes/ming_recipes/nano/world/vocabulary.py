"""The words of shapes world in English and Chinese, and what they look like."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]

WORLD = "shapes-world/2"
"""Version of the world: any change of a pixel or a sentence needs a new one."""

CANVAS = 64
"""Side of the square picture in px; pixel centres lie at the integers 0..63."""


@dataclass(frozen=True)
class Word:
    """One concept, in both languages."""

    en: str
    zh: str

    def __getitem__(self, language: Language) -> str:
        return self.zh if language == "zh" else self.en


SHAPES: dict[str, Word] = {
    "circle": Word("circle", "圆形"),
    "square": Word("square", "方块"),
    "triangle": Word("triangle", "三角形"),
    "star": Word("star", "星星"),
    "heart": Word("heart", "爱心"),
    "cross": Word("cross", "十字"),
    "ring": Word("ring", "圆环"),
    "moon": Word("moon", "月亮"),
}
PLURALS: dict[str, Word] = {
    name: Word("crosses" if name == "cross" else f"{name}s", word.zh)
    for name, word in SHAPES.items()
}

COLORS: dict[str, Word] = {
    "red": Word("red", "红色"),
    "orange": Word("orange", "橙色"),
    "yellow": Word("yellow", "黄色"),
    "green": Word("green", "绿色"),
    "cyan": Word("cyan", "青色"),
    "blue": Word("blue", "蓝色"),
    "purple": Word("purple", "紫色"),
    "pink": Word("pink", "粉色"),
}
COLOR_RGB: dict[str, tuple[int, int, int]] = {
    "red": (214, 36, 36),
    "orange": (240, 130, 20),
    "yellow": (245, 215, 40),
    "green": (40, 160, 60),
    "cyan": (50, 205, 215),
    "blue": (35, 75, 215),
    "purple": (130, 45, 180),
    "pink": (250, 140, 190),
}

SIZES: dict[str, Word] = {
    "small": Word("small", "小"),
    "medium": Word("medium", "中等"),
    "large": Word("large", "大"),
}
SIZE_RADIUS: dict[str, tuple[float, float]] = {
    "small": (5.0, 6.2),
    "medium": (7.6, 9.0),
    "large": (11.0, 13.0),
}
"""Radius range in px; the gaps keep the label unambiguous."""

HUES: dict[str, Word] = {
    "gray": Word("gray", "灰色"),
    "sand": Word("sand", "沙色"),
    "sky": Word("sky", "天空色"),
    "mint": Word("mint", "薄荷色"),
    "night": Word("night", "夜色"),
}
HUE_RGB: dict[str, tuple[int, int, int]] = {
    "gray": (150, 150, 150),
    "sand": (200, 182, 150),
    "sky": (170, 195, 220),
    "mint": (175, 210, 190),
    "night": (48, 50, 66),
}

TEXTURES: dict[str, Word] = {
    "plain": Word("plain", "纯色"),
    "gradient": Word("gradient", "渐变"),
    "cloudy": Word("cloudy", "云纹"),
    "striped": Word("striped", "条纹"),
    "checkered": Word("checkered", "格子"),
}

GRID: tuple[Word, ...] = (
    Word("top left", "左上"),
    Word("top", "上方"),
    Word("top right", "右上"),
    Word("left", "左边"),
    Word("center", "中间"),
    Word("right", "右边"),
    Word("bottom left", "左下"),
    Word("bottom", "下方"),
    Word("bottom right", "右下"),
)
"""The nine thirds-by-thirds cells of the canvas, row by row."""

RELATIONS: dict[str, Word] = {
    "left": Word("to the left of", "左边"),
    "right": Word("to the right of", "右边"),
    "above": Word("above", "上面"),
    "below": Word("below", "下面"),
}
OPPOSITE: dict[str, str] = {"left": "right", "right": "left", "above": "below", "below": "above"}

SIDES: dict[str, Word] = {
    name: Word(name, RELATIONS[name].zh) for name in ("left", "right", "above", "below")
}
"""Answers that name a relation alone."""

DIRECTIONS: dict[tuple[int, int], Word] = {
    (0, -1): Word("up", "向上"),
    (0, 1): Word("down", "向下"),
    (-1, 0): Word("left", "向左"),
    (1, 0): Word("right", "向右"),
    (-1, -1): Word("up left", "向左上"),
    (1, -1): Word("up right", "向右上"),
    (-1, 1): Word("down left", "向左下"),
    (1, 1): Word("down right", "向右下"),
}
"""Where a moving object goes, by the signs of its step to the right and down."""

TEXT_LETTERS = "ABCDEFGHJKLMNPRSTUVXYZ"
TEXT_DIGITS = "23456789"

HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    {
        ("red", "moon"),
        ("orange", "cross"),
        ("yellow", "ring"),
        ("green", "heart"),
        ("blue", "star"),
        ("pink", "triangle"),
    }
)
"""(colour, shape) pairs that only the split "compositional" draws or names."""


CHINESE_FUNCTION_WORDS = (
    "什么 哪里 哪个 哪种 哪边 多少 几个 多大 有没有 没有 不是 颜色 形状 大小 位置 图形 图中 图片 "
    "这张图 物体 文字 背景 数量 方向 移动 看到 说出 读出 写着 给出 找到 描述 详细 定位 告诉我 "
    "数一数 位于 点击 点一下 你能 请 它 并 框 里 是 在 有 的 吗 了 个"
)
"""What questions are made of besides the vocabulary: Chinese writes no spaces between words."""


def chinese_words() -> list[str]:
    """Every Chinese word that is never split or joined, longest first, without repeats."""
    tables: tuple[Iterable[Word], ...] = (
        *(table.values() for table in (SHAPES, COLORS, SIZES, HUES, TEXTURES, RELATIONS)),
        GRID,
        DIRECTIONS.values(),
    )
    words = {word.zh for table in tables for word in table}
    words |= set(CHINESE_FUNCTION_WORDS.split())
    return sorted(words, key=lambda word: (-len(word), word))


def english_words() -> list[str]:
    """Every single English word of the vocabulary tables, sorted, without repeats."""
    tables = (SHAPES, PLURALS, COLORS, SIZES, HUES, TEXTURES, RELATIONS)
    phrases = [word.en for table in tables for word in table.values()]
    phrases += [word.en for word in (*GRID, *DIRECTIONS.values())]
    return sorted({part for phrase in phrases for part in phrase.split()})
