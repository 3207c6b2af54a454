"""The least painter: queries of two scales, references, flow matching over 4 x 4 pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import silu

from ming_core.checkpoints.components import Component
from ming_core.heads import Condition, Queries, Row

SHAPE, PIXELS = (3, 4, 4), 48


class Processor:
    """Pictures are tensors [3, 4, 4] with values from 0 to 1."""

    def __call__(
        self, references: Sequence[Tensor] = (), target: Tensor | None = None
    ) -> dict[str, Tensor]:
        seen = torch.stack([*references]).mean(0) * 2 - 1 if references else torch.zeros(SHAPE)
        return {"reference": seen} | ({} if target is None else {"picture": target * 2 - 1})


class Front(nn.Module):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        width = settings["width"]
        vectors = {f"{s}x{s}": torch.empty(s * s, width) for s in settings["scales"]}
        self.query_tokens_dict = nn.ParameterDict(vectors)
        for scale in self.query_tokens_dict.values():
            nn.init.normal_(scale, std=width**-0.5)
        self.proj = nn.Linear(width, 8)


class Velocity(nn.Module):
    def __init__(self, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * PIXELS + 8 * settings["tokens"] + 1, settings["hidden"])
        self.leave = nn.Linear(settings["hidden"], PIXELS)

    def forward(self, x: Tensor, time: Tensor, told: Condition) -> Tensor:
        parts = [part.flatten(1) for part in (x, told["reference"], told["text"], time)]
        return self.leave(silu(self.enter(torch.cat(parts, 1)))).view(-1, *SHAPE)


class Painter(nn.Module):
    gives = "image"
    reads = ("last",)

    def __init__(self, config: Any, parts: Mapping[str, Any], files: Any) -> None:
        super().__init__()
        self.front, self.transformer = parts["front"], parts["transformer"]
        self.processor = Processor()

    @classmethod
    def components(cls, config: Any) -> Sequence[Component]:
        transformer = Component("transformer", Velocity, folder="transformer")
        return Component("front", Front, folder="mlp"), transformer

    @property
    def queries(self) -> Queries:
        return Queries(tuple(self.front.query_tokens_dict.values()))

    def condition(self, rows: Sequence[Row]) -> Condition:
        """Of the last scale; the others matter through what its queries see."""
        last = [row.states.of_queries().split(self.queries.counts)[-1] for row in rows]
        reference = torch.stack([row.inputs["reference"] for row in rows])
        tensors = {"text": self.front.proj(torch.stack(last)), "reference": reference}
        return Condition(tensors, "acme_painter")

    def loss(self, condition: Condition, target: Any, rng: Generator) -> dict[str, Tensor]:
        picture, rows = target["picture"], len(condition)
        told = condition.null("text", rows=torch.rand(rows, generator=rng) < 0.1)
        noise = torch.randn(picture.shape, generator=rng)
        time = torch.rand((rows, 1, 1, 1), generator=rng)
        velocity = self.transformer(torch.lerp(noise, picture, time), time, told)
        error = (velocity - (picture - noise)).square().mean()
        return {"flow": error, "size": 1e-3 * condition["text"].square().mean()}

    @torch.inference_mode()
    def paint(self, condition: Condition, rngs: Sequence[Generator], **how: Any) -> Tensor:
        """Guided by the text with and without the references: four rows for each picture."""
        x = torch.stack([torch.randn(SHAPE, generator=rng) for rng in rngs])
        null = condition.null
        four = Condition.stack([null(), null("text"), null("reference"), condition])
        count, weight = how.get("steps") or 8, how.get("guidance") or 2
        for step in range(count):
            time = torch.full((len(four), 1), step / count)
            none, seen, text, both = self.transformer(x.repeat(4, 1, 1, 1), time, four).chunk(4)
            x = x + (both + (weight - 1) / 2 * (both - seen + text - none)) / count
        return (x.clamp(-1, 1) + 1) / 2
