"""The least talker of the Lite kind: it reads hidden states of the prompt and says codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from ming_core.checkpoints.components import Component
from ming_core.heads import Condition, Row

LETTERS, CODES, HOP = 128, 16, 40


class Processor:
    """For training: the text and its codes, one for each letter."""

    def __call__(self, text: str = "", codes: Sequence[int] = ()) -> dict[str, Tensor]:
        if not codes:
            return {}
        return {"text": torch.tensor([*text.encode()]) % LETTERS, "codes": torch.tensor(codes)}


class Model(nn.Module):
    """Its tensors are called `model.…`, as those of the backbone."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width = settings["hidden_size"]
        self.model = nn.ModuleDict(
            {"letters": nn.Embedding(LETTERS, width), "cell": nn.GRUCell(width, width)}
        )
        self.thinker = nn.Linear(settings["thinker_width"], width)
        self.lm_head = nn.Linear(width, CODES)

    def forward(self, letters: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.model["cell"](self.model["letters"](letters), memory)
        return self.lm_head(memory), memory


@dataclass
class State:
    memory: Tensor
    rng: torch.Generator
    letters: list[int] = field(default_factory=list)
    complete: bool = False
    done: bool = False


class Talker(nn.Module):
    gives = "audio"
    reads = (0, "last")
    queries = None
    rate = 8000

    def __init__(
        self, config: Mapping[str, Any], parts: Mapping[str, Any], files: Mapping[str, Path]
    ) -> None:
        super().__init__()
        self.talker, self.codec = parts["talker"], parts["codec"]
        self.processor = Processor()

    @classmethod
    def components(cls, config: Mapping[str, Any]) -> Sequence[Component]:
        return (
            Component("talker", Model, folder="talker", section="talker_config"),
            Component("codec", lambda _: nn.Embedding(CODES, HOP), folder="talker/codec"),
        )

    def condition(self, rows: Sequence[Row]) -> Condition:
        """Prompts of different lengths: the mask says which positions are there."""
        prefixes = [row.states.hidden[0] + row.states.hidden["last"] for row in rows]
        masks = [torch.ones(len(prefix), dtype=torch.bool) for prefix in prefixes]
        tensors = {"prefix": pad_sequence(prefixes, True), "mask": pad_sequence(masks, True)}
        return Condition(tensors, "acme_talker")

    def loss(
        self, condition: Condition, target: Mapping[str, Tensor], rng: torch.Generator
    ) -> dict[str, Tensor]:
        memory, logits = self._memory(condition), []
        for letters in target["text"].unbind(1):
            said, memory = self.talker(letters, memory)
            logits.append(said)
        return {"codes": cross_entropy(torch.stack(logits, -1), target["codes"])}

    @torch.inference_mode()
    def start(self, condition: Condition, rngs: Sequence[torch.Generator]) -> list[State]:
        return [State(m, rng) for m, rng in zip(self._memory(condition), rngs, strict=True)]

    @torch.inference_mode()
    def step(self, states: Sequence[State], texts: Sequence[str]) -> list[Tensor]:
        """One letter of every text that has one left."""
        for state, text in zip(states, texts, strict=True):
            state.letters += text.encode()
        able = [state for state in states if state.letters]
        said = {id(state): torch.empty(0) for state in states}
        if able:
            letters = torch.tensor([state.letters.pop(0) % LETTERS for state in able])
            logits, memory = self.talker(letters, torch.stack([state.memory for state in able]))
            for state, chances, own in zip(able, logits.softmax(-1), memory, strict=True):
                code = chances.multinomial(1, generator=state.rng)
                state.memory, said[id(state)] = own, self.codec(code)[0]
        for state in states:
            state.done = state.complete and not state.letters
        return [said[id(state)] for state in states]

    def finish(self, state: State) -> None:
        state.complete = True

    def _memory(self, condition: Condition) -> Tensor:
        mask = condition["mask"].unsqueeze(-1)
        return self.talker.thinker((condition["prefix"] * mask).sum(1) / mask.sum(1)).tanh()
