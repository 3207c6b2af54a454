"""Prompts: layout per release, harmless user text, training targets, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ming_core.chat import (
    FLASH,
    LITE_1_0,
    LITE_1_5,
    BadConversation,
    ChatFormat,
    MediaTokens,
    Tokenizer,
    answer_ids,
    build_example,
    build_prompt,
    media_parts,
    with_media_tokens,
)
from ming_core.chat.released import released_expansion, released_prompt
from ming_core.errors import BadCheckpoint, BadMedia
from ming_core.media import Audio, Image, Message, Video, assistant, system, user
from ming_core.model.config import BackboneConfig
from ming_core.releases.flash import chat as flash_chat

FORMATS = [LITE_1_0, LITE_1_5, FLASH]
FLASH_HEAD = "<role>SYSTEM</role>你是一个友好的AI助手。\n\ndetailed thinking off<|role_end|>"
PICTURE, FILM, SOUND = Image("a.png"), Video("b.mp4"), Audio("c.wav")

_loaded: list[Tokenizer] = []


@pytest.fixture(autouse=True)
def _share(tokenizer: Tokenizer) -> None:
    """Property tests cannot take fixtures of function scope; hand them the shared one."""
    _loaded[:] = [tokenizer]


def written(tokenizer: Tokenizer, ids: list[int]) -> str:
    return tokenizer.decode(ids, special=True)


def test_lite_conversation(tokenizer: Tokenizer) -> None:
    messages = [system("Be brief."), user("one"), assistant("two"), user("three")]
    prompt = build_prompt(messages, LITE_1_5, tokenizer)
    assert written(tokenizer, prompt.input_ids) == (
        "<role>SYSTEM</role>Be brief.<role>HUMAN</role>one<role>ASSISTANT</role>two"
        "<role>HUMAN</role>three<role>ASSISTANT</role>"
    )


def test_flash_conversation(tokenizer: Tokenizer) -> None:
    messages = [user("one"), assistant("two"), user("three")]
    prompt = build_prompt(messages, FLASH, tokenizer)
    assert written(tokenizer, prompt.input_ids) == (
        FLASH_HEAD + "<role>HUMAN</role>one<|role_end|><role>ASSISTANT</role>two<|role_end|>"
        "<role>HUMAN</role>three<|role_end|><role>ASSISTANT</role>"
    )


def test_thinking(tokenizer: Tokenizer) -> None:
    flash = build_prompt([system("Teach."), user("x")], FLASH, tokenizer, think=True)
    assert "Teach.\n\ndetailed thinking on<|role_end|>" in written(tokenizer, flash.input_ids)
    messages = [user("first"), assistant("a"), user(PICTURE, "second")]
    lite = build_prompt(messages, LITE_1_5, tokenizer, [MediaTokens(1)], think=True)
    text = written(tokenizer, lite.input_ids)
    assert "<role>HUMAN</role>first" in text
    assert "</image>\nSYSTEM: You are a helpful assistant." in text
    assert "within \\boxed{}.\nsecond<role>" in text


def test_thinking_prefix_of_a_question_without_text(tokenizer: Tokenizer) -> None:
    prompt = build_prompt([user(SOUND)], LITE_1_5, tokenizer, [MediaTokens(2)], think=True)
    assert "</audio>SYSTEM: You are" in written(tokenizer, prompt.input_ids)


def test_media_are_placed_and_counted(tokenizer: Tokenizer) -> None:
    messages = [user("see", PICTURE, "hear", SOUND), assistant("ok"), user(PICTURE)]
    sizes = [MediaTokens(3), MediaTokens(2), MediaTokens(1)]
    prompt = build_prompt(messages, FLASH, tokenizer, sizes)
    assert prompt.media == media_parts(messages) == (PICTURE, SOUND, PICTURE)
    assert [(run.index, run.count) for run in prompt.runs] == [(0, 3), (1, 2), (2, 1)]
    assert [m for m in prompt.modality_ids if m] == [1, 1, 1, 2, 2, 1]
    for run, patch, modality in zip(
        prompt.runs, ("<imagePatch>", "<audioPatch>", "<imagePatch>"), (1, 2, 1)
    ):
        places = slice(run.start, run.start + run.count)
        assert prompt.input_ids[places] == [tokenizer.id(patch)] * run.count
        assert prompt.modality_ids[places] == [modality] * run.count
    assert len(prompt.input_ids) == len(prompt.modality_ids) == len(prompt.targets)


def test_flash_video_frames_carry_their_seconds(tokenizer: Tokenizer) -> None:
    sizes = [MediaTokens(4, (0.25, 2.349))]
    prompt = build_prompt([user(FILM, "?")], FLASH, tokenizer, sizes)
    frame = "<image><framePatch><framePatch></image>"
    assert (f"<video><0.2 seconds>{frame}<2.3 seconds>{frame}</video>?<|role_end|>") in written(
        tokenizer, prompt.input_ids
    )
    assert [(run.index, run.count) for run in prompt.runs] == [(0, 2), (0, 2)]


def test_lite_video_is_one_block_of_image_patches(tokenizer: Tokenizer) -> None:
    prompt = build_prompt([user(FILM, "?")], LITE_1_5, tokenizer, [MediaTokens(2)])
    text = written(tokenizer, prompt.input_ids)
    assert "<video><imagePatch><imagePatch></video>\n?<role>" in text


def test_several_images_in_every_format(tokenizer: Tokenizer) -> None:
    """The released Lite 1.0 processor nests them; here each has its own block."""
    for chat in FORMATS:
        sizes = [MediaTokens(1), MediaTokens(2)]
        prompt = build_prompt([user(PICTURE, PICTURE)], chat, tokenizer, sizes)
        text = written(tokenizer, prompt.input_ids)
        assert "<image><imagePatch></image>\n<image><imagePatch><imagePatch></image>\n" in text


TAGS = ["<image>", "</role>", "<|role_end|>", "<IMAGE>", "<role>", "<imagePatch>", "<framePatch>"]


@given(st.lists(st.sampled_from([*TAGS, "a", " ", "<", "é"]), max_size=8), st.sampled_from(FORMATS))
def test_typed_text_never_becomes_a_token_or_a_medium(words: list[str], chat: ChatFormat) -> None:
    tokenizer = _loaded[0]
    messages = [system("".join(words)), user("".join(words), PICTURE, *words)]
    harmless = [system("x"), user("x", PICTURE, "x")]

    def structure(conversation: list[Message]) -> list[int]:
        prompt = build_prompt(conversation, chat, tokenizer, [MediaTokens(2)])
        return [i for i in prompt.input_ids if i in tokenizer.special_ids]

    assert structure(messages) == structure(harmless)
    prompt = build_prompt(messages, chat, tokenizer, [MediaTokens(2)])
    assert "".join(words) in tokenizer.decode(prompt.input_ids)


def test_neighbouring_texts_are_encoded_as_one(tokenizer: Tokenizer) -> None:
    """The newline after an image may merge with the text that follows, as in training."""
    whole = build_prompt([user(PICTURE, "\nrole")], LITE_1_5, tokenizer, [MediaTokens(1)])
    split = build_prompt([user(PICTURE, "\n", "ro", "le")], LITE_1_5, tokenizer, [MediaTokens(1)])
    assert whole.input_ids == split.input_ids
    merged = tokenizer.encode("\n\nrole")
    start = whole.input_ids.index(tokenizer.id("</image>")) + 1
    assert whole.input_ids[start : start + len(merged)] == merged


def test_a_history_continues_the_prompt_and_the_answer(tokenizer: Tokenizer) -> None:
    """So the cache of a flash conversation can be kept from turn to turn."""
    first = build_prompt([user("one")], FLASH, tokenizer).input_ids
    answer = answer_ids("two", FLASH, tokenizer)
    assert answer[-1] == tokenizer.id("<|role_end|>")
    second = build_prompt([user("one"), assistant("two"), user("three")], FLASH, tokenizer)
    assert second.input_ids[: len(first) + len(answer)] == first + answer


@pytest.mark.parametrize("chat", FORMATS)
def test_targets_are_the_answers_and_their_end(chat: ChatFormat, tokenizer: Tokenizer) -> None:
    messages = [user(PICTURE, "a"), assistant("two words"), user("b"), assistant("three")]
    example = build_example(messages, chat, tokenizer, [MediaTokens(2)])
    learnt = [i for i, target in zip(example.input_ids, example.targets) if target]
    assert written(tokenizer, learnt) == (
        "two words<|role_end|>three<|role_end|>" if chat is FLASH else "two wordsthree<|endoftext|>"
    )
    assert example.labels == [
        i if target else -100 for i, target in zip(example.input_ids, example.targets)
    ]
    last = answer_ids("three", chat, tokenizer)
    prompt = build_prompt(messages[:3], chat, tokenizer, [MediaTokens(2)])
    assert example.input_ids == prompt.input_ids + last


def test_the_beginning_of_an_answer_may_be_given(tokenizer: Tokenizer) -> None:
    for chat in (LITE_1_5, FLASH):
        asked = build_prompt([user("hi")], chat, tokenizer)
        begun = build_prompt([user("hi")], chat, tokenizer, begin="Chinese\t<role>")
        assert begun.input_ids == asked.input_ids + tokenizer.encode("Chinese\t<role>")
        assert not any(begun.targets)


def test_no_generation_prompt(tokenizer: Tokenizer) -> None:
    prompt = build_prompt([user("hi")], LITE_1_0, tokenizer, add_generation_prompt=False)
    assert written(tokenizer, prompt.input_ids) == "<role>HUMAN</role>hi"


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([], "at least one message"),
        ([system("a")], "at least one message"),
        ([user("a"), system("b")], "system message can only be the first"),
        ([user("a"), assistant("b")], "last message must be the user's"),
        ([user("a"), assistant(PICTURE), user("b")], "assistant messages hold text only"),
    ],
)
def test_impossible_conversations(
    messages: list[Message], error: str, tokenizer: Tokenizer
) -> None:
    with pytest.raises(BadConversation, match=error):
        build_prompt(messages, FLASH, tokenizer)


def test_examples_end_with_an_answer(tokenizer: Tokenizer) -> None:
    with pytest.raises(BadConversation, match="must end with the assistant's answer"):
        build_example([user("a")], FLASH, tokenizer)


def test_impossible_media(tokenizer: Tokenizer) -> None:
    with pytest.raises(BadMedia, match="hold 1 media, but sizes of 0"):
        build_prompt([user(PICTURE)], FLASH, tokenizer)
    with pytest.raises(BadMedia, match="hold 0 media, but sizes of 1"):
        build_prompt([user("a")], FLASH, tokenizer, [MediaTokens(1)])
    with pytest.raises(BadMedia, match="4 patch tokens cannot be split over 3 timestamps"):
        build_prompt([user(FILM)], FLASH, tokenizer, [MediaTokens(4, (0.0, 1.0, 2.0))])
    with pytest.raises(BadMedia, match="cannot be split over 0 timestamps"):
        build_prompt([user(FILM)], FLASH, tokenizer, [MediaTokens(4)])
    with pytest.raises(BadMedia, match="cannot read images and videos in one conversation"):
        build_prompt([user(FILM, PICTURE)], LITE_1_5, tokenizer, [MediaTokens(1)] * 2)


def test_released_strings_take_typed_tags_for_media() -> None:
    """The behaviour that the default avoids, per release."""
    items = [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "Look at <image>!"}]
    messages = [{"role": "HUMAN", "content": items}]
    size = [MediaTokens(2)]
    lite = released_prompt(messages, LITE_1_0)
    assert lite == "<role>HUMAN</role>Look at <image>!<role>ASSISTANT</role>"
    assert released_expansion(lite, LITE_1_0, size) == (
        "<role>HUMAN</role>Look at <image><imagePatch><imagePatch></image>\n!<role>ASSISTANT</role>"
    )
    for chat in (LITE_1_5, FLASH):
        text = released_prompt(messages, chat)
        assert "<IMAGE>" not in text
        assert released_expansion(text, chat, size) == text


def test_released_sounds_without_a_placeholder_go_to_the_end() -> None:
    sizes = [MediaTokens(1), MediaTokens(2)]
    text = released_expansion("a<AUDIO>b", FLASH, audios=sizes)
    assert text == ("a<audio><audioPatch></audio>b<audio><audioPatch><audioPatch></audio>\n")
    lite = released_expansion("<AUDIO>a<AUDIO>", LITE_1_5, audios=sizes[:1])
    assert lite == "<audio><audioPatch></audio>a<audio><audioPatch></audio>"


def test_a_video_without_times_is_one_block(
    released_config: Callable[[str], BackboneConfig], tokenizer: Tokenizer
) -> None:
    flash = released_config("ming-flash-omni")
    assert flash_chat(flash) is FLASH
    contiguous = flash_chat(replace(flash, use_interleaved_frame_timestamp=False))
    prompt = build_prompt([user(FILM)], contiguous, tokenizer, [MediaTokens(1)])
    assert "<video><framePatch></video>\n<|role_end|>" in written(tokenizer, prompt.input_ids)


def test_media_ids_come_from_the_tokenizer(
    released_config: Callable[[str], BackboneConfig], tokenizer: Tokenizer
) -> None:
    names = {"image_patch": "<imagePatch>", "image_start": "<image>", "video_patch": "<framePatch>"}
    right = {f"{key}_token": tokenizer.id(text) for key, text in names.items()}
    # As released for flash, where the id of </image> is given as the start of a video.
    slip = {"video_start_token": tokenizer.id("</image>")}
    config = replace(released_config("ming-flash-omni"), **right, **slip)
    assert with_media_tokens(config, FLASH, tokenizer).video_start_token == tokenizer.id("<video>")
    lite = replace(
        released_config("ming-lite-omni-1.0"), image_patch_token=tokenizer.id("<imagePatch>")
    )
    completed = with_media_tokens(lite, LITE_1_0, tokenizer)
    assert completed.image_start_token == tokenizer.id("<image>")
    assert completed.video_patch_token == tokenizer.id("<imagePatch>")
    with pytest.raises(BadCheckpoint, match="image_patch_token is 3, but '<imagePatch>' is"):
        with_media_tokens(replace(config, image_patch_token=3), FLASH, tokenizer)
