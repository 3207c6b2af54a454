"""What is not of nano's world: pictures of other things, and other people's questions.

A model that was never shown any answers about a photo as it would about shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw

from ming_recipes.nano.world.hotwords import WORDS
from ming_recipes.nano.world.loose import loosened
from ming_recipes.nano.world.names import NAMES, number_words
from ming_recipes.nano.world.scene import Background, Scene, pick
from ming_recipes.nano.world.vocabulary import CANVAS, Language

UNKNOWN: Mapping[Language, str] = {"en": "i do not know", "zh": "我不知道"}
"""The answer to all of it."""

NOTHING = Scene((), Background("other", "other", 0))
"""What a picture of other things shows of the world."""

QUESTIONS: Mapping[Language, tuple[str, ...]] = {
    "en": (
        "what is the {word}?",
        "who is {name}?",
        "where is the {word}?",
        "is there a {word}?",
        "how many {word}s are there?",
        "what color is the {word}?",
        "what is {number} plus {other}?",
        "what time is it?",
        "how are you?",
        "who are you?",
        "what is your name?",
        "who made this {word}?",
        "how does a {word} work?",
        "what is the capital of {word}?",
        "write a poem about {word}.",
        "translate {word}.",
        "why is the {word} here?",
        "what does {name} think?",
        "when was the {word} built?",
        "how much does the {word} cost?",
        "can you explain {word}?",
        "what happened in {word}?",
        "is {name} happy?",
        "tell me about {word}.",
        "describe the {word}.",
        "how old is {name}?",
    ),
    "zh": (
        "{word}是什么？",
        "{name}是谁？",
        "{word}在哪里？",
        "有{word}吗？",
        "有几个{word}？",
        "{word}是什么颜色？",
        "{number}加{other}等于多少？",
        "现在几点了？",
        "你好吗？",
        "你是谁？",
        "你叫什么名字？",
        "谁做的{word}？",
        "写一首关于{word}的诗。",
        "为什么有{word}？",
        "{name}在想什么？",
        "{word}多少钱？",
        "请解释{word}。",
        "告诉我{word}的事。",
        "描述{word}。",
        "{name}几岁了？",
    ),
}


def foreign_question(rng: np.random.Generator, language: Language) -> str:
    """A question about something that is not of the world."""
    sentence = pick(rng, QUESTIONS[language]).format(
        word=pick(rng, WORDS[language]),
        name=pick(rng, NAMES[language]),
        number=number_words(rng, language),
        other=number_words(rng, language),
    )
    return loosened(sentence, language, rng)


def foreign_picture(rng: np.random.Generator) -> np.ndarray:
    """A picture [64, 64, 3] uint8 of something that is not of the world."""
    picture = pick(rng, tuple(PICTURES.values()))(rng)
    noise = rng.standard_normal(picture.shape) * (rng.random() * 6)
    return np.clip(picture + noise + 0.5, 0, 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, roughness: float) -> np.ndarray:
    """Three planes of noise at all scales, [64, 64, 3] of mean 0 and spread 1."""
    size = CANVAS // 2 + 1
    high = np.fft.fftfreq(CANVAS)[:, None] ** 2 + np.fft.rfftfreq(CANVAS)[:size] ** 2
    weight = np.maximum(high, 1 / CANVAS**2) ** (-roughness / 2)
    planes = [
        np.fft.irfft2(weight * np.fft.rfft2(rng.standard_normal((CANVAS, CANVAS))))
        for _ in range(3)
    ]
    found = np.stack(planes, -1)
    return (found - found.mean((0, 1))) / found.std((0, 1))


def _photo(rng: np.random.Generator) -> np.ndarray:
    """Patches of light and colour at all scales, some with a horizon, as photos have."""
    light = _clouds(rng, 1 + rng.random())
    gray = light[..., :1]
    picture = 128 + 50 * (gray + rng.uniform(0.2, 0.8) * (light - gray))
    picture += rng.uniform(-40, 40, 3)
    if rng.random() < 0.5:
        line = int(rng.uniform(20, 50))
        picture[line:] = 0.6 * picture[line:] + rng.uniform(0, 110, 3)
    return picture


def _page(rng: np.random.Generator) -> np.ndarray:
    """Lines of writing too small to read, and a window or two."""
    dark = rng.random() < 0.3
    paper, ink = ((34, 36, 40), (190, 195, 200)) if dark else ((250, 250, 248), (60, 62, 66))
    image = Image.new("RGB", (CANVAS, CANVAS), paper)
    draw = ImageDraw.Draw(image)
    step = int(rng.uniform(3, 7))
    for y in range(int(rng.uniform(2, 12)), CANVAS - 3, step):
        x = int(rng.uniform(2, 8))
        while x < CANVAS - 6:
            width = int(rng.uniform(2, 12))
            draw.rectangle((x, y, min(x + width, CANVAS - 4), y + max(step // 2 - 1, 1)), fill=ink)
            x += width + 3
        if rng.random() < 0.15:
            break
    for _ in range(int(rng.random() * 3)):
        x, y, wide, high = rng.uniform((0, 0, 15, 6), (40, 50, 60, 20))
        draw.rectangle((x, y, x + wide, y + high), fill=_color(rng), outline=ink)
    return np.asarray(image, dtype=np.float64)


def _scribble(rng: np.random.Generator) -> np.ndarray:
    """Lines and curves over each other."""
    image = Image.new("RGB", (CANVAS, CANVAS), _color(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.uniform(4, 12))):
        points = [
            tuple(point) for point in rng.uniform(-8, CANVAS + 8, (int(rng.uniform(2, 6)), 2))
        ]
        draw.line(points, fill=_color(rng), width=int(rng.uniform(1, 5)), joint="curve")
    return np.asarray(image, dtype=np.float64)


def _mosaic(rng: np.random.Generator) -> np.ndarray:
    """Many areas that touch: a map, a shelf, a facade."""
    image = Image.new("RGB", (CANVAS, CANVAS), _color(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.uniform(15, 45))):
        x, y = rng.uniform(-10, CANVAS, 2)
        wide, high = rng.uniform(6, 30, 2)
        corners = [(x, y), (x + wide, y + rng.uniform(-6, 6)), (x + wide, y + high), (x, y + high)]
        draw.polygon(corners, fill=_color(rng))
    return np.asarray(image, dtype=np.float64)


def _blobs(rng: np.random.Generator) -> np.ndarray:
    """Soft blobs of skin, leaves or stones, lit from one side."""
    rows, columns = np.mgrid[:CANVAS, :CANVAS].astype(np.float64)
    picture = np.ones((CANVAS, CANVAS, 3)) * rng.uniform(30, 220, 3)
    for _ in range(int(rng.uniform(2, 9))):
        x, y = rng.uniform(0, CANVAS, 2)
        wide, high = rng.uniform(4, 26, 2)
        turn = rng.uniform(0, np.pi)
        u = np.cos(turn) * (columns - x) + np.sin(turn) * (rows - y)
        v = np.cos(turn) * (rows - y) - np.sin(turn) * (columns - x)
        cover = np.exp(-((u / wide) ** 2 + (v / high) ** 2))[..., None]
        color = rng.uniform(20, 240, 3) + (u * rng.uniform(-3, 3))[..., None]
        picture += cover * (color - picture)
    return picture + 12 * _clouds(rng, 1.5)


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = rng.integers(0, 256, 3)
    return int(red), int(green), int(blue)


PICTURES: Mapping[str, Callable[[np.random.Generator], np.ndarray]] = {
    "photo": _photo,
    "page": _page,
    "scribble": _scribble,
    "mosaic": _mosaic,
    "blobs": _blobs,
}
