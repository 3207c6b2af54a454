"""Decoding: the same tokens however requests are batched and joined, and the sampling rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import astuple
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ming_core.engine.choosing import choose, distribution
from ming_core.engine.decoding import Batch, Row
from ming_core.engine.sampling import Sampling, loop_of, repeating_tokens
from ming_core.errors import BadConfig
from ming_core.model.cache import Cache
from ming_core.model.omni import OmniBatch
from ming_core.model.transformer import Backbone

close = partial(torch.testing.assert_close, rtol=0, atol=5e-5)
Make = Callable[[dict[str, Any]], Backbone]
TinyLlm = Callable[[str], dict[str, Any]]


def prompts(lengths: tuple[int, ...]) -> dict[str, Any]:
    """Random prompts as one padded batch in the arguments of `run`; row r has its own delta."""
    length = max(lengths)
    batch: dict[str, Any] = {
        "ids": torch.randint(2, 48, (len(lengths), length)),
        "positions": torch.ones(3, len(lengths), length, dtype=torch.int64),
        "modality": torch.randint(3, (len(lengths), length)),
        "segments": torch.full((len(lengths), length), -1),
        "deltas": torch.zeros(len(lengths), 1, dtype=torch.int64),
    }
    for row, size in enumerate(lengths):
        place = slice(length - size, None)
        steps = torch.arange(size)
        batch["positions"][:, row, place] = torch.stack((steps, steps // 2, steps // 3))
        batch["segments"][row, place] = 0
        batch["deltas"][row] = size + row - length  # the first new token is at size + row
    return batch


def alone(batch: dict[str, Any], row: int) -> dict[str, Any]:
    """One row of a batch without its padding."""
    real = batch["segments"][row] == 0
    return {
        "ids": batch["ids"][row, real][None],
        "positions": batch["positions"][:, row, real][:, None],
        "modality": batch["modality"][row, real][None],
        "segments": None,
        "deltas": batch["deltas"][row : row + 1] + len(real) - int(real.sum()),
    }


def prefill(
    running: Batch,
    batch: dict[str, Any],
    eos: tuple[int, ...] = (),
    cache: Cache | None = None,
    **options: Any,
) -> list[Row]:
    """The rows of a batch after their first token; options: fields of `Row` and `Sampling`."""
    segments, backbone = batch["segments"], running.backbone
    own = {name: options.pop(name) for name in ("keep", "keep_from") if name in options}
    sampling = Sampling(**{"max_new_tokens": 10, **options})
    rows = []
    for i, ids in enumerate(batch["ids"]):
        real = ids if segments is None else ids[segments[i] == 0]
        before = [0] * (cache.length if cache else 0)
        rows.append(Row([*before, *real.tolist()], sampling, eos, **own))
    omni = OmniBatch(batch["ids"], batch["positions"], batch["modality"], segments)
    length = len(rows[0].prompt) if segments is None else batch["ids"].shape[1]
    positions = length + batch["deltas"].squeeze(1)
    with torch.no_grad():
        running.prefill(rows, backbone.embed(batch["ids"]), omni, positions, cache)
    return rows


def finish(running: Batch) -> None:
    """Decode until every row has ended; those that have leave at once."""
    running.drop([row for row in running.rows if row.end])
    while running.rows:
        running.step()
        running.drop([row for row in running.rows if row.end])


def run(backbone: Backbone, batch: dict[str, Any], *args: Any, **options: Any) -> list[Row]:
    running = Batch(backbone)
    rows = prefill(running, batch, *args, **options)
    finish(running)
    return rows


def rows_of(rows: list[Row]) -> list[list[int]]:
    return [row.tokens for row in rows]


def states_of(row: Row, layer: Any = "last") -> Tensor:
    return torch.cat(row.states[layer])


def test_a_padded_batch_decodes_like_each_row_alone(backbone: Backbone) -> None:
    batch = prompts((9, 4, 1, 6))
    rows = run(backbone, batch, keep=["last"])
    for number, row in enumerate(rows):
        (single,) = run(backbone, alone(batch, number), keep=["last"])
        assert single.tokens == row.tokens
        close(states_of(row), states_of(single))


def test_decoding_equals_running_the_whole_text_again(backbone: Backbone) -> None:
    """Greedy by definition: without a cache, one full pass per token."""
    batch = alone(prompts((7,)), 0)
    tokens = rows_of(run(backbone, batch, max_new_tokens=6))[0]
    ids, positions, modality = batch["ids"], batch["positions"], batch["modality"]
    for token in tokens:
        with torch.no_grad():
            out = backbone(backbone.embed(ids), positions, modality_ids=modality)
            assert int(backbone.lm_head(out.hidden[0, -1]).argmax()) == token
        at = ids.shape[1] + int(batch["deltas"])
        ids = torch.cat((ids, torch.tensor([[token]])), dim=1)
        positions = torch.cat((positions, torch.full((3, 1, 1), at)), dim=2)
        modality = torch.cat((modality, torch.zeros(1, 1, dtype=torch.int64)), dim=1)


def test_rows_stop_at_their_own_end(backbone: Backbone, monkeypatch) -> None:
    batch = prompts((5, 8, 3))
    free = rows_of(run(backbone, batch))
    eos = (free[0][3], free[2][6])
    head, sizes = backbone.lm_head.forward, []

    def counted(hidden: Tensor) -> Tensor:
        sizes.append(len(hidden))
        return head(hidden)

    monkeypatch.setattr(backbone.lm_head, "forward", counted)
    rows = run(backbone, batch, eos=eos)
    for row, ended in zip(free, rows):
        end = next((i + 1 for i, token in enumerate(row) if token in eos), len(row))
        assert ended.tokens == row[:end]
        assert ended.end == ("stop" if row[end - 1] in eos else "length")
    assert sizes[0] == 3
    assert sizes == [sum(i < len(row.tokens) for row in rows) for i in range(len(sizes))]
    assert sizes[-1] < 3


def test_a_cached_prefix_is_continued(backbone: Backbone) -> None:
    batch = alone(prompts((11,)), 0)
    expected = rows_of(run(backbone, batch))
    cache = Cache()
    with torch.inference_mode():
        backbone(
            backbone.embed(batch["ids"][:, :6]),
            batch["positions"][:, :, :6],
            modality_ids=batch["modality"][:, :6],
            cache=cache,
        )
    rest = {
        "ids": batch["ids"][:, 6:],
        "positions": batch["positions"][:, :, 6:],
        "modality": batch["modality"][:, 6:],
        "segments": None,
        "deltas": batch["deltas"],
    }
    running = Batch(backbone)
    (row,) = prefill(running, rest, cache=cache)
    while not row.end:
        running.step()
    assert [row.tokens] == expected
    assert running.cache_of(row) is cache
    assert cache.length == row.fed == 11 + 9


def test_the_budget_is_exact(backbone: Backbone) -> None:
    batch = prompts((3, 2))
    for budget in (1, 4):
        assert [len(row) for row in rows_of(run(backbone, batch, max_new_tokens=budget))] == [
            budget,
            budget,
        ]


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 5.0, "top_p": 1e-6},
        {"temperature": 1e-30},
        {"temperature": 1e-3},
    ],
    ids=str,
)
def test_ways_to_be_greedy(backbone: Backbone, sampling: dict[str, Any]) -> None:
    batch = prompts((6, 3))
    assert rows_of(run(backbone, batch, **sampling)) == rows_of(run(backbone, batch))


def test_a_seed_repeats_and_another_differs(backbone: Backbone) -> None:
    batch = prompts((6, 3))
    runs = [run(backbone, batch, temperature=2.0, seed=seed) for seed in (3, 3, 4)]
    first, again, other = map(rows_of, runs)
    assert first == again
    assert first != other
    state = torch.get_rng_state()
    run(backbone, batch, temperature=2.0, seed=3)
    assert torch.equal(torch.get_rng_state(), state)  # a seeded run leaves other draws alone


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_is_repeated(make_backbone: Make, tiny_llm: TinyLlm, n: int) -> None:
    backbone = make_backbone(tiny_llm("lite-1.0"))
    with torch.no_grad():  # a model that would say the same for ever
        backbone.lm_head.weight.mul_(0.01)
        backbone.lm_head.weight[[5, 6]] += 5 * backbone.norm.weight
    batch = prompts((8, 4))
    batch["ids"] = torch.stack((torch.arange(2, 10), torch.arange(10, 18)))
    rows = run(backbone, batch, max_new_tokens=12, no_repeat_ngram=n)
    for row, tokens in enumerate(rows_of(rows)):
        text = batch["ids"][row, batch["segments"][row] == 0].tolist() + tokens
        grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        assert len(grams) == len(set(grams))


def test_padding_is_no_history(make_backbone: Make, tiny_llm: TinyLlm) -> None:
    backbone = make_backbone(tiny_llm("flash"))
    batch = prompts((9, 2))
    rows = rows_of(run(backbone, batch, no_repeat_ngram=1))
    assert rows[1] == rows_of(run(backbone, alone(batch, 1), no_repeat_ngram=1))[0]


def test_repeating_tokens_by_hand() -> None:
    ids = [1, 2, 3, 1, 2, 4, 1, 2]
    assert sorted(repeating_tokens(ids, 3)) == [3, 4]
    assert sorted(set(repeating_tokens(ids, 1))) == [1, 2, 3, 4]
    assert sorted(set(repeating_tokens(ids, 2))) == [3, 4]
    assert repeating_tokens([1, 2], 3) == []


def draws(logits: Tensor, sampling: Sampling, count: int = 4000) -> Tensor:
    """Relative frequency of every token."""
    generator = torch.Generator().manual_seed(0)
    rows = logits.expand(count, -1)
    chosen = choose(rows, [[]] * count, [sampling] * count, [generator] * count)
    return torch.bincount(chosen, minlength=logits.shape[-1]) / count


def choice(history: list[int], sampling: Sampling) -> int:
    return int(choose(LOGITS[None], [history], [sampling], [None]))


LOGITS = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1.0), [0.4, 0.3, 0.2, 0.1]),
        (Sampling(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        (Sampling(temperature=1.0, top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(temperature=1.0, top_k=99), [0.4, 0.3, 0.2, 0.1]),
        (Sampling(temperature=1.0, top_p=0.6), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.75), [4 / 9, 3 / 9, 2 / 9, 0]),
        (Sampling(temperature=1.0, top_k=3, top_p=0.5), [4 / 7, 3 / 7, 0, 0]),
    ],
    ids=str,
)
def test_frequencies_of_draws(sampling: Sampling, expected: list[float]) -> None:
    torch.testing.assert_close(distribution(LOGITS, sampling), torch.tensor(expected))
    found = draws(LOGITS, sampling)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=0.03)
    assert bool((found[torch.tensor(expected) == 0] == 0).all())


def test_top_k_keeps_k_of_equal_logits() -> None:
    """Half precision makes equal logits common; the excess must not slip in."""
    found = draws(torch.zeros(6), Sampling(temperature=1.0, top_k=2))
    assert int((found > 0).sum()) == 2


@pytest.mark.parametrize("tiny", [1e-45, 1e-320])
def test_settings_next_to_zero_take_the_best(tiny: float) -> None:
    for sampling in (Sampling(temperature=tiny), Sampling(temperature=1.0, top_p=tiny)):
        assert choice([], sampling) == int(LOGITS.argmax())


def test_a_banned_token_is_never_drawn() -> None:
    sampling = Sampling(temperature=1.0, top_k=2, no_repeat_ngram=1)
    assert {choice([0, 1], sampling) for _ in range(200)} == {2, 3}
    assert choice([0], Sampling(no_repeat_ngram=1)) == 1


def test_numbers_of_other_libraries_are_plain_ones() -> None:
    numbers: Any = (np.int32(5), Fraction(1, 2), np.int64(3), np.float32(0.5))
    seed: Any = np.int64(7)
    given = Sampling(*numbers, seed=seed)
    assert given == Sampling(5, 0.5, 3, 0.5, seed=7)
    kinds = [int, float, int, float, int, int, int]
    assert [type(value) for value in astuple(given)] == kinds
    with pytest.raises(BadConfig, match="temperature is inf; it must be"):
        Sampling(temperature=10**400)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("max_new_tokens", 0, "at least 1"),
        ("temperature", -0.1, r"0 \(greedy\) or more"),
        ("temperature", float("nan"), r"0 \(greedy\) or more"),
        ("temperature", float("inf"), r"0 \(greedy\) or more"),
        ("top_k", -1, r"0 \(all tokens\) or more"),
        ("top_p", 0.0, "above 0 and at most 1"),
        ("top_p", 1.5, "above 0 and at most 1"),
        ("no_repeat_ngram", -2, r"0 \(off\) or more"),
        ("seed", 10**22, r"from -2\^63 to 2\^64 - 1"),
        ("seed", 1.5, "a whole number"),
        ("max_new_tokens", None, "a whole number"),
        ("top_k", True, "a whole number"),
        ("temperature", [], "a number"),
    ],
)
def test_a_bad_value_is_named(field: str, value: Any, expected: str) -> None:
    with pytest.raises(
        BadConfig, match=f"{field} is {re.escape(str(value))}; it must be {expected}"
    ):
        Sampling(**{field: value})


def test_a_row_that_is_not_finite_leaves_the_others_right(backbone: Backbone, monkeypatch) -> None:
    batch = prompts((5, 8, 3))
    expected = rows_of(run(backbone, batch))
    embed = backbone.embed

    def poisoned(ids: Tensor) -> Tensor:
        embeds = embed(ids).clone()
        if ids.shape[1] > 1:
            embeds[1] = float("nan")
        return embeds

    monkeypatch.setattr(backbone, "embed", poisoned)
    for options in ({}, {"temperature": 1.0, "top_k": 1}):
        rows = run(backbone, batch, **options)
        assert rows_of(rows) == [expected[0], [], expected[2]]
        assert [row.end for row in rows] == ["length", "broken", "length"]


def test_a_row_breaks_in_the_middle(backbone: Backbone, monkeypatch) -> None:
    batch = prompts((5, 8))
    expected = rows_of(run(backbone, batch))
    head, calls = backbone.lm_head.forward, []

    def infinite(hidden: Tensor) -> Tensor:
        logits = head(hidden).clone()
        calls.append(len(logits))
        if len(calls) == 4:
            logits[0, 7] = float("inf")
        return logits

    monkeypatch.setattr(backbone.lm_head, "forward", infinite)
    rows = run(backbone, batch)
    assert rows_of(rows) == [expected[0][:3], expected[1]]
    assert rows[0].end == "broken"
    assert calls[3:5] == [2, 1]


def test_probabilities_are_those_of_the_model_whatever_the_sampling(backbone: Backbone) -> None:
    batch = prompts((5, 8, 3))
    eos = (rows_of(run(backbone, batch))[0][3],)
    for options in ({}, {"temperature": 0.7, "top_k": 3, "seed": 1}):
        for row in run(backbone, batch, eos=eos, keep=["last"], keep_from=-1, **options):
            with torch.no_grad():
                given = backbone.lm_head(states_of(row)).softmax(dim=1)
            wanted = given.gather(1, torch.tensor(row.tokens)[:, None]).squeeze(1)
            assert row.probabilities == pytest.approx(wanted.tolist(), abs=1e-6)
            assert row.confidence == pytest.approx(float(wanted.mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("ids", "length", "turn"),
    [
        ([9, *[4] * 12], 12, 1),
        ([9, *[4] * 11], 12, 0),
        ([9, *[4, 5] * 6], 12, 2),
        ([9, *[4, 5, 6] * 6], 12, 0),  # only four times
        ([9, *[4, 5, 6] * 6, 4], 18, 3),
        ([4, 4, 5, 4, 5, 4, 5, 4, 5, 4, 4], 6, 0),
        ([4] * 40, 0, 0),
    ],
)
def test_a_loop_is_the_same_tokens_often_enough(ids: list[int], length: int, turn: int) -> None:
    assert loop_of(ids, length) == turn


def test_an_answer_that_goes_round_in_circles_ends(backbone: Backbone, monkeypatch) -> None:
    """One row repeats 4, 5 for ever, the other one counts."""
    batch = prompts((5, 3))
    calls: list[int] = []

    def circling(hidden: Tensor) -> Tensor:
        logits = torch.zeros(len(hidden), 48)
        logits[0, 4 + len(calls) % 2] = 9
        logits[-1, 2 + len(calls)] = 20
        calls.append(len(hidden))
        return logits

    monkeypatch.setattr(backbone.lm_head, "forward", circling)
    rows = run(backbone, batch, max_new_tokens=40, max_loop=24)
    looped, counted = rows_of(rows)
    assert looped == [4, 5] * 12
    assert counted == list(range(2, 42))
    assert [row.end for row in rows] == ["loop", "length"]
    calls.clear()
    free, _ = rows_of(run(backbone, batch, max_new_tokens=40, max_loop=0))
    assert free == [4, 5] * 20


def test_loops_of_the_prompt_do_not_count(backbone: Backbone, monkeypatch) -> None:
    batch = alone(prompts((5,)), 0)
    batch["ids"] = torch.full((1, 5), 4)

    def same(hidden: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor([4]), 48).float()

    monkeypatch.setattr(backbone.lm_head, "forward", same)
    (row,) = run(backbone, batch, max_new_tokens=40, max_loop=8)
    assert len(row.tokens) == 8


def test_a_loop_too_short_to_be_told_is_refused() -> None:
    with pytest.raises(BadConfig, match="max_loop is 5; it must be 0"):
        Sampling(max_loop=5)


# Rows that come and go


@pytest.mark.parametrize("late", [1, 4])
def test_a_row_may_join_while_others_are_decoded(backbone: Backbone, late: int) -> None:
    """Longer and shorter than what runs; one that has left makes room again."""
    batch = prompts((6, 4, 13, 1))
    expected = [rows_of(run(backbone, alone(batch, row)))[0] for row in range(4)]
    running = Batch(backbone)
    rows = prefill(running, alone(batch, 0))
    for number in (1, 2, 3):
        for _ in range(late):
            running.step()
            running.drop([row for row in running.rows if row.end])
        rows += prefill(running, alone(batch, number))
    finish(running)
    assert rows_of(rows) == expected


def test_a_row_takes_its_cache_along(backbone: Backbone) -> None:
    """What a row leaves with is what a batch of its own would have computed."""
    batch = prompts((4, 9, 6))
    running, single = Batch(backbone), Batch(backbone)
    rows = prefill(running, batch)
    (own,) = prefill(single, alone(batch, 2))
    for _ in range(3):
        running.step()
        single.step()
    running.drop(rows[1:2])  # the longest: what is left of its padding goes
    for _ in range(2):
        running.step()
        single.step()
    left, wanted = running.cache_of(rows[2]), single.cache_of(own)
    assert left.length == wanted.length == rows[2].fed
    assert left.segment_ids is None
    for ours, theirs in zip(left._keys + left._values, wanted._keys + wanted._values):
        close(ours[:, :, : left.length], theirs[:, :, : left.length])


def test_padding_that_no_row_needs_any_more_goes(backbone: Backbone) -> None:
    batch = prompts((3, 40))
    running = Batch(backbone)
    rows = prefill(running, batch, max_new_tokens=20)
    running.step()
    running.drop(rows[1:])
    assert running._cache.length == 4
    finish(running)
    assert rows[0].tokens == rows_of(run(backbone, alone(batch, 0), max_new_tokens=20))[0]


def test_a_seed_draws_the_same_at_any_place_of_any_batch(backbone: Backbone) -> None:
    batch = prompts((6, 3, 9))
    options: dict[str, Any] = {"temperature": 1.0, "seed": 3}
    rows = run(backbone, batch, **options)
    for number, row in enumerate(rows):
        assert row.tokens == run(backbone, alone(batch, number), **options)[0].tokens
    running = Batch(backbone)
    prefill(running, alone(batch, 0), temperature=1.0)  # draws from the common generator
    running.step()
    (late,) = prefill(running, alone(batch, 2), **options)
    finish(running)
    assert late.tokens == rows[2].tokens


@pytest.mark.parametrize("keep_from", [0, 3, -2, 99, -99])
def test_states_that_are_kept_are_those_of_one_pass(backbone: Backbone, keep_from: int) -> None:
    batch = prompts((5, 8))
    layers = [0, 1, len(backbone.layers), "last"]
    running = Batch(backbone)
    rows = prefill(running, batch, keep=layers, keep_from=keep_from, max_new_tokens=4)
    running.step()
    plain = prefill(running, alone(prompts((11,)), 0))[0]  # keeps nothing
    finish(running)
    assert plain.states == {}
    for number, row in enumerate(rows):
        own = alone(batch, number)
        size = len(row.prompt)
        fed = torch.tensor([row.ids[:-1]])
        later = torch.arange(fed.shape[1] - size) + size + int(own["deltas"])
        positions = torch.cat((own["positions"], later.expand(3, 1, -1)), dim=2)
        modality = torch.cat((own["modality"], torch.zeros_like(later)[None]), dim=1)
        with torch.no_grad():
            embeds = backbone.embed(fed)
            whole = backbone(embeds, positions, modality_ids=modality, keep=layers)
        first = min(size, max(0, size + keep_from)) if keep_from < 0 else min(size, keep_from)
        assert row.states.keys() == set(layers)
        for layer in layers:
            wanted = whole.kept[layer][0, first:]
            close(states_of(row, layer), wanted)
        assert torch.equal(whole.kept["last"], whole.hidden)
        assert torch.equal(whole.kept[0], embeds)
        with torch.no_grad():
            close(backbone.norm(whole.kept[len(backbone.layers)]), whole.hidden)
