"""Watch a stream: take frames and questions at any time, in limited memory.

The image encoders never look beyond a temporal patch (two frames in the releases). So each patch is
encoded once, when its last frame arrives, and only its embeddings and its time are kept. A question
is about a video of the kept patches. The backbone also computes the unchanged start of this video
only once (`Session.chat`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from PIL import Image as pil
from torch import Tensor

from ming_core.api import OmniModel
from ming_core.chat.prompt import MediaTokens, build_prompt
from ming_core.engine.answers import Answer
from ming_core.engine.session import Session
from ming_core.errors import BadConfig, BadMedia, UnknownName
from ming_core.media import Frames, Message, Video, assistant, user
from ming_core.model.encoder import Features
from ming_core.model.seen import Seen, encode
from ming_core.text import is_blank
from ming_vision.image import open_image
from ming_vision.past import Recent, Uniform
from ming_vision.processing import ImageProcessor
from ming_vision.sampling import LISTED_FPS

if TYPE_CHECKING:
    from typing import Unpack

    from ming_core.engine.sampling import SamplingOptions

FRAMES = 64
"""Frames that a session keeps unless told otherwise."""

TURNS = 8
"""Most earlier questions, with their answers, that a question is put after."""

ROOM = 512
"""Tokens of the context that frames leave to questions and answers."""

EARLY = 0.05
"""How much of the time between two frames a frame may be early and still be the next one."""

LATEST = 99_999.9
"""Seconds (27 hours) up to which timestamps are sure to fit into the context."""

KEPT: dict[str, type[Recent] | type[Uniform]] = {"recent": Recent, "uniform": Uniform}


@dataclass(frozen=True)
class Remark:
    """A new answer to a standing question. seconds: time of the newest frame."""

    seconds: float
    question: str
    answer: Answer

    def __str__(self) -> str:
        return str(self.answer)

    def to_dict(self) -> dict[str, Any]:
        """All fields as values for JSON."""
        return {"seconds": self.seconds, "question": self.question, **self.answer.to_dict()}


@dataclass(eq=False)
class Standing:
    """A question that is asked again every `every` seconds.

    only_if: which new answers become remarks. due: when it is asked next. last: its last answer.
    """

    question: str
    every: float
    only_if: Callable[[Answer], bool] | None
    options: SamplingOptions
    due: float = -math.inf
    last: str | None = None

    def is_due(self, now: float) -> bool:
        """Whether to ask now. If so, this also sets the next time."""
        if now < self.due:
            return False
        start = now if self.due == -math.inf else self.due
        self.due = start + self.every * (math.floor((now - start) / self.every) + 1)
        return True

    def is_news(self, answer: Answer) -> bool:
        """Whether an answer differs from the last in more than case, spaces and full stops."""
        said = " ".join(str(answer).casefold().split()).rstrip(".。!！")
        last, self.last = self.last, said
        return said != last and (self.only_if is None or self.only_if(answer))


@dataclass(frozen=True, eq=False)
class Patch:
    """A temporal patch as the model saw it, its grid [1, 3] and the mean time of its frames."""

    seen: Seen
    grid: Tensor
    seconds: float

    @property
    def values(self) -> Tensor:
        """Its embeddings [tokens, D]."""
        assert self.seen.values is not None
        return self.seen.values


def watch(
    model: OmniModel,
    frames: int | None = None,
    keep: Literal["uniform", "recent"] = "uniform",
    fps: float | None = None,
) -> WatchSession:
    """Start to watch a stream.

    Args:
        frames: Highest number of frames that are kept. None is 64, or the model's limit for videos
            if that is lower.
        keep: "uniform" keeps frames from the whole stream, evenly spaced. "recent" keeps the
            newest frames.
        fps: Highest number of frames per second that are used; faster frames are dropped before
            they are decoded. None is the rate of the model's release; math.inf uses all frames.

    Raises BadConfig, UnknownName, or BadMedia if the model cannot see videos.
    """
    processor = model.encoder("image").processor
    if not isinstance(processor, ImageProcessor):
        raise BadMedia(
            f"the image encoder of {model.name} reads still pictures only; watch with a model that "
            "reads videos, such as nano"
        )
    if keep not in KEPT:
        raise UnknownName("way to keep frames", keep, KEPT)
    depth = processor.temporal_patch_size
    if frames is None:
        frames = max(depth, min(FRAMES, processor.video.max_frames))
    if frames < depth:
        raise BadConfig(
            f"a session cannot keep {frames} frames: {depth} of them are one temporal patch; "
            f"give at least {depth}"
        )
    if fps is not None and not fps > 0:
        raise BadConfig(f"fps of a session is {fps}; it must be above 0")
    # Frames get the pixels that each of `frames` would get in one video.
    share = processor.video.total_pixels / frames * depth
    sized = replace(processor, video=replace(processor.video, total_pixels=share))
    return WatchSession(model, sized, KEPT[keep](frames // depth), fps or processor.video.fps)


@dataclass(eq=False)
class WatchSession:
    """One stream and the conversation about it, made by `model.watch`.

    It keeps embeddings of at most `past.capacity` temporal patches (and a second copy for the last
    question), the frames of an unfinished patch, and the last 8 questions with their answers.
    standing: the questions that are asked again; remove one to stop it. conversation: what the
    model keeps of the last question.
    """

    model: OmniModel
    processor: ImageProcessor
    past: Recent[Patch] | Uniform[Patch]
    fps: float
    standing: list[Standing] = field(default_factory=list)
    turns: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=TURNS))
    conversation: Session = field(init=False)
    _size: tuple[int, int] | None = None  # width and height of the first frame
    _start: float = 0.0  # time of the first frame
    _now: float | None = None  # time of the newest frame, dropped ones included
    _step: int = -1  # how many times 1 / fps after the first frame the last one was taken
    _waiting: list[tuple[pil.Image, float]] = field(default_factory=list)
    _video: Video | None = None  # what the last question was about, until more is seen

    def __post_init__(self) -> None:
        self.conversation = self.model.session()

    @property
    def seconds(self) -> tuple[float, ...]:
        """Times of the kept temporal patches."""
        return tuple(patch.seconds for patch in self.past.items)

    @property
    def nbytes(self) -> int:
        """Size of all kept embeddings in bytes."""
        kept = sum(patch.values.nbytes for patch in self.past.items)
        joined = self._video.source.values.nbytes if self._video else 0
        return kept + joined

    def see(self, picture: Any, seconds: float | None = None) -> list[Remark]:
        """Take the next frame. Returns the remarks of the standing questions.

        Args:
            picture: Anything that `Image` takes. If its size differs from the first frame, it is
                resized.
            seconds: Time of the frame. None is half a second after the frame before.

        Raises BadMedia for a time that goes back or a picture that cannot be read, and BadConfig if
        so many frames do not fit into the context.
        """
        now = self._time(seconds)
        first = self._now is None
        start = now if first else self._start
        # Infinite if all frames are wanted; a frame may come a little early.
        step = -1 if math.isinf(self.fps) else math.floor((now - start) * self.fps + EARLY)
        if not first and not math.isinf(self.fps) and step <= self._step:
            self._now = now
            return []
        image = open_image(picture)
        if self._size is None:
            self._check_room(image)
            self._size = image.size
        elif image.size != self._size:
            image = image.resize(self._size, pil.Resampling.BICUBIC)
        self._start, self._now, self._step = start, now, step
        self._waiting.append((image, now))
        self._video = None
        if len(self._waiting) == self.processor.temporal_patch_size:
            complete, self._waiting = self._waiting, []
            self.past = self.past.add(self._look(complete))
        return self._remarks(now)

    def ask(
        self, question: str, think: bool = False, **sampling: Unpack[SamplingOptions]
    ) -> Answer:
        """Answer a question about the stream so far. The model also sees the questions before it.

        The oldest questions are removed if they do not fit. sampling: fields of `Sampling`. Raises
        BadMedia before the first frame.
        """
        _check_question(question)
        video = self._seen_video()
        while self.turns and self._length(video, question) > self._context - ROOM:
            self.turns.popleft()
        messages = self._messages(video, question)
        answer = self.conversation.chat(messages, think=think, **sampling)
        self.turns.append((question, str(answer)))
        return answer

    def whenever(
        self,
        question: str,
        every: float = 2.0,
        only_if: Callable[[Answer], bool] | None = None,
        **sampling: Unpack[SamplingOptions],
    ) -> Standing:
        """Ask a question every `every` seconds of the stream, starting with the next frame.

        `see` returns a remark if the answer is new and `only_if` accepts it. The first answer is
        new. The question does not see the conversation. Raises BadConfig unless `every` is above 0.
        """
        _check_question(question)
        if not 0 < every < math.inf:
            raise BadConfig(f"a question cannot be asked every {every} seconds; give more than 0")
        self.standing.append(Standing(question, every, only_if, sampling))
        return self.standing[-1]

    @property
    def _context(self) -> int:
        return self.model.config.max_position_embeddings

    def _time(self, seconds: float | None) -> float:
        """When a frame is shown. Raises BadMedia if that cannot be."""
        if seconds is None:
            return 0.0 if self._now is None else self._now + 1 / LISTED_FPS
        if not math.isfinite(seconds) or (self._now is not None and seconds < self._now):
            after = "" if self._now is None else f" after one at {self._now:g} s"
            raise BadMedia(
                f"a frame at {seconds:g} s cannot come{after}; give the seconds of each frame in "
                "the order in which they are shown, or none"
            )
        return float(seconds)

    def _remarks(self, now: float) -> list[Remark]:
        remarks = []
        for standing in self.standing:
            if standing.is_due(now):
                messages = [user(self._seen_video(), standing.question)]
                answer = self.conversation.chat(messages, **standing.options)
                if standing.is_news(answer):
                    remarks.append(Remark(now, standing.question, answer))
        return remarks

    def _seen_video(self) -> Video:
        """All that is kept as one video; frames that wait for others count as a patch."""
        if self._now is None:
            raise BadMedia("nothing has been seen yet; show the session a frame before asking")
        if self._video is None:
            past = self.past
            if self._waiting:
                past = past.add(self._look(self._waiting))
            self._video = Video(_joined(past.items, self.processor.temporal_patch_size))
        return self._video

    def _look(self, frames: Sequence[tuple[pil.Image, float]]) -> Patch:
        """Encode one temporal patch; the last frame stands in for those that are missing."""
        missing = self.processor.temporal_patch_size - len(frames)
        pictures, seconds = zip(*frames, *[frames[-1]] * missing, strict=True)
        features = self.processor([Video(Frames(pictures, seconds))])
        seen = Seen(features)
        sources = self.model.sources
        with torch.inference_mode():
            encode(self.model.omni, [seen], sources.device, sources.dtype)
        assert features.grid is not None
        return Patch(seen, features.grid, seen.seconds[0])

    def _messages(self, video: Video, question: str) -> list[Message]:
        """The conversation, with the video in front of its first question."""
        questions = [earlier for earlier, _ in self.turns] + [question]
        messages = [user(video, questions[0])]
        for (_, answer), following in zip(self.turns, questions[1:], strict=True):
            messages += [assistant(answer), user(following)]
        return messages

    def _length(self, video: Video, question: str) -> int:
        """Tokens of a question with all that stands before it."""
        size = MediaTokens(video.source.tokens, video.source.seconds)
        return self._prompt_length(self._messages(video, question), size)

    def _prompt_length(self, messages: Sequence[Message], size: MediaTokens) -> int:
        prompt = build_prompt(messages, self.model.format, self.model.tokenizer, [size])
        return len(prompt.input_ids)

    def _check_room(self, image: pil.Image) -> None:
        """Raises BadConfig if as many frames of this size as are to be kept do not fit."""
        sizes = self.processor
        depth = sizes.temporal_patch_size
        fetched = sizes.frame_fetch_size(image.height, image.width, depth)
        high, wide = sizes.frame_fit_size(*fetched)
        tokens = high * wide // sizes.factor**2

        def needed(patches: int) -> int:
            size = MediaTokens(patches * tokens, [LATEST] * patches)
            return self._prompt_length([user(Video(()), "")], size) + ROOM

        patches = self.past.capacity
        if needed(patches) <= self._context:
            return
        each = needed(2) - needed(1)
        fitting = (self._context - needed(1)) // each + 1
        way_out = (
            f"watch with frames={fitting * depth} at most" if fitting > 0 else "show smaller frames"
        )
        raise BadConfig(
            f"{patches * depth} frames of {wide} x {high} pixels and a question need "
            f"{needed(patches)} tokens, and the context of {self.model.name} holds "
            f"{self._context}; {way_out}"
        )


def _check_question(question: str) -> None:
    """Raises BadConfig for one without words."""
    if is_blank(question):
        raise BadConfig("the question is empty; say what you want to know")


def _joined(patches: Sequence[Patch], depth: int) -> Seen:
    """Temporal patches one after another as one encoded video."""
    values = torch.cat([patch.values for patch in patches])
    grid = patches[0].grid.clone()
    grid[0, 0] = len(patches)
    features = Features(
        modality="image",
        tensors={},
        grid=grid,
        tokens=[len(values)],
        seconds=[tuple(patch.seconds for patch in patches)],
        frames_per_patch=depth,
    )
    return Seen(features, values, encoder=patches[0].seen.encoder)
