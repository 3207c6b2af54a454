"""Watching a stream with tiny random models: what is kept, computed, answered and said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pil
from torch import nn

from ming_core import OmniModel, Video, assistant, load, user
from ming_core.chat import Tokenizer
from ming_core.engine.answers import Answer
from ming_core.errors import BadConfig, BadMedia, UnknownName
from ming_core.media import Frames
from ming_core.presets import preset_folders
from ming_vision.encoder import QwenVisionEncoder
from ming_vision.past import Recent, Uniform
from ming_vision.watch import ROOM, TURNS, WatchSession, watch

FAMILIES = ("lite-1.5", "flash")
TOKENS = 4
"""Of a temporal patch: 16 x 16 pixels, 8 x 8 to a token."""
NEW = 10
"""Length of answers; the random models never end one."""


@pytest.fixture(scope="session")
def models(make_model: Callable[..., OmniModel]) -> dict[str, OmniModel]:
    tokenizer = Tokenizer(preset_folders("nano")["backbone"])
    return {f: make_model(f, tokenizer, max_position_embeddings=2048) for f in FAMILIES}


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, models: dict[str, OmniModel]) -> OmniModel:
    return forgetful(models[request.param])


@pytest.fixture
def flash(models: dict[str, OmniModel]) -> OmniModel:
    return forgetful(models["flash"])


def forgetful(model: OmniModel) -> OmniModel:
    """The same model without memory of what other tests talked about."""
    return OmniModel(model.name, model.omni, model.sources)


def frame(seed: int, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def show(session: WatchSession, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        session.see(frame(number))


def clip(patches: list[int], odd: int | None = None) -> Video:
    """Both frames, half a second apart, of temporal patches by number; then one frame alone."""
    numbers = [2 * patch + i for patch in patches for i in range(2)]
    numbers += [] if odd is None else [odd]
    return Video(Frames([frame(n) for n in numbers], [n / 2 for n in numbers]))


# What is kept


@settings(deadline=None)
@given(capacity=st.integers(2, 40), count=st.integers(1, 700))
def test_uniform_is_evenly_spaced(capacity: int, count: int) -> None:
    past: Uniform[int] = Uniform(capacity)
    for item in range(count):
        past = past.add(item)
    kept = past.items
    assert len(kept) <= capacity
    assert len(kept) >= min(count, capacity / 2)
    assert (kept[0], kept[-1]) == (0, count - 1)
    gaps = [b - a for a, b in pairwise(kept)]
    assert all(gap == past.stride for gap in gaps[:-1])
    assert all(gap <= past.stride for gap in gaps)
    # A gap longer than needed would waste places.
    assert past.stride == 1 or count > past.stride // 2 * capacity - past.stride


@settings(deadline=None)
@given(capacity=st.integers(1, 20), count=st.integers(0, 100))
def test_recent_is_the_newest(capacity: int, count: int) -> None:
    past: Recent[int] = Recent(capacity)
    for item in range(count):
        past = past.add(item)
    assert past.items == tuple(range(count))[-capacity:]


def test_a_single_place_is_for_the_newest() -> None:
    past: Uniform[int] = Uniform(1)
    for item in range(100):
        past = past.add(item)
        assert past.items == (item,)


@pytest.mark.parametrize(
    ("keep", "frames", "oldest"),
    [
        pytest.param("uniform", 10_000, 0.25, marks=pytest.mark.slow),
        ("recent", 2_000, 984.25),
    ],
)
def test_memory_is_bounded(
    flash: OmniModel, keep: Any, frames: int, oldest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many frames: at most 16 temporal patches of 4 tokens, and one frame that waits."""

    def instantly(module: nn.Module, features: Any) -> torch.Tensor:
        return torch.ones(sum(features.tokens), 32)

    monkeypatch.setattr(QwenVisionEncoder, "forward", instantly)
    session = watch(flash, frames=32, keep=keep)
    most = 0
    for number in range(frames):
        session.see(np.full((16, 16, 3), number % 256, np.uint8))
        most = max(most, session.nbytes)
        assert len(session._waiting) == (number + 1) % 2
        assert len(session.past.items) <= 16
    patch = TOKENS * 32 * 4
    assert 8 * patch <= session.nbytes <= most == 16 * patch
    assert (session.seconds[0], session.seconds[-1]) == (oldest, frames / 2 - 0.75)
    for held in session.past.items:  # no view that keeps a larger tensor alive
        assert held.values.untyped_storage().nbytes() == patch
    session.ask("what?", max_new_tokens=1)
    assert session.nbytes <= 2 * most  # and once more as one video


# What is computed


def test_each_temporal_patch_is_encoded_once(model: OmniModel, work: Any) -> None:
    session = watch(model, frames=8)
    show(session, 6)
    assert work.encoded == [1, 1, 1]
    for question in ("what moves?", "where?", "why?"):
        session.ask(question, max_new_tokens=2)
    show(session, 6, first=6)
    session.ask("and now?", max_new_tokens=2)
    assert work.encoded == [1] * 6


def test_a_frame_without_its_partner(model: OmniModel, work: Any) -> None:
    """It counts twice when a question comes, once more encoded with its partner."""
    session = watch(model, frames=16)
    show(session, 5)
    assert len(work.encoded) == 2
    answer = session.ask("what moves?", max_new_tokens=NEW)
    assert answer == model.ask("what moves?", clip([0, 1], odd=4), max_new_tokens=NEW)
    session.turns.clear()
    work.encoded.clear()
    assert session.ask("what moves?", max_new_tokens=NEW) == answer
    assert work.encoded == []
    show(session, 1, first=5)
    assert work.encoded == [1]
    session.turns.clear()
    later = session.ask("what moves?", max_new_tokens=NEW)
    assert later == model.ask("what moves?", clip([0, 1, 2]), max_new_tokens=NEW)


def test_a_frame_alone_does_not_exceed_the_budget(model: OmniModel) -> None:
    session = watch(model, frames=4)
    show(session, 5)
    answer = session.ask("what moves?", max_new_tokens=NEW)
    assert answer == model.ask("what moves?", clip([0], odd=4), max_new_tokens=NEW)


def test_a_growing_video_goes_on_from_the_cache(model: OmniModel, work: Any) -> None:
    session = watch(model, frames=32)
    show(session, 20)
    session.ask("what moves?", max_new_tokens=NEW)
    first = work.prefill()
    show(session, 4, first=20)
    session.turns.clear()
    answer = session.ask("what moves?", max_new_tokens=NEW)
    again = work.prefill()
    per_patch = first // 10
    assert again < first - 7 * per_patch
    assert answer == model.ask("what moves?", clip(list(range(12))), max_new_tokens=NEW)


def test_a_window_that_slides_does_not(model: OmniModel, work: Any) -> None:
    session = watch(model, frames=8, keep="recent")
    show(session, 8)
    session.ask("what moves?", max_new_tokens=NEW)
    first = work.prefill()
    show(session, 2, first=8)
    session.turns.clear()
    answer = session.ask("what moves?", max_new_tokens=NEW)
    assert abs(work.prefill() - first) <= 12 + 4 * TOKENS
    assert answer == model.ask("what moves?", clip([1, 2, 3, 4]), max_new_tokens=NEW)


# What is answered


@pytest.mark.parametrize(
    ("keep", "patches"), [("uniform", [0, 4, 8, 10]), ("recent", [7, 8, 9, 10])]
)
def test_an_answer_is_that_about_a_video_of_the_same_frames(
    model: OmniModel, keep: Any, patches: list[int]
) -> None:
    session = watch(model, frames=8, keep=keep)
    show(session, 22)
    assert session.seconds == tuple(patch + 0.25 for patch in patches)
    video = clip(patches)
    answer = session.ask("what moves?", max_new_tokens=NEW)
    assert answer == model.ask("what moves?", video, max_new_tokens=NEW)
    assert answer != model.ask("what moves?", clip([0, 1, 2, 3]), max_new_tokens=NEW)


def test_nano_watches() -> None:
    nano = load("nano", device="cpu")
    session = nano.watch(frames=4)
    for number in range(4):
        session.see(frame(number, 64, 64), number / 2)
    video = Video(Frames([frame(number, 64, 64) for number in range(4)], [0.0, 0.5, 1.0, 1.5]))
    answer = session.ask("how many shapes are moving?", max_new_tokens=5)
    assert answer == nano.ask("how many shapes are moving?", video, max_new_tokens=5)


def test_the_conversation_goes_on(model: OmniModel) -> None:
    session = watch(model, frames=8)
    show(session, 4)
    first = session.ask("what moves?", max_new_tokens=NEW)
    show(session, 4, first=4)
    second = session.ask("and now?", max_new_tokens=NEW)
    assert list(session.turns) == [("what moves?", str(first)), ("and now?", str(second))]
    talk = [user(clip([0, 1, 2, 3]), "what moves?"), assistant(str(first)), user("and now?")]
    assert second == forgetful(model).chat(talk, max_new_tokens=NEW)


def test_old_turns_are_forgotten(flash: OmniModel) -> None:
    session = watch(flash, frames=4)
    show(session, 4)
    for number in range(TURNS + 3):
        session.ask(f"question {number}", max_new_tokens=1)
    assert session.turns[0][0] == "question 3"
    session.ask("red " * 500, max_new_tokens=1)
    assert len(session.turns) == TURNS
    session.ask("blue " * 1100, max_new_tokens=1)  # both together do not fit
    assert [question[:4] for question, _ in session.turns] == ["blue"]
    with pytest.raises(BadConfig, match=r"the prompt has \d+ tokens and the context of flash"):
        session.ask("red " * 3000)


# What is said


class Script:
    """Stands in for `chat`: answers in turn, and notes when it was asked what."""

    def __init__(self, session: WatchSession, *answers: str) -> None:
        self.session, self.answers = session, list(answers)
        self.asked: list[tuple[float, str]] = []

    def chat(self, messages: Any, **options: Any) -> Answer:
        assert len(messages) == 1  # a standing question knows nothing of the conversation
        assert self.session._now is not None
        self.asked.append((self.session._now, messages[0].text))
        return Answer(self.answers.pop(0), 1, True)


@pytest.fixture
def scripted(flash: OmniModel, monkeypatch: pytest.MonkeyPatch) -> Any:
    def start(*answers: str) -> tuple[WatchSession, Script]:
        session = watch(flash, frames=8)
        script = Script(session, *answers)
        monkeypatch.setattr(session.conversation, "chat", script.chat, raising=False)
        return session, script

    return start


def test_only_news_is_said(scripted: Any) -> None:
    session, script = scripted("no", "No.", "yes", "yes", "no")
    session.whenever("is there a star?", every=2.0)
    said = [r for n in range(17) for r in session.see(frame(n), n / 2)]
    assert [(r.seconds, str(r), r.question) for r in said] == [
        (0.0, "no", "is there a star?"),
        (4.0, "yes", "is there a star?"),
        (8.0, "no", "is there a star?"),
    ]
    assert [seconds for seconds, _ in script.asked] == [0, 2, 4, 6, 8]
    assert said[0].to_dict()["answer"] == "no"


def test_a_condition_on_news(scripted: Any) -> None:
    session, script = scripted("no", "yes", "no", "yes")
    session.whenever("a star?", every=1.0, only_if=lambda answer: str(answer) == "yes")
    said = [r for n in range(7) for r in session.see(frame(n), n / 2)]
    assert [(r.seconds, str(r)) for r in said] == [(1.0, "yes"), (3.0, "yes")]
    assert len(script.asked) == 4


def test_standing_questions_keep_their_own_time(scripted: Any) -> None:
    session, script = scripted(*map(str, range(9)))
    first = session.whenever("one", every=1.0)
    session.see(frame(0), 10.0)
    session.whenever("two", every=3.0)
    for seconds in (10.6, 11.1, 13.2, 13.9, 14.0):
        session.see(frame(1), seconds)
    session.standing.remove(first)
    session.see(frame(2), 20.0)
    assert script.asked == [
        (10.0, "one"),
        (10.6, "two"),
        (11.1, "one"),
        (13.2, "one"),
        (13.9, "two"),
        (14.0, "one"),
        (20.0, "two"),
    ]


def test_standing_questions_reach_the_model(model: OmniModel, work: Any) -> None:
    session = watch(model, frames=8)
    show(session, 3)
    asked = session.ask("what moves?", max_new_tokens=NEW)
    session.whenever("what moves?", max_new_tokens=NEW)
    (remark,) = session.see(frame(3))
    assert remark.answer == model.ask("what moves?", clip([0, 1]), max_new_tokens=NEW)
    assert list(session.turns) == [("what moves?", str(asked))]
    session.turns.clear()
    assert session.ask("what moves?", max_new_tokens=NEW) == remark.answer


# Times, rates, sizes


def taken(session: WatchSession, times: list[float]) -> list[float]:
    seen = []
    for seconds in times:
        before = session._step
        session.see(frame(0), seconds)
        if session._step != before:
            seen.append(round(seconds, 2))
    return seen


@pytest.mark.parametrize(
    ("fps", "times", "expected"),
    [
        (None, [n / 30 for n in range(61)], [0, 0.5, 1, 1.5, 2]),
        (1, [n / 4 for n in range(13)], [0, 1, 2, 3]),
        (2, [5.0, 5.49, 6.02, 6.48, 7.0], [5.0, 5.49, 6.02, 6.48, 7.0]),  # a little unsteady
        (2, [0, 0.4, 3.3, 3.6, 3.9, 4.01], [0, 3.3, 3.6, 4.01]),
    ],
)
def test_no_more_frames_per_second_than_wanted(
    flash: OmniModel, fps: float | None, times: list[float], expected: list[float]
) -> None:
    assert taken(watch(flash, fps=fps), times) == expected


def test_all_frames_are_taken_if_wanted(flash: OmniModel) -> None:
    session = watch(flash, fps=math.inf)
    for number in range(20):
        session.see(frame(number), number / 1000)
    assert len(session.past.items) == 10


def test_frames_that_are_dropped_are_not_opened(flash: OmniModel) -> None:
    session = watch(flash)
    session.see(frame(0), 0.0)
    assert session.see("absent.png", 0.1) == []
    with pytest.raises(BadMedia, match="there is no image file"):
        session.see("absent.png", 0.5)
    session.see(frame(1), 0.5)  # what failed was not seen
    assert session.seconds == (0.25,)


def test_no_more_frames_than_the_model_reads_of_a_video(
    flash: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watch(flash).past.capacity == 32
    encoder: Any = flash.omni.encoders["image"]
    few = replace(encoder.processor, video=replace(encoder.processor.video, max_frames=8))
    monkeypatch.setattr(encoder, "processor", few)
    assert watch(flash).past.capacity == 4
    assert watch(flash, frames=20).past.capacity == 10


def test_frames_of_another_size_are_fitted(model: OmniModel) -> None:
    session = watch(model, frames=8)
    session.see(frame(0))
    other = pil.fromarray(frame(1, 40, 24))
    session.see(other)
    fitted = np.asarray(other.resize((16, 16), pil.Resampling.BICUBIC))
    video = Video(Frames([frame(0), fitted], [0.0, 0.5]))
    answer = session.ask("what moves?", max_new_tokens=NEW)
    assert answer == model.ask("what moves?", video, max_new_tokens=NEW)


def test_pixels_are_those_of_a_full_budget(flash: OmniModel) -> None:
    """Frames are as large as in one video of as many frames as the session keeps."""
    session = watch(flash, frames=48)
    processor = flash.encoder("image").processor
    for height, width in ((480, 640), (1080, 1920)):
        alone = session.processor.frame_fetch_size(height, width, 2)
        assert alone == processor.frame_fetch_size(height, width, 48)  # type: ignore[attr-defined]


# Errors


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"frames": 1}, BadConfig, "cannot keep 1 frames: 2 of them are one temporal patch; give"),
        ({"frames": -4}, BadConfig, "cannot keep -4 frames"),
        ({"keep": "recents"}, UnknownName, r"unknown way to keep frames 'recents'; did you mean"),
        ({"fps": 0}, BadConfig, "fps of a session is 0; it must be above 0"),
        ({"fps": math.nan}, BadConfig, "fps of a session is nan"),
    ],
    ids=str,
)
def test_options_that_cannot_be_used(
    flash: OmniModel, options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        watch(flash, **options)


def test_a_question_before_the_first_frame(flash: OmniModel) -> None:
    session = watch(flash)
    with pytest.raises(BadMedia, match="nothing has been seen yet; show the session a frame"):
        session.ask("what moves?")


def test_times_that_cannot_be(flash: OmniModel) -> None:
    session = watch(flash)
    with pytest.raises(BadMedia, match="a frame at nan s cannot come; give the seconds"):
        session.see(frame(0), math.nan)
    session.see(frame(0), 3.0)
    session.see(frame(1), 3.0)  # twice at once is no error
    with pytest.raises(BadMedia, match=r"a frame at 2\.5 s cannot come after one at 3 s; give"):
        session.see(frame(2), 2.5)
    session.see(frame(2))
    assert session.seconds == (3.25,)


def test_standing_questions_need_a_pause(flash: OmniModel) -> None:
    session = watch(flash)
    for ask in (session.ask, session.whenever):
        with pytest.raises(BadConfig, match="the question is empty; say what you want to know"):
            ask(" ")
    with pytest.raises(BadConfig, match="cannot be asked every 0 seconds; give more than 0"):
        watch(flash).whenever("what?", every=0)


def test_a_budget_beyond_the_context_is_refused_at_the_first_frame(model: OmniModel) -> None:
    session = watch(model, frames=2000)
    with pytest.raises(BadConfig, match=r"2000 frames of 16 x 16 pixels .* holds 2048") as error:
        session.see(frame(0))
    frames = int(str(error.value).partition("frames=")[2].split()[0])
    assert frames < 2000
    fitting = watch(model, frames=frames)
    fitting.see(frame(0))
    with pytest.raises(BadConfig):
        watch(model, frames=frames + 2).see(frame(0))
    show(fitting, frames - 1, first=1)
    length = fitting._length(fitting._seen_video(), "")
    assert 2048 - ROOM - 40 * frames < length <= 2048 - ROOM


def test_an_encoder_of_still_pictures_only(flash: OmniModel, monkeypatch: Any) -> None:
    monkeypatch.setattr(flash.omni.encoders["image"], "processor", lambda parts: None)
    with pytest.raises(BadMedia, match="image encoder of flash reads still pictures only; watch"):
        watch(flash)
