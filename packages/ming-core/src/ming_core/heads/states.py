"""Hidden states of the backbone, as a head reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ming_core.model.omni import OmniBatch
from ming_core.model.transformer import BackboneOutput, Layer


@dataclass(frozen=True)
class States:
    """Hidden states of one conversation, and what its T tokens are.

    hidden: by layer, each [T, D]. modality_ids [T]: TEXT, IMAGE or AUDIO. query_ids [T]: the number
    of the query vector that stood for a token, -1 for all others.
    """

    hidden: Mapping[Layer, Tensor]
    modality_ids: Tensor
    query_ids: Tensor

    def of_queries(self, layer: Layer = "last") -> Tensor:
        """What the queries of all scales hold, [n, D]; split them by `Queries.counts`."""
        return self.hidden[layer][self.query_ids >= 0]

    def to(self, device: torch.device | str, dtype: torch.dtype) -> States:
        """Moved to `device`, the hidden states as `dtype`."""
        hidden: dict[Layer, Tensor] = {
            layer: values.to(device, dtype) for layer, values in self.hidden.items()
        }
        return States(hidden, self.modality_ids.to(device), self.query_ids.to(device))


def states_of(batch: OmniBatch, output: BackboneOutput) -> list[States]:
    """The hidden states `output.kept` of a batch, sample by sample; gradients go on through them.

    A sample is a segment of a row; the samples come row by row.
    """
    ids = batch.input_ids
    query_ids = torch.full_like(ids, -1) if batch.query_ids is None else batch.query_ids
    segments = torch.zeros_like(ids) if batch.segment_ids is None else batch.segment_ids
    samples = []
    for row, numbers in enumerate(segments):
        for number in numbers[numbers >= 0].unique().tolist():
            own = numbers == number
            samples.append(
                States(
                    {layer: values[row][own] for layer, values in output.kept.items()},
                    batch.modality_ids[row][own],
                    query_ids[row][own],
                )
            )
    return samples
