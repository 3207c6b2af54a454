"""Loading a model and talking to it: a tiny random Flash checkpoint with an image encoder."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as pil
from torch import Tensor

from ming_core import Audio, Image, OmniModel, Video, assistant, load, system, user
from ming_core.chat import Tokenizer
from ming_core.chat.prompt import Prompt, Run
from ming_core.checkpoints.keymap import backbone_slots, identity_slots
from ming_core.checkpoints.writing import export
from ming_core.engine.answers import Answer
from ming_core.engine.prompting import prepare
from ming_core.engine.request import Request
from ming_core.engine.session import Past
from ming_core.errors import (
    BadCheckpoint,
    BadConfig,
    BadMedia,
    MingError,
    MissingPlugin,
    NotFinite,
    UnknownName,
)
from ming_core.media import Message
from ming_core.model.cache import Cache
from ming_core.model.encoder import Features
from ming_core.model.seen import Seen, SeenMedia
from ming_core.notes import collected_notes
from ming_core.plugins import get_plugins

TOKENS = 12
"""Length of most answers here: the random model never ends one by itself."""


@pytest.fixture(scope="session")
def checkpoint(
    tmp_path_factory: pytest.TempPathFactory,
    make_model: Callable[..., OmniModel],
    tokenizer_folder: Path,
) -> Path:
    """A Flash checkpoint in the released layout with random weights."""
    root = tmp_path_factory.mktemp("checkpoint")
    model = make_model("flash", Tokenizer(tokenizer_folder))
    preprocessor = root / "preprocessor_config.json"
    preprocessor.write_text(json.dumps(model.sources.preprocessor), "utf-8")
    backbone, encoder = model.omni.backbone, model.omni.encoders["image"]
    export(
        {
            "backbone": (backbone, backbone_slots(backbone.config)),
            "vision": (encoder, identity_slots(encoder)),
        },
        root / "model",
        {**model.sources.config, "model_type": "bailingmm_moe_v2_lite", "torch_dtype": "bfloat16"},
        files=[preprocessor, *tokenizer_folder.iterdir()],
    )
    return root / "model"


@pytest.fixture(scope="session")
def session_model(checkpoint: Path) -> OmniModel:
    return load(checkpoint, device="cpu")


@pytest.fixture
def model(session_model: OmniModel) -> OmniModel:
    return forgetful(session_model)


def forgetful(model: OmniModel) -> OmniModel:
    """The same model without memory of what other tests talked about."""
    return OmniModel(model.name, model.omni, model.sources)


@pytest.fixture
def without_vision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MING_DISABLE_PLUGINS", "ming-vision")
    get_plugins.cache_clear()
    yield
    get_plugins.cache_clear()


def picture(seed: int, height: int = 32, width: int = 32) -> Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image(pixels)


def fresh(model: OmniModel, messages: list[Message], **sampling: Any) -> Answer:
    """The answer of a model that remembers nothing."""
    sampling = {"max_new_tokens": TOKENS, **sampling}
    return forgetful(model).chat(messages, **sampling)


def copy_of(checkpoint: Path, folder: Path, **change: Any) -> Path:
    """The checkpoint with other entries in its config.json; None removes one."""
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text("utf-8")) | change
    kept = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept), "utf-8")
    return folder


# Loading


def test_load_takes_weights_config_and_token_ids(model: OmniModel, checkpoint: Path) -> None:
    assert model.name == str(checkpoint)
    assert model.format.name == "flash"
    assert not model.omni.training
    assert model.config.image_patch_token == model.tokenizer.id("<imagePatch>")
    assert model.config.video_start_token == model.tokenizer.id("<video>")
    assert {p.dtype for p in model.omni.parameters()} == {torch.float32}  # small, on CPU
    assert {"ask", "chat"} <= model.tasks.keys() <= set(dir(model))


def test_encoders_are_loaded_when_first_needed(checkpoint: Path) -> None:
    model = load(str(checkpoint), device="cpu")
    assert list(model.omni.encoders) == []
    model.ask("red?", max_new_tokens=1)
    assert list(model.omni.encoders) == []
    model.ask("red?", picture(0), max_new_tokens=1)
    assert list(model.omni.encoders) == ["image"]
    assert model.encoder("image") is model.encoder("image")


def test_half_precision_keeps_expert_biases(checkpoint: Path) -> None:
    model = load(checkpoint, device="cpu", dtype="bfloat16", parts=["text", "image"])
    assert {p.dtype for p in model.omni.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in model.omni.backbone.buffers()} == {torch.float32}
    answer = model.ask("what is this?", picture(1), max_new_tokens=3)
    assert answer.tokens == 3


def test_parts_load_now_and_refuse_the_rest(checkpoint: Path) -> None:
    assert list(load(checkpoint, parts=["image"]).omni.encoders) == ["image"]
    text = load(checkpoint, parts=["text"])
    assert text.ask("red?", max_new_tokens=2).tokens == 2
    with pytest.raises(MissingPlugin, match=r"loaded with parts=\['text'\]; load it with 'image'"):
        text.ask("red?", picture(0))


def test_a_part_the_model_does_not_have(checkpoint: Path, tmp_path: Path) -> None:
    blind = load(copy_of(checkpoint, tmp_path / "blind", vision_config=None))
    assert blind.ask("red?", max_new_tokens=2).tokens == 2
    with pytest.raises(MissingPlugin, match=r"no part for image: its config.json lacks vision_con"):
        blind.ask("red?", picture(0))


def test_an_encoder_that_nobody_registered(checkpoint: Path, tmp_path: Path) -> None:
    vision = {"model_type": "qwen9_vit"}
    strange = load(copy_of(checkpoint, tmp_path / "strange", vision_config=vision))
    with pytest.raises(MissingPlugin, match=r"the encoder 'qwen9_vit' needs a plugin"):
        strange.ask("red?", picture(0))


@pytest.mark.usefixtures("without_vision")
def test_a_switched_off_encoder_is_named(checkpoint: Path) -> None:
    with pytest.raises(MissingPlugin, match=r"reading images needs ming-vision, which MING_DIS"):
        load(checkpoint, parts=["image"])
    model = load(checkpoint)
    assert model.ask("red?", max_new_tokens=2).tokens == 2
    with pytest.raises(MissingPlugin, match=r"reading images needs ming-vision"):
        model.ask("red?", picture(0))


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"model": "nanoo"}, UnknownName, r"unknown preset 'nanoo'; did you mean 'nano'\?"),
        ({"model": "no/such/folder"}, BadCheckpoint, r"there is no folder 'no/such/folder'; give"),
        ({"model": Path("nano")}, BadCheckpoint, r"there is no folder 'nano'; give a checkpoint"),
        ({"device": "tpu9"}, BadConfig, r"unknown device 'tpu9'; use auto, cpu, cuda"),
        ({"device": "cuda:99"}, BadConfig, r"device 'cuda:99' is not on this machine, which has"),
        ({"dtype": "int8"}, BadConfig, r"unknown dtype 'int8'; use auto, float32, bfloat16"),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_used(
    checkpoint: Path, arguments: dict[str, Any], error: type[MingError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        load(**{"model": checkpoint, **arguments})


def test_a_folder_of_another_kind(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(BadCheckpoint, match=r"unknown checkpoint: config.json describes"):
        load(copy_of(checkpoint, tmp_path / "other", llm_config=None))


def test_a_folder_with_a_broken_backbone_config(checkpoint: Path, tmp_path: Path) -> None:
    llm = json.loads((checkpoint / "config.json").read_text("utf-8"))["llm_config"]
    broken = copy_of(checkpoint, tmp_path / "broken", llm_config=llm | {"num_experts": 16})
    with pytest.raises(BadCheckpoint, match=r"do not fit its config.json"):
        load(broken)
    del llm["num_experts"]
    with pytest.raises(BadConfig, match=r"llm_config lacks the field 'num_experts'"):
        load(copy_of(checkpoint, tmp_path / "lacking", llm_config=llm))


def test_an_unknown_task_and_one_of_a_missing_package(model: OmniModel) -> None:
    with pytest.raises(AttributeError, match="no attribute or task 'juggle'"):
        _ = model.juggle


# Asking


def test_ask_equals_chat_with_one_message(model: OmniModel) -> None:
    image = picture(2)
    asked = model.ask("what is red?", image, max_new_tokens=TOKENS)
    assert asked == fresh(model, [user(image, "what is red?")])
    assert asked.tokens == TOKENS
    assert not asked.stopped
    told = model.ask("what?", image, instructions="be brief", max_new_tokens=TOKENS)
    assert told == fresh(model, [system("be brief"), user(image, "what?")])
    assert told != asked


def test_the_picture_the_question_and_thinking_matter(model: OmniModel) -> None:
    answers = [
        model.ask("what is red?", picture(2), max_new_tokens=TOKENS),
        model.ask("what is red?", picture(3), max_new_tokens=TOKENS),
        model.ask("what is blue?", picture(2), max_new_tokens=TOKENS),
        model.ask("what is red?", picture(2), think=True, max_new_tokens=TOKENS),
        model.ask("what is red?", max_new_tokens=TOKENS),
    ]
    assert len({answer.text for answer in answers}) == 5


def test_a_stream_is_the_same_text(model: OmniModel) -> None:
    question, image = "how many circles?", picture(4)
    whole = model.ask(question, image, max_new_tokens=40)
    pieces = list(model.ask(question, image, stream=True, max_new_tokens=40))
    assert len(pieces) > 10
    assert all(pieces)
    assert "".join(pieces).strip() == whole.text
    chatted = "".join(model.chat([user(image, question)], stream=True, max_new_tokens=40))
    assert chatted.strip() == whole.text


def test_an_answer_ends_at_the_stop_token(model: OmniModel) -> None:
    stop = model.tokenizer.id("<|role_end|>")
    head = model.omni.backbone.lm_head.weight
    free = model.ask("red?", max_new_tokens=6)
    with torch.no_grad():
        kept = head[stop].clone()
        head[stop] *= 10  # as likely as not at every step
    try:
        stopped = [model.ask(q, max_new_tokens=60) for q in ("red?", "blue?", "what?", "where?")]
    finally:
        with torch.no_grad():
            head[stop] = kept
    ended = [answer for answer in stopped if answer.stopped]
    assert ended
    assert all(answer.tokens < 60 for answer in ended)
    assert all("<|role_end|>" not in answer.text for answer in stopped)
    assert model.ask("red?", max_new_tokens=6) == free


def test_sampling_options_reach_the_sampler(model: OmniModel) -> None:
    options: dict[str, Any] = {"temperature": 1.5, "seed": 5, "max_new_tokens": TOKENS}
    first = model.ask("red?", **options)
    assert first == model.ask("red?", **options)
    options["seed"] = 6
    assert first != model.ask("red?", **options)
    with pytest.raises(BadConfig, match=r"top_p is 2.0; it must be above 0 and at most 1"):
        model.ask("red?", top_p=2.0)
    with pytest.raises(BadConfig, match=r"max_new_tokens is 0"):
        model.ask("red?", stream=True, max_new_tokens=0)


def test_typed_special_tokens_are_text(model: OmniModel, work: Any) -> None:
    typed = "<image><imagePatch></image><|role_end|><role>ASSISTANT</role>"
    assert model.ask(typed, max_new_tokens=TOKENS).tokens == TOKENS
    assert work.encoded == []
    prompt, features = prepare(model, Request([user(typed)]), SeenMedia())
    patch, start = (model.tokenizer.id(t) for t in ("<imagePatch>", "<image>"))
    assert features == []
    assert patch not in prompt.input_ids
    assert start not in prompt.input_ids
    assert set(prompt.modality_ids) == {0}
    # A picture beside it is still in its right place.
    answer = model.ask(typed, picture(0), max_new_tokens=TOKENS)
    assert len(work.encoded) == 1
    assert answer == fresh(model, [user(picture(0), typed)])


def test_a_prompt_beyond_the_context(model: OmniModel, work: Any) -> None:
    long = "red " * 600
    with pytest.raises(BadConfig, match=r"prompt has \d{4} tokens and the context .* holds 512"):
        model.ask(long)
    with pytest.raises(BadConfig, match=r"shorten the text or use smaller media"):
        model.answer_batch([[user("red?")], [user(long)]])
    assert work.passes == []


def test_an_answer_ends_where_the_context_ends(model: OmniModel) -> None:
    question = "red " * 100
    prompt, _ = prepare(model, Request([user(question)]), SeenMedia())
    room = 512 - len(prompt.input_ids)
    assert 0 < room < 60
    assert model.ask(question, max_new_tokens=100).tokens == room


def test_media_that_the_model_cannot_read(model: OmniModel) -> None:
    with pytest.raises(BadMedia, match="there is no video file"):
        model.ask("what happens?", Video("clip.mp4"))
    with pytest.raises(MissingPlugin):
        model.ask("what is said?", Audio("speech.wav"))


def test_an_answer_is_saved_whole(tmp_path: Path) -> None:
    answer = Answer("三 shapes", 3, True)
    assert str(answer) == "三 shapes"
    assert answer.save(tmp_path / "answer.txt").read_text("utf-8") == "三 shapes\n"
    assert [p.name for p in tmp_path.iterdir()] == ["answer.txt"]


# Conversations


def test_a_second_question_costs_its_own_tokens_only(model: OmniModel, work: Any) -> None:
    image = picture(5)
    talk = [user(image, "what is red?")]
    first = model.chat(talk, max_new_tokens=TOKENS)
    assert len(work.encoded) == 1
    whole = work.prefill()
    talk += [assistant(first.text), user("and what is blue?")]
    second = model.chat(talk, max_new_tokens=TOKENS)
    assert len(work.encoded) == 1  # the picture was not looked at again
    assert work.prefill() < whole
    talk += [assistant(second.text), user("why?")]
    third = model.chat(talk, max_new_tokens=TOKENS)
    assert len(work.encoded) == 1
    assert second == fresh(model, talk[:3])
    assert third == fresh(model, talk)


def test_another_picture_of_the_same_size_is_encoded_again(model: OmniModel, work: Any) -> None:
    talks = [[user(picture(seed), "what is red?")] for seed in (6, 7)]
    expected = [fresh(model, talk) for talk in talks]
    work.encoded.clear()
    assert [model.chat(talk, max_new_tokens=TOKENS) for talk in talks] == expected
    assert len(work.encoded) == 2
    assert expected[0] != expected[1]


def test_a_new_picture_in_a_follow_up_is_the_only_one_encoded(model: OmniModel, work: Any) -> None:
    talk = [user(picture(8), "what is red?")]
    first = model.chat(talk, max_new_tokens=TOKENS)
    talk += [assistant(first.text), user(picture(9, 24, 40), "and here?")]
    second = model.chat(talk, max_new_tokens=TOKENS)
    assert len(work.encoded) == 2
    talk += [assistant(second.text), user("what differs?")]
    third = model.chat(talk, max_new_tokens=TOKENS)
    assert len(work.encoded) == 2
    assert second == fresh(model, talk[:3])
    assert third == fresh(model, talk)


def test_interleaved_conversations_stay_apart(model: OmniModel) -> None:
    shared = picture(10)
    talks = [[user(shared, "red?")], [user(picture(11), "red?")], [user("red?", shared)]]
    for question in ("blue?", "why?", "where?"):
        for talk in talks:
            answer = model.chat(talk, max_new_tokens=TOKENS)
            assert answer == fresh(model, talk)
            talk += [assistant(answer.text), user(question)]


def test_the_same_question_again_and_a_shorter_one(model: OmniModel) -> None:
    image = picture(12)
    talk = [user(image, "what is the red circle doing?")]
    first = model.chat(talk, max_new_tokens=TOKENS)
    assert model.chat(talk, max_new_tokens=TOKENS) == first
    shorter = [user(image, "what is the red")]
    answer = model.chat(shorter, max_new_tokens=TOKENS)
    assert answer == fresh(model, shorter)


def test_streams_that_are_given_up_or_interleaved(model: OmniModel) -> None:
    talks = [[user(picture(13), "red?")], [user(picture(14), "blue?")]]
    expected = [fresh(model, talk).text for talk in talks]
    abandoned = model.chat(talks[0], stream=True, max_new_tokens=TOKENS)
    next(iter(abandoned))
    streams = [model.chat(talk, stream=True, max_new_tokens=TOKENS) for talk in talks]
    pieces = zip(*zip_longest(*streams, fillvalue=""), strict=True)
    assert ["".join(piece).strip() for piece in pieces] == expected
    assert model.chat(talks[1], max_new_tokens=TOKENS).text == expected[1]


def test_a_failed_question_does_not_spoil_the_memory(model: OmniModel, work: Any) -> None:
    talk = [user(picture(15), "red?")]
    answer = model.chat(talk, max_new_tokens=TOKENS)
    with pytest.raises(BadMedia):
        model.chat([*talk, assistant(answer.text), user(Image("absent.png"), "and?")])
    with pytest.raises(BadConfig):
        model.chat([*talk, assistant(answer.text), user("red " * 600)])
    talk += [assistant(answer.text), user("blue?")]
    second = model.chat(talk, max_new_tokens=TOKENS)
    assert len(work.encoded) == 1
    assert second == fresh(model, talk)


def test_ask_leaves_a_conversation_alone(model: OmniModel, work: Any) -> None:
    talk = [user(picture(16), "red?")]
    answer = model.chat(talk, max_new_tokens=TOKENS)
    model.ask("something else", max_new_tokens=2)
    model.chat([*talk, assistant(answer.text), user("blue?")], max_new_tokens=TOKENS)
    assert len(work.encoded) == 1


def test_what_two_prompts_share() -> None:
    """Media count by what was seen of them; a video that has grown keeps its beginning."""

    def seen(grid: tuple[int, int, int], values: Tensor | None = None) -> Seen:
        tokens, seconds = grid[0] * grid[1] * grid[2] // 4, tuple(map(float, range(grid[0])))
        return Seen(Features("image", {}, torch.tensor([grid]), [tokens], [seconds]), values)

    video, image = seen((2, 2, 4)), seen((1, 2, 2))
    runs = [Run(0, 1, 2), Run(0, 4, 2), Run(1, 7, 1)]
    ids = [9, 5, 5, 8, 5, 5, 8, 6, 9, 3]
    past = Past([*ids, 4], [video, image], Cache())

    def shared(ids: list[int], seen: list[Seen], runs: list[Run] = runs) -> int:
        media = tuple(Video("clip.mp4") for _ in seen)
        return past.shared(Prompt(ids, [0] * len(ids), [False] * len(ids), media, runs), seen)

    assert shared([*ids, 4, 2], [video, image]) == 11
    assert shared(ids, [video, image]) == 9  # one token is left to compute
    assert shared([*ids[:8], 2, 2], [video, image]) == 8
    assert shared(ids, [video, seen((1, 2, 2))]) == 7
    assert shared(ids, [seen((2, 2, 4)), image]) == 1
    assert shared([2, *ids], [video, image], [Run(0, 2, 2), Run(0, 5, 2), Run(1, 8, 1)]) == 0

    video.values = torch.arange(8.0).view(4, 2)
    assert shared(ids, [seen((2, 2, 4), video.values.clone()), image]) == 9
    grown = torch.cat([video.values[:3], torch.ones(3, 2)])
    grid, longer = (3, 2, 4), [9, 5, 5, 8, 5, 5, 8, 5, 5, 8, 2]
    runs = [Run(0, 1, 2), Run(0, 4, 2), Run(0, 7, 2)]
    assert shared(longer, [seen(grid, grown)], runs) == 5
    grown[3] = video.values[3]
    assert shared(longer, [seen(grid, grown)], runs) == 7
    assert shared(longer, [seen((3, 4, 2), grown)], runs) == 1  # another shape
    block = [9, 5, 5, 5, 5, 5, 5, 8]  # all patches in one run
    past = Past([9, 5, 5, 5, 5, 8, 4], [video], Cache())
    assert shared(block, [seen(grid, grown)], [Run(0, 1, 6)]) == 5


# Batches


def test_a_batch_equals_single_questions(model: OmniModel, work: Any) -> None:
    talks = [
        [user(picture(20), "what is red?")],
        [user("red?")],
        [user(picture(21, 24, 40), picture(22, 48, 16), "what differs between the two?")],
        [system("be brief"), user("how?"), assistant("so"), user(picture(23), "why is it so?")],
    ]
    answers = model.answer_batch(talks, max_new_tokens=TOKENS)
    assert len(work.encoded) == 4
    assert len({answer.text for answer in answers}) == 4
    assert answers == [fresh(model, talk) for talk in talks]
    ngram: dict[str, Any] = {"max_new_tokens": TOKENS, "no_repeat_ngram": 1}
    expected = [fresh(model, talk, **ngram) for talk in talks[:2]]
    assert model.answer_batch(talks[:2], **ngram) == expected


def test_batches_of_one_and_of_none(model: OmniModel) -> None:
    talk = [user(picture(24), "what?")]
    assert model.answer_batch([talk], max_new_tokens=TOKENS) == [fresh(model, talk)]
    assert model.answer_batch([]) == []
    with pytest.raises(BadConfig, match="top_k is -1"):
        model.answer_batch([], top_k=-1)


def test_a_path_stands_for_its_picture_and_other_strings_are_text(
    model: OmniModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pil.fromarray(picture(3).source).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    expected = model.ask("what is this?", picture(3), max_new_tokens=4)
    data = (tmp_path / "a.png").read_bytes()
    for medium in ("a.png", Path("a.png"), data, io.BytesIO(data), pil.open("a.png")):
        assert model.ask("what is this?", medium, max_new_tokens=4) == expected
    text = model.ask("what is this?", "a text", max_new_tokens=4)
    assert text == fresh(model, [user("a text", "what is this?")], max_new_tokens=4)
    with pytest.raises(BadMedia, match=r"there is no image file 'b\.png'"):
        model.ask("what is this?", "b.png")


def test_messages_of_other_tools(model: OmniModel, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pil.fromarray(picture(3).source).save(path)
    url = "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    system_turn, answer = {"role": "system", "content": "be brief"}, "a star"
    last = {"role": "user", "content": "and now?"}
    shown = [
        [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}],
        [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": str(path)}}],
        [{"type": "text", "text": "what?"}, {"type": "image", "image": str(path)}],
        ["what?", path],
    ]
    ours = [system("be brief"), user("what?", picture(3)), assistant(answer), user("and now?")]
    expected = fresh(model, ours, max_new_tokens=4)
    for content in shown:
        turns: list[Any] = [system_turn, {"role": "user", "content": content}]
        turns += [{"role": "ASSISTANT", "content": answer}, last]
        assert fresh(model, turns, max_new_tokens=4) == expected
        assert model.answer_batch([turns], max_new_tokens=4) == [expected]


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ({"role": "user", "content": "hi"}, "a conversation must be a list of messages"),
        ("hi", "a conversation must be a list of messages"),
        (["hi"], "a message must be a Message or .'role': ..., 'content': ...., not 'hi'"),
        ([{"role": "bot", "content": "hi"}], "role is 'bot'; use system, user or assistant"),
        ([{"role": "user"}], "a message must be a Message or"),
        ([{"role": "user", "content": " "}], "the last message is empty; say what you want"),
        ([{"role": "user", "content": [{"type": "file"}]}], "has the type 'file'; known: text, "),
        ([{"role": "user", "content": [{"type": "text"}]}], "needs a 'text', and has None"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "needs a value under 'image_url'"),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "*"}}]}],
            "no valid base64",
        ),
    ],
)
def test_broken_messages_are_named(model: OmniModel, messages: Any, sentence: str) -> None:
    with pytest.raises(MingError, match=sentence):
        model.chat(messages)


def test_options_of_other_tools_get_their_name_here(model: OmniModel) -> None:
    with pytest.raises(UnknownName, match="'max_tokens'; did you mean 'max_new_tokens'"):
        model.ask("hi", max_tokens=3)  # type: ignore[call-overload]
    with pytest.raises(
        UnknownName, match="unknown option of an answer 'n'; known: max_loop, max_new"
    ):
        model.chat([user("hi")], n=3)  # type: ignore[call-overload]


# Values that are no finite numbers, and loops


def test_a_medium_whose_values_are_not_finite_is_named(model: OmniModel, monkeypatch) -> None:
    encoder: Any = model.encoder("image")
    forward, dark = encoder.forward, picture(40)
    monkeypatch.setattr(encoder, "forward", lambda features: forward(features) * float("nan"))
    with pytest.raises(NotFinite, match="no finite numbers; check the file"):
        model.ask("what?", dark)
    with pytest.raises(NotFinite, match="no finite numbers"):
        list(model.ask("what?", dark, stream=True))
    with collected_notes() as notes:
        asked, wrong = model.answer_batch([[user("red?")], [user(dark, "what?")]], max_new_tokens=3)
    assert asked == fresh(model, [user("red?")], max_new_tokens=3)
    assert (wrong.text, wrong.error) == ("", notes[0])
    assert wrong.to_dict()["error"] == notes[0]


def test_logits_that_are_not_finite_are_an_error(model: OmniModel, monkeypatch) -> None:
    head, calls = model.omni.backbone.lm_head.forward, []

    def broken(hidden: Tensor) -> Tensor:
        calls.append(1)
        logits = head(hidden)
        return logits * float("nan") if len(calls) == 3 else logits

    monkeypatch.setattr(model.omni.backbone.lm_head, "forward", broken)
    with pytest.raises(NotFinite, match="so there is no answer; check its weights"):
        model.ask("red?", max_new_tokens=TOKENS)
    calls.clear()
    with pytest.raises(NotFinite):
        model.answer_batch([[user("red?")], [user("blue?")]], max_new_tokens=TOKENS)
    calls.clear()
    with pytest.raises(NotFinite):
        model.chat([user("red?")], max_new_tokens=TOKENS)
    calls += [1, 1, 1]
    assert model.chat([user("red?")], max_new_tokens=TOKENS) == fresh(model, [user("red?")])


def test_a_loop_is_written_once_and_told(model: OmniModel, monkeypatch) -> None:
    tokens = model.tokenizer.encode("a b")
    calls: list[int] = []

    def circling(hidden: Tensor) -> Tensor:
        logits = torch.zeros(len(hidden), model.config.vocab_size)
        logits[:, tokens[len(calls) % len(tokens)]] = 9
        calls.append(1)
        return logits

    monkeypatch.setattr(model.omni.backbone.lm_head, "forward", circling)
    with collected_notes() as notes:
        answer = model.ask("red?", max_loop=30)
    assert (answer.text, answer.stopped, answer.repeated) == ("a b", False, True)
    assert 30 <= answer.tokens < 40
    assert answer.to_dict()["repeated"] is True
    assert "over and over" in notes[0]
    calls.clear()
    long = model.ask("red?", max_loop=0, max_new_tokens=40)
    assert (long.tokens, long.stopped, long.repeated) == (40, False, False)


def test_confidence_is_the_mean_probability(model: OmniModel) -> None:
    answer = model.ask("red?", max_new_tokens=4)
    (batched,) = model.answer_batch([[user("red?")]], max_new_tokens=4)
    assert 0 < answer.confidence < 1
    assert batched.confidence == pytest.approx(answer.confidence, abs=1e-5)
    assert answer.to_dict()["confidence"] == round(answer.confidence, 4)


@pytest.mark.gpu
def test_on_a_gpu_a_model_says_the_same(
    session_model: OmniModel, checkpoint: Path, tmp_path: Path, gpu: torch.device
) -> None:
    model, there = forgetful(session_model), load(checkpoint, device=gpu, dtype="float32")
    there.encoder("image")
    weights = [*there.omni.parameters(), *there.omni.buffers()]
    assert {(w.device.type, w.dtype) for w in weights} == {(gpu.type, torch.float32)}
    options: dict[str, Any] = {"max_new_tokens": TOKENS}
    red, blue = picture(2), picture(3)
    assert str(there.ask("what?", red, **options)) == str(model.ask("what?", red, **options))
    talk = [user(red, "what?"), assistant("a circle"), user(blue, "and now?")]
    for turns in (talk[:1], talk):
        streamed = "".join(there.chat(turns, stream=True, **options)).strip()
        assert streamed == str(model.chat(turns, **options))
    rows = [[user("hello")], talk, [user(blue, "how many?")]]
    both = [m.answer_batch(rows, **options) for m in (model, there)]
    assert list(map(str, both[0])) == list(map(str, both[1]))
    drawn = [str(there.ask("what?", red, temperature=1.0, seed=3, **options)) for _ in range(2)]
    assert drawn[0] == drawn[1]

    saved = load(there.save(tmp_path / "saved"), device="cpu", dtype="float32")
    assert str(saved.ask("what?", red, **options)) == str(model.ask("what?", red, **options))


@pytest.mark.gpu
def test_half_precision_on_a_gpu_keeps_expert_biases(checkpoint: Path, gpu: torch.device) -> None:
    model = load(checkpoint, device=gpu)
    assert model.omni.backbone.lm_head.weight.dtype == torch.bfloat16
    biases = [b for name, b in model.omni.backbone.named_buffers() if "expert_bias" in name]
    assert biases
    assert {(b.device.type, b.dtype) for b in biases} == {(gpu.type, torch.float32)}
    assert model.ask("what?", picture(2), max_new_tokens=TOKENS).tokens == TOKENS
