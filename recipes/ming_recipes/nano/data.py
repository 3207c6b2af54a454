"""Packed batches of shapes world: a row is a picture or video and the conversations that fit.

A conversation sees only the picture and itself (a shared-prefix mask), and its positions go on from
the picture. So a packed row gives the same values as separate prompts, at a tenth of the cost. A
row without a picture holds conversations about sounds, each on its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor

from ming_core.chat.prompt import MediaTokens, Prompt, build_example
from ming_core.chat.tokenizer import Tokenizer
from ming_core.media import Image, Message, Video, assistant, user
from ming_core.model.config import BackboneConfig
from ming_core.model.encoder import Features, Processor, by_modality, item_seconds
from ming_core.model.masks import prefix_segment_mask
from ming_core.model.omni import OmniBatch
from ming_core.model.positions import frame_grids, rope_index
from ming_core.release import Release
from ming_core.training.labels import IGNORED
from ming_recipes.nano.dense import token_of
from ming_recipes.nano.speech import Sounds
from ming_recipes.nano.world.batch import Example, Mix, training_example
from ming_recipes.nano.world.language import Motion, Question, reasoning
from ming_recipes.nano.world.scene import Scene
from ming_recipes.nano.world.wording import described


@dataclass(frozen=True)
class PackedBatch:
    """labels, weights, question [B, T] are aligned with the input ids: target tokens, their weight
    in the loss, and the index into `questions` of the answer that a target belongs to (else -1).

    told [B, T], aligned too: the image token that shows what a word of a description is about, else
    -1. scenes, motions: of each temporal patch, in the order of the visual tokens. sounds: all that
    is heard, in the order of the sound tokens.
    """

    omni: OmniBatch
    labels: Tensor
    weights: Tensor
    question: Tensor
    told: Tensor
    questions: list[Question]
    scenes: list[Scene]
    motions: list[Motion]
    sounds: Sounds | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> PackedBatch:
        return replace(
            self,
            omni=self.omni.to(device, dtype),
            labels=self.labels.to(device),
            weights=self.weights.to(device),
            question=self.question.to(device),
            told=self.told.to(device),
            sounds=self.sounds and self.sounds.to(device, dtype),
        )


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
    """Rows to packed batches for one preset's chat format, tokenizer and image processor."""

    def __init__(
        self,
        config: BackboneConfig,
        release: Release,
        tokenizer: Tokenizer,
        processor: Processor,
        capacity: int,
    ) -> None:
        self.config = config
        self.format = release.chat(config)
        self.rule = release.positions(config)
        self.tokenizer = CachedTokenizer(tokenizer)
        self.processor = processor
        self.capacity = capacity
        self._positions: dict[tuple[tuple[int, ...], tuple[int, ...]], Tensor] = {}

    def __call__(self, rows: list[Row]) -> PackedBatch:
        size = len(rows), self.capacity
        ids = torch.full(size, self.config.pad_token_id)
        segments = torch.full(size, -1)
        modality = torch.zeros(size, dtype=torch.long)
        positions = torch.ones(3, *size, dtype=torch.long)
        labels = torch.full(size, IGNORED)
        asked, told = torch.full(size, -1), torch.full(size, -1)
        weights = torch.zeros(size)
        questions: list[Question] = []
        seen: list[Features] = []
        heard: list[Sounds] = []
        for index, row in enumerate(rows):
            used = segment = following = 0
            shown = [] if row.medium is None else [self.processor([row.medium])]
            seen += shown
            sizes = [MediaTokens(f.tokens[0], item_seconds(f)[0]) for f in shown]
            for talk in row.conversations:
                prompt = self._prompt(talk, sizes)
                start = 0
                if shown:
                    last = [run for run in prompt.runs if run.index == 0][-1]
                    start = last.start + last.count + _CLOSING
                tail = len(prompt.input_ids) - start
                if used == 0 and shown:
                    prefix = tuple(prompt.input_ids[:start])
                    at = self._prefix(prefix, shown[0])
                    ids[index, :start] = torch.tensor(prefix)
                    modality[index, :start] = torch.tensor(prompt.modality_ids[:start])
                    positions[:, index, :start] = at
                    segments[index, :start] = 0
                    used, following = start, int(at[0, -1]) + 1
                if used + tail > self.capacity:
                    continue
                segment += 1
                span = slice(used, used + tail)
                ids[index, span] = torch.tensor(prompt.input_ids[start:])
                modality[index, span] = torch.tensor(prompt.modality_ids[start:])
                segments[index, span] = segment
                positions[:, index, span] = torch.arange(following, following + tail)
                labels[index, span] = torch.tensor(prompt.labels[start:])
                heard += talk.sounds
                runs = _runs(prompt.targets)
                for question, (first, last_target) in zip(talk.questions, runs, strict=True):
                    answer = slice(used + first - start, used + last_target - start)
                    asked[index, answer] = len(questions)
                    weights[index, answer] = talk.weight or (last_target - first) ** -0.5
                    if question.kind == "describe":
                        weights[index, answer] *= DESCRIPTION
                        words = prompt.input_ids[first:last_target]
                        told[index, answer] = torch.tensor(self._told(words, row.scenes[0]))
                    questions.append(question)
                used += tail
        sounds = Sounds.joined(heard) if heard else None
        omni = OmniBatch(
            input_ids=ids,
            position_ids=positions,
            modality_ids=modality,
            segment_ids=segments,
            mask=prefix_segment_mask(segments),
            features=by_modality([*seen, *([sounds.features] if sounds else [])]),
        )
        scenes = [scene for row in rows for scene in row.scenes]
        motions = [motion for row in rows for motion in row.motions]
        return PackedBatch(omni, labels, weights, asked, told, questions, scenes, motions, sounds)

    def tokens(self, talk: Conversation) -> int:
        """Length of a conversation without a picture."""
        return len(self._prompt(talk, []).input_ids)

    def _prompt(self, talk: Conversation, shown: list[MediaTokens]) -> Prompt:
        heard = [MediaTokens(sound.features.tokens[0]) for sound in talk.sounds]
        sizes = [*shown, *heard]
        return build_example(talk.turns, self.format, self.tokenizer, sizes, think=talk.think)

    def _told(self, words: Sequence[int], scene: Scene) -> list[int]:
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

    def _prefix(self, ids: tuple[int, ...], shown: Features) -> Tensor:
        assert shown.grid is not None
        key = ids, tuple(shown.grid[0].tolist())
        if key not in self._positions:
            grids = shown.grid
            is_video = bool(item_seconds(shown)[0])
            still, moving = (None, frame_grids(grids)) if is_video else (grids, None)
            found, _ = rope_index(self.rule, torch.tensor([ids]), None, still, moving)
            self._positions[key] = found[:, 0]
        return self._positions[key]


_CLOSING = 2
"""Tokens after the last patch that belong to the medium: end marker and newline of an image, end
markers of the last frame and of the video."""


def _runs(targets: list[bool]) -> Iterator[tuple[int, int]]:
    """First index and one past the last of each run of targets."""
    for wanted, group in groupby(range(len(targets)), targets.__getitem__):
        if wanted:
            where = list(group)
            yield where[0], where[-1] + 1


def batches(
    packer: Packer, split: str, start: int, stop: int, size: int, mix: Mix
) -> Iterator[PackedBatch]:
    """Batches of `size` consecutive examples of a split: a pure function of the indices."""
    for first in range(start, stop, size):
        last = min(first + size, stop)
        yield packer([row_of(training_example(i, mix, split)) for i in range(first, last)])
