"""Supervision of the sound tokens.

`SpeechCTC` has two CTC losses (Graves et al. 2006). The first predicts the spoken characters from
the states of the audio encoder. The second predicts entries of the tokenizer from the audio tokens,
by their cosine with the word embeddings. So a spoken word gets nearly the same embedding as the
written word, and the language model can read it.

`SpokenWords` belongs to an early layer of the language model. At each audio token of a word, the
layer predicts the word before. This helps because a transcript is written by finding the last
written word in the sound and going on there; without this loss, the model long writes other words
that fit. At each audio token of a name, the layer predicts the spelling of the name. Of names that
sound alike, only the list before the sound tells which one is meant; without this loss, the model
does not look at the list.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_audio.config import Ear
from ming_audio.metrics import Errors, count_errors
from ming_core.chat.prompt import TextEncoder
from ming_core.modalities import AUDIO
from ming_core.model.omni import Omni
from ming_recipes.nano.probes.reading import Reader, asked, nothing
from ming_recipes.nano.speech import Sounds
from ming_recipes.nano.world.names import NAMES, alike
from ming_recipes.nano.world.speech import utterance_of
from ming_recipes.training.batch import Batch
from ming_recipes.training.forward import Forward
from ming_recipes.training.objectives import Objective, Term, Terms

T = TypeVar("T", str, int)

WORDS_LAYER = 3
_SURVEYED = 3000  # utterances, in which every character and word of the world occurs


@cache
def _transcripts() -> list[str]:
    return [utterance_of("train", index).text for index in range(_SURVEYED)]


def classes(units: Iterable[T]) -> dict[T, int]:
    """A class for each character or entry that occurs; 0 is the blank."""
    return {unit: 1 + i for i, unit in enumerate(sorted(set(units)))}


def name_entries(tokenizer: TextEncoder) -> dict[int, tuple[str, ...]]:
    """The names that sound alike, by the entries of the tokenizer that none but they have."""
    found: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    for language, names in NAMES.items():
        for name in names:
            # As they stand in a sentence.
            for entry in tokenizer.encode(f" {name}" if language == "en" else name):
                found[entry].add(alike(name, language))
    return {entry: groups.pop() for entry, groups in found.items() if len(groups) == 1}


class SpeechCTC(nn.Module, Objective):
    """Characters from states of the encoder [N, width], entries of the tokenizer from its tokens
    [M, hidden_size]. A class 0 is the blank."""

    keep = None
    terms = ("char_ctc", "token_ctc")

    def __init__(self, ear: Ear, hidden_size: int, tokenizer: TextEncoder) -> None:
        super().__init__()
        texts = _transcripts()
        self.ear, self.tower = ear, f"encoders.audio.{ear.tower}"
        self.watch = (self.tower,)
        self.letters = classes(letter for text in texts for letter in text.lower())
        self.entries = classes(entry for text in texts for entry in tokenizer.encode(text))
        self.characters = Reader(ear.config.width, 1 + len(self.letters))
        self.blank = Reader(hidden_size, 1)
        self.scale = nn.Parameter(torch.tensor(16.0))

    def forward(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        if (sounds := batch.extra.sounds) is None:
            return {name: nothing(batch.weights) for name in self.terms}
        frames = sounds.features.tensors["frames"][:, 0].tolist()
        lengths = [self.ear.config.hidden(count) for count in frames]
        words = model.backbone.word_embeddings.weight
        return self.read(
            forward.states[self.tower], lengths, forward.encoded["audio"], words, sounds
        )

    def read(
        self,
        states: Tensor,
        state_lengths: Sequence[int],
        tokens: Tensor,
        words: Tensor,
        sounds: Sounds,
    ) -> Terms:
        """Packed states and tokens of unit length of some sounds, and the word embeddings [V, D].

        Both terms are means over the sounds.
        """
        texts = [said.text.lower() for said in sounds.utterances]
        spelt = [[self.letters[c] for c in text if c in self.letters] for text in texts]
        letters = self.characters(states).float().log_softmax(-1)
        named = [[self.entries[i] for i in row if i in self.entries] for row in sounds.ids]
        char = ctc(letters, state_lengths, spelt)
        token = ctc(self.named(tokens, words), sounds.features.tokens, named)
        return {
            "char_ctc": Term(char.sum(), float(len(char))),
            "token_ctc": Term(token.sum(), float(len(token))),
        }

    def named(self, tokens: Tensor, words: Tensor) -> Tensor:
        """tokens [M, D], words [V, D] -> logarithms [M, classes] of blank and of `entries`."""
        blank = self.blank(tokens * tokens.shape[-1] ** 0.5)
        known = F.normalize(words[list(self.entries)], dim=-1)
        return torch.cat((blank, self.scale * (tokens @ known.T)), -1).float().log_softmax(-1)

    def misheard(self, tokens: Tensor, words: Tensor, sounds: Sounds) -> Errors:
        """What the best path of the tokens gets wrong."""
        entries = list(self.entries)
        paths = best_paths(self.named(tokens, words), sounds.features.tokens)
        heard = [[entries[i - 1] for i in path] for path in paths]
        pairs = zip(sounds.ids, heard, strict=True)
        return sum((count_errors(said, path) for said, path in pairs), Errors())


class SpokenWords(nn.Module, Objective):
    """The word before each spoken word, and the spelling of each name, from an early layer.

    What a token says is what the best path of a `SpeechCTC` says.
    """

    keep = (WORDS_LAYER,)
    terms = ("previous_word", "name_spelling")

    def __init__(self, ctc: SpeechCTC, hidden_size: int, tokenizer: TextEncoder) -> None:
        super().__init__()
        self.ctc = (ctc,)  # a tuple: its weights are its own
        self.before = Reader(hidden_size, 1 + len(ctc.entries))
        self.people = [name for names in NAMES.values() for name in names]
        self.sounding = {
            ctc.entries[entry]: names
            for entry, names in name_entries(tokenizer).items()
            if entry in ctc.entries
        }
        self.person = Reader(hidden_size, len(self.people))

    def forward(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        if (sounds := batch.extra.sounds) is None:
            return {name: nothing(batch.weights) for name in self.terms}
        hidden = forward.kept[WORDS_LAYER][batch.omni.modality_ids == AUDIO]
        words = model.backbone.word_embeddings.weight
        return self.read(hidden, forward.encoded["audio"], words, sounds)

    def read(self, hidden: Tensor, tokens: Tensor, words: Tensor, sounds: Sounds) -> Terms:
        """hidden [M, D]: states of the layer at the tokens [M, D]; word embeddings [V, D]."""
        with torch.no_grad():
            best = self.ctc[0].named(tokens, words).argmax(-1).split(sounds.features.tokens)
        paths = [path.tolist() for path in best]
        scaled = F.rms_norm(hidden, hidden.shape[-1:])
        before = [i for path in paths for i in words_before(path)]
        people = [
            self._meant(heard, said.names)
            for path, said in zip(paths, sounds.utterances, strict=True)
            for heard in path
        ]
        targets = torch.tensor([before, people], device=hidden.device)
        return {
            "previous_word": asked(self.before(scaled), targets[0]),
            "name_spelling": asked(self.person(scaled), targets[1]),
        }

    def _meant(self, heard: int, names: Sequence[str]) -> int:
        """Index of the one of `names` that sounds like a class of the path; -1 if not one does."""
        alike = self.sounding.get(heard, ())
        meant = [name for name in dict.fromkeys(names) if name in alike]
        return self.people.index(meant[0]) if len(meant) == 1 else -1


def ctc(logits: Tensor, lengths: Sequence[int], targets: Sequence[Sequence[int]]) -> Tensor:
    """The CTC loss of each sound per target, or per place where there is no target; logits
    [sum(lengths), classes], logarithmic."""
    # One gather: padding sound by sound copies far more than it reads.
    size = torch.tensor(lengths)
    rows = (size.cumsum(0) - size) + torch.arange(max(lengths))[:, None].clamp(max=size - 1)
    rows = rows.to(logits.device)
    padded = logits.index_select(0, rows.flatten()).unflatten(0, rows.shape)
    wanted = torch.tensor([len(row) for row in targets])
    losses = F.ctc_loss(
        padded,
        torch.tensor([i for row in targets for i in row], dtype=torch.long, device=logits.device),
        size,
        wanted,
        reduction="none",
        zero_infinity=True,
    )
    return losses / torch.where(wanted > 0, wanted, size).to(losses.device)


def best_paths(logits: Tensor, lengths: Sequence[int]) -> list[list[int]]:
    """Classes on the most probable path of each sound, repeats and blanks left out."""
    best = logits.argmax(-1).split(list(lengths))
    return [[i for i in row.unique_consecutive().tolist() if i] for row in best]


def words_before(path: Sequence[int]) -> list[int]:
    """For each class of a path that is a word, the word before it; 0 for the first, -1 at blanks.

    A word may last over several places.
    """
    before, last, previous = [], 0, 0
    for i, now in enumerate(path):
        if now and (i == 0 or path[i - 1] != now):
            previous, last = last, now
        before.append(previous if now else -1)
    return before
