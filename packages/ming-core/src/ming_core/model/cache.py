"""Key-value cache of a batch of requests whose rows come and go."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


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

    def trim(self, length: int) -> None:
        """Forget everything before the last `length` tokens: the padding of all rows."""
        start, self.length = self.length - length, length
        self._keys = [k[:, :, start:] for k in self._keys]
        self._values = [v[:, :, start:] for v in self._values]
        if self._segments is not None:
            self._segments = self._segments[:, start:]

    def row(self, index: int, length: int) -> Cache:
        """The last `length` tokens of one row, which hold no padding, as a cache of its own."""
        single = Cache()
        single.length = length
        place = (slice(index, index + 1), slice(None), slice(self.length - length, self.length))
        single._keys = [k[place].clone() for k in self._keys]
        single._values = [v[place].clone() for v in self._values]
        return single

    @staticmethod
    def join(caches: Sequence[Cache]) -> Cache:
        """All rows of several caches, the shorter ones padded on the left (segment -1)."""
        if len(caches) == 1:
            return caches[0]
        joined = Cache()
        joined.length = max(cache.length for cache in caches)
        joined._keys = _stack([cache._keys for cache in caches], caches, joined.length)
        joined._values = _stack([cache._values for cache in caches], caches, joined.length)
        if any(c.length < joined.length or c._segments is not None for c in caches):
            parts = []
            for cache in caches:
                size = (len(cache._keys[0]), cache.length)
                own = cache._segments
                if own is None:
                    own = torch.zeros(size, dtype=torch.long, device=cache._keys[0].device)
                parts.append(pad(own, (joined.length - cache.length, 0), value=-1))
            joined._segments = torch.cat(parts)
        return joined


def _stack(layers: Sequence[list[Tensor]], caches: Sequence[Cache], length: int) -> list[Tensor]:
    """Each layer's buffers [B, K, length, d] of all caches in one, as large as the largest."""
    stacked = []
    for buffers in zip(*layers, strict=True):
        rows, room = sum(map(len, buffers)), max(length, *(b.shape[2] for b in buffers))
        _, heads, _, dim = buffers[0].shape
        # Zeros, as what is masked must still be finite.
        whole, at = buffers[0].new_zeros(rows, heads, room, dim), 0
        for buffer, cache in zip(buffers, caches, strict=True):
            end = at + len(buffer)
            whole[at:end, :, length - cache.length : length] = buffer[:, :, : cache.length]
            at = end
        stacked.append(whole)
    return stacked


def _grow(buffer: Tensor, used: int, needed: int) -> Tensor:
    batch, heads, _, dim = buffer.shape
    grown = buffer.new_empty(batch, heads, max(2 * used, needed), dim)
    grown[:, :, :used] = buffer[:, :, :used]
    return grown
