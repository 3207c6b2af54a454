"""What objects and scenes are called: names, captions and the canonical description.

English and Chinese say the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ming_recipes.nano.world.scene import Scene, SceneObject
from ming_recipes.nano.world.vocabulary import COLORS, GRID, HUES, SHAPES, SIZES, TEXTURES, Language

_ENGLISH = 0.7


def draw_language(rng: np.random.Generator) -> Language:
    """English 7 times of 10, else Chinese."""
    return "en" if rng.random() < _ENGLISH else "zh"


def name_of(item: SceneObject, language: Language, with_size: bool = False) -> str:
    """ "red star" or "small red star"; 红色星星 or 小红色星星."""
    return name_words(item.color, item.shape, language, item.size if with_size else None)


def caption(scene: Scene, rng: np.random.Generator, language: Language) -> str:
    """A drawing prompt: objects in reading order; size words, background and text by lot."""
    ordered = sorted(scene.objects, key=lambda item: (item.row, item.x))
    with_size = rng.random() < 0.5
    names = [name_of(item, language, with_size) for item in ordered]
    background = ""
    if rng.random() < 0.5:
        texture = TEXTURES[scene.background.texture][language] if rng.random() < 0.5 else ""
        hue = HUES[scene.background.hue][language]
        if language == "en":
            hue = f"{texture} {hue}" if texture else hue
            background = f" on {article(hue)} {hue} background"
        else:
            background = f"，{texture}{hue}背景"
    if language == "en":
        listed = [f"{article(name)} {name}" for name in names]
        text = "" if scene.text is None else f", with the text {scene.text.value}"
        return _enumerate(listed) + background + text
    text = "" if scene.text is None else f"，文字{scene.text.value}"
    return "、".join(names) + background + text


def described(scene: Scene) -> list[SceneObject]:
    """The objects in the order of the description."""
    return sorted(scene.objects, key=lambda item: (item.row, item.column, item.x))


def describe(scene: Scene, language: Language) -> str:
    """The canonical full description: one right wording per scene, for exact match."""
    ordered = described(scene)
    background = background_words(scene, language)
    if language == "en":
        parts = [f"{name_of(item, 'en', True)} {GRID[item.grid].en}" for item in ordered]
        return f"{'; '.join(parts)}. {background} background."
    parts = [f"{name_of(item, 'zh', True)}{GRID[item.grid].zh}" for item in ordered]
    return f"{'；'.join(parts)}。{background}背景。"


def name_words(color: str, shape: str, language: Language, size: str | None = None) -> str:
    """A name from the keys of the tables of the vocabulary."""
    words = [SIZES[size][language]] if size else []
    words += [COLORS[color][language], SHAPES[shape][language]]
    return (" " if language == "en" else "").join(words)


def background_words(scene: Scene, language: Language) -> str:
    """ "cloudy gray"; 云纹灰色."""
    words = (
        TEXTURES[scene.background.texture][language],
        HUES[scene.background.hue][language],
    )
    return (" " if language == "en" else "").join(words)


def article(words: str) -> str:
    """The article that English words take."""
    return "an" if words[0] in "aeiou" else "a"


def _enumerate(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
