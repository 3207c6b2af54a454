"""Supervision of the sound tokens, used in training only and never shipped.

Two CTC losses (Graves et al. 2006). One asks the states of the audio encoder for the characters
that are spoken. The other asks its tokens, at the place where the language model reads them, for
the entries of the tokenizer: by their cosine with the word embeddings, so that what is heard comes
to lie where the written word lies, and the language model understands speech as it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_audio.metrics import Errors, count_errors
from ming_recipes.perception.speech import Sounds
from ming_recipes.world.speech import utterance_of

_SURVEYED = 3000  # utterances, in which every character of the world occurs


@cache
def characters() -> dict[str, int]:
    """Every character of transcripts, in small letters, and its class; 0 is the blank."""
    texts = (utterance_of("train", index).text.lower() for index in range(_SURVEYED))
    return {character: 1 + i for i, character in enumerate(sorted(set("".join(texts))))}


class CTCHeads(nn.Module):
    """Linear readers of the encoder's states [N, width] and tokens [M, hidden_size]."""

    def __init__(self, width: int, hidden_size: int) -> None:
        super().__init__()
        self.characters = nn.Linear(width, 1 + len(characters()))
        self.blank = nn.Linear(hidden_size, 1)
        self.scale = nn.Parameter(torch.tensor(16.0))

    def forward(
        self,
        states: Tensor,
        state_lengths: Sequence[int],
        tokens: Tensor,
        words: Tensor,
        sounds: Sounds,
    ) -> dict[str, Tensor]:
        """The losses "spelling" and "hearing": packed states and tokens of unit length of some
        sounds, and the word embeddings [V, D]."""
        known = characters()
        spelt = [[known[c] for c in said.text.lower() if c in known] for said in sounds.utterances]
        letters = self.characters(states).float().log_softmax(-1)
        named = [[1 + i for i in row] for row in sounds.ids]
        return {
            "spelling": ctc(letters, state_lengths, spelt),
            "hearing": ctc(self.named(tokens, words), sounds.features.tokens, named),
        }

    def named(self, tokens: Tensor, words: Tensor) -> Tensor:
        """tokens [M, D], words [V, D] -> logarithms [M, 1 + V] of blank and of each word."""
        blank = self.blank(tokens * tokens.shape[-1] ** 0.5)
        cosine = self.scale * (tokens @ F.normalize(words, dim=-1).T)
        return torch.cat((blank, cosine), -1).float().log_softmax(-1)

    def misheard(self, tokens: Tensor, words: Tensor, sounds: Sounds) -> Errors:
        """What the best path of the tokens gets wrong."""
        heard = best_paths(self.named(tokens, words), sounds.features.tokens)
        pairs = zip(sounds.ids, heard, strict=True)
        return sum((count_errors(said, path) for said, path in pairs), Errors())


def ctc(logits: Tensor, lengths: Sequence[int], targets: Sequence[Sequence[int]]) -> Tensor:
    """Mean over sounds of the CTC loss per target; logits [sum(lengths), classes], logarithmic."""
    padded = nn.utils.rnn.pad_sequence(list(logits.split(list(lengths))))
    return F.ctc_loss(
        padded,
        torch.tensor([i for row in targets for i in row]),
        torch.tensor(lengths),
        torch.tensor([len(row) for row in targets]),
        zero_infinity=True,
    )


def best_paths(logits: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    """Ids on the most probable path of each sound, repeats and blanks left out."""
    best = logits.argmax(-1).split(list(lengths))
    return [[i - 1 for i in row.unique_consecutive().tolist() if i] for row in best]
