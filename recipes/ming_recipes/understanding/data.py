"""Packed batches of shapes world: one row is an image followed by as many questions as fit.

A question sees the image and itself only (a shared-prefix mask) and its positions continue from
the image, so a packed row computes what separate prompts would, ten times cheaper.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ming_core.chat.formats import ChatFormat
from ming_core.chat.prompt import MediaTokens, Prompt, build_example
from ming_core.chat.tokenizer import Tokenizer
from ming_core.config import BackboneConfig
from ming_core.media import Image, assistant, user
from ming_core.model.encoder import Processor
from ming_core.model.omni import OmniBatch
from ming_core.model.positions import rope_index
from ming_core.packing import prefix_segment_mask
from ming_recipes.world.batch import training_example
from ming_recipes.world.language import Question
from ming_recipes.world.scene import Scene


@dataclass(frozen=True)
class Example:
    """One image with its questions."""

    image: np.ndarray  # [64, 64, 3] uint8
    scene: Scene
    questions: list[Question]


@dataclass(frozen=True)
class PackedBatch:
    """labels, weights [B, T] aligned with the input ids; row_questions[b][s - 1] is segment s."""

    omni: OmniBatch
    labels: Tensor
    weights: Tensor
    scenes: list[Scene]
    row_questions: list[list[Question]]

    def moved(self, device: torch.device, dtype: torch.dtype) -> PackedBatch:
        return replace(
            self,
            omni=self.omni.to(device, dtype),
            labels=self.labels.to(device),
            weights=self.weights.to(device),
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

    def __call__(self, examples: list[Example]) -> PackedBatch:
        features = self.processor([Image(example.image) for example in examples])
        rows = len(examples)
        ids = torch.full((rows, self.capacity), self.config.pad_token_id)
        segments = torch.full((rows, self.capacity), -1)
        modality = torch.zeros(rows, self.capacity, dtype=torch.long)
        positions = torch.ones(3, rows, self.capacity, dtype=torch.long)
        labels = torch.full((rows, self.capacity), -100)
        weights = torch.zeros(rows, self.capacity)
        kept: list[list[Question]] = []
        grids = features.grid
        assert grids is not None
        for row, example in enumerate(examples):
            kept.append([])
            used = 0
            for question in example.questions:
                prompt = self._prompt(question, features.tokens[row])
                start = _prefix_length(prompt)
                tail = len(prompt.input_ids) - start
                if used == 0:
                    at, used = self._prefix(tuple(prompt.input_ids[:start]), grids[row])
                    ids[row, :start] = torch.tensor(prompt.input_ids[:start])
                    modality[row, :start] = torch.tensor(prompt.modality_ids[:start])
                    positions[:, row, :start] = at
                    segments[row, :start] = 0
                    following = int(at[0, -1]) + 1
                if used + tail > self.capacity:
                    continue
                span = slice(used, used + tail)
                kept[-1].append(question)
                ids[row, span] = torch.tensor(prompt.input_ids[start:])
                segments[row, span] = len(kept[-1])
                positions[:, row, span] = torch.arange(following, following + tail)
                target = torch.tensor(prompt.labels[start:])
                labels[row, span] = target
                # Between "every token counts" and "every question counts": long descriptions
                # must not drown one-word answers.
                weights[row, span] = float((target >= 0).sum()) ** -0.5
                used += tail
        omni = OmniBatch(
            input_ids=ids,
            position_ids=positions,
            modality_ids=modality,
            segment_ids=segments,
            mask=prefix_segment_mask(segments),
            features=[features],
        )
        scenes = [example.scene for example in examples]
        return PackedBatch(omni, labels, weights, scenes, kept)

    def _prompt(self, question: Question, image_tokens: int) -> Prompt:
        turns = [user(_IMAGE, question.question), assistant(question.answer)]
        return build_example(turns, self.format, self.tokenizer, [MediaTokens(image_tokens)])

    def _prefix(self, ids: tuple[int, ...], grid: Tensor) -> tuple[Tensor, int]:
        positions, _ = rope_index(self.config, torch.tensor([ids]), None, grid[None])
        return positions[:, 0], len(ids)


_IMAGE = Image(None)
"""Stands for the row's picture in a prompt; its patches are the processor's business."""


def _prefix_length(prompt: Prompt) -> int:
    """Tokens up to and including the image block; what follows is the question."""
    run = prompt.runs[0]
    return run.start + run.count + 2  # the end marker and the newline


def batches(
    packer: Packer, split: str, start: int, stop: int, size: int, **options: Any
) -> Iterator[PackedBatch]:
    """Batches of `size` consecutive examples of a split: a pure function of the indices."""
    for first in range(start, stop, size):
        examples = [
            Example(*training_example(index, split=split, **options))
            for index in range(first, min(first + size, stop))
        ]
        yield packer(examples)
