"""Pictures, videos and their sound in conversations, with toy encoders that count their work."""

from __future__ import annotations

import gc
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ming_core import Audio, Image, OmniModel, Text, Video, assistant, system, user
from ming_core.chat import Tokenizer
from ming_core.engine.prompting import prepare
from ming_core.engine.request import Request
from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Frames, Media, Message, with_sound
from ming_core.modalities import IMAGE, TEXT
from ming_core.model.cache import Cache
from ming_core.model.encoder import Features, Smaller, Taken, by_modality, split_grids
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.positions import rope_index
from ming_core.model.seen import Seen, SeenMedia, encode, encoded
from ming_core.training.packing import Sample, pack, plan_packing

MERGE = 2
NEW = 6
"""Tokens of most answers."""


@dataclass(frozen=True)
class Few:
    """How a video is read, which is between the caller and the processor."""

    max_frames: int


class Reader:
    """The least processor: [T, h, w] numbers of a video or [h, w] of a picture are its patches.

    Two frames are one temporal patch. A video of few frames is read at twice the size, as releases
    with a budget for the whole video do.
    """

    def __init__(self, modality: str) -> None:
        self.modality = modality
        self.read: list[Media] = []

    def __call__(self, parts: Sequence[Media]) -> Features:
        items = [self._one(part) for part in parts]
        grid = torch.tensor([[1, *x.shape[-2:]] if x.ndim == 2 else x.shape for x, _ in items])
        values = [x.reshape(-1, MERGE**2) for x, _ in items]
        return Features(
            modality=self.modality,
            tensors={"x": torch.cat(values)},
            grid=grid if self.modality == "image" else None,
            tokens=[len(x) for x in values],
            seconds=[seconds for _, seconds in items],
            frames_per_patch=2,
        )

    def smaller(self, media: Sequence[Taken], surplus: int) -> Smaller | None:
        """One limit for all videos; frames that were chosen stay."""
        videos = [(item, len(item.features.seconds[0])) for item in media]
        frames = 2 * max(patches for _, patches in videos)
        while frames and surplus > sum(
            max(0, patches - -(-frames // 2)) * (item.step or sum(item.features.tokens) // patches)
            for item, patches in videos
        ):
            frames -= 1
        fewer = {
            item.part: replace(item.part, sampling=Few(frames))
            for item, _ in videos
            if frames and not isinstance(item.part.source, Frames)
        }
        return Smaller(fewer, f"take {frames} frames", "take fewer frames")

    def _one(self, part: Media) -> tuple[Tensor, tuple[float, ...]]:
        self.read.append(part)
        if isinstance(part, Audio):
            return torch.ones(2, 2 * MERGE), ()
        source = part.source
        frames = source.pictures if isinstance(source, Frames) else source
        if isinstance(frames, str):
            frames = np.ones((4, 2, 2))
        x = torch.as_tensor(np.asarray(frames), dtype=torch.float32)
        if not isinstance(part, Video):
            return x, ()
        if part.sampling is not None and not isinstance(source, Frames):
            x = x[: part.sampling.max_frames]
        x = x[::2]
        if len(x) <= 4:
            x = x.repeat(1, 1, 2)
        return x, tuple(float(t) for t in range(len(x)))


class Eyes(nn.Linear):
    """The least encoder: one token of unit length for each merged patch."""

    def __init__(self, modality: str, width: int) -> None:
        super().__init__(MERGE**2, width)
        self.modality = modality
        self.processor = Reader(modality)
        self.encoded = 0

    def forward(self, features: Features) -> Tensor:  # type: ignore[override]
        self.encoded += len(features.tokens)
        return nn.functional.normalize(super().forward(features.tensors["x"]), dim=-1)


FAMILIES = ("flash", "flash-whole", "lite-1.5", "lite-1.0")
"""flash-whole writes a video as one block, without timestamps."""


@pytest.fixture(scope="session")
def models(make_model: Callable[..., OmniModel], tokenizer_folder: Path) -> dict[str, OmniModel]:
    def make(family: str) -> OmniModel:
        encoders = {name: Eyes(name, 32) for name in ("image", "audio")}
        model = make_model(
            family.removesuffix("-whole"),
            Tokenizer(tokenizer_folder),
            encoders,
            use_interleaved_frame_timestamp=family == "flash",
        )
        model.name = family
        return model

    return {family: make(family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, models: dict[str, OmniModel]) -> OmniModel:
    return forgotten(models[request.param])


@pytest.fixture
def flash(models: dict[str, OmniModel]) -> OmniModel:
    return forgotten(models["flash"])


def forgotten(model: OmniModel) -> OmniModel:
    model._memory = model.session().memory
    for name in ("image", "audio"):
        eyes(model, name).encoded = 0
        eyes(model, name).processor.read.clear()
    return model


def eyes(model: OmniModel, name: str = "image") -> Eyes:
    encoder = model.omni.encoders[name]
    assert isinstance(encoder, Eyes)
    return encoder


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def picture(seed: int, h: int = 4, w: int = 4) -> Image:
    return Image(numbers(seed, h, w))


def video(seed: int, frames: int = 6, h: int = 4, w: int = 2, **options: Any) -> Video:
    return Video(numbers(seed, frames, h, w), **options)


def alone(model: OmniModel, talk: Sequence[Message]) -> str:
    forgotten(model)
    return model.chat(talk, max_new_tokens=NEW).text


# What reaches the prompt


def test_only_the_interleaved_format_writes_times(model: OmniModel) -> None:
    prompt, seen = prepare(model, Request([user(video(0), "what?")]), SeenMedia())
    assert seen[0].seconds == (0.0, 1.0, 2.0)
    text = model.tokenizer.decode(prompt.input_ids, special=True)
    patch = model.format.video.patch
    if model.name == "flash":
        frames = [f"<{t}.0 seconds><image>{patch * 4}</image>" for t in range(3)]
        assert f"<video>{''.join(frames)}</video>what?" in text
    else:
        assert f"<video>{patch * 12}</video>\nwhat?" in text
        assert "seconds" not in text


def test_a_video_is_understood_frame_by_frame(model: OmniModel) -> None:
    frames = numbers(1, 6, 4, 2)
    turned = frames[::-1].copy()
    questions = [[user(Video(x), "what happens?")] for x in (frames, turned, frames[:4])]
    first, *others = [
        _logits(model, _single(model, *prepare(model, Request(q), SeenMedia()))) for q in questions
    ]
    assert all((first[0, -1] - other[0, -1]).abs().max() > 0.01 for other in others)


@pytest.mark.parametrize("family", ["lite-1.0", "lite-1.5"])
def test_lite_takes_pictures_or_videos(models: dict[str, OmniModel], family: str) -> None:
    model = forgotten(models[family])
    with pytest.raises(BadMedia, match="cannot read images and videos in one conversation"):
        model.ask("what?", picture(0), video(1))
    talks = [[user(picture(0), "what?")], [user(video(1), "what?")], [user("what?")]]
    assert [a.text for a in model.answer_batch(talks, max_new_tokens=NEW)] == [
        alone(model, talk) for talk in talks
    ]


@pytest.mark.parametrize("family", ["flash", "flash-whole"])
def test_a_mixed_batch_equals_single_conversations(
    models: dict[str, OmniModel], family: str
) -> None:
    model = forgotten(models[family])
    shared = picture(2)
    talks = [
        [user(video(1), picture(1), video(3, 4, 2, 2), "which of them is red?")],
        [user("red?")],
        [user(shared, "what is it?"), assistant("red"), user(video(4, 2), "and this?")],
        [system("be brief"), user("before", shared, "after", picture(6, 2, 6))],
        [user(Video("clip.mp4", sound=True), "what is said?")],
    ]
    answers = [answer.text for answer in model.answer_batch(talks, max_new_tokens=NEW)]
    assert eyes(model).encoded == len(eyes(model).processor.read) == 7  # `shared` only once
    assert eyes(model, "audio").encoded == 1
    assert len(set(answers)) == 5
    assert answers == [alone(model, talk) for talk in talks]


def test_typed_placeholders_stay_text(model: OmniModel) -> None:
    typed = "<VIDEO><video><framePatch><imagePatch></video><0.0 seconds><image><audioPatch>"
    prompt, seen = prepare(model, Request([user(typed)]), SeenMedia())
    assert seen == []
    assert set(prompt.modality_ids) == {TEXT}
    added = {model.tokenizer.id(token) for token in re.findall(r"<[a-zA-Z]+>", typed[7:])}
    assert added.isdisjoint(prompt.input_ids)
    beside, _ = prepare(model, Request([user(typed, video(0))]), SeenMedia())
    assert beside.modality_ids.count(IMAGE) == 12
    assert beside.runs[0].start > len(model.tokenizer.encode(typed))
    assert model.ask(typed, video(0), max_new_tokens=NEW).tokens == NEW


# Sound


def test_the_sound_of_a_video_follows_it(model: OmniModel) -> None:
    clip = Video("clip.mp4", sound=True)
    prompt, seen = prepare(model, Request([user(clip, "what is said?")]), SeenMedia())
    assert [type(part) for part in prompt.media] == [Video, Audio]
    assert prompt.media[1].source == "clip.mp4"
    assert prompt.media[1] is clip.track
    assert seen[1].tokens == 2
    text = model.tokenizer.decode(prompt.input_ids, special=True)
    assert f"</video>{model.format.video.after}<audio><audioPatch><audioPatch></audio>what" in text


def test_sound_is_heard_once_and_only_on_demand(flash: OmniModel) -> None:
    clip = Video("clip.mp4", sound=True)
    talk = [user(clip, "what is said?")]
    answer = flash.chat(talk, max_new_tokens=NEW)
    flash.chat([*talk, assistant(answer.text), user("why?")], max_new_tokens=NEW)
    assert eyes(flash, "audio").processor.read == [clip.track]
    assert eyes(flash).encoded == eyes(flash, "audio").encoded == 1
    assert answer.text != alone(flash, [user(Video("clip.mp4"), "what is said?")])
    assert eyes(flash, "audio").processor.read == []


def test_frames_have_no_sound() -> None:
    with pytest.raises(BadMedia, match=r"video in memory \(list\) has no sound; give the path of"):
        Video([1, 2], sound=True)
    message = user("a", Video("a.mp4", sound=True), Video("b.mp4"))
    assert [type(part) for part in with_sound(message).parts] == [Text, Video, Audio, Video]


# Memory


def test_a_follow_up_opens_and_encodes_nothing_again(model: OmniModel) -> None:
    talk = [user(video(7), "what happens?")]
    first = model.chat(talk, max_new_tokens=NEW)
    talk += [assistant(first.text), user("and then?")]
    second = model.chat(talk, max_new_tokens=NEW)
    reader = eyes(model).processor
    assert (len(reader.read), eyes(model).encoded) == (1, 1)
    other = [system("be brief"), *talk]  # nothing of the cache fits: only the features are known
    third = model.chat(other, max_new_tokens=NEW)
    assert (len(reader.read), eyes(model).encoded) == (1, 1)
    assert [second.text, third.text] == [alone(model, talk), alone(model, other)]


def test_interrupted_answers_leave_what_was_seen(flash: OmniModel) -> None:
    talk = [user(picture(8), "what?")]
    next(iter(flash.chat(talk, stream=True, max_new_tokens=NEW)))
    answer = flash.chat(talk, max_new_tokens=NEW)
    assert len(eyes(flash).processor.read) == 1
    assert answer.text == alone(flash, talk)


def test_questions_outside_a_chat_look_again(flash: OmniModel) -> None:
    image = picture(9)
    flash.ask("what?", image, image, max_new_tokens=1)
    assert eyes(flash).encoded == 1
    image.source[:] = 0  # a chat must not change what it was about; between questions it is fine
    flash.ask("what?", image, max_new_tokens=1)
    assert eyes(flash).encoded == 2


def features(tokens: int, modality: str = "image", **options: Any) -> Features:
    return Features(modality, {"x": torch.randn(tokens, 4)}, None, [tokens], **options)


def test_the_memory_of_media_is_bounded_and_holds_nothing_alive() -> None:
    memory = SeenMedia(capacity=10)
    media = [picture(i) for i in range(4)]
    for medium, tokens in zip(media, (4, 3, 3, 2)):
        memory.keep([medium], [Seen(features(tokens))])
    assert memory.tokens == 8  # the oldest went

    def opened(asked: list[Image]) -> list[Media]:
        found: list[Media] = []
        memory.look(asked, lambda medium: found.append(medium) or features(1))
        return found

    assert opened([media[0], *media, media[0]]) == [media[0]]
    memory.keep(media[1:2], memory.look(media[1:2], lambda _: features(9)))
    memory.keep(media[:1], [Seen(features(3))])
    assert opened(media) == [media[2]]  # number 1 had been used since
    del media[1], media[0]
    gc.collect()
    assert memory.tokens == 2
    memory.keep(media[:1], [Seen(features(11))])
    assert memory.tokens == 0  # larger than the whole memory


def test_encoding_keeps_sizes_and_lets_pixels_go() -> None:
    omni = Omni(nn.Module(), {"image": Eyes("image", 8), "audio": Eyes("audio", 8)})  # type: ignore[arg-type]
    seen = [Seen(features(3)), Seen(features(2, "audio")), Seen(features(1))]
    inputs = [item.features.tensors["x"] for item in seen]
    with pytest.raises(ValueError, match="not been encoded yet"):
        encoded(seen)
    with torch.no_grad():
        encode(omni, [*seen, seen[0]], "cpu", torch.float32)
        image, sound = omni.encoders["image"], omni.encoders["audio"]
        assert isinstance(image, Eyes)
        assert image.encoded == 2
        values = encoded(seen)
        x = torch.cat([inputs[0], inputs[2]])
        assert torch.equal(values["image"], image(Features("image", {"x": x}, None, [4])))
        assert torch.equal(values["audio"], sound(Features("audio", {"x": inputs[1]}, None, [2])))
    assert [item.tokens for item in seen] == [3, 2, 1]
    assert all(not item.features.tensors for item in seen)
    assert all(v.untyped_storage().nbytes() == v.nbytes for v in (i.values for i in seen))  # type: ignore[union-attr]


# What is refused


def test_videos_beyond_the_context_say_how_many_frames_fit(model: OmniModel) -> None:
    clip = numbers(10, 80, 8, 8)
    with pytest.raises(BadConfig, match=r"prompt has \d+ tokens and the context of") as error:
        model.ask("what?", Video(clip))
    found = re.search(r"; take (\d+) frames$", str(error.value))
    assert found
    fits = int(found[1])
    assert 20 < fits < 64
    sampled = {n: Video(clip, Few(n)) for n in (fits, fits + 6)}
    assert model.ask("what?", sampled[fits], max_new_tokens=1).tokens == 1
    with pytest.raises(BadConfig):
        model.ask("what?", sampled[fits + 6])
    with pytest.raises(BadConfig, match=f"; take {fits} frames"):
        model.answer_batch([[user("red?")], [user(sampled[fits + 6], "what?")]])


def test_a_guess_is_tried_out(flash: OmniModel) -> None:
    """Few frames are read at twice the size: the first guess does not fit."""
    clip = numbers(11, 12, 16, 16)
    with pytest.raises(BadConfig, match="; take 4 frames"):
        flash.ask("what?", Video(clip), "red " * 28)
    tried = [p.sampling.max_frames for p in eyes(flash).processor.read if p.sampling]  # type: ignore[attr-defined]
    assert tried[0] > 4
    assert tried[-1] == 4


def test_a_processor_that_knows_nothing_smaller_leaves_it_to_the_user(flash: OmniModel) -> None:
    reader = eyes(flash).processor
    flash.omni.encoders["image"].processor = lambda parts: reader(parts)  # type: ignore[assignment]
    try:
        with pytest.raises(BadConfig, match="; shorten the text or use smaller media"):
            flash.ask("what?", Video(numbers(10, 80, 8, 8)))
    finally:
        flash.omni.encoders["image"].processor = reader  # type: ignore[assignment]


def test_frames_that_were_chosen_are_not_thinned_out(flash: OmniModel) -> None:
    frames = Frames(list(numbers(12, 80, 8, 8)), [0.1 * i for i in range(80)])
    with pytest.raises(BadConfig, match="; take fewer frames"):
        flash.ask("what?", Video(frames))
    assert len(eyes(flash).processor.read) == 1
    with pytest.raises(BadConfig, match="take fewer frames"):  # the text alone is too long
        flash.ask("red " * 600, video(0))


def test_frames_need_as_many_times() -> None:
    with pytest.raises(ValueError, match="2 frames and 1 times"):
        Frames([1, 2], [0.0])


def test_wrong_counts_are_caught(flash: OmniModel) -> None:
    prompt, seen = prepare(flash, Request([user(video(0), "what?")]), SeenMedia())
    batch = _single(flash, prompt, seen)
    image = batch.encoded["image"]
    for values, sentence in (
        (image[1:], "11 image features for 12 placeholder tokens"),
        (torch.cat([image, image]), "24 image features for 12 placeholder tokens"),
    ):
        with pytest.raises(ValueError, match=sentence):
            flash.omni.embed(OmniBatch(**{**vars(batch), "encoded": {"image": values}}))
    twice = {**vars(batch), "features": [features(12)]}
    with pytest.raises(ValueError, match="image features are given twice"):
        flash.omni.embed(OmniBatch(**twice))
    with pytest.raises(ValueError, match="the image encoder gave 3 features for 5 tokens"):
        flash.omni.encode(Features("image", {"x": torch.zeros(3, 4)}, None, [5]))
    ids = torch.tensor([prompt.input_ids])
    more = [*seen, Seen(Reader("image")([picture(0)]))]
    with pytest.raises(ValueError, match="the tokens hold 0 image blocks, the image grids 1"):
        positions_of(flash, ids, torch.ones_like(ids), more)


def test_a_video_without_times_is_refused_where_they_are_written(flash: OmniModel) -> None:
    reader = eyes(flash).processor
    flash.omni.encoders["image"].processor = lambda parts: Features(  # type: ignore[assignment]
        **{**vars(reader(parts)), "seconds": []}
    )
    try:
        with pytest.raises(BadMedia, match="cannot be split over 0 timestamps"):
            flash.ask("what?", video(0))
    finally:
        flash.omni.encoders["image"].processor = reader  # type: ignore[assignment]


def test_joined_features_know_which_items_are_videos() -> None:
    def item(t: int, seconds: list[tuple[float, ...]]) -> Features:
        return Features("image", {"x": torch.zeros(t, 4)}, torch.tensor([[t, 2, 2]]), [t], seconds)

    parts = [item(1, []), item(2, [(0.0, 1.0)]), features(3, "audio"), item(1, [()])]
    image, audio = by_modality(parts)
    assert image.seconds == [(), (0.0, 1.0), ()]
    stills, videos = split_grids([image, audio])
    assert stills is not None
    assert videos is not None
    assert (stills.tolist(), videos.tolist()) == ([[1, 2, 2]] * 2, [[2, 2, 2]])
    assert split_grids([audio]) == (None, None)


# Properties of random conversations

_WORDS = st.sampled_from(["red", "what is it?", "红色的圆", "x"])
_STILLS = st.tuples(st.just("image"), st.integers(1, 2), st.integers(1, 3))
_CLIPS = st.tuples(st.just("video"), st.integers(1, 7), st.integers(1, 2))
_TALK = st.lists(st.one_of(_WORDS, _STILLS, _CLIPS), min_size=1, max_size=5)


def conversation(pieces: list[Any], mixed: bool, seeds: itertools.count[int]) -> list[Message]:
    """Its parts; where pictures and videos do not mix, the kind that comes first stays."""
    kinds = [piece[0] for piece in pieces if isinstance(piece, tuple)]
    parts: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str):
            parts.append(piece)
        elif mixed or piece[0] == kinds[0]:
            kind, a, b = piece
            seed = next(seeds)
            parts.append(picture(seed, 2 * a, 2 * b) if kind == "image" else video(seed, a, 2 * b))
    return [user(*parts, "?")]


def positions_of(
    model: OmniModel, ids: Tensor, attention: Tensor, seen: list[Seen]
) -> tuple[Tensor, Tensor]:
    return rope_index(model.rule, ids, attention, *split_grids([s.features for s in seen]))


def _single(model: OmniModel, prompt: Any, seen: list[Seen]) -> OmniBatch:
    with torch.no_grad():
        encode(model.omni, seen, "cpu", torch.float32)
    ids = torch.tensor([prompt.input_ids])
    positions, _ = positions_of(model, ids, torch.ones_like(ids), seen)
    return OmniBatch(ids, positions, torch.tensor([prompt.modality_ids]), encoded=encoded(seen))


@torch.no_grad()
def _logits(model: OmniModel, batch: OmniBatch, cache: Cache | None = None) -> Tensor:
    """[B, T, V]"""
    return model.omni.backbone.lm_head(model.omni(batch, cache).hidden)


def prepared(
    model: OmniModel, talks: list[list[Any]]
) -> tuple[list[Any], list[list[Seen]], list[OmniBatch]]:
    seeds = itertools.count()
    both = [
        prepare(
            model, Request(conversation(talk, not model.format.shared_patches, seeds)), SeenMedia()
        )
        for talk in talks
    ]
    prompts, seen = [prompt for prompt, _ in both], [items for _, items in both]
    return prompts, seen, [_single(model, *pair) for pair in both]


close = partial(torch.testing.assert_close, atol=2e-4, rtol=1e-4)
FEW = settings(max_examples=8, deadline=None, derandomize=True)


@pytest.mark.parametrize("family", FAMILIES)
@FEW
@given(talks=st.lists(_TALK, min_size=2, max_size=3), left=st.booleans())
def test_batched_is_single(
    models: dict[str, OmniModel], family: str, talks: list[list[Any]], left: bool
) -> None:
    model = models[family]
    prompts, seen, singles = prepared(model, talks)
    length = max(len(prompt.input_ids) for prompt in prompts)
    ids = torch.zeros(len(prompts), length, dtype=torch.long)
    modality, segments = torch.zeros_like(ids), torch.full_like(ids, -1)
    places = []
    for row, single in enumerate(singles):
        size = single.input_ids.shape[1]
        places.append(slice(length - size, None) if left else slice(0, size))
        ids[row, places[-1]] = single.input_ids[0]
        modality[row, places[-1]] = single.modality_ids[0]
        segments[row, places[-1]] = 0
    media = [item for items in seen for item in items]
    positions, deltas = positions_of(model, ids, segments + 1, media)
    logits = _logits(model, OmniBatch(ids, positions, modality, segments, encoded=encoded(media)))
    for row, (single, place) in enumerate(zip(singles, places, strict=True)):
        assert torch.equal(positions[:, row, place], single.position_ids[:, 0])
        # The first new token continues the row, whatever the padding.
        alone = single.input_ids
        _, delta = positions_of(model, alone, torch.ones_like(alone), seen[row])
        assert length + int(deltas[row]) == alone.shape[1] + int(delta)
        close(logits[row, place], _logits(model, single)[0])


@pytest.mark.parametrize("family", FAMILIES)
@FEW
@given(talk=_TALK, cut=st.floats(0.05, 0.95))
def test_cached_is_uncached(
    models: dict[str, OmniModel], family: str, talk: list[Any], cut: float
) -> None:
    model = models[family]
    _, _, [whole] = prepared(model, [talk])
    expected = _logits(model, whole)
    embeds = model.omni.embed(whole).detach()
    cache, at = Cache(), int(cut * embeds.shape[1])
    pieces = []
    with torch.no_grad():
        for part in (slice(0, at), slice(at, None)):
            if embeds[:, part].shape[1]:
                out = model.omni.backbone(
                    embeds[:, part],
                    whole.position_ids[:, :, part],
                    modality_ids=whole.modality_ids[:, part],
                    cache=cache,
                )
                pieces.append(model.omni.backbone.lm_head(out.hidden))
    close(torch.cat(pieces, dim=1), expected)


@pytest.mark.parametrize("family", FAMILIES)
@FEW
@given(talks=st.lists(_TALK, min_size=2, max_size=4), spare=st.integers(0, 20))
def test_packed_is_unpacked(
    models: dict[str, OmniModel], family: str, talks: list[list[Any]], spare: int
) -> None:
    model = models[family]
    _, seen, singles = prepared(model, talks)
    samples = [
        Sample(s.input_ids[0], s.input_ids[0], s.position_ids[:, 0], s.modality_ids[0])
        for s in singles
    ]
    lengths = [len(sample.input_ids) for sample in samples]
    capacity = max(lengths) + spare
    places = plan_packing(lengths, capacity)
    packed = pack(samples, places, capacity)
    order = sorted(range(len(samples)), key=places.__getitem__)
    media = [item for i in order for item in seen[i]]
    batch = OmniBatch(
        packed.input_ids,
        packed.position_ids,
        packed.modality_ids,
        packed.segment_ids,
        encoded=encoded(media),
    )
    logits = _logits(model, batch)
    for (row, start), single, length in zip(places, singles, lengths, strict=True):
        end = start + length
        assert torch.equal(packed.position_ids[:, row, start:end], single.position_ids[:, 0])
        close(logits[row, start:end], _logits(model, single)[0])
