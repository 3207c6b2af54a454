"""From planned rows to a batch: media are read, prompts are written, and all of it is packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ming_core.model.encoder import Features, by_modality
from ming_core.model.omni import OmniBatch
from ming_core.training.labels import IGNORED
from ming_core.training.packing import Placement, Sample, pack
from ming_recipes.training.batch import Batch, SampleInfo
from ming_recipes.training.examples import Example, Parts, read_example
from ming_recipes.training.planning import MicroBatch, Unit
from ming_recipes.training.records import BadRow
from ming_recipes.training.sizes import Measured

MULTIPLE = 64
"""Rows of a batch are as long as the fullest needs, up to a multiple of this."""


@dataclass(frozen=True)
class Collator:
    """Makes batches of the rows of some data sets. capacity: tokens of a packed row."""

    sets: Sequence[Measured]
    parts: Parts
    capacity: int

    def __call__(
        self,
        rows: MicroBatch,
        step_weight: float | None = None,
        step_tokens: float | None = None,
    ) -> Batch:
        """The batch of a micro-batch. The other arguments are as in `Batch`.

        Raises BadRow for a row that is not as it was measured.
        """
        samples: list[Sample] = []
        placements: list[Placement] = []
        examples: list[Example] = []
        skipped: list[int] = []  # media of each sample that stand in the prefix of the one before
        end = 0
        for row, units in enumerate(rows):
            offset = 0
            for group, unit in enumerate(units):
                for number, example in enumerate(self._read(unit)):
                    prefix = example.prefix if len(unit.rows) > 1 else 0
                    sample = self._sample(example, prefix, group if prefix else None)
                    placements.append(Placement(row, offset))
                    shares = prefix and number
                    offset += len(sample) - (prefix if shares else 0)
                    skipped.append(example.leading if shares else 0)
                    samples.append(sample)
                    examples.append(example)
            end = max(end, offset)
        width = min(-(-end // MULTIPLE) * MULTIPLE, self.capacity)
        packed = pack(samples, placements, width, self.parts.pad)
        features: list[Features] = []
        for number in packed.order:
            features += examples[number].features[skipped[number] :]
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

    def _read(self, unit: Unit) -> list[Example]:
        measured = self.sets[unit.dataset]
        seen: dict[str, Features] = {}
        found = []
        for number in unit.rows:
            example = read_example(measured.rows[number], self.parts, seen)
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


def without_targets(batch: Batch) -> Batch:
    """The same batch, which counts nothing. A process that has no data left gets one."""
    labels = torch.full_like(batch.labels, IGNORED)
    return replace(batch, labels=labels, weights=torch.zeros_like(batch.weights))
