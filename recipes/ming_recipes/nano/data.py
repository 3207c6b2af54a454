"""Packed batches of shapes world: a row is a picture or video and the conversations that fit.

The conversations share the picture as their prefix, so a packed row gives the same values as
separate prompts, at a tenth of the cost. A row without a picture holds conversations about sounds,
each on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby

import torch
from torch import Tensor

from ming_core.chat.prompt import MediaTokens, Prompt, build_example
from ming_core.chat.tokenizer import Tokenizer
from ming_core.media import Image, Message, Video, assistant, user
from ming_core.model.config import BackboneConfig
from ming_core.model.encoder import Features, Processor, by_modality, item_seconds
from ming_core.model.omni import OmniBatch
from ming_core.model.positions import frame_grids, rope_index
from ming_core.release import Release
from ming_core.training.labels import IGNORED
from ming_core.training.packing import Placement, Sample, pack
from ming_recipes.nano.probes.cells import DenseLabels, dense_labels, token_of
from ming_recipes.nano.probes.speech import name_entries
from ming_recipes.nano.speech import Sounds
from ming_recipes.nano.world.batch import Example, Mix, training_example
from ming_recipes.nano.world.language import Motion, Question, reasoning
from ming_recipes.nano.world.scene import Scene
from ming_recipes.nano.world.wording import described
from ming_recipes.training.batch import Batch


@dataclass(frozen=True)
class Supervision:
    """What nano's objectives and scores need besides a batch.

    question [B, T], aligned with the input ids: the index into `questions` of the answer that a
    target belongs to, else -1. referent [B, T], aligned too: the image token that shows what a word
    of a description is about, else -1. scenes, motions: of each temporal patch, in the order of the
    visual tokens. sounds: all that is heard, in the order of the sound tokens.
    """

    question: Tensor
    referent: Tensor
    questions: list[Question]
    scenes: list[Scene]
    motions: list[Motion]
    sounds: Sounds | None = None

    @cached_property
    def cells(self) -> DenseLabels:
        """What lies where in the pictures."""
        return dense_labels(self.scenes, self.motions).to(self.question.device)

    def to(self, device: torch.device, dtype: torch.dtype) -> Supervision:
        """The sounds stay: encoders read those of the batch."""
        return replace(self, question=self.question.to(device), referent=self.referent.to(device))


DESCRIPTION = 2.0
"""Weight of a word of a description; a word of another answer of that length has the weight 1."""


class CachedTokenizer:
    """Templates and questions repeat: remember what they encode to."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.encode = lru_cache(65536)(tokenizer.encode)
        self.id = lru_cache(1024)(tokenizer.id)


@dataclass(frozen=True)
class Conversation:
    """turns: questions and answers by turns; each answer is to one of `questions`.

    sounds: what the turns' `Audio` parts stand for, in order, one utterance each. weight: of each
    token of the answers in the loss. None lies between "every token counts" and "every question
    counts": long descriptions must not drown one-word answers.
    """

    turns: list[Message]
    questions: tuple[Question, ...]
    sounds: tuple[Sounds, ...] = ()
    weight: float | None = None
    think: bool = False


@dataclass(frozen=True)
class Row:
    """Conversations about one picture or video, with which each begins, or about none.

    medium: its patches, not those of sounds. scenes, motions: as in `Example`.
    """

    conversations: list[Conversation]
    medium: Image | Video | None = None
    scenes: tuple[Scene, ...] = ()
    motions: tuple[Motion, ...] = ()


def row_of(example: Example) -> Row:
    """All that is asked about a picture or video of the world."""
    pictures = example.pictures
    medium = Video(pictures) if example.is_video else Image(pictures[0])
    conversations = []
    for dialogue in example.dialogues:
        turns: list[Message] = []
        for question in dialogue:
            answer = question.answer
            if example.think:
                thought = reasoning(example.scenes[0], question)
                answer = f"<think>\n{thought}\n</think>\n\n{answer}"
            turns += [user(question.question), assistant(answer)]
        turns[0] = user(medium, dialogue[0].question)
        conversations.append(Conversation(turns, dialogue, think=example.think))
    return Row(conversations, medium, example.scenes, example.motions)


class Packer:
    """Rows to packed batches for one preset's chat format, tokenizer and image processor.

    name_weight: of a name that sounds like another one in an answer, in multiples of other words.
    """

    def __init__(
        self,
        config: BackboneConfig,
        release: Release,
        tokenizer: Tokenizer,
        processor: Processor,
        capacity: int,
        name_weight: float = 1.0,
    ) -> None:
        self.config = config
        self.format = release.chat(config)
        self.rule = release.positions(config)
        self.tokenizer = CachedTokenizer(tokenizer)
        self.processor = processor
        self.capacity = capacity
        self.names = frozenset(name_entries(self.tokenizer))
        self.name_weight = name_weight
        self._positions: dict[tuple[tuple[int, ...], tuple[int, ...]], Tensor] = {}

    def __call__(self, rows: list[Row]) -> Batch:
        samples: list[Sample] = []
        places: list[Placement] = []
        features: list[Features] = []
        scenes: list[Scene] = []
        motions: list[Motion] = []
        heard: list[Sounds] = []
        questions: list[Question] = []
        of_targets: list[int] = []  # the index into `questions` of each target, in reading order
        about: list[int] = []  # and what it is about
        for index, row in enumerate(rows):
            shown = None if row.medium is None else self.processor([row.medium])
            used = 0
            for talk in row.conversations:
                prompt = self._prompt(talk, [] if shown is None else [shown])
                prefix = _end_of_medium(prompt) if shown is not None else 0
                size = len(prompt.input_ids) - (prefix if used else 0)
                if used + size > self.capacity:
                    continue
                weights = torch.zeros(len(prompt.input_ids))
                runs = _runs(prompt.targets)
                for question, (first, last) in zip(talk.questions, runs, strict=True):
                    words = prompt.input_ids[first:last]
                    weights[first:last] = self._weights(talk, question, words)
                    of_targets += [len(questions)] * len(words)
                    described = question.kind == "describe"
                    about += self._about(words, row.scenes[0]) if described else [-1] * len(words)
                    questions.append(question)
                samples.append(
                    Sample(
                        input_ids=torch.tensor(prompt.input_ids),
                        labels=torch.tensor(prompt.labels),
                        position_ids=self._places(prompt, prefix, shown),
                        modality_ids=torch.tensor(prompt.modality_ids),
                        weights=weights,
                        prefix=prefix,
                        group=index if prefix else None,
                    )
                )
                places.append(Placement(index, used))
                heard += talk.sounds
                used += size
            if shown is not None and (used or not row.conversations):
                features.append(shown)
                scenes += row.scenes
                motions += row.motions
        sounds = Sounds.joined(heard) if heard else None
        if not samples:
            return media_only(features, scenes, motions)
        packed = pack(samples, places, self.capacity, self.config.pad_token_id)
        omni = OmniBatch(
            input_ids=packed.input_ids,
            position_ids=packed.position_ids,
            modality_ids=packed.modality_ids,
            segment_ids=packed.segment_ids,
            mask=packed.mask,
            features=by_modality([*features, *([sounds.features] if sounds else [])]),
        )
        extra = Supervision(
            question=_at_targets(packed.labels, of_targets),
            referent=_at_targets(packed.labels, about),
            questions=questions,
            scenes=scenes,
            motions=motions,
            sounds=sounds,
        )
        return Batch(omni, packed.labels, packed.weights, packed.sample_ids, extra=extra)

    def tokens(self, talk: Conversation) -> int:
        """Length of a conversation without a picture."""
        return len(self._prompt(talk, []).input_ids)

    def _prompt(self, talk: Conversation, shown: list[Features]) -> Prompt:
        sizes = [MediaTokens(f.tokens[0], item_seconds(f)[0]) for f in shown]
        sizes += [MediaTokens(sound.features.tokens[0]) for sound in talk.sounds]
        return build_example(talk.turns, self.format, self.tokenizer, sizes, think=talk.think)

    def _weights(self, talk: Conversation, question: Question, words: Sequence[int]) -> Tensor:
        """What each target of an answer counts in the loss."""
        weight = talk.weight or len(words) ** -0.5
        if question.kind == "describe":
            weight *= DESCRIPTION
        found = torch.full((len(words),), weight)
        for place, word in enumerate(words):
            if word in self.names:
                found[place] *= self.name_weight
        return found

    def _about(self, words: Sequence[int], scene: Scene) -> list[int]:
        """The token of the picture that shows what each word of its description is about; -1 where
        it is about none: between the objects, and behind the last."""
        between, end = (
            {self.tokenizer.encode(mark)[0] for mark in marks} for marks in (";；", ".。")
        )
        shown = [token_of(item) for item in described(scene)]
        found, nth = [], 0
        for word in words:
            nth = len(shown) if word in end else nth
            speaks = nth < len(shown) and word not in between
            found.append(shown[nth] if speaks else -1)
            nth += word in between
        return found

    def _places(self, prompt: Prompt, prefix: int, shown: Features | None) -> Tensor:
        """Positions [3, T]: those of the medium, and from there on every token one further."""
        tail = torch.arange(len(prompt.input_ids) - prefix)
        if shown is None:
            return tail.expand(3, -1)
        assert shown.grid is not None
        ids = tuple(prompt.input_ids[:prefix])
        key = ids, tuple(shown.grid[0].tolist())
        if key not in self._positions:
            is_video = bool(item_seconds(shown)[0])
            still, moving = (None, frame_grids(shown.grid)) if is_video else (shown.grid, None)
            found, _ = rope_index(self.rule, torch.tensor([ids]), None, still, moving)
            self._positions[key] = found[:, 0]
        first = self._positions[key]
        return torch.cat((first, (first[0, -1] + 1 + tail).expand(3, -1)), dim=1)


def media_only(
    features: Sequence[Features],
    scenes: list[Scene],
    motions: list[Motion],
    sounds: Sounds | None = None,
) -> Batch:
    """A batch for encoders alone: its only token is padding."""
    none = torch.full((1, 1), -1)
    omni = OmniBatch(
        input_ids=none + 1,
        position_ids=torch.zeros(3, 1, 1, dtype=torch.long),
        modality_ids=none + 1,
        segment_ids=none,
        features=by_modality(features),
    )
    extra = Supervision(none, none, [], scenes, motions, sounds)
    return Batch(omni, torch.full((1, 1), IGNORED), torch.zeros(1, 1), none, extra=extra)


_CLOSING = 2
"""Tokens after the last patch that belong to the medium: end marker and newline of an image, end
markers of the last frame and of the video."""


def _end_of_medium(prompt: Prompt) -> int:
    """How many tokens the conversations of a row share: all up to the end of their medium."""
    last = [run for run in prompt.runs if run.index == 0][-1]
    return last.start + last.count + _CLOSING


def _at_targets(labels: Tensor, values: list[int]) -> Tensor:
    """One value for each target in reading order -> [B, T], -1 elsewhere."""
    wanted = labels != IGNORED
    return torch.full_like(labels, -1).masked_scatter(wanted, torch.tensor(values))


def _runs(targets: list[bool]) -> Iterator[tuple[int, int]]:
    """First index and one past the last of each run of targets."""
    for wanted, group in groupby(range(len(targets)), targets.__getitem__):
        if wanted:
            run = list(group)
            yield run[0], run[-1] + 1


def batches(
    packer: Packer, split: str, start: int, stop: int, size: int, mix: Mix
) -> Iterator[Batch]:
    """Batches of `size` consecutive examples of a split: a pure function of the indices."""
    for first in range(start, stop, size):
        last = min(first + size, stop)
        yield packer([row_of(training_example(i, mix, split)) for i in range(first, last)])
