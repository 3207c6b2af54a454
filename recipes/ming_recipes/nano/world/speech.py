"""What is said in shapes world, by which voice: a pure function of the seed.

Transcripts are written as they are spoken: without punctuation, numbers as words, small letters but
for names. Training hears the voices of TRAIN_VOICES only; "test" is spoken by TEST_VOICES.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import chain

import numpy as np

from ming_recipes.nano.world.language import KINDS, Question, sample_questions
from ming_recipes.nano.world.names import CHINESE_DIGITS, NAMES, NUMBER_WORDS, alike, number_words
from ming_recipes.nano.world.phrases import PHRASES
from ming_recipes.nano.world.scene import (
    Scene,
    generator,
    pick,
    sample_scene,
    scene_of,
    seed_of,
    weighted,
)
from ming_recipes.nano.world.vocabulary import (
    COLORS,
    GRID,
    HUES,
    PLURALS,
    SHAPES,
    Language,
    chinese_words,
    english_words,
)
from ming_recipes.nano.world.wording import article, caption, draw_language, name_of

SPEECH_STREAM, FREE_STREAM = 5, 12

KIND_WEIGHTS: dict[str, float] = {
    "caption": 0.2,
    "edit": 0.2,
    "question": 0.25,
    "name": 0.25,
    "number": 0.1,
}
"""Share of each kind of sentence."""

MOST_OBJECTS = 2  # of a spoken caption: longer ones last more than nano hears at once
CONTEXT_SIZE = (3, 6)  # names to listen for

_ASKED = tuple(kind for kind in KINDS if kind not in ("text", "describe", "click"))
"""Kinds of questions that are asked aloud."""

_PUNCTUATION = str.maketrans("", "", ".,;?!。，、；？！")

EDITS: dict[Language, tuple[str, ...]] = {
    "en": (
        "make the {name} {color}",
        "paint the {name} {color}",
        "change the color of the {name} to {color}",
        "remove the {name}",
        "delete the {name}",
        "please erase the {name}",
        "add {a_name} at the {grid}",
        "draw {a_name} in the {grid}",
        "move the {name} to the {grid}",
        "change the background to {hue}",
        "put everything on a {hue} background",
        "make it grayscale",
        "invert the colors",
        "make it blurry",
        "draw only the outlines",
    ),
    "zh": (
        "把{name}变成{color}",
        "去掉{name}",
        "删除{name}",
        "在{grid}加一个{name}",
        "把{name}移到{grid}",
        "把背景换成{hue}",
        "变成灰度图",
        "反转颜色",
        "变模糊",
        "只画轮廓",
    ),
}
"""Commands to change a picture."""

# Chinese names stand between words that the tokenizer keeps apart, so that each is one token.
NAME_PHRASES: dict[Language, tuple[tuple[str, ...], ...]] = {
    "en": (
        (
            "send the {name} to {person}",
            "i think {person} likes the {name}",
            "please tell {person} to draw {a_name}",
            "the {name} belongs to {person}",
        ),
        (
            "the {name} belongs to {person} and {friend}",
            "tell {person} to send the {name} to {friend}",
        ),
    ),
    "zh": (
        (
            "{person}有一个{name}",
            "{person}看到了{name}",
            "{name}是{person}的",
            "请{person}描述{name}",
            "请{person}定位{name}",
        ),
        ("{person}是在{friend}的右边吗？", "{person}的{name}在{friend}里"),
    ),
}
"""Sentences about one and about two people."""

HEARD_PHRASES: dict[str, dict[Language, tuple[str, ...]]] = {
    "heard_color": {
        "en": ("which color do you hear?", "what color is named?"),
        "zh": ("你听到了什么颜色？", "说的是什么颜色？"),
    },
    "heard_shape": {
        "en": ("which shape do you hear?", "what shape is named?"),
        "zh": ("你听到了什么形状？", "说的是什么形状？"),
    },
    "heard_name": {
        "en": ("whose name do you hear?", "which person is named?"),
        "zh": ("你听到了谁的名字？", "说的是谁？"),
    },
}
"""Questions in writing about what is said."""

NUMBER_PHRASES: dict[Language, tuple[str, ...]] = {
    "en": ("i can see {number} {plural}", "there are {number} {plural}"),
    "zh": ("我看到{number}个{shape}", "图中有{number}个{shape}"),
}


@dataclass(frozen=True)
class Voice:
    """program: "espeak-ng", "flite" or "piper". name: what it calls the voice; behind a "+" the
    variant of an accent of espeak-ng, or the pitch in Hz that a voice of flite is brought to."""

    program: str
    name: str

    @property
    def family(self) -> str:
        """Which of the families that scores are told apart by."""
        return "flite" if self.program == "flite" else self.name.partition("+")[0]


_ACCENTS = ("en-us", "en-gb", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-gb-x-gbclan", "en-029")
_CHINESE = ("cmn-latn-pinyin",)  # "cmn" reads many syllables as English letters
_VARIANTS = ("m1", "m2", "m3", "m4", "m5", "m6", "m7", "f1", "f2", "f3", "f4")
# More throats: with eleven, the error rate on voices never heard was twice that on known ones.
_MORE = (
    "Alex Alicia Andrea Andy Annie Denis Diogo Gene Henrique Hugo Jacky Lee Marco Mario Michael "
    "Nguyen adam anika antonio aunty belinda benjamin boris caleb david ed edward grandma "
    "grandpa iven john kaukovalta klatt2 klatt3 klatt4 linda marcelo max michel miguel norbert "
    "pablo paul pedro quincy rob robert sandro shelby steph travis victor zac"
)
_MORE_VARIANTS = tuple(_MORE.split())
_NEW_VARIANTS = ("m8", "f5")
_PITCHES = (90, 115, 145, 180, 220)


def _espeak(accents: Sequence[str], variants: Sequence[str]) -> tuple[Voice, ...]:
    return tuple(Voice("espeak-ng", f"{a}+{v}") for a in accents for v in variants)


TRAIN_VOICES: Mapping[Language, tuple[tuple[Voice, ...], ...]] = {
    "en": (
        _espeak(_ACCENTS, _VARIANTS + _MORE_VARIANTS),
        tuple(
            Voice("flite", f"{name}+{pitch}")
            for name in ("slt", "awb", "kal16")
            for pitch in _PITCHES
        ),
    ),
    "zh": (_espeak(_CHINESE, _VARIANTS + _MORE_VARIANTS),),
}
"""By language, the voices of each program: programs are drawn alike, then voices."""

TEST_VOICES: Mapping[Language, tuple[tuple[Voice, ...], ...]] = {
    "en": (
        _espeak(_ACCENTS, _NEW_VARIANTS) + _espeak(("en-gb-scotland",), _VARIANTS),
        (Voice("flite", "rms"),),
    ),
    "zh": (_espeak(_CHINESE, _NEW_VARIANTS),),
}
"""Never heard in training: two variants of each accent, a whole accent, a voice of flite."""


@dataclass(frozen=True)
class Utterance:
    """A sentence and how it is said.

    text: its transcript. spoken: what the program reads, with punctuation for its pauses. names:
    people in it. question: of the kind "question", what it asks about the picture of the same
    index. rate: words per minute of espeak-ng, 170 is plain speed. pitch: of espeak-ng, 50 is the
    voice's own.
    """

    kind: str
    lang: Language
    text: str
    spoken: str
    voice: Voice
    rate: int
    pitch: int
    names: tuple[str, ...] = ()
    question: Question | None = None


def followed_by(first: Utterance, second: Utterance) -> Utterance:
    """Two sentences of one language as one utterance, which asks nothing about a picture."""
    between = " " if first.lang == "en" else ""
    return replace(
        first,
        text=first.text + between + second.text,
        spoken=f"{first.spoken} {second.spoken}",
        names=first.names + second.names,
        question=None,
    )


def without_words(said: Utterance) -> Utterance:
    """An utterance of the same language in which nothing is said."""
    return replace(said, kind="wordless", text="", spoken="", names=(), question=None)


@lru_cache(maxsize=65_536)
def utterance_of(split: str, index: int, free_words: float = 0.0) -> Utterance:
    """The utterance of an index. free_words: the share of those that are no sentence, but words of
    the world in any order; the others stay as they are."""
    rng = generator(seed_of(split, index), SPEECH_STREAM)
    language = draw_language(rng)
    kind = tuple(KIND_WEIGHTS)[weighted(rng, KIND_WEIGHTS.values())]
    order = generator(seed_of(split, index), FREE_STREAM)
    if free_words and order.random() < free_words:
        kind = "words"
    scene = scene_of(split, index)
    question, names = None, ()
    if kind == "caption":
        few = sample_scene(rng, split, MOST_OBJECTS, text_probability=0.0)
        spoken = caption(few, rng, language)
    elif kind == "edit":
        spoken = _fill(pick(rng, EDITS[language]), scene, rng, language)
    elif kind == "question":
        question = _question(scene, rng, language)
        spoken = question.question
    elif kind == "name":
        names = tuple(pick(rng, NAMES[language]) for _ in range(2 if rng.random() < 0.3 else 1))
        phrases = NAME_PHRASES[language][len(names) - 1]
        spoken = _fill(pick(rng, phrases), scene, rng, language, names)
    elif kind == "words":
        spoken, names = _free_words(order, language)
    else:
        spoken = _fill(pick(rng, NUMBER_PHRASES[language]), scene, rng, language)
    voices = (TEST_VOICES if split == "test" else TRAIN_VOICES)[language]
    return Utterance(
        kind,
        language,
        transcript(spoken),
        spoken,
        pick(rng, pick(rng, voices)),
        rate=140 + int(rng.random() * 61),
        pitch=30 + int(rng.random() * 41),
        names=names,
        question=question,
    )


def transcript(sentence: str) -> str:
    """A sentence as it is written down: without punctuation."""
    return sentence.translate(_PUNCTUATION)


def context_of(
    names: Sequence[str], language: Language, rng: np.random.Generator
) -> tuple[str, ...]:
    """Names to listen for in random order: those given, and others that sound like none of them."""
    taken = {spelling for name in names for spelling in alike(name, language)}
    found = list(dict.fromkeys(names))
    low, high = CONTEXT_SIZE
    size = low + int(rng.random() * (high - low + 1))
    while len(found) < size:
        other = pick(rng, NAMES[language])
        if other not in taken:
            found.append(other)
            taken.update(alike(other, language))
    return tuple(found[i] for i in rng.permutation(len(found)))


@cache
def known_words(language: Language) -> tuple[str, ...]:
    """Every word, but for names, of what is said in a language."""
    if language == "zh":
        return (*chinese_words(), *(f"{tens}十" for tens in CHINESE_DIGITS[1:]), *CHINESE_DIGITS)
    templates = [
        *(phrase for kind in _ASKED for phrase in PHRASES[kind][language][:-1]),
        *EDITS[language],
        *chain(*NAME_PHRASES[language]),
        *NUMBER_PHRASES[language],
    ]
    words = {word for template in templates for word in transcript(template).split()}
    found = {word for word in words if "{" not in word} | {*english_words(), *NUMBER_WORDS}
    return tuple(sorted(found - _SOUND_ALIKE))


_SOUND_ALIKE = {"to", "colour"}  # as "two" and "color", which nothing around them tells apart


def _free_words(rng: np.random.Generator, language: Language) -> tuple[str, tuple[str, ...]]:
    """Two to eight words in any order, and the names among them."""
    words, names = [], []
    for _ in range(2 + int(rng.random() * 7)):
        if rng.random() < 0.1:
            names.append(pick(rng, NAMES[language]))
            words.append(names[-1])
        else:
            words.append(pick(rng, known_words(language)))
    return (" " if language == "en" else "").join(words), tuple(names)


def _question(scene: Scene, rng: np.random.Generator, language: Language) -> Question:
    asked: list[Question] = []
    while not asked:  # few kinds fit every scene
        asked = sample_questions(scene, rng, 1, language, _ASKED)
    return asked[0]


def _fill(
    phrase: str,
    scene: Scene,
    rng: np.random.Generator,
    language: Language,
    people: Sequence[str] = (),
) -> str:
    """A phrase about an object of the scene; every other word is drawn."""
    item = pick(rng, scene.objects)
    name = name_of(item, language, with_size=rng.random() < 0.3)
    return phrase.format(
        name=name,
        a_name=f"{article(name)} {name}",
        shape=SHAPES[item.shape][language],
        plural=PLURALS[item.shape][language],
        color=COLORS[pick(rng, tuple(COLORS))][language],
        grid=pick(rng, GRID)[language],
        hue=HUES[pick(rng, tuple(HUES))][language],
        number=number_words(rng, language),
        person=people[0] if people else "",
        friend=people[-1] if people else "",
    )


def heard_question(said: Utterance, rng: np.random.Generator) -> Question | None:
    """A question about what an utterance names; None if it names nothing exactly once."""
    found: dict[str, list[str]] = {
        "heard_color": _named(said, [word[said.lang] for word in COLORS.values()]),
        "heard_shape": _named(said, [word[said.lang] for word in SHAPES.values()]),
        # Of names that sound like another one, nobody could tell the spelling.
        "heard_name": [name for name in said.names if len(alike(name, said.lang)) == 1],
    }
    kinds = [kind for kind, words in found.items() if len(words) == 1]
    if not kinds:
        return None
    kind = pick(rng, kinds)
    phrases = HEARD_PHRASES[kind][said.lang]
    chosen = int(rng.random() * len(phrases))
    return Question(kind, said.lang, phrases[chosen], found[kind][0], chosen, ())


def _named(said: Utterance, words: Sequence[str]) -> list[str]:
    """Which of the words are said, as often as they are; English ones as whole words."""
    if said.lang == "en":
        return [word for word in said.text.split() if word in words]
    return [word for word in words for _ in range(said.text.count(word))]
