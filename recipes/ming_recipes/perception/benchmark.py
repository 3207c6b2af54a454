"""The evaluation of nano-perception as a benchmark for `ming eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ming_core.benchmarks import Track
from ming_recipes.perception.evaluate import evaluate

if TYPE_CHECKING:
    from ming_core.api import OmniModel

IMAGES = 200
"""Held-out scenes of each slice, unless a limit is given."""


def nano_perception(
    model: OmniModel, data: Path | None, limit: int | None, track: Track
) -> dict[str, Any]:
    """Shares of right answers by slice and kind of question. limit: scenes of each slice."""
    images = limit or IMAGES
    return {"images": images, "scores": evaluate(model, images, track)}
