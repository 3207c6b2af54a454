"""`ming ask`: one question, one answer."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from ming_core.cli.common import (
    DeviceOption,
    DtypeOption,
    InstructionsOption,
    JsonOption,
    ModelOption,
    QuietOption,
    ThinkOption,
    check_stdin,
    load_model,
    print_pieces,
    print_reasoning,
    read_media,
    read_question,
    told,
)
from ming_core.cli.reading import Reading
from ming_core.cli.sampling import Sampled, sampling_options
from ming_core.cli.terminal import note, print_json, said_notes, show


@sampling_options("512, or 8192 with --think")
def ask(
    question: Annotated[
        str, typer.Argument(help="The question; - reads it from stdin, a sound file asks it aloud.")
    ],
    media: Annotated[
        list[str] | None,
        typer.Argument(help="Pictures, sounds or videos that the question is about."),
    ] = None,
    model: ModelOption = "nano",
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    think: ThinkOption = False,
    instructions: InstructionsOption = None,
    *,
    sampling: Sampled,
    reading: Reading,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Answer a question about pictures, sound, video or text.

    Example: ming ask "how many shapes are there?" scene.png
    """
    check_stdin(question, *(media or ()))
    asked = read_question(question)
    parts = [read_media(path) for path in media or ()]
    asked, *parts = reading.put([asked, *parts])
    omni = load_model(model, device, dtype, quiet)
    start = time.perf_counter()
    with said_notes() as notes:
        if sys.stdout.isatty() and not as_json:
            pieces = omni.ask(
                asked, *parts, stream=True, think=think, instructions=instructions, **sampling
            )
            print_pieces(pieces, think, quiet)
            note(f"answered in {time.perf_counter() - start:.1f} s", quiet)
            return
        answer = omni.ask(asked, *parts, think=think, instructions=instructions, **sampling)
        seconds = time.perf_counter() - start
        if not as_json:
            if answer.thinking:
                print_reasoning(f"{answer.thinking}\n", quiet)
            show(answer)
            note(f"{answer.tokens} tokens in {seconds:.1f} s", quiet)
            return
        print_json(
            {
                "task": "ask",
                "model": model,
                "question": str(asked),
                "media": media or [],
                **told(omni),
                **answer.to_dict(),
                "seconds": round(seconds, 3),
                **({"notes": notes} if notes else {}),
            }
        )
