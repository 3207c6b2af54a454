"""The least talker of the Lite kind: it reads hidden states of the prompt and says codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from ming_core.checkpoints.components import Component
from ming_core.heads import Condition, Row

LETTERS, CODES, HOP = 128, 16, 40


class Processor:
    """For training: a text and one code for each of its letters."""

    def __call__(self, text: str = "", codes: Sequence[int] = ()) -> dict[str, Tensor]:
        made = {"text": torch.tensor([*text.encode()]) % LETTERS, "codes": torch.tensor(codes)}
        return made if codes else {}


class Model(nn.Module):  # with tensors called `model.…`, as those of the backbone
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width = settings["hidden_size"]
        parts = {"letters": nn.Embedding(LETTERS, width), "cell": nn.GRUCell(width, width)}
        self.model, self.lm_head = nn.ModuleDict(parts), nn.Linear(width, CODES)
        self.thinker = nn.Linear(settings["thinker_width"], width)

    def forward(self, letters: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        memory = self.model["cell"](self.model["letters"](letters), memory)
        return self.lm_head(memory), memory


@dataclass
class State:
    memory: Tensor
    rng: Generator
    letters: list[int] = field(default_factory=list)
    complete: bool = False
    done: bool = False


class Talker(nn.Module):
    gives, reads, queries, rate = "audio", (0, "last"), None, 8000

    def __init__(self, config: Any, parts: Mapping[str, Any], files: Any) -> None:
        super().__init__()
        self.talker, self.codec = parts["talker"], parts["codec"]
        self.processor = Processor()

    @classmethod
    def components(cls, config: Any) -> Sequence[Component]:
        codec = Component("codec", lambda _: nn.Embedding(CODES, HOP), folder="talker/codec")
        return Component("talker", Model, folder="talker", section="talker_config"), codec

    def condition(self, rows: Sequence[Row]) -> Condition:
        prefixes = [row.states.hidden[0] + row.states.hidden["last"] for row in rows]
        masks = [torch.ones(len(prefix), dtype=torch.bool) for prefix in prefixes]
        tensors = {"prefix": pad_sequence(prefixes, True), "mask": pad_sequence(masks, True)}
        return Condition(tensors, "acme_talker")

    def loss(self, condition: Condition, target: Any, rng: Generator) -> dict[str, Tensor]:
        memory, logits = self._memory(condition), []
        for letters in target["text"].unbind(1):
            said, memory = self.talker(letters, memory)
            logits.append(said)
        return {"codes": cross_entropy(torch.stack(logits, -1), target["codes"])}

    def start(self, condition: Condition, rngs: Sequence[Generator]) -> list[State]:
        return [State(m, rng) for m, rng in zip(self._memory(condition), rngs, strict=True)]

    @torch.inference_mode()
    def step(self, states: Sequence[State], texts: Sequence[str]) -> list[Tensor]:
        """One letter of every text that has one."""
        said = [torch.empty(0)] * len(states)
        for number, (state, text) in enumerate(zip(states, texts, strict=True)):
            state.letters += [letter % LETTERS for letter in text.encode()]
            if state.letters:
                letter = torch.tensor([state.letters.pop(0)])
                logits, (state.memory,) = self.talker(letter, state.memory[None])
                code = logits[0].softmax(-1).multinomial(1, generator=state.rng)
                said[number] = self.codec(code)[0]
            state.done = state.complete and not state.letters
        return said

    def finish(self, state: State) -> None:
        state.complete = True

    def _memory(self, condition: Condition) -> Tensor:
        mask = condition["mask"].unsqueeze(-1)
        return self.talker.thinker((condition["prefix"] * mask).sum(1) / mask.sum(1)).tanh()
