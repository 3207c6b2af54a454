"""Query tokens of heads: in prompts, embeddings and positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pillow

from ming_core import OmniModel, load
from ming_core.chat import FLASH, LITE_1_5, Tokenizer, build_prompt
from ming_core.chat.prompt import MediaTokens, Prompt, media_parts
from ming_core.engine.request import Request
from ming_core.engine.sampling import Sampling
from ming_core.errors import BadConfig
from ming_core.heads import states_of
from ming_core.media import Image, assistant, system, user
from ming_core.modalities import AUDIO, IMAGE, TEXT
from ming_core.model.encoder import Features, by_modality, split_grids
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.positions import PositionRule, rope_index
from ming_core.model.queries import Queries, cover_picture
from ming_core.model.transformer import Backbone
from ming_core.notes import collected_notes
from ming_core.training.packing import Sample, pack, plan_packing

Make = Callable[[dict[str, Any]], Backbone]
TinyLlm = Callable[[str], dict[str, Any]]


def queries(*counts: int, **options: Any) -> Queries:
    return Queries(tuple(torch.randn(count, 32) for count in counts), **options)


def written(tokenizer: Tokenizer, prompt: Prompt) -> str:
    return tokenizer.decode(prompt.input_ids, special=True)


def test_queries_end_the_prompt_between_the_markers_of_a_picture(tokenizer: Tokenizer) -> None:
    talk = [user("draw a star")]
    plain = build_prompt(talk, LITE_1_5, tokenizer)
    prompt = build_prompt(talk, LITE_1_5, tokenizer, queries=queries(2, 4))
    patch = "<imagePatch>"
    assert written(tokenizer, prompt) == (
        f"{written(tokenizer, plain)}<image>{patch * 2}</image><image>{patch * 4}</image>"
    )
    added = [TEXT, IMAGE, IMAGE, TEXT, TEXT, IMAGE, IMAGE, IMAGE, IMAGE, TEXT]
    start = len(plain.input_ids)
    assert prompt.modality_ids[start:] == added
    assert prompt.query_ids == [-1] * start + [-1, 0, 1, -1, -1, 2, 3, 4, 5, -1]
    assert (plain.query_ids, prompt.runs) == ([], [])
    assert not any(prompt.targets)


def test_queries_stand_behind_the_beginning_of_the_answer(tokenizer: Tokenizer) -> None:
    prompt = build_prompt([user("a")], LITE_1_5, tokenizer, begin="Here:", queries=queries(1))
    assert written(tokenizer, prompt).endswith("Here:<image><imagePatch></image>")


def test_queries_in_the_question_stand_behind_its_media(tokenizer: Tokenizer) -> None:
    talk = [system("s"), user(Image("a.png"), "paint it")]
    asked = queries(2, where="question")
    prompt = build_prompt(talk, FLASH, tokenizer, [MediaTokens(3)], queries=asked)
    text = written(tokenizer, prompt)
    assert text.endswith(
        "paint it<image><imagePatch><imagePatch></image><|role_end|><role>ASSISTANT</role>"
    )
    assert [i for i in prompt.query_ids if i >= 0] == [0, 1]
    assert prompt.modality_ids.count(IMAGE) == 5


def test_queries_can_stand_for_sound(tokenizer: Tokenizer) -> None:
    asked = queries(2, modality="audio")
    prompt = build_prompt([user("say it")], LITE_1_5, tokenizer, queries=asked)
    assert written(tokenizer, prompt).endswith("<audio><audioPatch><audioPatch></audio>")
    assert prompt.modality_ids.count(AUDIO) == 2
    assert asked.features(2).grid is None


@pytest.mark.parametrize(
    ("options", "grid"),
    [
        ({}, [[1, 2, 8], [1, 2, 18]]),
        ({"layout": "grid"}, [[1, 4, 4], [1, 6, 6]]),
        ({"layout": "picture"}, [[1, 4, 4], [1, 6, 6]]),
    ],
)
def test_their_grids(options: dict[str, Any], grid: list[list[int]]) -> None:
    features = queries(4, 9, **options).features(2)
    assert features.grid is not None
    assert features.grid.tolist() == grid
    assert features.tokens == [4, 9]


def test_impossible_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one vector"):
        Queries(())
    with pytest.raises(ValueError, match="at least one vector"):
        queries(4, 0)
    with pytest.raises(ValueError, match="5 queries make no square"):
        queries(5, layout="grid")


@pytest.fixture
def omni(make_backbone: Make, tiny_llm: TinyLlm) -> Omni:
    return Omni(make_backbone(tiny_llm("lite-1.5")))


def batch(query_ids: list[list[int]], vectors: torch.Tensor | None) -> OmniBatch:
    """Two rows; tokens 1 and 2 of the first are a picture."""
    ids = torch.randint(48, (2, 6))
    numbers = torch.tensor(query_ids)
    modality = torch.where(numbers >= 0, IMAGE, TEXT)
    modality[0, 1:3] = IMAGE
    return OmniBatch(
        ids,
        torch.arange(6).expand(3, 2, -1),
        modality,
        encoded={"image": torch.full((2, 32), 7.0)},
        query_ids=numbers,
        queries=vectors,
    )


QUERIES = [[-1, -1, -1, -1, 0, 1], [-1, 0, 1, -1, -1, -1]]


def test_vectors_take_their_places_beside_pictures(omni: Omni) -> None:
    vectors = torch.randn(2, 32)
    made = batch(QUERIES, vectors)
    embeds = omni.embed(made)
    assert torch.equal(embeds[0, 4:], vectors)
    assert torch.equal(embeds[1, 1:3], vectors)
    assert (embeds[0, 1:3] == 7).all()
    words = omni.backbone.embed(made.input_ids)
    assert torch.equal(embeds[made.modality_ids == TEXT], words[made.modality_ids == TEXT])


def test_gradients_reach_the_vectors_of_a_frozen_backbone(omni: Omni) -> None:
    omni.requires_grad_(False)
    vectors = torch.randn(2, 32, requires_grad=True)
    omni(batch(QUERIES, vectors)).hidden.square().sum().backward()
    assert vectors.grad is not None
    assert (vectors.grad.abs().amax(dim=1) > 0).all()


def test_the_image_router_scores_them(omni: Omni) -> None:
    made = batch(QUERIES, torch.randn(2, 32))
    taken = omni(made).routing[0].index
    as_text = omni(replace(made, modality_ids=made.modality_ids * (made.query_ids < 0)))  # type: ignore[operator]
    differ = (taken != as_text.routing[0].index).any(dim=-1).view(2, 6)
    assert differ[made.query_ids >= 0].any()  # type: ignore[operator]
    assert not differ[0, :4].any()


def test_queries_without_a_vector_are_refused(omni: Omni) -> None:
    for vectors in (None, torch.randn(1, 32)):
        with pytest.raises(ValueError, match="query tokens without a vector"):
            omni.embed(batch(QUERIES, vectors))


def test_moving_a_batch_moves_its_queries() -> None:
    made = batch(QUERIES, torch.randn(2, 32)).to("cpu", torch.bfloat16)
    assert made.queries is not None
    assert made.queries.dtype == torch.bfloat16
    assert made.query_ids is not None
    assert made.query_ids.dtype == torch.int64


@pytest.mark.parametrize("kind", ["mrope", "video_rope"])
@pytest.mark.parametrize(("side", "size"), [(2, (2, 2)), (2, (4, 6)), (4, (2, 3))])
def test_queries_cover_the_picture_of_the_prompt(
    kind: Any, side: int, size: tuple[int, int]
) -> None:
    """Rows and columns are those of the picture's cells; time goes on."""
    height, width = size
    asked = queries(side * side, layout="picture")
    rule = PositionRule(kind, image_patch=9, image_start=8)
    count = side * side
    ids = torch.tensor([[1, 8, *[9] * (height * width), 7, 2, 8, *[9] * count, 7]])
    query_ids = torch.full_like(ids, -1)
    query_ids[0, -1 - count : -1] = torch.arange(count)
    picture = Features("image", {}, torch.tensor([[1, 2 * height, 2 * width]]), [height * width])
    stills, _ = split_grids([picture, asked.features(2)])
    positions, _ = rope_index(rule, ids, image_grid_thw=stills)
    before = positions[:, 0].clone()
    cover_picture(positions[:, 0], query_ids[0], asked, 2, size)
    mine, cells = positions[:, 0, -1 - count : -1], before[:, 2 : 2 + height * width]
    assert torch.equal(mine[0], before[0, -1 - count : -1])
    grid = cells.view(3, height, width)
    for place in range(count):
        y, x = ((2 * place_ + 1) * n // (2 * side) for place_, n in zip(divmod(place, side), size))
        assert mine[1:, place].tolist() == grid[1:, y, x].tolist()
    rest = torch.ones_like(query_ids[0], dtype=torch.bool)
    rest[-1 - count : -1] = False
    assert torch.equal(positions[:, 0, rest], before[:, rest])


@pytest.fixture(scope="module")
def models(tokenizer: Tokenizer, make_model: Callable[..., OmniModel]) -> dict[str, OmniModel]:
    return {family: make_model(family, tokenizer) for family in ("lite-1.0", "lite-1.5", "flash")}


def scene(number: int) -> Image:
    rng = np.random.default_rng(number)
    return Image(pillow.fromarray(rng.integers(0, 255, (32, 48, 3), dtype=np.uint8)))


def by_hand(model: OmniModel, request: Request) -> torch.Tensor:
    """Hidden states of the queries as one pass over the prompt gives them."""
    asked = request.queries
    assert asked is not None
    merge = model.config.spatial_merge_size
    media = media_parts(request.messages)  # type: ignore[arg-type]
    features = [model.encoder("image").processor([medium]) for medium in media]
    sizes = [MediaTokens(sum(item.tokens)) for item in features]
    prompt = build_prompt(
        request.messages,  # type: ignore[arg-type]
        model.format,
        model.tokenizer,
        sizes,
        queries=asked,
    )
    ids = torch.tensor([prompt.input_ids])
    stills, _ = split_grids([*features, asked.features(merge)])
    positions, _ = rope_index(model.rule, ids, None, stills)
    numbers = torch.tensor([prompt.query_ids])
    if asked.layout == "picture" and media:
        run, (_, height, width) = prompt.runs[0], features[0].grid[0].tolist()  # type: ignore[index]
        size = (height // merge, width // merge)
        cover_picture(positions[:, 0], numbers[0], asked, run.start, size)
    made = OmniBatch(
        ids,
        positions,
        torch.tensor([prompt.modality_ids]),
        features=by_modality(features),
        query_ids=numbers,
        queries=asked.joined(),
    )
    with torch.no_grad():
        return model.omni(made).hidden[numbers >= 0]


@pytest.mark.parametrize("family", ["lite-1.0", "lite-1.5", "flash"])
def test_the_engine_answers_queries_and_questions_together(
    models: dict[str, OmniModel], family: str
) -> None:
    model, picture = models[family], scene(1)
    requests = [
        Request([user("draw a red star")], queries=queries(4, 9), keep=("last",)),
        Request([user("what is this?")], sampling=Sampling(max_new_tokens=5)),
        Request([user(picture, "a blue one")], queries=queries(9), keep=("last", 0, 1)),
        Request(
            [user(scene(2), picture, "and now?")],
            queries=queries(4, 16, layout="picture"),
            keep=("last",),
        ),
        Request([user("x")], queries=queries(2, where="question"), keep=("last",)),
    ]
    answers = list(model.engine.run(requests))
    for request, answer in zip(requests, answers, strict=True):
        if request.queries is None:
            assert answer.tokens == 5
            assert answer.states is None
            continue
        assert (answer.text, answer.tokens, answer.stopped) == ("", 0, True)
        assert answer.states is not None
        found = answer.states.of_queries()
        torch.testing.assert_close(found, by_hand(model, request), rtol=1e-4, atol=1e-4)
        alone = model.engine.answer(request).states
        assert alone is not None
        torch.testing.assert_close(found, alone.of_queries(), rtol=1e-4, atol=1e-4)
    states = answers[2].states
    assert states is not None
    assert set(states.hidden) == {"last", 0, 1}
    assert torch.equal(states.of_queries(0), requests[2].queries.joined())  # type: ignore[union-attr]
    (question,) = model.engine.run(requests[1:2])
    assert question.text == answers[1].text


def test_a_session_shares_all_but_the_queries(models: dict[str, OmniModel]) -> None:
    """What was said before is computed once; other vectors at the same places are not mixed up."""
    model, talk = models["flash"], [user("draw a long thin red line please")]
    session = model.session()
    for _ in range(2):
        asked = queries(4)
        request = Request(talk, queries=asked, keep=("last",), keep_from=-6)
        (answer,) = [model.engine.answer(request, session)]
        assert answer.states is not None
        alone = model.engine.answer(replace(request, keep_from=0)).states
        assert alone is not None
        found = answer.states.of_queries()
        torch.testing.assert_close(found, alone.of_queries(), rtol=1e-4, atol=1e-4)
    later = [*talk, assistant("done"), user("thanks")]
    said = session.chat(later, max_new_tokens=5)
    assert said.text == model.session().chat(later, max_new_tokens=5).text


def test_a_prompt_with_queries_must_fit(models: dict[str, OmniModel]) -> None:
    with pytest.raises(BadConfig, match="the context of flash holds 512"):
        models["flash"].engine.answer(Request([user("x")], queries=queries(600), keep=("last",)))


def test_packed_samples_have_the_states_of_single_ones(
    tokenizer: Tokenizer, models: dict[str, OmniModel]
) -> None:
    model, asked = models["lite-1.5"], queries(1, 4)
    requests = [Request([user(text)], queries=asked) for text in ("a", "a long line", "two")]
    samples = []
    for request in requests:
        prompt = build_prompt(request.messages, model.format, tokenizer, queries=asked)  # type: ignore[arg-type]
        ids = torch.tensor(prompt.input_ids)
        stills, _ = split_grids([asked.features(model.rule.merge)])
        positions, _ = rope_index(model.rule, ids[None], None, stills)
        samples.append(
            Sample(
                ids,
                torch.full_like(ids, -100),
                positions[:, 0],
                torch.tensor(prompt.modality_ids),
                query_ids=torch.tensor(prompt.query_ids),
            )
        )
    capacity = len(samples[0].input_ids) + len(samples[1].input_ids) + 3
    placements = plan_packing([len(sample.input_ids) for sample in samples], capacity)
    rows = pack(samples, placements, capacity)
    made = OmniBatch(
        rows.input_ids,
        rows.position_ids,
        rows.modality_ids,
        rows.segment_ids,
        query_ids=rows.query_ids,
        queries=asked.joined(),
    )
    with torch.no_grad():
        packed = states_of(made, model.omni(made, keep=["last"]))
    order = sorted(range(3), key=lambda number: placements[number])
    for number, states in zip(order, packed, strict=True):
        found = states.of_queries()
        torch.testing.assert_close(found, by_hand(model, requests[number]), rtol=1e-4, atol=1e-4)


def test_samples_without_queries_are_packed_as_before() -> None:
    ids = torch.arange(3)
    plain = Sample(ids, ids, ids.expand(3, -1), ids * 0)
    assert pack([plain], plan_packing([3], 4), 4).query_ids is None
    asked = replace(plain, query_ids=torch.tensor([-1, 0, 1]))
    rows = pack([plain, asked], plan_packing([3, 3], 7), 7)
    assert rows.query_ids is not None
    assert rows.query_ids.tolist() == [[-1, -1, -1, -1, 0, 1, -1]]


def test_a_request_with_queries_is_not_unsure_of_anything() -> None:
    """nano tells when it does not know a question; here it is asked none."""
    nano = load("nano", device="cpu")
    asked = Queries((torch.randn(4, nano.config.hidden_size),))
    with collected_notes() as notes:
        answer = nano.engine.answer(Request([user("draw a zebra")], queries=asked, keep=("last",)))
    assert (answer.sure, notes) == (None, [])
