"""From planned rows to a batch: media are read, prompts are written, and all of it is packed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from ming_core.media import Media
from ming_core.model.encoder import Features, by_modality
from ming_core.model.omni import OmniBatch
from ming_core.training.labels import IGNORED
from ming_core.training.packing import Placement, Sample, pack
from ming_recipes.training.batch import Batch, SampleInfo
from ming_recipes.training.examples import Example, Parts, read_example
from ming_recipes.training.planning import MicroBatch, Unit
from ming_recipes.training.records import BadRow, Record
from ming_recipes.training.sizes import Measured

MULTIPLE = 64
"""Rows of a batch are as long as the fullest needs, up to a multiple of this."""


Change = Callable[[Media, Record, np.random.Generator], Media]
"""What is read in the place of a medium of a row, of the same size."""


@dataclass(frozen=True)
class Collator:
    """Makes batches of the rows of some data sets.

    capacity: tokens of a packed row. change: changes each medium whenever its row is used, such as
    an augmentation of pictures; what it draws depends on the seed and the place of the row.
    """

    sets: Sequence[Measured]
    parts: Parts
    capacity: int
    change: Change | None = None
    seed: int = 0

    def __call__(
        self,
        rows: MicroBatch,
        step_weight: float | None = None,
        step_tokens: float | None = None,
        number: int = 0,
    ) -> Batch:
        """The batch of a micro-batch, which has a number in the training.

        The other arguments are as in `Batch`. Raises BadRow for a row that is not as it was when it
        was measured.
        """
        samples: list[Sample] = []
        placements: list[Placement] = []
        examples: list[Example] = []
        skipped: list[int] = []  # media of each sample that stand in the prefix of the one before
        end = 0
        for row, units in enumerate(rows):
            offset = 0
            for group, unit in enumerate(units):
                rng = np.random.default_rng((self.seed, 2, number, row, group))
                for member, example in enumerate(self._read(unit, rng)):
                    prefix = example.prefix if len(unit.rows) > 1 else 0
                    sample = self._sample(example, prefix, group if prefix else None)
                    placements.append(Placement(row, offset))
                    shares = prefix and member
                    offset += len(sample) - (prefix if shares else 0)
                    skipped.append(example.leading if shares else 0)
                    samples.append(sample)
                    examples.append(example)
            end = max(end, offset)
        width = min(-(-end // MULTIPLE) * MULTIPLE, self.capacity)
        packed = pack(samples, placements, width, self.parts.pad)
        features: list[Features] = []
        for place in packed.order:
            features += examples[place].features[skipped[place] :]
        omni = OmniBatch(
            packed.input_ids,
            packed.position_ids,
            packed.modality_ids,
            packed.segment_ids,
            packed.mask,
            by_modality(features),
        )
        infos = [SampleInfo(e.record.id, e.record.dataset) for e in examples]
        return Batch(
            omni,
            packed.labels,
            packed.weights,
            packed.sample_ids,
            infos,
            step_weight,
            step_tokens,
        )

    def _read(self, unit: Unit, rng: np.random.Generator) -> list[Example]:
        """The rows of a unit. A medium that several of them have is read, and changed, once."""
        measured = self.sets[unit.dataset]
        seen: dict[str, Features] = {}
        found = []
        for number in unit.rows:
            record = measured.rows[number]
            change = None if self.change is None else partial(_changed, self.change, record, rng)
            example = read_example(record, self.parts, seen, change)
            size = measured.sizes[number]
            if size is None or example.tokens != size.tokens or example.group != size.group:
                known = "no" if size is None else size.tokens
                raise BadRow(
                    "broken row",
                    example.record.where,
                    f"the row has {example.tokens} tokens now and had {known} when it was "
                    "measured; its media were changed; start in a new folder",
                )
            found.append(example)
        return found

    def _sample(self, example: Example, prefix: int, group: int | None) -> Sample:
        prompt, weight = example.prompt, example.record.weight
        return Sample(
            torch.tensor(prompt.input_ids, device="cpu"),
            torch.tensor(prompt.labels, device="cpu"),
            example.positions(self.parts.rule),
            torch.tensor(prompt.modality_ids, device="cpu"),
            torch.full((example.tokens,), weight, dtype=torch.float32, device="cpu"),
            prefix=prefix,
            group=group,
        )


def _changed(change: Change, record: Record, rng: np.random.Generator, medium: Media) -> Media:
    return change(medium, record, rng)


def without_targets(batch: Batch) -> Batch:
    """The same batch, which counts nothing. A process that has no data left gets one."""
    labels = torch.full_like(batch.labels, IGNORED)
    return replace(batch, labels=labels, weights=torch.zeros_like(batch.weights))
