"""Supervision of the image tokens, as the language model reads them.

The language model learns which word belongs to which place only after the image tokens say what is
where. Two objectives teach this to the image encoder. `Cells`: linear readers name the content of
each cell of 8 x 8 px. `WordAlignment`: a token moves towards the embeddings of the words for what
it shows: objects, characters, "text". Without it, the model only guesses, except for counts and
backgrounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_core.chat.prompt import TextEncoder
from ming_core.model.omni import Omni
from ming_core.training.labels import IGNORED
from ming_recipes.nano.probes.reading import Reader, share_right
from ming_recipes.nano.world.batch import CHARACTERS, cell_labels, cell_of
from ming_recipes.nano.world.language import Motion
from ming_recipes.nano.world.scene import Scene, SceneObject
from ming_recipes.nano.world.vocabulary import (
    CANVAS,
    COLORS,
    DIRECTIONS,
    HUES,
    SHAPES,
    SIZES,
    TEXTURES,
)
from ming_recipes.training.batch import Batch
from ming_recipes.training.forward import Forward
from ming_recipes.training.objectives import Objective, Term, Terms

CELLS = 8  # per side of the canvas
TOKEN_CELLS = 2  # a merged token covers 2x2 cells
TOKENS = (CELLS // TOKEN_CELLS) ** 2  # of a picture
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

    def to(self, device: torch.device) -> DenseLabels:
        return DenseLabels(*(getattr(self, field.name).to(device) for field in fields(self)))


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
        np.array([MOTION_CLASS[direction] for direction in (*motion, None)])[cell.index]
        for cell, motion in zip(cells, motions, strict=True)
    ]

    def grouped(name: str) -> Tensor:
        return by_token(torch.from_numpy(np.stack([getattr(cell, name) for cell in cells])))

    character = grouped("character")
    written = F.one_hot(character.clamp(min=0), len(CHARACTERS)) * (character >= 0).unsqueeze(-1)
    written = written.amax(2)
    place = (grouped("offset"), grouped("radius").unsqueeze(-1) * (CELLS / CANVAS))
    hues, textures = list(HUES), list(TEXTURES)
    return DenseLabels(
        shape=grouped("shape"),
        color=grouped("color"),
        size=grouped("size"),
        motion=by_token(torch.from_numpy(np.stack(moves))),
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


MOTION_CLASS = {None: 0} | {direction: 1 + i for i, direction in enumerate(DIRECTIONS)}


def by_token(x: Tensor) -> Tensor:
    """[B, 8 rows, 8 columns, ...] -> [B, 16 tokens, 4 cells, ...]"""
    x = x.unflatten(1, (-1, TOKEN_CELLS)).unflatten(3, (-1, TOKEN_CELLS))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class Cells(nn.Module, Objective):
    """Linear readers of the image tokens: the content of each cell, and the background."""

    keep = None
    terms = (
        "cell_object",
        "cell_shape",
        "cell_color",
        "cell_size",
        "cell_motion",
        "cell_place",
        "cell_character",
        "background_hue",
        "background_texture",
    )

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.cells = Reader(hidden_size, TOKEN_CELLS**2 * sum(_WIDTHS.values()))
        self.background = Reader(hidden_size, len(HUES) + len(TEXTURES))

    def forward(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        return self.read(by_picture(forward, batch), batch.extra.cells)

    def read(self, tokens: Tensor, labels: DenseLabels) -> Terms:
        """tokens [B, M, D] of unit length. NAME/right is how often the best class is right."""
        scaled = tokens * tokens.shape[-1] ** 0.5
        parts = self.cells(scaled).float().unflatten(-1, (TOKEN_CELLS**2, -1))
        pieces = parts.split(list(_WIDTHS.values()), -1)
        cells = dict(zip(_WIDTHS, pieces, strict=True))
        there = labels.shape >= 0
        found = cells["object"].squeeze(-1)
        errors = F.binary_cross_entropy_with_logits(found, there.float(), reduction="sum")
        terms = {"cell_object": Term(errors, float(found.numel()))}
        for name in ("shape", "color", "size", "motion"):
            logits, target = cells[name][there], getattr(labels, name)[there]
            terms[f"cell_{name}"] = _classes(logits, target)
            terms[f"cell_{name}/right"] = share_right(logits, target)
        place, right = cells["place"][there], labels.place[there]
        off = 4 * F.smooth_l1_loss(place, right, beta=0.05, reduction="sum")
        terms["cell_place"] = Term(off, float(place.numel()))
        weight = torch.ones(len(CHARACTERS) + 1, device=tokens.device)
        weight[-1] = EMPTY_WEIGHT
        logits, target = cells["character"].flatten(0, -2), labels.character.flatten()
        errors = F.cross_entropy(logits, target, weight, reduction="sum")
        terms["cell_character"] = Term(errors, weight[target].sum())
        written = target != len(CHARACTERS)
        terms["cell_character/right"] = share_right(logits[written], target[written])
        hue, texture = self.background(scaled.mean(1)).float().split((len(HUES), len(TEXTURES)), -1)
        terms["background_hue"] = _classes(hue, labels.hue)
        terms["background_texture"] = _classes(texture, labels.texture)
        return terms


class WordAlignment(nn.Module, Objective):
    """Moves image tokens towards the embeddings of the words for what they show, in English and in
    Chinese. Two scalars calibrate the cosines."""

    keep = None
    terms = ("word_alignment",)

    def __init__(self, tokenizer: TextEncoder) -> None:
        super().__init__()
        rows = zip(*aligned_words(), strict=True)
        ids = [[tokenizer.encode(text) for text in language] for language in rows]
        assert all(len(tokens) == 1 for language in ids for tokens in language)
        entries = torch.tensor([[tokens[0] for tokens in language] for language in ids])
        self.register_buffer("entries", entries, persistent=False)
        self.scale = nn.Parameter(torch.tensor(8.0))
        self.bias = nn.Parameter(torch.tensor(-3.0))

    def forward(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        tokens = by_picture(forward, batch)
        shown = batch.extra.cells.words
        words = model.backbone.word_embeddings(self.entries)
        cosine = torch.einsum("bmd,lwd->lbmw", tokens, F.normalize(words, dim=-1)).float()
        aligned = cosine * self.scale.float() + self.bias.float()
        errors = F.binary_cross_entropy_with_logits(
            aligned,
            shown.expand_as(aligned),
            reduction="none",
            pos_weight=torch.tensor(PRESENT_WEIGHT, device=tokens.device),
        )
        places = errors.numel() / errors.shape[-1]
        return {"word_alignment": Term(ALIGN_SCALE * errors.sum(-1).sum(), places)}


def by_picture(forward: Forward, batch: Batch) -> Tensor:
    """The image tokens of a batch, [pictures, tokens of a picture, D]."""
    tokens = forward.encoded["image"]
    return tokens.view(len(batch.extra.scenes), -1, tokens.shape[-1])


def _classes(logits: Tensor, targets: Tensor) -> Term:
    """Mean cross-entropy over the targets that are known."""
    return Term(F.cross_entropy(logits, targets, reduction="sum"), (targets >= 0).sum())


def token_of(item: SceneObject) -> int:
    """Index of the token of a picture in which the centre of an object lies."""
    column, row, _, _ = cell_of(item.x, item.y, CELLS // TOKEN_CELLS)
    return row * (CELLS // TOKEN_CELLS) + column
