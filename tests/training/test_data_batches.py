"""Batches: packed rows give what single rows give, on any number of ranks and after any stop."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ming_core.errors import BadConfig
from ming_core.media import Image, Media
from ming_core.training.losses import token_losses
from ming_recipes.training.batch import Batch
from ming_recipes.training.collate import Collator
from ming_recipes.training.data import OmniData, default_workers
from ming_recipes.training.examples import Parts
from ming_recipes.training.files import open_rows
from ming_recipes.training.planning import Unit, units_of
from ming_recipes.training.records import BadRow, Record
from ming_recipes.training.sizes import Measured, measure

Said = Callable[..., dict[str, Any]]
Write = Callable[..., Path]

CAPACITY = 256


@pytest.fixture
def measured(mixed: list[dict[str, Any]], write_rows: Write, parts: Parts) -> Measured:
    return measure(open_rows(write_rows(mixed), "mine"), parts)


def omni_data(sets: list[Measured], parts: Parts, **how: Any) -> OmniData:
    given: dict[str, Any] = {"capacity": CAPACITY, "workers": 0, "seed": 1}
    return OmniData(sets, parts, **given | how)


def at(data: OmniData, step: int = 0, rank: int = 0, size: int = 1) -> OmniData:
    """The data as a trainer has them at a step."""
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_step=step, global_rank=rank, world_size=size, strategy=None
    )
    return data


def equal(one: Batch, other: Batch) -> bool:
    def tensors(batch: Batch) -> Iterator[Tensor]:
        yield from (batch.omni.input_ids, batch.omni.position_ids, batch.labels, batch.weights)
        yield batch.sample_ids
        for features in batch.omni.features:
            yield from features.tensors.values()

    same = all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))
    return same and one.samples == other.samples and one.step_weight == other.step_weight


@pytest.fixture(scope="module")
def omni() -> Any:
    from ming_core import load

    model = load("nano", device="cpu", dtype="float32")
    for modality in ("image", "audio"):
        model.encoder(modality)
    return model.omni


def losses(omni: Any, batch: Batch) -> Tensor:
    """-log p of each target [B, T], 0 elsewhere."""
    hidden = omni(batch.omni).hidden
    found = torch.zeros_like(batch.weights)
    found[:, 1:] = token_losses(omni.backbone.lm_head(hidden), batch.labels)
    return found


def test_packed_rows_of_every_kind_are_what_they_are_alone(
    measured: Measured, parts: Parts, omni: Any
) -> None:
    """Values and gradients, with shared pictures, videos, sounds and several media a row."""
    collator = Collator([measured], parts, 1024)
    units = tuple(units_of(measured, 0, 1024, parts.costs))
    batch = collator((units[:4], units[4:]))
    assert batch.omni.mask is not None  # some share a prefix
    assert {f.modality for f in batch.omni.features} == {"image", "audio"}
    packed = losses(omni, batch)
    (packed * batch.weights).sum().backward()
    wanted = {n: p.grad.clone() for n, p in omni.named_parameters() if p.grad is not None}
    omni.zero_grad()
    ids = [sample.id for sample in batch.samples]
    assert sorted(ids) == sorted(f"rows.jsonl:{n + 1}" for n in range(len(measured.rows)))
    for number in range(len(measured.rows)):
        alone = collator(((Unit(0, (number,), 0, 0, 0),),))
        single = losses(omni, alone)
        (single * alone.weights).sum().backward()
        place = ids.index(f"rows.jsonl:{number + 1}")
        own = packed[batch.sample_ids == place]
        torch.testing.assert_close(own[own != 0], single[single != 0], rtol=1e-4, atol=1e-5)
    for name, gradient in wanted.items():
        found = dict(omni.named_parameters())[name].grad
        assert found is not None
        scale = max(float(gradient.abs().max()), 1e-3)
        assert float((gradient - found).abs().max()) < 1e-4 * scale, name
    omni.zero_grad()


def test_weights_and_counts_of_a_step(measured: Measured, parts: Parts) -> None:
    data = at(omni_data([measured], parts, accumulate=3))
    batches = list(islice(data.train_dataloader(), 6))
    for step in (batches[:3], batches[3:]):
        assert step[0].step_weight == pytest.approx(sum(float(b.weights.sum()) for b in step))
        assert step[0].step_tokens == sum(batch.tokens for batch in step)
        assert len({batch.step_weight for batch in step}) == 1
    first = batches[0]
    for place, sample in enumerate(first.samples):
        own = first.weights[(first.sample_ids == place) & (first.weights > 0)]
        number = int(sample.id.partition(":")[2])
        expected = 1.0 if number <= 9 else 0.5 + (number - 10) % 2
        assert set(own.tolist()) == {expected}
        assert sample.dataset == "mine"


def test_two_ranks_see_what_one_sees_with_twice_the_accumulation(
    measured: Measured, parts: Parts
) -> None:
    alone = list(islice(at(omni_data([measured], parts, accumulate=2)).train_dataloader(), 12))
    ranks = [
        list(islice(at(omni_data([measured], parts), rank=r, size=2).train_dataloader(), 6))
        for r in range(2)
    ]
    for step in range(6):
        for rank in range(2):
            one, other = alone[2 * step + rank], ranks[rank][step]
            assert torch.equal(one.omni.input_ids, other.omni.input_ids)
            assert one.samples == other.samples
        assert alone[2 * step].step_weight == pytest.approx(
            sum(ranks[rank][step].step_weight or 0 for rank in range(2))
        )


@pytest.mark.parametrize("with_state", [True, False])
def test_resumed_run_gets_what_it_would_have_got(
    with_state: bool, measured: Measured, parts: Parts
) -> None:
    wanted = list(islice(at(omni_data([measured], parts, accumulate=2)).train_dataloader(), 40))
    state = at(omni_data([measured], parts, accumulate=2), step=15).state_dict()
    again = omni_data([measured], parts, accumulate=2)
    if with_state:
        again.load_state_dict(state)
    found = list(islice(at(again, step=15).train_dataloader(), 10))
    assert all(map(equal, found, wanted[30:]))


def test_state_of_other_rows_is_refused(measured: Measured, parts: Parts) -> None:
    state = at(omni_data([measured], parts)).state_dict()
    with pytest.raises(BadConfig, match="not those that the run began with"):
        omni_data([measured.limited(45)], parts).load_state_dict(state)
    with pytest.raises(BadConfig, match="not those that the run began with"):
        omni_data([measured], parts, seed=2).load_state_dict(state)


def test_changed_media_do_not_depend_on_ranks_or_stops(measured: Measured, parts: Parts) -> None:
    """A change of media, such as an augmentation, is drawn anew for each use of a row."""
    seen: list[str] = []

    def change(medium: Media, record: Record, rng: np.random.Generator) -> Media:
        if not isinstance(medium, Image):
            return medium
        seen.append(record.id)
        return Image(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))

    def batches(step: int, rank: int, size: int) -> Iterator[Batch]:
        data = omni_data([measured], parts, accumulate=2 // size, change=change)
        return iter(at(data, step, rank, size).train_dataloader())

    alone = list(islice(batches(0, 0, 1), 8))
    assert len(seen) < sum(len(batch.samples) for batch in alone)  # a shared picture is one
    assert all(map(equal, islice(batches(2, 0, 1), 4), alone[4:]))
    for rank in range(2):
        for one, other in zip(islice(batches(0, rank, 2), 4), alone[rank::2], strict=True):
            for f, g in zip(one.omni.features, other.omni.features, strict=True):
                assert all(torch.equal(f.tensors[k], g.tensors[k]) for k in f.tensors)
    pictures = [
        f.tensors["pixel_values"] for b in alone for f in b.omni.features if f.grid is not None
    ]
    rows = torch.cat(pictures).view(-1, 64 * pictures[0].shape[1])
    assert len(rows.unique(dim=0)) > 4  # more than the pictures that there are
    data = omni_data([measured], parts, validation=[measured], change=change)
    plain = omni_data([measured], parts, validation=[measured])
    assert all(map(equal, at(data).val_dataloader(), at(plain).val_dataloader()))


def test_workers_give_the_same_batches_in_the_same_order(measured: Measured, parts: Parts) -> None:
    alone = list(islice(at(omni_data([measured], parts)).train_dataloader(), 7))
    ahead = list(islice(at(omni_data([measured], parts, workers=2)).train_dataloader(), 7))
    assert all(map(equal, alone, ahead))


@pytest.mark.parametrize("workers", [0, 1])
def test_medium_that_is_gone_stops_the_run_with_its_row(
    workers: int, measured: Measured, parts: Parts, media: Path
) -> None:
    for name in ("a.png", "b.png", "s.wav"):
        os.remove(media / name)
    batches = at(omni_data([measured], parts, workers=workers)).train_dataloader()
    with pytest.raises(BadRow, match=r"rows\.jsonl line \d+: there is no (image|audio) file"):
        list(islice(batches, 20))


def test_medium_that_changed_is_told(
    write_rows: Write, said: Said, parts: Parts, media: Path
) -> None:
    measured = measure(open_rows(write_rows([said("<audio>?", audios=["s.wav"])])), parts)
    sound = (media / "s.wav").read_bytes()
    (media / "s.wav").write_bytes(sound[:40] + (16000).to_bytes(4, "little") + sound[44:16044])
    batches = at(omni_data([measured], parts)).train_dataloader()
    with pytest.raises(BadRow, match=r"tokens now and had .* its media were changed"):
        next(iter(batches))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_validation_shows_each_row_once_on_any_number_of_ranks(
    size: int, measured: Measured, parts: Parts
) -> None:
    counts: Counter[str] = Counter()
    lengths = set()
    for rank in range(size):
        data = at(omni_data([measured], parts, validation=[measured]), rank=rank, size=size)
        batches = list(data.val_dataloader())
        lengths.add(len(batches))
        for batch in batches:
            counts.update(s.id for s in batch.samples if float(batch.weights.sum()))
    assert len(lengths) == 1
    assert counts == Counter(f"rows.jsonl:{n + 1}" for n in range(len(measured.rows)))


def test_no_validation_rows_are_no_batches(measured: Measured, parts: Parts) -> None:
    assert at(omni_data([measured], parts)).val_dataloader() == []


def test_shares_are_of_rows(write_rows: Write, said: Said, parts: Parts) -> None:
    asked = {"type": "image", "image": "a.png"}
    grouped = [said([asked, {"type": "text", "text": f"{n}?"}]) for n in range(8)]
    texts = [said(f"{n}?") for n in range(8)]
    sets = [
        measure(open_rows(write_rows(rows, f"{name}.jsonl"), name), parts)
        for name, rows in (("grouped", grouped), ("texts", texts))
    ]
    data = at(omni_data(sets, parts, shares=[1.0, 3.0]))
    counts = Counter(
        sample.dataset for batch in islice(data.train_dataloader(), 60) for sample in batch.samples
    )
    assert counts["texts"] / counts["grouped"] == pytest.approx(3, rel=0.25)
    equally = at(omni_data(sets, parts))
    counts = Counter(
        s.dataset for batch in islice(equally.train_dataloader(), 60) for s in batch.samples
    )
    assert counts["texts"] / counts["grouped"] == pytest.approx(1, rel=0.25)
    with pytest.raises(BadConfig, match="1 of 2 data sets have a share"):
        omni_data(sets, parts, shares=[1.0, None])


def test_steps_of_an_epoch(measured: Measured, parts: Parts) -> None:
    data = omni_data([measured], parts, accumulate=2)
    tokens = sum(unit.tokens for unit in units_of(measured, 0, CAPACITY, parts.costs))
    assert data.steps(100) == round(100 * tokens / (2 * CAPACITY))
    assert data.steps(100, size=2) == round(100 * tokens / (4 * CAPACITY))
    assert data.steps(0.0001) == 1


def test_rows_that_do_not_fit_are_no_data(measured: Measured, parts: Parts) -> None:
    with pytest.raises(BadConfig, match="no row of mine fits into 10 tokens"):
        omni_data([measured], parts, capacity=10)


def test_workers_leave_cores_to_the_training() -> None:
    assert 0 <= default_workers() <= 4
    assert default_workers(1000) == 0
