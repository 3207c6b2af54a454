"""`ming demo`: the shipped model reads the shipped picture."""

from __future__ import annotations

import json
import time

from ming_core.cli.common import (
    DeviceOption,
    JsonOption,
    QuietOption,
    load_model,
)
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import print_json, show
from ming_core.media import Image
from ming_core.presets import preset_folders


def demo(
    device: DeviceOption = "auto", as_json: JsonOption = False, quiet: QuietOption = False
) -> None:
    """Let the shipped nano model answer questions about a picture.

    Needs no network. Example: ming demo
    """
    folder = preset_folders("nano")["backbone"]
    picture = folder / "demo.png"
    questions = json.loads((folder / "demo.json").read_text("utf-8"))["questions"]
    model = load_model("nano", device, "auto", quiet)
    answers = []
    for question in questions:
        start = time.perf_counter()
        answer = model.ask(question, Image(picture))
        seconds = time.perf_counter() - start
        answers.append({"question": question, "answer": answer.text, "seconds": round(seconds, 3)})
    if as_json:
        print_json({"task": "demo", "model": "nano", "picture": str(picture), "answers": answers})
        return
    show(f"picture: {picture}\n")
    rows = [(a["question"], a["answer"], f"{a['seconds']:.2f}") for a in answers]
    print_table([("question", "answer", "seconds"), *rows])
