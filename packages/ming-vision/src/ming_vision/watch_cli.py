"""`ming watch`: plays a video through a session, which answers and speaks up as it goes."""

from __future__ import annotations

import math
import re
import time
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    ModelOption,
    QuietOption,
    load_model,
    print_reasoning,
    read_media,
    told,
)
from ming_core.cli.sampling import Sampled, sampling_options
from ming_core.cli.terminal import note, print_json, show
from ming_core.errors import BadConfig
from ming_core.text import is_blank, one_line

if TYPE_CHECKING:
    from ming_core.engine.answers import Answer


AT_THE_END = math.inf


class Keep(StrEnum):
    uniform = "uniform"
    recent = "recent"


@sampling_options()
def watch(
    file: Annotated[
        str, typer.Argument(help="A video, a folder of frames, or - for stdin.", metavar="FILE")
    ],
    ask: Annotated[
        list[str] | None,
        typer.Option(
            help="A question, with the second to ask it at in front, as in '3:what moves?'; "
            "without one it is asked at the end. Repeatable."
        ),
    ] = None,
    whenever: Annotated[
        list[str] | None,
        typer.Option(
            help="A question to ask again and again; new answers are printed. Repeatable."
        ),
    ] = None,
    every: Annotated[
        float | None, typer.Option(help="Seconds between two answers to --whenever: 2.")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            help="Most frames to keep in mind: 64, or fewer if the model reads fewer of a video."
        ),
    ] = None,
    keep: Annotated[
        Keep, typer.Option(help="Which frames to keep: from the whole stream, or the newest.")
    ] = Keep.uniform,
    fps: Annotated[
        float | None, typer.Option(min=0.001, help="Highest number of frames per second.")
    ] = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Play at most at normal speed.")
    ] = False,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    think: Annotated[
        bool, typer.Option("--think", help="Reason before an answer to --ask; see ming ask.")
    ] = False,
    *,
    sampling: Sampled,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Play a video and answer questions about it.

    Prints a line for each answer: second, question, answer.
    Example: ming watch clip.mp4 --ask "3:what moves?" --whenever "how many shapes are there?"
    """
    if not ask and not whenever:
        raise BadConfig("ming watch has nothing to say; give a question with --ask or --whenever")
    if any(map(is_blank, whenever or ())):
        raise BadConfig("--whenever has no question; write it as 'what moves?'")
    if every is not None and not whenever:
        raise BadConfig("--every is about --whenever, which is not given; leave it out")
    if think and not ask:
        raise BadConfig("--think is about --ask, which is not given; leave it out")
    questions = sorted((_timed(text) for text in ask or ()), key=lambda timed: timed[0])
    source = read_media(file).source  # refused before anything heavy is imported
    from ming_vision.video import open_stream

    stream = open_stream(source)
    opening = next(stream)  # refused before a model is loaded for it
    omni = load_model(model, device, dtype, quiet)
    session = omni.watch(frames=frames, keep=keep.value, fps=fps)
    for question in whenever or ():
        session.whenever(question, every=2.0 if every is None else every, **sampling)
    start, now = time.perf_counter(), 0.0

    def say(question: str, answer: Answer, standing: bool) -> None:
        if as_json:
            known: dict[str, Any] = {"task": "watch", "model": model, **told(omni)}
            about = {**known, "file": file, "standing": standing}
            said = {"seconds": round(now, 3), "question": question, **answer.to_dict()}
            print_json({**about, **said}, indent=None)
        else:
            print_reasoning(f"{answer.thinking}\n" if answer.thinking else "", quiet)
            show(f"{now:.1f} s  {one_line(question)}  {answer}")

    def answer_until(moment: float) -> None:
        while questions and questions[0][0] <= moment:
            _, question = questions.pop(0)
            say(question, session.ask(question, think=think, **sampling), standing=False)

    for now, picture in chain([opening], stream):
        if realtime:
            time.sleep(max(0.0, start + now - time.perf_counter()))
        for remark in session.see(picture, now):
            say(remark.question, remark.answer, standing=True)
        answer_until(now)
    answer_until(AT_THE_END)
    note(f"{now:.1f} s of video in {time.perf_counter() - start:.1f} s", quiet)


def _timed(text: str) -> tuple[float, str]:
    """(second, question) of `3:what moves?`."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*:(.*)", text, re.DOTALL)
    seconds, question = (float(match[1]), match[2]) if match else (AT_THE_END, text)
    if is_blank(question):
        raise BadConfig(f"--ask {text!r} has no question; write it as '3:what moves?'")
    return seconds, question.strip()
