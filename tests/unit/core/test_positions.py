"""Position ids: hand-computed layouts, and properties that hold for any prompt."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ming_core.model.config import BackboneConfig
from ming_core.model.positions import PositionRule, decode_positions, frame_grids, rope_index

IMAGE, FRAME, IMAGE_START, VIDEO_START, END, PAD = 90, 91, 80, 81, 82, 99
LITE = PositionRule("mrope", IMAGE, IMAGE, IMAGE_START, VIDEO_START)
FLASH = PositionRule("video_rope", IMAGE, FRAME, IMAGE_START, VIDEO_START, interleaved=True)
CONTIGUOUS = PositionRule("video_rope", IMAGE, FRAME, IMAGE_START, VIDEO_START)
RULES = [PositionRule("1d"), LITE, FLASH]


def image(h: int, w: int) -> list[int]:
    return [IMAGE_START, *[IMAGE] * (h * w), END]


def grids(*sizes: tuple[int, int, int]) -> Tensor:
    """Merged sizes as grids in patch units."""
    return torch.tensor(sizes).reshape(-1, 3) * torch.tensor([1, 2, 2])


def positions(rule: PositionRule, ids: list[int], **kwargs: object) -> tuple[list[list[int]], int]:
    found, delta = rope_index(rule, torch.tensor([ids]), **kwargs)  # pyright: ignore
    return found[:, 0].tolist(), int(delta)


def test_lite_image() -> None:
    ids = [1, *image(2, 3), 2]
    found, delta = positions(LITE, ids, image_grid_thw=grids((1, 2, 3)))
    assert found == [
        [0, 1, 2, 2, 2, 2, 2, 2, 5, 6],
        [0, 1, 2, 2, 2, 3, 3, 3, 5, 6],
        [0, 1, 2, 3, 4, 2, 3, 4, 5, 6],
    ]
    assert delta == 7 - 10


def test_lite_tells_videos_from_images_by_the_start_token() -> None:
    ids = [VIDEO_START, *[IMAGE] * 4, END, *image(1, 1)]
    found, _ = positions(
        LITE, ids, image_grid_thw=grids((1, 1, 1)), video_grid_thw=grids((4, 1, 1))
    )
    assert found[0] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert found[1] == [0, 1, 1, 1, 1, 5, 6, 7, 8]


def test_flash_image_is_centred_and_costs_one_position() -> None:
    found, delta = positions(FLASH, [*image(3, 3), 5], image_grid_thw=grids((1, 3, 3)))
    assert found == [
        [0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3],
        [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3],
        [0, 0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 3],
    ]
    assert delta == 4 - 12


def test_flash_positions_may_be_negative() -> None:
    found, _ = positions(FLASH, image(5, 1), image_grid_thw=grids((1, 5, 1)))
    assert found[1] == [0, -1, 0, 1, 2, 3, 2]


@pytest.mark.parametrize("rows", [grids((3, 1, 2)), frame_grids(grids((3, 1, 2)))])
def test_flash_frames_take_whole_or_split_grids(rows: Tensor) -> None:
    ids = [VIDEO_START, *[7, IMAGE_START, FRAME, FRAME, END] * 3, END]
    found, _ = positions(FLASH, ids, video_grid_thw=rows)
    assert found[0] == [0, 1, 2, 3, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11, 11, 12, 13]
    assert found[2][3:5] == [3, 4]


def test_contiguous_flash_video_advances_by_two_per_patch() -> None:
    ids = [VIDEO_START, *[FRAME] * 3, END]
    found, delta = positions(CONTIGUOUS, ids, video_grid_thw=grids((3, 1, 1)))
    assert found[0] == [0, 1, 3, 5, 6]
    assert delta == 2


def test_seconds_stretch_time_and_are_truncated() -> None:
    ids = [VIDEO_START, *[FRAME] * 3, END]
    found, _ = positions(
        CONTIGUOUS, ids, video_grid_thw=grids((3, 1, 1)), second_per_grid_ts=[0.75]
    )
    assert found[0] == [0, 1, 2, 4, 5]
    ids = [VIDEO_START, *[IMAGE] * 3, END]
    found, _ = positions(LITE, ids, video_grid_thw=grids((3, 1, 1)), second_per_grid_ts=[0.8])
    assert found[0] == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("rule", RULES)
def test_start_token_at_the_end_is_text(rule: PositionRule) -> None:
    ids = [1, *image(1, 1), IMAGE_START]
    grid = None if rule.kind == "1d" else grids((1, 1, 1))
    found, delta = positions(rule, ids, image_grid_thw=grid)
    assert found[0] == [0, 1, 2, 3, 4]
    assert delta == 0


def test_a_block_does_not_begin_in_the_row_before() -> None:
    ids = torch.tensor([[1, IMAGE_START], [IMAGE, 2]])
    found, _ = rope_index(LITE, ids, image_grid_thw=grids())
    assert found[0].tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (grids((1, 2, 3)), "fewer patch tokens"),
        (grids((1, 1, 1)), "more patch tokens"),
        (grids((1, 2, 2), (1, 1, 1)), "hold 1 image blocks, the image grids 2"),
        (grids(), "hold 1 image blocks, the image grids 0"),
    ],
)
def test_grids_that_do_not_fit(grid: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        positions(LITE, image(2, 2), image_grid_thw=grid)


def test_seconds_that_do_not_fit() -> None:
    ids = [VIDEO_START, IMAGE, END]
    with pytest.raises(ValueError, match="2 seconds per patch given for 1 videos"):
        positions(LITE, ids, video_grid_thw=grids((1, 1, 1)), second_per_grid_ts=[1.0, 1.0])


def test_rule_of_a_config(released_config: Callable[[str], BackboneConfig]) -> None:
    flash = released_config("ming-flash-omni")
    assert PositionRule.from_config(flash) == PositionRule(
        "video_rope", 157157, 157175, 157158, 157159, merge=2, interleaved=True
    )
    config = released_config("ming-lite-omni-1.5")
    rule = PositionRule("mrope", 126346, 126346, 126347, 126349)
    assert PositionRule.from_config(config) == rule
    assert PositionRule.from_config(released_config("ming-lite-omni-1.0")).kind == "1d"

    ids, grid = torch.tensor([[5, 126347, 126346, 126346]]), grids((1, 2, 1))
    found, delta = rope_index(PositionRule.from_config(config), ids, None, grid)
    assert found[1].tolist() == [[0, 1, 2, 3]]
    assert torch.equal(found, rope_index(rule, ids, None, grid)[0])
    assert int(delta) == 0


Piece = tuple[int, int] | None
rows_of_pieces = st.lists(
    st.lists(st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)


def _row(pieces: list[Piece]) -> tuple[list[int], list[tuple[int, int, int]]]:
    """Token ids and merged grids; None stands for a piece of text."""
    ids: list[int] = []
    sizes: list[tuple[int, int, int]] = []
    for piece in pieces:
        ids += [1, 2] if piece is None else image(*piece)
        sizes += [] if piece is None else [(1, *piece)]
    return ids, sizes


@given(rows_of_pieces, st.sampled_from(RULES), st.booleans(), st.integers(0, 3))
def test_batch_equals_single_rows(
    batch: list[list[Piece]], rule: PositionRule, left: bool, extra: int
) -> None:
    rows = [_row(pieces) for pieces in batch]
    length = max(len(ids) for ids, _ in rows) + extra
    padded, mask = [], []
    for ids, _ in rows:
        pad = length - len(ids)
        padded.append([PAD] * pad + ids if left else ids + [PAD] * pad)
        mask.append([0] * pad + [1] * len(ids) if left else [1] * len(ids) + [0] * pad)
    real = torch.tensor(mask).bool()
    every = grids(*[size for _, sizes in rows for size in sizes])
    found, deltas = rope_index(rule, torch.tensor(padded), real, every)

    assert found.dtype == deltas.dtype == torch.int64
    assert bool((found[:, ~real] == 1).all())
    for row, (ids, sizes) in enumerate(rows):
        single, delta = rope_index(rule, torch.tensor([ids]), None, grids(*sizes))
        assert torch.equal(found[:, row, real[row]], single[:, 0])
        first_new = decode_positions(0, deltas, length)[:, row]
        assert torch.equal(first_new, decode_positions(0, delta, len(ids))[:, 0])
        assert int(first_new[0]) == int(single[0].max() if rule is FLASH else single.max()) + 1


@given(rows_of_pieces, st.sampled_from(RULES))
def test_a_prefix_keeps_its_positions(batch: list[list[Piece]], rule: PositionRule) -> None:
    """What the cache of a conversation relies on."""
    ids, sizes = _row(batch[0])
    longer, more = _row([*batch[0], None, (2, 2)])
    short = rope_index(rule, torch.tensor([ids]), None, grids(*sizes))[0]
    long = rope_index(rule, torch.tensor([longer]), None, grids(*more))[0]
    assert torch.equal(long[:, :, : len(ids)], short)


def test_decode_positions_count_on() -> None:
    deltas = torch.tensor([[-3], [0]])
    found = decode_positions(2, deltas, 10)
    assert found.shape == (3, 2, 1)
    assert found[:, :, 0].tolist() == [[9, 12]] * 3
