"""Conditions and hidden states of heads: rows, nulls, files, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ming_core.errors import BadMedia, CannotWrite
from ming_core.heads.condition import Condition
from ming_core.heads.states import states_of
from ming_core.model.omni import OmniBatch
from ming_core.model.transformer import BackboneOutput


def condition(rows: int = 2, width: int = 3, head: str = "acme") -> Condition:
    tensors = {
        "text": torch.randn(rows, 4, width),
        "reference": torch.randn(rows, 5),
        "mask": torch.ones(rows, 4, dtype=torch.bool),
    }
    return Condition(tensors, head)


def same(one: Condition, other: Condition) -> bool:
    return one.head == other.head and all(
        torch.equal(one[name], other[name]) and one[name].dtype == other[name].dtype
        for name in {**one.tensors, **other.tensors}
    )


def test_four_rows_of_guidance_go_through_at_once() -> None:
    told = condition()
    nothing, picture, text = told.null(), told.null("text"), told.null("reference")
    stacked = Condition.stack([nothing, picture, text, told])
    assert len(stacked) == 8
    assert [len(part) for part in stacked["text"].chunk(4)] == [2] * 4
    for part, (has_text, has_reference) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        rows = stacked.rows(2 * part, 2 * part + 2)
        assert torch.equal(rows["text"], told["text"] * has_text)
        assert torch.equal(rows["reference"], told["reference"] * has_reference)
        assert torch.equal(rows["mask"], told["mask"])  # no number, so nothing to take away


def test_training_drops_single_rows() -> None:
    told = condition(3)
    dropped = told.null("text", rows=torch.tensor([True, False, True]))
    assert dropped["text"].abs().amax(dim=(1, 2)).bool().tolist() == [False, True, False]
    assert torch.equal(dropped["reference"], told["reference"])


def test_moving_casts_floating_point_only() -> None:
    moved = condition().to("cpu", torch.bfloat16)
    assert (moved["text"].dtype, moved["mask"].dtype) == (torch.bfloat16, torch.bool)
    assert condition().to("cpu")["text"].dtype == torch.float32


def test_a_file_gives_the_same_condition(tmp_path: Path) -> None:
    told = condition().to("cpu", torch.bfloat16)
    path = told.save(tmp_path / "star.safetensors")
    assert same(Condition.load(path), told)
    assert [file.name for file in tmp_path.iterdir()] == ["star.safetensors"]


def test_a_view_with_a_gradient_can_be_saved(tmp_path: Path) -> None:
    big = torch.randn(4, 6, requires_grad=True)
    told = Condition({"a": big[:2], "b": big[:2].transpose(0, 1).transpose(0, 1)})
    path = told.save(tmp_path / "a")
    assert torch.equal(Condition.load(path)["a"], big[:2])
    assert path.stat().st_size < 400


@pytest.mark.parametrize("kind", ["absent", "text", "cut", "foreign", "ragged", "empty"])
def test_another_file_is_refused_in_one_sentence(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    told = condition().save(path).read_bytes()
    if kind == "absent":
        path.unlink()
    elif kind == "text":
        path.write_text("a star")
    elif kind == "cut":
        path.write_bytes(told[:-3])
    else:
        shapes = {"foreign": [2], "ragged": [2, 3], "empty": []}[kind]
        tensors = {str(n): torch.ones(n) for n in shapes}
        save_file(tensors, path, None if kind == "foreign" else {"head": "acme"})
    with pytest.raises(BadMedia, match=r"cannot read the condition '.*file': .*; give a file"):
        Condition.load(path)


def test_a_condition_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CannotWrite):
        condition().save(tmp_path / "no" / "folder")


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (condition(head="other"), "of 'acme' and 'other' do not mix"),
        (condition(width=4), "shapes .* do not mix"),
        (Condition({"text": torch.ones(2, 4, 3)}, "acme"), "shapes .* do not mix"),
    ],
)
def test_what_does_not_belong_together_is_not_stacked(other: Condition, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Condition.stack([condition(), other])


@pytest.mark.parametrize(
    "tensors", [{}, {"a": torch.tensor(1.0)}, {"a": torch.ones(1), "b": torch.ones(2)}]
)
def test_a_condition_has_rows(tensors: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="same number of rows"):
        Condition(tensors)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="and no \\['txt'\\]"):
        condition().null("txt")


def test_states_of_a_packed_batch_come_sample_by_sample() -> None:
    hidden = torch.randn(2, 5, 3, requires_grad=True)
    segments = torch.tensor([[0, 0, 1, 1, 1], [-1, -1, 0, 0, 0]])
    numbers = torch.tensor([[-1, 0, -1, 0, 1], [-1, -1, 0, -1, 1]])
    ids = torch.zeros(2, 5, dtype=torch.long)
    batch = OmniBatch(ids, ids.expand(3, -1, -1), ids, segments, query_ids=numbers)
    kept = {2: hidden, "last": 2 * hidden}
    samples = states_of(batch, BackboneOutput(hidden, [], kept))
    assert [len(states.modality_ids) for states in samples] == [2, 3, 3]
    assert torch.equal(samples[1].hidden[2], hidden[0, 2:])
    assert torch.equal(samples[0].of_queries(), 2 * hidden[0, 1:2])
    assert torch.equal(samples[1].of_queries(2), hidden[0, 3:])
    assert torch.equal(samples[2].of_queries(2), hidden[1, [2, 4]])
    samples[2].of_queries().sum().backward()
    assert hidden.grad is not None
    assert hidden.grad.abs().sum(dim=2).nonzero().tolist() == [[1, 2], [1, 4]]
