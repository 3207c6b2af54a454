"""Key-value cache of one batch of requests. All state of a running request lives here."""

from __future__ import annotations

import torch
from torch import Tensor


class Cache:
    """Keys (after norm and rotation) and values per layer, [B, K, length, d] each.

    Buffers grow by doubling, so that decoding writes in place instead of copying everything for
    every token. `segment_ids` [B, length] remembers which cached tokens are padding (-1).
    """

    def __init__(self) -> None:
        self.length = 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._segments: Tensor | None = None

    @property
    def segment_ids(self) -> Tensor | None:
        """[B, length] segment of every cached token; None while nothing is masked."""
        return self._segments

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store key and value [B, K, T, d] of new tokens; returns all [B, K, length + T, d]."""
        end = self.length + key.shape[2]
        if layer == len(self._keys):
            # Contiguous: a view would keep the fused projection of the whole prompt alive.
            self._keys.append(key.contiguous())
            self._values.append(value.contiguous())
        else:
            for store, new in ((self._keys, key), (self._values, value)):
                if end > store[layer].shape[2]:
                    store[layer] = _grow(store[layer], self.length, end)
                store[layer][:, :, self.length : end] = new
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def advance(self, tokens: int, segment_ids: Tensor | None) -> None:
        """Count `tokens` new ones as stored, after every layer appended them."""
        if segment_ids is not None or self._segments is not None:
            batch = self._keys[0].shape[0]
            device = self._keys[0].device
            old = self._segments
            if old is None:
                old = torch.zeros(batch, self.length, dtype=torch.long, device=device)
            if segment_ids is None:
                segment_ids = torch.zeros(batch, tokens, dtype=torch.long, device=device)
            self._segments = torch.cat((old, segment_ids), dim=1)
        self.length += tokens

    def crop(self, length: int) -> None:
        """Forget everything after the first `length` tokens."""
        self.length = min(self.length, length)
        if self._segments is not None:
            self._segments = self._segments[:, : self.length]

    def select(self, rows: Tensor) -> None:
        """Keep only these batch rows, in this order."""
        self._keys = [k[rows, :, : self.length] for k in self._keys]
        self._values = [v[rows, :, : self.length] for v in self._values]
        if self._segments is not None:
            self._segments = self._segments[rows]


def _grow(buffer: Tensor, used: int, needed: int) -> Tensor:
    batch, heads, _, dim = buffer.shape
    grown = buffer.new_empty(batch, heads, max(2 * used, needed), dim)
    grown[:, :, :used] = buffer[:, :, :used]
    return grown
