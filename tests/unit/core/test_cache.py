"""The key-value cache as a container: what goes in comes out, in few copies."""

from __future__ import annotations

import torch
from torch import Tensor

from ming_core.model.cache import Cache


def put(cache: Cache, *tensors: Tensor, segment_ids: Tensor | None = None) -> list[Tensor]:
    """Append the same keys to every layer, with negated values, and count them."""
    keys = [cache.append(layer, tensor, -tensor)[0] for layer, tensor in enumerate(tensors)]
    cache.advance(tensors[0].shape[2], segment_ids)
    return keys


def test_keys_and_values_of_every_layer_come_back_in_order() -> None:
    cache = Cache()
    layers = [torch.randn(2, 3, 9, 4) for _ in range(2)]
    for start, end in ((0, 4), (4, 5), (5, 9)):
        for layer, tensor in enumerate(layers):
            keys, values = cache.append(layer, tensor[:, :, start:end], -tensor[:, :, start:end])
            assert torch.equal(keys, tensor[:, :, :end])
            assert torch.equal(values, -tensor[:, :, :end])
        cache.advance(end - start, None)
    assert cache.length == 9
    assert cache.segment_ids is None


def test_decoding_copies_rarely() -> None:
    cache = Cache()
    places = set()
    for _ in range(200):
        places.add(put(cache, torch.randn(1, 1, 1, 2))[0].data_ptr())
    assert len(places) <= 9  # buffers of 1, 2, 4, ... 256 tokens


def test_it_does_not_hold_on_to_the_tensor_it_was_given_a_part_of() -> None:
    fused = torch.randn(1, 50, 6, 4).transpose(1, 2)  # queries, keys and values of 50 tokens
    _, values = Cache().append(0, fused[:, 4:5], fused[:, 5:])
    assert torch.equal(values, fused[:, 5:])
    assert values.untyped_storage().nbytes() == 50 * 4 * 4


def test_crop_forgets_the_end_and_can_be_written_again() -> None:
    cache = Cache()
    old, new = torch.randn(1, 2, 6, 4), torch.randn(1, 2, 3, 4)
    put(cache, old, segment_ids=torch.tensor([[-1, 0, 0, 0, 0, 0]]))
    cache.crop(4)
    cache.crop(10)  # longer than it is: nothing to forget
    assert cache.length == 4
    assert torch.equal(put(cache, new)[0], torch.cat((old[:, :, :4], new), dim=2))
    assert cache.segment_ids is not None
    assert cache.segment_ids.tolist() == [[-1, 0, 0, 0, 0, 0, 0]]


def test_crop_to_nothing() -> None:
    cache = Cache()
    put(cache, torch.randn(1, 2, 6, 4))
    cache.crop(0)
    new = torch.randn(1, 2, 2, 4)
    assert torch.equal(put(cache, new)[0], new)


def test_select_keeps_rows_by_mask_and_by_index() -> None:
    cache = Cache()
    keys = torch.randn(3, 1, 4, 2)
    segments = torch.tensor([[0, 0, 0, 0], [-1, 0, 0, 0], [-1, -1, 0, 0]])
    put(cache, keys, segment_ids=segments)
    cache.select(torch.tensor([True, False, True]))
    new = torch.randn(2, 1, 1, 2)
    assert torch.equal(put(cache, new)[0], torch.cat((keys[[0, 2]], new), dim=2))
    assert cache.segment_ids is not None
    assert cache.segment_ids.tolist() == [[0, 0, 0, 0, 0], [-1, -1, 0, 0, 0]]
    cache.select(torch.tensor([1]))
    assert torch.equal(put(cache, new[:1])[0][:, :, :4], keys[[2]])


def test_segments_may_begin_late() -> None:
    cache = Cache()
    put(cache, torch.randn(1, 1, 2, 2))
    put(cache, torch.randn(1, 1, 3, 2), segment_ids=torch.tensor([[0, 0, -1]]))
    assert cache.segment_ids is not None
    assert cache.segment_ids.tolist() == [[0, 0, 0, 0, -1]]


def everything(cache: Cache, layer: int = 0) -> Tensor:
    """The keys [B, K, length, d] of a layer."""
    return cache._keys[layer][:, :, : cache.length]


def test_joined_rows_end_together_and_pad_the_left() -> None:
    short, long = Cache(), Cache()
    own, others = torch.randn(1, 2, 2, 3), torch.randn(2, 2, 5, 3)
    put(short, own, own + 1)
    put(long, others, others + 1, segment_ids=torch.tensor([[-1, 0, 0, 0, 0], [0] * 5]))
    joined = Cache.join([short, long])
    assert joined.length == 5
    assert joined.segment_ids is not None
    assert joined.segment_ids.tolist() == [[-1, -1, -1, 0, 0], [-1, 0, 0, 0, 0], [0] * 5]
    for layer in range(2):
        keys = everything(joined, layer)
        assert torch.equal(keys[0, :, 3:], own[0] + layer)
        assert bool(keys[0, :, :3].isfinite().all())
        assert torch.equal(keys[1:], others + layer)
    new = torch.randn(3, 2, 1, 3)
    assert torch.equal(put(joined, new, new)[0][:, :, 5:], new)
    assert short.length == 2  # nothing was written into the parts


def test_rows_of_equal_length_join_without_segments() -> None:
    caches = [Cache(), Cache()]
    for cache in caches:
        put(cache, torch.randn(1, 1, 3, 2))
    assert Cache.join(caches).segment_ids is None
    assert Cache.join(caches[:1]) is caches[0]


def test_a_buffer_with_room_keeps_it_when_a_row_joins() -> None:
    running, late = Cache(), Cache()
    for _ in range(5):
        put(running, torch.randn(1, 1, 1, 2))
    put(late, torch.randn(1, 1, 3, 2))
    joined = Cache.join([running, late])
    place = everything(joined).data_ptr()
    for _ in range(3):  # 5 tokens lay in a buffer of 8
        assert put(joined, torch.randn(2, 1, 1, 2))[0].data_ptr() == place


def test_a_row_leaves_without_its_padding() -> None:
    cache = Cache()
    keys = torch.randn(2, 1, 4, 2)
    put(cache, keys, segment_ids=torch.tensor([[0] * 4, [-1, 0, 0, 0]]))
    row = cache.row(1, 3)
    assert row.segment_ids is None
    assert torch.equal(everything(row), keys[1:, :, 1:])
    put(row, torch.zeros(1, 1, 1, 2))
    assert torch.equal(everything(cache), keys)


def test_trim_forgets_the_beginning() -> None:
    cache = Cache()
    keys = torch.randn(2, 1, 4, 2)
    put(cache, keys, segment_ids=torch.tensor([[-1, -1, 0, 0], [-1, 0, 0, 0]]))
    cache.trim(3)
    assert cache.length == 3
    assert cache.segment_ids is not None
    assert cache.segment_ids.tolist() == [[-1, 0, 0], [0, 0, 0]]
    new = torch.randn(2, 1, 2, 2)
    assert torch.equal(put(cache, new)[0], torch.cat((keys[:, :, 1:], new), dim=2))
