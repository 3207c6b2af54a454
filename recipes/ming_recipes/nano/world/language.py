"""Questions about a scene with their answers.

English and Chinese ask the same. Every question is unambiguous by construction, and a colour-shape
pair that is held out is named only if the scene itself comes from the compositional split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ming_core.errors import BadConfig, UnknownName
from ming_recipes.nano.world.loose import MORE_PHRASES, loosened
from ming_recipes.nano.world.phrases import FOLLOW_UPS, PHRASES
from ming_recipes.nano.world.scene import Scene, SceneObject, pick, relation
from ming_recipes.nano.world.vocabulary import (
    CANVAS,
    COLORS,
    DIRECTIONS,
    GRID,
    HELD_OUT,
    OPPOSITE,
    PLURALS,
    RELATIONS,
    SHAPES,
    SIDES,
    SIZES,
    Language,
)
from ming_recipes.nano.world.wording import (
    article,
    background_words,
    describe,
    draw_language,
    name_of,
    name_words,
)

KIND_WEIGHTS: dict[str, float] = {
    "count_all": 0.6,
    "count_color": 1.0,
    "count_shape": 1.2,
    "exist": 1.8,
    "color": 1.0,
    "shape": 1.0,
    "size": 1.0,
    "position": 2.0,
    "relation": 3.0,
    "relation_side": 2.4,
    "relation_query": 2.0,
    "text": 6.0,  # only 3 scenes of 10 hold text
    "background": 0.5,
    "locate": 2.5,
    "click": 1.0,
    "describe": 0.6,
}
"""Relative frequency of the kinds in training: what is hard is asked more often."""

VIDEO_WEIGHTS: dict[str, float] = {
    "video_direction": 3.0,
    "video_count": 1.0,
    "video_which": 1.0,
    "video_moves": 1.5,
    # Of a still: what motion does not change.
    "count_all": 0.3,
    "count_color": 0.3,
    "exist": 0.4,
    "color": 0.4,
    "shape": 0.4,
    "size": 0.4,
    "background": 0.2,
}
"""The same for videos."""

KINDS = tuple(KIND_WEIGHTS)
VIDEO_KINDS = tuple(kind for kind in VIDEO_WEIGHTS if kind not in KIND_WEIGHTS)

Motion = tuple[tuple[int, int] | None, ...]
"""Per object of a scene: the direction of its motion, a key of DIRECTIONS, or None at rest."""

ANTECEDENTS = ("exist", "color", "shape", "size", "position", "locate", "click")
"""Kinds of question after which "it" denotes their one object."""

_ABSENT = 0.3  # share of counting questions whose answer is 0
_WITH_SIZE = 0.2  # share of names that carry a size although they are unique without it
# A single answer per scene: once is enough.
_ONCE = ("count_all", "background", "describe", "video_count", "video_which")
_LANGUAGES: tuple[Language, Language] = ("en", "zh")
_YES_NO: dict[Language, tuple[str, str]] = {"en": ("yes", "no"), "zh": ("是", "不是")}
_EXIST: dict[Language, tuple[str, str]] = {"en": ("yes", "no"), "zh": ("有", "没有")}


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its only right answer.

    paraphrase indexes the phrases of the kind; objects are the indices of the scene objects that
    the question names or its answer is about; follows: it says "it" of the question before.
    """

    kind: str
    lang: Language
    question: str
    answer: str
    paraphrase: int
    objects: tuple[int, ...]
    follows: bool = False


def questions(
    scene: Scene,
    rng: np.random.Generator,
    language: Language,
    held_out_phrasing: bool = False,
    kinds: Sequence[str] | None = None,
    motion: Motion = (),
) -> list[Question]:
    """One question of each kind that the scene allows, in the order of `kinds`.

    held_out_phrasing asks with the phrase that training never uses; with motion the kinds of a
    video are asked. Raises UnknownName for a kind that does not exist and BadConfig for another
    language than en or zh.
    """
    facts = _Facts(scene, motion)
    kinds = VIDEO_KINDS if motion and kinds is None else kinds
    found = (
        _ask(facts, kind, rng, _checked(language), held_out_phrasing)
        for kind in _checked_kinds(kinds)
    )
    return [question for question in found if question is not None]


def sample_questions(
    scene: Scene,
    rng: np.random.Generator,
    count: int,
    language: Language | None = None,
    kinds: Sequence[str] | None = None,
    focus: Mapping[str, float] | None = None,
    motion: Motion = (),
    more_phrases: float = 0.0,
) -> list[Question]:
    """Up to `count` different questions by KIND_WEIGHTS; language None mixes 70 / 30.

    focus multiplies the weights of some kinds; with motion the questions are about a video, by
    VIDEO_WEIGHTS. more_phrases: the share that is asked as in `world.loose`. A scene with a single
    object may allow fewer.
    """
    if language is not None:
        _checked(language)
    facts = _Facts(scene, motion)
    focus = focus or {}
    weights = VIDEO_WEIGHTS if motion else KIND_WEIGHTS
    chosen = tuple(weights) if kinds is None else _checked_kinds(kinds)
    open_kinds = {kind: weights[kind] * focus.get(kind, 1.0) for kind in chosen}
    if scene.text is None:
        open_kinds.pop("text", None)
    if not facts.relations:
        for kind in ("relation", "relation_side", "relation_query"):
            open_kinds.pop(kind, None)
    total = sum(open_kinds.values())
    seen: set[str] = set()
    drawn: list[Question] = []
    for _ in range(4 * count):
        if len(drawn) == count or not open_kinds:
            break
        point = rng.random() * total
        for kind, weight in open_kinds.items():  # noqa: B007 - the kind at the break is meant
            point -= weight
            if point < 0:
                break
        question = _ask(facts, kind, rng, language or draw_language(rng), False, more_phrases)
        if question is None:
            total -= open_kinds.pop(kind)
            continue
        if kind in _ONCE:
            total -= open_kinds.pop(kind)
        if question.question not in seen:
            seen.add(question.question)
            drawn.append(question)
    return drawn


def follow_up(
    scene: Scene,
    before: Question,
    rng: np.random.Generator,
    held_out_phrasing: bool = False,
) -> Question | None:
    """A question about "it", the one object of the question before; None if that has not one."""
    if before.kind not in ANTECEDENTS or len(before.objects) != 1:
        return None
    kind = pick(rng, tuple(kind for kind in FOLLOW_UPS if kind != before.kind))
    index, language = before.objects[0], before.lang
    item = scene.objects[index]
    answer = {
        "color": COLORS[item.color][language],
        "size": SIZES[item.size][language],
        "position": GRID[item.grid][language],
        "locate": _box(item),
    }[kind]
    phrases = FOLLOW_UPS[kind][language]
    chosen = _draw_phrase(phrases, rng, held_out_phrasing)
    return Question(kind, language, phrases[chosen], answer, chosen, (index,), follows=True)


def reasoning(scene: Scene, question: Question) -> str:
    """The thought before an answer: which objects matter, and their centres x y in px."""
    return (
        "; ".join(
            f"{name_of(item, question.lang)} {_two_digits(item.x)} {_two_digits(item.y)}"
            for item in (scene.objects[index] for index in question.objects)
        )
        or {"en": "no", "zh": "没有"}[question.lang]
    )


class _Facts:
    """What the askers look up, computed once per scene."""

    def __init__(self, scene: Scene, motion: Motion = ()) -> None:
        self.scene = scene
        self.motion = motion
        self.moving = tuple(i for i, direction in enumerate(motion) if direction is not None)
        self.objects = scene.objects
        self.colors = Counter(item.color for item in scene.objects)
        self.shapes = Counter(item.shape for item in scene.objects)
        self.pairs = Counter((item.color, item.shape) for item in scene.objects)
        self.triples = Counter((item.size, item.color, item.shape) for item in scene.objects)
        self.names_unseen = not HELD_OUT.isdisjoint(self.pairs)

    @cached_property
    def named(self) -> list[int]:
        """Objects that a name, with its size if need be, denotes alone."""
        return [
            index
            for index, item in enumerate(self.objects)
            if self.pairs[item.color, item.shape] == 1
            or self.triples[item.size, item.color, item.shape] == 1
        ]

    @cached_property
    def relations(self) -> list[tuple[int, int, str]]:
        """(a, b, relation of a to b) for all clear pairs of uniquely named objects."""
        found = []
        for a in self.named:
            for b in self.named:
                if a != b:
                    rel = relation(self.objects[a], self.objects[b])
                    if rel is not None:
                        found.append((a, b, rel))
        return found

    @cached_property
    def only_relations(self) -> list[tuple[int, int, str]]:
        """(b, a, relation) where a is the only object of all in that relation to b."""
        found = []
        for b in self.named:
            around: dict[str, list[int]] = {}
            for a, item in enumerate(self.objects):
                if a != b:
                    rel = relation(item, self.objects[b])
                    if rel is not None:
                        around.setdefault(rel, []).append(a)
            found += [(b, those[0], rel) for rel, those in around.items() if len(those) == 1]
        return found

    def reference(self, index: int, rng: np.random.Generator, language: Language) -> str:
        """A name that denotes the object alone."""
        item = self.objects[index]
        unique = self.pairs[item.color, item.shape] == 1
        return name_of(item, language, with_size=not unique or rng.random() < _WITH_SIZE)


Slots = Mapping[str, str]
Draft = tuple[Slots, str, tuple[int, ...]]
"""Words for the phrase, the answer, the objects used."""


def _count_all(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    return {}, str(len(facts.objects)), tuple(range(len(facts.objects)))


def _count_color(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    color = _counted(facts.colors, _COLOR_NAMES, rng)
    used = tuple(index for index, item in enumerate(facts.objects) if item.color == color)
    return {"color": COLORS[color][language]}, str(len(used)), used


def _count_shape(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    shape = _counted(facts.shapes, _SHAPE_NAMES, rng)
    used = tuple(index for index, item in enumerate(facts.objects) if item.shape == shape)
    slots = {"shape": SHAPES[shape][language], "plural": PLURALS[shape][language]}
    return slots, str(len(used)), used


def _exist(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    if rng.random() < 0.5:
        color, shape = pick(rng, tuple(facts.pairs))
        used = tuple(
            index
            for index, item in enumerate(facts.objects)
            if item.color == color and item.shape == shape
        )
    else:
        color, shape = _near_miss(facts, rng)
        used = ()
    name = name_words(color, shape, language)
    slots = {"name": name, "a_name": f"{article(name)} {name}"}
    return slots, _EXIST[language][0 if used else 1], used


def _color(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    options = [i for i, item in enumerate(facts.objects) if facts.shapes[item.shape] == 1]
    if not options:
        return None
    index = pick(rng, options)
    item = facts.objects[index]
    return {"shape": SHAPES[item.shape][language]}, COLORS[item.color][language], (index,)


def _shape(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    options = [i for i, item in enumerate(facts.objects) if facts.colors[item.color] == 1]
    if not options:
        return None
    index = pick(rng, options)
    item = facts.objects[index]
    return {"color": COLORS[item.color][language]}, SHAPES[item.shape][language], (index,)


def _size(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    options = [
        i for i, item in enumerate(facts.objects) if facts.pairs[item.color, item.shape] == 1
    ]
    if not options:
        return None
    index = pick(rng, options)
    item = facts.objects[index]
    return {"name": name_of(item, language)}, SIZES[item.size][language], (index,)


def _position(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    if not facts.named:
        return None
    index = pick(rng, facts.named)
    slots = {"name": facts.reference(index, rng, language)}
    return slots, GRID[facts.objects[index].grid][language], (index,)


def _relation(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    if not facts.relations:
        return None
    a, b, rel = pick(rng, facts.relations)
    holds = rng.random() < 0.5
    slots = {
        "a": facts.reference(a, rng, language),
        "b": facts.reference(b, rng, language),
        "rel": RELATIONS[rel if holds else OPPOSITE[rel]][language],
    }
    return slots, _YES_NO[language][0 if holds else 1], (a, b)


def _relation_side(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    if not facts.relations:
        return None
    a, b, rel = pick(rng, facts.relations)
    slots = {"a": facts.reference(a, rng, language), "b": facts.reference(b, rng, language)}
    return slots, SIDES[rel][language], (a, b)


def _relation_query(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    if not facts.only_relations:
        return None
    b, a, rel = pick(rng, facts.only_relations)
    slots = {"name": facts.reference(b, rng, language), "rel": RELATIONS[rel][language]}
    return slots, name_of(facts.objects[a], language), (b, a)


def _text(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    text = facts.scene.text
    return None if text is None else ({}, text.value, ())


def _background(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    return {}, background_words(facts.scene, language), ()


def _locate(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    if not facts.named:
        return None
    index = pick(rng, facts.named)
    slots = {"name": facts.reference(index, rng, language)}
    return slots, _box(facts.objects[index]), (index,)


def _click(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    if not facts.named:
        return None
    index = pick(rng, facts.named)
    item = facts.objects[index]
    x, y = ((position + 0.5) / CANVAS for position in (item.x, item.y))
    slots = {"name": facts.reference(index, rng, language)}
    return slots, f"click(x={x:.2f},y={y:.2f})", (index,)


def _video_direction(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    options = [index for index in facts.moving if index in facts.named]
    if not options:
        return None
    index = pick(rng, options)
    direction = facts.motion[index]
    assert direction is not None
    return _video_name(facts, index, language), DIRECTIONS[direction][language], (index,)


def _video_count(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    return {}, str(len(facts.moving)), facts.moving


def _video_which(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    if len(facts.moving) != 1:
        return None
    return {}, name_of(facts.objects[facts.moving[0]], language), facts.moving


def _video_moves(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    moving = [index for index in facts.named if index in facts.moving]
    resting = [index for index in facts.named if index not in facts.moving]
    if not moving or not resting:  # else the answer shows in whether it is asked
        return None
    holds = rng.random() < 0.5
    index = pick(rng, moving if holds else resting)
    return _video_name(facts, index, language), _YES_NO[language][0 if holds else 1], (index,)


def _video_name(facts: _Facts, index: int, language: Language) -> Slots:
    item = facts.objects[index]
    return {"name": name_of(item, language, facts.pairs[item.color, item.shape] > 1)}


def _describe(facts: _Facts, rng: np.random.Generator, language: Language) -> Draft | None:
    return {}, describe(facts.scene, language), tuple(range(len(facts.objects)))


_ASKERS: dict[str, Callable[[_Facts, np.random.Generator, Language], Draft | None]] = {
    "count_all": _count_all,
    "count_color": _count_color,
    "count_shape": _count_shape,
    "exist": _exist,
    "color": _color,
    "shape": _shape,
    "size": _size,
    "position": _position,
    "relation": _relation,
    "relation_side": _relation_side,
    "relation_query": _relation_query,
    "text": _text,
    "background": _background,
    "locate": _locate,
    "click": _click,
    "describe": _describe,
    "video_direction": _video_direction,
    "video_count": _video_count,
    "video_which": _video_which,
    "video_moves": _video_moves,
}
_COLOR_NAMES, _SHAPE_NAMES = tuple(COLORS), tuple(SHAPES)


def _ask(
    facts: _Facts,
    kind: str,
    rng: np.random.Generator,
    language: Language,
    held_out: bool,
    more_phrases: float = 0.0,
) -> Question | None:
    draft = _ASKERS[kind](facts, rng, language)
    if draft is None:
        return None
    slots, answer, used = draft
    phrases = PHRASES[kind][language]
    if more_phrases and rng.random() < more_phrases:
        known, more = phrases[:-1], MORE_PHRASES[kind][language]
        chosen = int(rng.random() * (len(known) + len(more)))
        asked = loosened((*known, *more)[chosen].format_map(slots), language, rng)
        # Those of `known` keep their number, others count on behind the held-out one.
        number = chosen + (chosen >= len(known))
        return Question(kind, language, asked, answer, number, used)
    chosen = _draw_phrase(phrases, rng, held_out)
    return Question(kind, language, phrases[chosen].format_map(slots), answer, chosen, used)


def _draw_phrase(phrases: Sequence[str], rng: np.random.Generator, held_out: bool) -> int:
    last = len(phrases) - 1
    return last if held_out else int(rng.random() * last)


def _box(item: SceneObject) -> str:
    return " ".join(f"{value:02d}" for value in item.box)


def _two_digits(position: float) -> str:
    return f"{min(max(round(position), 0), CANVAS - 1):02d}"


def _counted(present: Counter[str], names: Sequence[str], rng: np.random.Generator) -> str:
    """A name to count: absent 3 times of 10, else each count that occurs is equally likely."""
    if rng.random() < _ABSENT:
        return pick(rng, [name for name in names if name not in present])
    count = pick(rng, sorted(set(present.values())))
    return pick(rng, [name for name, times in present.items() if times == count])


def _near_miss(facts: _Facts, rng: np.random.Generator) -> tuple[str, str]:
    """An absent pair: two present objects recombined, or one of colour and shape changed."""
    while True:
        item = pick(rng, facts.objects)
        flavour = rng.random() * 3
        if flavour < 1:
            pair = (item.color, pick(rng, facts.objects).shape)
        elif flavour < 2:
            pair = (item.color, pick(rng, _SHAPE_NAMES))
        else:
            pair = (pick(rng, _COLOR_NAMES), item.shape)
        if pair not in facts.pairs and (facts.names_unseen or pair not in HELD_OUT):
            return pair


def _checked(language: Language) -> Language:
    if language not in _LANGUAGES:
        raise BadConfig(f"language is {language!r}; choose 'en' or 'zh'")
    return language


def _checked_kinds(kinds: Sequence[str] | None) -> Sequence[str]:
    if kinds is None:
        return KINDS
    for kind in kinds:
        if kind not in _ASKERS:
            raise UnknownName("question kind", kind, tuple(_ASKERS))
    return kinds
