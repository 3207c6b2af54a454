"""Dense supervision of the image tokens, used in training only and never shipped.

The language model learns which word belongs to which place only after the image tokens say what is
where. Two losses teach this to the tower, at the tokens that the language model reads. In the
first, linear heads name the content of each cell of 8 x 8 px. The second moves a token towards the
embeddings of the words for what it shows: objects, characters, "text". Without the second loss, the
model only guesses, except for counts and backgrounds.

Three more losses belong to early layers of the language model. One predicts the place of each image
token in the picture, because rotary positions only give places relative to other tokens. One, a
layer later, predicts in which ninth of the picture the centre of an object lies. The last one
predicts, for the words of a description, the image token that shows their object. Without it, the
model takes the shape of the wrong object if two objects have the same colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_core.training.labels import IGNORED
from ming_recipes.nano.losses import cross_entropy_where_asked
from ming_recipes.nano.world.batch import CHARACTERS, cell_labels, cell_of
from ming_recipes.nano.world.language import Motion
from ming_recipes.nano.world.scene import Scene, SceneObject
from ming_recipes.nano.world.vocabulary import (
    CANVAS,
    COLORS,
    DIRECTIONS,
    GRID,
    HUES,
    SHAPES,
    SIZES,
    TEXTURES,
)

CELLS = 8  # per side of the canvas
TOKEN_CELLS = 2  # a merged token covers 2x2 cells
TOKENS = (CELLS // TOKEN_CELLS) ** 2  # of a picture
WHERE_LAYER = 1  # of the language model: after it a token must know its place
GRID_LAYER = 2  # after it a token must know in which third of the picture its objects are
TOLD_LAYER = 3  # after it a word of a description must know what it is about
EMPTY_WEIGHT = 0.15  # of a cell without a character
PRESENT_WEIGHT = 4.0  # in the alignment, of a word that fits: most words fit few tokens
ALIGN_SCALE = 0.2  # brings the alignment loss of a token to the size of the others

_WIDTHS = {
    "object": 1,
    "shape": len(SHAPES),
    "color": len(COLORS),
    "size": len(SIZES),
    "place": 3,
    "motion": 1 + len(DIRECTIONS),
    "character": len(CHARACTERS) + 1,
}
"""Outputs of the cell heads; the last character class is none."""


@dataclass(frozen=True)
class DenseLabels:
    """Per image and token; the four cells of a token are in row order.

    shape, color, size [B, M, 4] int64, -1 where no object's centre falls into the cell;
    motion [B, M, 4] int64, 0 at rest, else 1 + index of the direction; place [B, M, 4, 3] centre
    within the cell and radius in cells; character [B, M, 4] int64; hue, texture [B] int64;
    words [B, M, W] multi-hot over `aligned_words`.
    """

    shape: Tensor
    color: Tensor
    size: Tensor
    motion: Tensor
    place: Tensor
    character: Tensor
    hue: Tensor
    texture: Tensor
    words: Tensor


def aligned_words() -> list[tuple[str, str]]:
    """English and Chinese text of the words that tokens are aligned with, in the order of the
    multi-hot; each is one entry of the tokenizer."""
    words = [word for table in (SHAPES, COLORS, SIZES) for word in table.values()]
    pairs = [(f" {word.en}", word.zh) for word in words]
    return [*pairs, *((character, character) for character in CHARACTERS), (" text", "文字")]


def dense_labels(scenes: Sequence[Scene], motions: Sequence[Motion]) -> DenseLabels:
    """Targets of a batch of scenes; motions: per scene and object."""
    cells = [cell_labels(scene, CELLS) for scene in scenes]
    # Index -1, no object, falls on the last entry.
    moves = [
        np.array([_MOTION_CLASS[direction] for direction in (*motion, None)])[cell.index]
        for cell, motion in zip(cells, motions, strict=True)
    ]

    def grouped(name: str) -> Tensor:
        return _by_token(torch.from_numpy(np.stack([getattr(cell, name) for cell in cells])))

    character = grouped("character")
    written = F.one_hot(character.clamp(min=0), len(CHARACTERS)) * (character >= 0).unsqueeze(-1)
    written = written.amax(2)
    place = (grouped("offset"), grouped("radius").unsqueeze(-1) * (CELLS / CANVAS))
    hues, textures = list(HUES), list(TEXTURES)
    return DenseLabels(
        shape=grouped("shape"),
        color=grouped("color"),
        size=grouped("size"),
        motion=_by_token(torch.from_numpy(np.stack(moves))),
        place=torch.cat(place, dim=-1),
        character=character.where(character >= 0, len(CHARACTERS)),
        hue=torch.tensor([_among(hues, scene.background.hue) for scene in scenes]),
        texture=torch.tensor([_among(textures, scene.background.texture) for scene in scenes]),
        words=torch.cat(
            (grouped("attributes").amax(2), written, written.amax(-1, keepdim=True)), dim=-1
        ),
    )


def _among(names: Sequence[str], name: str) -> int:
    """The index of a name; what is not of the world is not asked."""
    return names.index(name) if name in names else IGNORED


_MOTION_CLASS = {None: 0} | {direction: 1 + i for i, direction in enumerate(DIRECTIONS)}


def _by_token(x: Tensor) -> Tensor:
    """[B, 8 rows, 8 columns, ...] -> [B, 16 tokens, 4 cells, ...]"""
    x = x.unflatten(1, (-1, TOKEN_CELLS)).unflatten(3, (-1, TOKEN_CELLS))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class DenseHeads(nn.Module):
    """Linear readers of the image tokens; two scalars calibrate the alignment's cosines."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.cells = nn.Linear(hidden_size, TOKEN_CELLS**2 * sum(_WIDTHS.values()))
        self.background = nn.Linear(hidden_size, len(HUES) + len(TEXTURES))
        self.where = nn.Linear(hidden_size, TOKENS)
        self.grid = nn.Linear(hidden_size, TOKEN_CELLS**2 * len(GRID))
        self.told = nn.Linear(hidden_size, TOKENS)
        self.align_scale = nn.Parameter(torch.tensor(8.0))
        self.align_bias = nn.Parameter(torch.tensor(-3.0))

    def forward(
        self, tokens: Tensor, words: Tensor, labels: DenseLabels
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """tokens [B, M, D] of unit length, word embeddings [languages, W, D].

        Returns the losses by name and the accuracies of shape, colour, size, motion and character.
        """
        scaled = tokens * tokens.shape[-1] ** 0.5
        parts = self.cells(scaled).float().unflatten(-1, (TOKEN_CELLS**2, -1))
        pieces = parts.split(list(_WIDTHS.values()), -1)
        cells = dict(zip(_WIDTHS, pieces, strict=True))
        there = labels.shape >= 0
        losses = {
            "object": F.binary_cross_entropy_with_logits(cells["object"].squeeze(-1), there.float())
        }
        scores = {}
        for name in ("shape", "color", "size", "motion"):
            target = getattr(labels, name)[there]
            losses[name] = F.cross_entropy(cells[name][there], target)
            scores[name] = float((cells[name][there].argmax(-1) == target).float().mean())
        losses["place"] = 4 * F.smooth_l1_loss(
            cells["place"][there], labels.place[there], beta=0.05
        )
        weight = torch.ones(len(CHARACTERS) + 1, device=tokens.device)
        weight[-1] = EMPTY_WEIGHT
        character = cells["character"].flatten(0, -2)
        losses["character"] = F.cross_entropy(character, labels.character.flatten(), weight)
        written = labels.character != len(CHARACTERS)
        read = cells["character"][written].argmax(-1) == labels.character[written]
        scores["character"] = float(read.float().mean()) if len(read) else float("nan")
        hue, texture = self.background(scaled.mean(1)).float().split((len(HUES), len(TEXTURES)), -1)
        losses["hue"] = F.cross_entropy(hue, labels.hue)
        losses["texture"] = F.cross_entropy(texture, labels.texture)
        cosine = torch.einsum("bmd,lwd->lbmw", tokens, F.normalize(words, dim=-1)).float()
        aligned = cosine * self.align_scale.float() + self.align_bias.float()
        errors = F.binary_cross_entropy_with_logits(
            aligned,
            labels.words.expand_as(aligned),
            reduction="none",
            pos_weight=torch.tensor(PRESENT_WEIGHT, device=tokens.device),
        )
        losses["align"] = ALIGN_SCALE * errors.sum(-1).mean()
        return losses, scores

    def place_of_tokens(self, hidden: Tensor) -> Tensor:
        """Loss of naming the index of each token in its picture.

        hidden [N, D]: states of the language model at the image tokens, picture after picture.
        """
        logits = self.where(hidden).float()
        index = torch.arange(len(hidden), device=hidden.device) % TOKENS
        return F.cross_entropy(logits, index)

    def place_of_objects(self, hidden: Tensor, scenes: Sequence[Scene]) -> Tensor:
        """Loss of naming the ninth of the picture for each cell with the centre of an object.

        hidden [N, D] as in `place_of_tokens`; scenes: what each picture shows.
        """
        scaled = F.rms_norm(hidden, hidden.shape[-1:])
        logits = self.grid(scaled).unflatten(-1, (TOKEN_CELLS**2, len(GRID)))
        targets = torch.stack([_grid_labels(scene) for scene in scenes]).flatten(0, 1)
        return cross_entropy_where_asked(logits.flatten(0, 1), targets.flatten())

    def place_of_words(self, hidden: Tensor, told: Tensor) -> Tensor:
        """Loss of naming the image token that shows what the next word of a description is about.

        hidden [N, D]: states of the language model in front of words; told [N]: as in
        `PackedBatch`, -1 is left out.
        """
        return cross_entropy_where_asked(self.told(F.rms_norm(hidden, hidden.shape[-1:])), told)


def token_of(item: SceneObject) -> int:
    """Index of the token of a picture in which the centre of an object lies."""
    column, row, _, _ = cell_of(item.x, item.y, CELLS // TOKEN_CELLS)
    return row * (CELLS // TOKEN_CELLS) + column


def _grid_labels(scene: Scene) -> Tensor:
    """[M, 4] int64: index into GRID of the object centred in a cell, -1 where there is none."""
    index = cell_labels(scene, CELLS).index
    ninths = np.array([*(item.grid for item in scene.objects), -1])
    return _by_token(torch.from_numpy(ninths[index])[None])[0]
