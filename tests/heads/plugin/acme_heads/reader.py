"""The least speaker of the Flash kind: it knows a text and a voice, and nothing of the backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ming_core.checkpoints.components import Component
from ming_core.errors import BadConfig
from ming_core.heads import Condition, Row

HOP, STEPS = 32, 4


class Processor:
    """A voice is one of those of `voices.json`; a target is a text and its waveform."""

    def __init__(self, voices: Mapping[str, Sequence[float]]) -> None:
        self.voices = voices

    def __call__(
        self, voice: str = "ann", text: str = "", target: Tensor | None = None
    ) -> dict[str, Tensor]:
        if voice not in self.voices:
            raise BadConfig(f"there is no voice {voice!r}; known are {', '.join(self.voices)}")
        more = {} if target is None else {"text": ids(text), "audio": target.view(-1, HOP)}
        return {"voice": torch.tensor(self.voices[voice]), **more}


def ids(text: str) -> Tensor:
    return torch.tensor([ord(letter) % 64 for letter in text], dtype=torch.long)


class Flow(nn.Module):  # the velocity of HOP samples, given a letter and a voice
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width = settings["width"]
        self.letters, self.voice = nn.Embedding(64, width), nn.Linear(settings["voice"], width)
        self.net = nn.Sequential(nn.Linear(HOP + width + 1, 64), nn.SiLU(), nn.Linear(64, HOP))

    def forward(self, x: Tensor, time: Tensor, letters: Tensor, voice: Tensor) -> Tensor:
        told = self.letters(letters) + self.voice(voice)
        return self.net(torch.cat((x, told, time.expand(*x.shape[:-1], 1)), -1))


@dataclass
class State:
    voice: Tensor
    rng: Generator
    text: str = ""
    complete: bool = False
    done: bool = False


class Reader(nn.Module):
    gives, reads, queries, rate = "audio", (), None, 16000

    def __init__(self, config: Any, parts: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        super().__init__()
        self.flow = parts["flow"]
        self.processor = Processor(json.loads(files["reader/voices.json"].read_text("utf-8")))

    @classmethod
    def components(cls, config: Any) -> Sequence[Component]:
        return (Component("flow", Flow, folder="reader", files=("voices.json",)),)

    def condition(self, rows: Sequence[Row]) -> Condition:
        return Condition({"voice": torch.stack([r.inputs["voice"] for r in rows])}, "acme_reader")

    def loss(self, condition: Condition, target: Any, rng: Generator) -> dict[str, Tensor]:
        audio, voice = target["audio"], condition["voice"].unsqueeze(1)
        noise, time = torch.randn(audio.shape, generator=rng), torch.rand(1, generator=rng)
        velocity = self.flow(torch.lerp(noise, audio, time), time, target["text"], voice)
        return {"flow": (velocity - (audio - noise)).square().mean()}

    def start(self, condition: Condition, rngs: Sequence[Generator]) -> list[State]:
        return [State(v, rng) for v, rng in zip(condition["voice"], rngs, strict=True)]

    @torch.inference_mode()
    def step(self, states: Sequence[State], texts: Sequence[str]) -> list[Tensor]:
        said = []
        for state, text in zip(states, texts, strict=True):
            state.text += text
            able = state.text and (state.complete or "." in state.text)
            letter, state.text = (state.text[:1], state.text[1:]) if able else ("", state.text)
            x = torch.randn((len(letter), HOP), generator=state.rng)
            for step in range(STEPS if able else 0):
                x = x + self.flow(x, torch.tensor([step / STEPS]), ids(letter), state.voice) / STEPS
            said.append(x.flatten())
            state.done = state.complete and not state.text
        return said

    def finish(self, state: State) -> None:
        state.complete = True
