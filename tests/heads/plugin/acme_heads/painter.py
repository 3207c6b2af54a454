"""The least painter: queries of two scales, a reference, flow matching over 4 x 4 pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ming_core.checkpoints.components import Component
from ming_core.heads import Condition, Row
from ming_core.model.queries import Queries

SHAPE = (3, 4, 4)
PIXELS = 48


class Processor:
    """Pictures are tensors [3, 4, 4] with values from 0 to 1."""

    def __call__(
        self, references: Sequence[Tensor] = (), target: Tensor | None = None
    ) -> dict[str, Tensor]:
        known = torch.stack([*references, torch.full(SHAPE, 0.5)])[: max(1, len(references))]
        made = {"reference": known.mean(0) * 2 - 1}
        return made if target is None else {**made, "picture": target * 2 - 1}


class Front(nn.Module):
    """The released names: query vectors by scale, and a projection."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width = settings["width"]
        vectors = {f"{s}x{s}": torch.randn(s * s, width) * width**-0.5 for s in settings["scales"]}
        self.query_tokens_dict = nn.ParameterDict(vectors)
        self.proj = nn.Linear(width, 8)


class Velocity(nn.Module):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        tokens, hidden = settings["tokens"], settings["hidden"]
        self.enter = nn.Linear(2 * PIXELS + 8 * tokens + 1, hidden)
        self.leave = nn.Linear(hidden, PIXELS)

    def forward(self, x: Tensor, time: Tensor, told: Condition) -> Tensor:
        parts = (x, told["reference"], told["text"])
        inputs = [part.flatten(1) for part in parts] + [time.view(-1, 1)]
        return self.leave(silu(self.enter(torch.cat(inputs, 1)))).view(-1, *SHAPE)


class Painter(nn.Module):
    gives = "image"
    reads = ("last",)

    def __init__(
        self, config: Mapping[str, Any], parts: Mapping[str, Any], files: Mapping[str, Path]
    ) -> None:
        super().__init__()
        self.front, self.transformer = parts["front"], parts["transformer"]
        self.processor = Processor()

    @classmethod
    def components(cls, config: Mapping[str, Any]) -> Sequence[Component]:
        return (
            Component("front", Front, folder="mlp"),
            Component("transformer", Velocity, folder="transformer"),
        )

    @property
    def queries(self) -> Queries:
        return Queries(tuple(self.front.query_tokens_dict.values()))

    def condition(self, rows: Sequence[Row]) -> Condition:
        """The last scale only; the others matter through what the later queries see."""
        states = [row.states.of_queries().split(self.queries.counts)[-1] for row in rows]
        text = self.front.proj(torch.stack(states))
        reference = torch.stack([row.inputs["reference"] for row in rows])
        return Condition({"text": text, "reference": reference}, "acme_painter")

    def loss(
        self, condition: Condition, target: Mapping[str, Tensor], rng: torch.Generator
    ) -> dict[str, Tensor]:
        picture, rows = target["picture"], len(condition)
        told = condition.null("text", rows=torch.rand(rows, generator=rng) < 0.1)
        noise = torch.randn(picture.shape, generator=rng)
        time = torch.rand(rows, generator=rng).view(-1, 1, 1, 1)
        velocity = self.transformer(torch.lerp(noise, picture, time), time, told)
        error = (velocity - (picture - noise)).square()
        return {"flow": error.mean(), "size": 1e-3 * condition["text"].square().mean()}

    @torch.inference_mode()
    def paint(
        self,
        condition: Condition,
        rngs: Sequence[torch.Generator],
        *,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Tensor:
        """Guided by the text, with and without the reference: four rows for each picture."""
        count, weight = steps or 8, 1.0 if guidance is None else guidance
        x = torch.stack([torch.randn(SHAPE, generator=rng) for rng in rngs])
        null = condition.null
        four = Condition.stack([null(), null("text"), null("reference"), condition])
        for step in range(count):
            time = torch.full((len(four),), step / count)
            velocity = self.transformer(x.repeat(4, 1, 1, 1), time, four)
            none, reference, text, both = velocity.chunk(4)
            x = x + (both + (weight - 1) / 2 * (both - reference + text - none)) / count
        return (x.clamp(-1, 1) + 1) / 2
