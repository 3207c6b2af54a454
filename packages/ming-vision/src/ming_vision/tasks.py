"""The tasks of this package: describe, read, ground and click.

Each task is a method of the model: `model.read("page.png")`. A picture may be an `Image`, or
anything that `Image` takes. `think` and the sampling options are those of `OmniModel.ask`. With
`think`, the tasks use only the answer after the reasoning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, get_args

from ming_core.errors import BadConfig, BadMedia
from ming_core.media import Audio, Image, Video, media_from_path
from ming_core.notes import note_to_user
from ming_vision.clicks import Action, parse_action, written_history
from ming_vision.documents import Document, DocumentFormat, unfenced
from ming_vision.grounding import Grounding, parse_boxes
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


def describe(
    model: OmniModel,
    media: Any,
    *,
    detail: Detail = "full",
    language: Language = "en",
    think: bool = False,
    **sampling: Unpack[SamplingOptions],
) -> Answer:
    """Describe a picture or a video.

    Args:
        media: A picture or a video. For a path, the content decides which of them it is.
        detail: "full", or "short" for one sentence.
        language: "en" or "zh".
        think: Let the model reason first.
        sampling: Fields of `Sampling`.

    Raises BadConfig for an unknown detail or language, and BadMedia if the file cannot be read.
    """
    _check("detail", detail, get_args(Detail))
    _check("language", language, get_args(Language))
    part = _part(media)
    if isinstance(part, Audio):
        raise BadMedia(f"describe needs a picture or a video, and {part} is a sound")
    prompts = _prompts(model)
    full, short = (
        (prompts.describe_video, prompts.describe_video_short)
        if isinstance(part, Video)
        else (prompts.describe, prompts.describe_short)
    )
    question = say(full if detail == "full" else short, language)
    return model.ask(question, part, think=think, **sampling)


def read(
    model: OmniModel,
    image: Any,
    *,
    format: DocumentFormat = "text",
    think: bool = False,
    **sampling: Unpack[SamplingOptions],
) -> Document:
    """Read the text in a picture. All pages of a TIFF are read, up to one that is damaged.

    Args:
        image: A picture.
        format: "text", "markdown", or "table" for the tables only.
        think: Let the model reason first.
        sampling: Fields of `Sampling`. `max_new_tokens` counts for each page.

    Raises BadConfig for an unknown format, and BadMedia if it is not a picture.
    """
    _check("format", format, get_args(DocumentFormat))
    prompts = _prompts(model)
    sentences = {
        "text": prompts.read,
        "markdown": prompts.read_markdown,
        "table": prompts.read_table,
    }
    sampling = {"max_new_tokens": READING_TOKENS, **sampling}
    question = say(sentences[format], "en")
    pages = pages_of(_picture("read", image).source)
    answers: list[Answer] = []
    try:
        for page in pages:
            answers.append(model.ask(question, Image(page), think=think, **sampling))
    except BadMedia as error:
        if not answers:
            raise
        note_to_user(f"{error}; the pages before it were read")
    if format == "text":
        text = "\n".join(answer.answer for answer in answers)
    else:
        text = "\n\n".join(unfenced(answer.answer) for answer in answers)
    told = [answer.sure for answer in answers if answer.sure is not None]
    return Document(
        text,
        format,
        complete=all(answer.stopped for answer in answers),
        repeated=any(answer.repeated for answer in answers),
        confidence=min(answer.confidence for answer in answers),
        sure=all(told) if told else None,
    )


def ground(
    model: OmniModel,
    image: Any,
    expression: str | None = None,
    *,
    think: bool = False,
    **sampling: Unpack[SamplingOptions],
) -> Grounding:
    """Find things in a picture. The boxes are in pixels of the upright picture.

    Args:
        image: A picture.
        expression: What to find, such as "red star". None asks for a caption with boxes.
        think: Let the model reason first.
        sampling: Fields of `Sampling`.

    If the answer has no readable box, `boxes` is empty. Raises BadConfig for an empty expression,
    and BadMedia if it is not a picture.
    """
    prompts, picture = _prompts(model), _still("ground", image)
    if expression is None:
        name, question = "", say(prompts.ground_all, "en")
    else:
        name = _words("ground", expression, "red star").removeprefix("the ")
        question = say(prompts.ground, language_of(name), name=name)
    answer = model.ask(question, Image(picture), think=think, **sampling)
    text, size, place = answer.answer, full_size(picture), _place(model, picture)
    boxes = parse_boxes(text, size, name, prompts.box_scale, prompts.box_style, place)
    return Grounding(boxes, text, picture, answer.confidence, answer.sure)


def click(
    model: OmniModel,
    screenshot: Any,
    instruction: str,
    history: Sequence[Action | str] = (),
    *,
    think: bool = False,
    **sampling: Unpack[SamplingOptions],
) -> Action:
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
    prompts, picture = _prompts(model), _still("click", screenshot)
    name = _words("click", instruction, "search bar").removeprefix("the ")
    language = language_of(name)
    question = say(prompts.click, language, name=name)
    if history:
        earlier = say(prompts.click_history, language, actions=written_history(history))
        question = earlier + question
    answer = model.ask(question, Image(picture), think=think, **sampling)
    action = parse_action(answer.answer, picture, _place(model, picture))
    return replace(action, confidence=answer.confidence, sure=answer.sure)


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
    words = text.strip()
    if not words:
        raise BadConfig(f"{task} needs words that say what to look for, such as {example!r}")
    return words


def _check(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise BadConfig(f"{name} is {value!r}; use {' or '.join(map(repr, known))}")
