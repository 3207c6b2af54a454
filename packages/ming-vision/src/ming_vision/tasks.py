"""The tasks of this package: describe, read, ground and click.

Each task is a method of the model: `model.read("page.png")`. A picture may be an `Image`, or
anything that `Image` takes. `think` and the sampling options are those of `OmniModel.ask`. With
`think`, the tasks use only the answer after the reasoning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, Unpack, get_args

from ming_core.engine.request import Request, sampling_of
from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Audio, Image, Video, media_from_path, user
from ming_core.notes import note_to_user
from ming_core.tasks import NoTarget, Task, checked
from ming_core.tasks.task import check_choice
from ming_core.text import is_blank
from ming_vision.clicks import Action, parse_action, write_click, written_history
from ming_vision.documents import Document, DocumentFormat, unfenced
from ming_vision.grounding import Box, Grounding, parse_boxes, write_box
from ming_vision.image import full_size, open_image, pages_of
from ming_vision.processing import ImageProcessor
from ming_vision.prompts import Language, VisionPrompts, language_of, prompts_of, say
from ming_vision.square import WHOLE, Place

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from ming_core.api import OmniModel
    from ming_core.engine.answers import Answer
    from ming_core.engine.sampling import SamplingOptions

Detail = Literal["full", "short"]
READING_TOKENS = 4096
"""Longest text of a page unless asked otherwise: a dense A4 page has about 1,500 words."""


@dataclass(frozen=True, eq=False)
class Describe(Task):
    """Describe a picture or a video.

    Args:
        media: A picture or a video. For a path, the content decides which of them it is.
        detail: "full", or "short" for one sentence.
        language: "en" or "zh".
        think: Let the model reason first.
        sampling: Fields of `Sampling`.

    Raises BadConfig for an unknown detail or language, and BadMedia if the file cannot be read.
    """

    media: Any
    _: KW_ONLY
    detail: Detail = "full"
    language: Language = "en"
    think: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("detail", self.detail, get_args(Detail))
        check_choice("language", self.language, get_args(Language))

    def requests(self, model: OmniModel) -> Iterator[Request]:
        """One question about the medium."""
        part = _part(self.media)
        if isinstance(part, Audio):
            raise BadMedia(f"describe needs a picture or a video, and {part} is a sound")
        prompts = _prompts(model)
        full, short = (
            (prompts.describe_video, prompts.describe_video_short)
            if isinstance(part, Video)
            else (prompts.describe, prompts.describe_short)
        )
        sentences = full if self.detail == "full" else short
        question = say(sentences, self.language)
        if self.detail == "short" and question == say(full, self.language):
            _has_no_effect("detail", self.detail, "this model knows one way to describe it")
        if self.language != "en" and question == say(sentences, "en"):
            _has_no_effect("language", self.language, "this model is asked in one language")
        yield _request(self, part, question)

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> Answer:
        """The answer. Raises NotFinite."""
        (answer,) = answers
        return checked(model, answer)

    def target(self, model: OmniModel, wanted: str) -> Sequence[str]:
        """The description as it is wanted."""
        return [wanted]


@dataclass(frozen=True, eq=False)
class Read(Task):
    """Read the text in a picture. All pages of a TIFF are read, up to one that is damaged.

    Args:
        image: A picture.
        format: "text", "markdown", or "table" for the tables only.
        think: Let the model reason first.
        batch: How many pages are read together.
        progress: Function of the pages that are done, and of how many there are if that is known.
        sampling: Fields of `Sampling`. `max_new_tokens` counts for each page.

    Raises BadConfig for an unknown format, and BadMedia if it is not a picture.
    """

    image: Any
    _: KW_ONLY
    format: DocumentFormat = "text"
    think: bool = False

    pieces: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("format", self.format, get_args(DocumentFormat))

    def requests(self, model: OmniModel) -> Iterator[Request]:
        """The same question about each page."""
        prompts = _prompts(model)
        sentences = {
            "text": prompts.read,
            "markdown": prompts.read_markdown,
            "table": prompts.read_table,
        }
        question = say(sentences[self.format], "en")
        count = 0
        try:
            for page in pages_of(_picture("read", self.image).source):
                yield _request(self, Image(page), question, max_new_tokens=READING_TOKENS)
                count += 1
        except BadMedia as error:
            if not count:
                raise
            note_to_user(f"{error}; the pages before it were read")

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> Document:
        """The text of all pages. Raises NotFinite."""
        for answer in answers:
            checked(model, answer)
        if self.format == "text":
            text = "\n".join(answer.answer for answer in answers)
        else:
            text = "\n\n".join(unfenced(answer.answer) for answer in answers)
        told = [answer.sure for answer in answers if answer.sure is not None]
        return Document(
            text,
            self.format,
            complete=all(answer.stopped for answer in answers),
            repeated=any(answer.repeated for answer in answers),
            confidence=min(answer.confidence for answer in answers),
            sure=all(told) if told else None,
        )

    def target(self, model: OmniModel, wanted: str | Sequence[str]) -> Sequence[str]:
        """The text of each page; one text is that of a single page."""
        return [wanted] if isinstance(wanted, str) else list(wanted)


@dataclass(frozen=True, eq=False)
class Ground(Task):
    """Find things in a picture. The boxes are in pixels of the upright picture.

    Args:
        image: A picture.
        expression: What to find, such as "red star". None asks for a caption with boxes.
        think: Let the model reason first.
        sampling: Fields of `Sampling`.

    If the answer has no readable box, `boxes` is empty. Raises BadConfig for an empty expression,
    and BadMedia if it is not a picture.
    """

    image: Any
    expression: str | None = None
    _: KW_ONLY
    think: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._name  # noqa: B018 - words that are missing are an error now

    @cached_property
    def _name(self) -> str:
        if self.expression is None:
            return ""
        return _words("ground", self.expression, "red star")

    @cached_property
    def _picture(self) -> Picture:
        return _still("ground", self.image)

    def requests(self, model: OmniModel) -> Iterator[Request]:
        """One question about the picture."""
        prompts, name = _prompts(model), self._name
        if name:
            question = say(prompts.ground, language_of(name), name=name)
        else:
            question = say(prompts.ground_all, "en")
        yield _request(self, Image(self._picture), question)

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> Grounding:
        """The boxes in the answer. Raises NotFinite."""
        (answer,) = answers
        answer = checked(model, answer)
        prompts, picture = _prompts(model), self._picture
        text, size, place = answer.answer, full_size(picture), _place(model, picture)
        boxes = parse_boxes(text, size, self._name, prompts.box_scale, prompts.box_style, place)
        return Grounding(boxes, text, picture, answer.confidence, answer.sure)

    def target(
        self, model: OmniModel, wanted: str | Sequence[Box | Sequence[float]]
    ) -> Sequence[str]:
        """The boxes as this model writes them: in its scale, on its canvas.

        wanted: boxes, or their left, top, right and bottom edges in px of the upright picture; for
        a caption with boxes its whole text. Raises NoTarget if there is no box, or only boxes for a
        caption.
        """
        if isinstance(wanted, str):
            return [wanted]
        if not self._name:
            raise NoTarget("a caption with boxes is more than its boxes; give its whole text")
        if not wanted:
            raise NoTarget("this model has no words for a thing that is not there; leave it out")
        prompts, picture = _prompts(model), self._picture
        size, place = full_size(picture), _place(model, picture)
        corners = [box.corners if isinstance(box, Box) else box for box in wanted]
        return [
            ", ".join(
                write_box(edges, size, prompts.box_scale, prompts.box_style, place)
                for edges in corners
            )
        ]


@dataclass(frozen=True, eq=False)
class Click(Task):
    """Find the place to click on a screenshot.

    Args:
        screenshot: A picture.
        instruction: What to click, such as "the search bar".
        history: Earlier actions, the oldest first.
        think: Let the model reason first.
        sampling: Fields of `Sampling`.

    If the answer has no readable action, `kind` is `unparsed`. Raises BadConfig for an empty
    instruction, and BadMedia if it is not a picture.
    """

    screenshot: Any
    instruction: str
    history: Sequence[Action | str] = ()
    _: KW_ONLY
    think: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._name  # noqa: B018 - words that are missing are an error now

    @cached_property
    def _name(self) -> str:
        return _words("click", self.instruction, "the search bar")

    @cached_property
    def _picture(self) -> Picture:
        return _still("click", self.screenshot)

    def requests(self, model: OmniModel) -> Iterator[Request]:
        """One question about the screenshot."""
        prompts, language = _prompts(model), language_of(self._name)
        question = say(prompts.click, language, name=self._name)
        if self.history:
            actions = written_history(self.history)
            question = say(prompts.click_history, language, actions=actions) + question
        yield _request(self, Image(self._picture), question)

    def result(self, model: OmniModel, answers: Sequence[Answer]) -> Action:
        """The action in the answer. Raises NotFinite."""
        (answer,) = answers
        answer = checked(model, answer)
        action = parse_action(answer.answer, self._picture, _place(model, self._picture))
        return replace(action, confidence=answer.confidence, sure=answer.sure)

    def target(self, model: OmniModel, wanted: Action | Sequence[float]) -> Sequence[str]:
        """The action as this model writes it.

        wanted: an action, or column and row of the pixel to click. Raises NoTarget for an action
        that was not read.
        """
        if isinstance(wanted, Action):
            if not wanted.parsed:
                raise NoTarget(f"there is no action in {wanted.text!r}; give column and row")
            if wanted.x is None or wanted.y is None or wanted.kind != "click":
                return [wanted.call]
            wanted = wanted.x, wanted.y
        x, y = wanted
        picture, scale = self._picture, _prompts(model).box_scale
        return [write_click(x, y, full_size(picture), scale, _place(model, picture))]


def _has_no_effect(name: str, value: str, reason: str) -> NoReturn:
    raise BadConfig(f"{name} {value!r} has no effect: {reason}; leave it out")


def _request(
    task: Describe | Read | Ground | Click,
    part: Image | Video,
    question: str,
    **usual: Unpack[SamplingOptions],
) -> Request:
    """A question behind its medium. usual: what holds unless the caller chose otherwise."""
    sampling = sampling_of(task.think, {**usual, **task.sampling})
    return Request([user(part, question)], task.think, sampling=sampling)


def _prompts(model: OmniModel) -> VisionPrompts:
    return prompts_of(model.wording("vision_tasks"))


def _place(model: OmniModel, picture: Picture) -> Place:
    """Where the picture lies on what the model saw."""
    encoder = getattr(model, "encoder", None)  # what stands in for a model may have none
    processor = encoder("image").processor if encoder else None
    if not isinstance(processor, ImageProcessor):
        return WHOLE
    return processor.place(picture.height, picture.width)


def _part(value: Any) -> Image | Audio | Video:
    if isinstance(value, Image | Audio | Video):
        return value
    return media_from_path(value) if isinstance(value, str | Path) else Image(value)


def _still(task: str, value: Any) -> Picture:
    """The opened picture. Raises BadMedia for sounds, videos and what cannot be opened."""
    return open_image(_picture(task, value).source)


def _picture(task: str, value: Any) -> Image:
    part = _part(value)
    if isinstance(part, Image):
        return part
    kind = "video; give one frame of it" if isinstance(part, Video) else "sound"
    raise BadMedia(f"{task} needs a still picture, and {part} is a {kind}")


def _words(task: str, text: str, example: str) -> str:
    if not isinstance(text, str) or is_blank(text):
        raise BadConfig(f"{task} needs words that say what to look for, such as {example!r}")
    return text.strip().removeprefix("the ")
