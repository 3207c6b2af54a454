"""Packed batches of shapes world: a row is a picture or video and the conversations that fit.

A conversation sees the picture and itself only (a shared-prefix mask) and its positions continue
from the picture, so a packed row computes what separate prompts would, ten times cheaper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import torch
from torch import Tensor

from ming_core.chat.formats import ChatFormat
from ming_core.chat.prompt import IGNORED, MediaTokens, Prompt, build_example
from ming_core.chat.tokenizer import Tokenizer
from ming_core.config import BackboneConfig
from ming_core.media import Image, Message, Video, assistant, user
from ming_core.model.encoder import Features, Processor, by_modality
from ming_core.model.omni import OmniBatch
from ming_core.model.positions import frame_grids, rope_index
from ming_core.packing import prefix_segment_mask
from ming_recipes.world.batch import Example, Mix, training_example
from ming_recipes.world.language import Motion, Question, reasoning
from ming_recipes.world.scene import Scene


@dataclass(frozen=True)
class PackedBatch:
    """labels, weights, question [B, T] are aligned with the input ids: target tokens, their weight
    in the loss, and the index into `questions` of the answer that a target belongs to (else -1).

    scenes, motions: of each temporal patch, in the order of the visual tokens.
    """

    omni: OmniBatch
    labels: Tensor
    weights: Tensor
    question: Tensor
    questions: list[Question]
    scenes: list[Scene]
    motions: list[Motion]

    def moved(self, device: torch.device, dtype: torch.dtype) -> PackedBatch:
        return replace(
            self,
            omni=self.omni.to(device, dtype),
            labels=self.labels.to(device),
            weights=self.weights.to(device),
            question=self.question.to(device),
        )


class CachedTokenizer:
    """Templates and questions repeat: remember what they encode to."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.encode = lru_cache(65536)(tokenizer.encode)
        self.id = lru_cache(1024)(tokenizer.id)


class Packer:
    """Examples to packed batches for one preset's chat format, tokenizer and image processor."""

    def __init__(
        self,
        config: BackboneConfig,
        format: ChatFormat,
        tokenizer: Tokenizer,
        processor: Processor,
        capacity: int,
    ) -> None:
        self.config = config
        self.format = format
        self.tokenizer = CachedTokenizer(tokenizer)
        self.processor = processor
        self.capacity = capacity
        self._positions: dict[tuple[tuple[int, ...], tuple[int, int, int]], Tensor] = {}

    def __call__(self, examples: list[Example]) -> PackedBatch:
        features = by_modality([self._features(example) for example in examples])
        rows, size = len(examples), (len(examples), self.capacity)
        ids = torch.full(size, self.config.pad_token_id)
        segments = torch.full(size, -1)
        modality = torch.zeros(size, dtype=torch.long)
        positions = torch.ones(3, rows, self.capacity, dtype=torch.long)
        labels, asked = torch.full(size, IGNORED), torch.full(size, -1)
        weights = torch.zeros(size)
        questions: list[Question] = []
        grids, tokens = features[0].grid, features[0].tokens
        assert grids is not None
        sizes = [MediaTokens(*pair) for pair in zip(tokens, features[0].seconds, strict=True)]
        for row, example in enumerate(examples):
            used = segment = following = 0
            for dialogue in example.dialogues:
                prompt = self._prompt(example, dialogue, sizes[row])
                start = prompt.runs[-1].start + prompt.runs[-1].count + _CLOSING
                tail = len(prompt.input_ids) - start
                if used == 0:
                    prefix = tuple(prompt.input_ids[:start])
                    at = self._prefix(prefix, example.is_video, tuple(grids[row].tolist()))
                    ids[row, :start] = torch.tensor(prefix)
                    modality[row, :start] = torch.tensor(prompt.modality_ids[:start])
                    positions[:, row, :start] = at
                    segments[row, :start] = 0
                    used, following = start, int(at[0, -1]) + 1
                if used + tail > self.capacity:
                    continue
                segment += 1
                span = slice(used, used + tail)
                ids[row, span] = torch.tensor(prompt.input_ids[start:])
                segments[row, span] = segment
                positions[:, row, span] = torch.arange(following, following + tail)
                labels[row, span] = torch.tensor(prompt.labels[start:])
                for question, (first, last) in zip(dialogue, _runs(prompt.targets), strict=True):
                    answer = slice(used + first - start, used + last - start)
                    asked[row, answer] = len(questions)
                    # Between "every token counts" and "every question counts": long descriptions
                    # must not drown one-word answers.
                    weights[row, answer] = (last - first) ** -0.5
                    questions.append(question)
                used += tail
        omni = OmniBatch(
            input_ids=ids,
            position_ids=positions,
            modality_ids=modality,
            segment_ids=segments,
            mask=prefix_segment_mask(segments),
            features=features,
        )
        scenes = [scene for example in examples for scene in example.scenes]
        motions = [motion for example in examples for motion in example.motions]
        return PackedBatch(omni, labels, weights, asked, questions, scenes, motions)

    def _features(self, example: Example) -> Features:
        if example.is_video:
            return self.processor([Video(example.pictures)])
        return self.processor([Image(example.pictures[0])])

    def _prompt(
        self, example: Example, dialogue: tuple[Question, ...], size: MediaTokens
    ) -> Prompt:
        turns: list[Message] = []
        for question in dialogue:
            answer = question.answer
            if example.think:
                thought = reasoning(example.scenes[0], question)
                answer = f"<think>\n{thought}\n</think>\n\n{answer}"
            turns += [user(question.question), assistant(answer)]
        medium = _VIDEO if example.is_video else _IMAGE
        turns[0] = user(medium, dialogue[0].question)
        return build_example(turns, self.format, self.tokenizer, [size], think=example.think)

    def _prefix(self, ids: tuple[int, ...], is_video: bool, grid: tuple[int, int, int]) -> Tensor:
        key = ids, grid
        if key not in self._positions:
            grids = torch.tensor([grid])
            still, moving = (None, frame_grids(grids)) if is_video else (grids, None)
            found, _ = rope_index(self.config, torch.tensor([ids]), None, still, moving)
            self._positions[key] = found[:, 0]
        return self._positions[key]


_IMAGE, _VIDEO = Image(None), Video(None)
"""Stand for the row's picture in a prompt; its patches are the processor's business."""

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
        yield packer([training_example(index, mix, split) for index in range(first, last)])
