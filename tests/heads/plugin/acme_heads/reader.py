"""The least speaker of the Flash kind: it knows text and a voice, and nothing of the backbone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ming_core.checkpoints.components import Component
from ming_core.errors import BadConfig
from ming_core.heads import Condition, Row

HOP, VOICE, STEPS = 32, 4, 4
STOPS = ".!?"


class Processor:
    """A voice is one of those of `voices.json`; a target is a text and its waveform."""

    def __init__(self, voices: Mapping[str, Sequence[float]], letters: str) -> None:
        self.voices, self.letters = voices, letters

    def __call__(
        self, voice: str = "ann", text: str = "", target: Tensor | None = None
    ) -> dict[str, Tensor]:
        if voice not in self.voices:
            raise BadConfig(f"there is no voice {voice!r}; known are {', '.join(self.voices)}")
        made = {"voice": torch.tensor(self.voices[voice])}
        if target is None:
            return made
        return {**made, "text": self.ids(text), "audio": target.view(-1, HOP)}

    def ids(self, text: str) -> Tensor:
        return torch.tensor([self.letters.find(letter) + 1 for letter in text])


class Flow(nn.Module):
    """The velocity of HOP samples, given a letter and a voice."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width = settings["width"]
        self.letters = nn.Embedding(settings["letters"], width)
        self.voice = nn.Linear(VOICE, width)
        self.net = nn.Sequential(nn.Linear(HOP + width + 1, 64), nn.SiLU(), nn.Linear(64, HOP))

    def forward(self, x: Tensor, time: Tensor, letters: Tensor, voice: Tensor) -> Tensor:
        told = self.letters(letters) + self.voice(voice)
        return self.net(torch.cat((x, told, time.expand(*x.shape[:-1], 1)), -1))


@dataclass
class State:
    voice: Tensor
    rng: torch.Generator
    text: str = ""
    complete: bool = False
    done: bool = False


class Reader(nn.Module):
    gives = "audio"
    reads = ()
    queries = None
    rate = 16000

    def __init__(
        self, config: Mapping[str, Any], parts: Mapping[str, Any], files: Mapping[str, Path]
    ) -> None:
        super().__init__()
        self.flow = parts["flow"]
        voices = json.loads(files["reader/voices.json"].read_text("utf-8"))
        self.processor = Processor(voices, config["reader_config"]["letters"])

    @classmethod
    def components(cls, config: Mapping[str, Any]) -> Sequence[Component]:
        return (Component("flow", Flow, folder="reader", files=("voices.json",)),)

    def condition(self, rows: Sequence[Row]) -> Condition:
        return Condition({"voice": torch.stack([r.inputs["voice"] for r in rows])}, "acme_reader")

    def loss(
        self, condition: Condition, target: Mapping[str, Tensor], rng: torch.Generator
    ) -> dict[str, Tensor]:
        audio = target["audio"]
        noise = torch.randn(audio.shape, generator=rng)
        time = torch.rand((*audio.shape[:2], 1), generator=rng)
        voice = condition["voice"].unsqueeze(1)
        velocity = self.flow(torch.lerp(noise, audio, time), time, target["text"], voice)
        return {"flow": (velocity - (audio - noise)).square().mean()}

    @torch.inference_mode()
    def start(self, condition: Condition, rngs: Sequence[torch.Generator]) -> list[State]:
        return [State(v, rng) for v, rng in zip(condition["voice"], rngs, strict=True)]

    @torch.inference_mode()
    def step(self, states: Sequence[State], texts: Sequence[str]) -> list[Tensor]:
        """What was written up to the end of a sentence, one letter a step."""
        able, letters = [], []
        for state, text in zip(states, texts, strict=True):
            state.text += text
            if state.complete or any(stop in state.text for stop in STOPS):
                able += [state] if state.text else []
                letters += state.text[:1]
                state.text = state.text[1:]
        said = dict(zip(map(id, able), self._say(able, letters), strict=True))
        for state in states:
            state.done = state.complete and not state.text
        return [said.get(id(state), torch.empty(0)) for state in states]

    def finish(self, state: State) -> None:
        state.complete = True

    def _say(self, states: Sequence[State], letters: Sequence[str]) -> Sequence[Tensor]:
        if not states:
            return []
        x = torch.stack([torch.randn(HOP, generator=state.rng) for state in states])
        ids, voice = self.processor.ids("".join(letters)), torch.stack([s.voice for s in states])
        for step in range(STEPS):
            x = x + self.flow(x, torch.tensor([step / STEPS]), ids, voice) / STEPS
        return x.unbind()
