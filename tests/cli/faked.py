"""`ming` as a process of its own with a model that answers at once: `python faked.py ask hello`.

The answer is $ANSWER, or the question; $BROKEN is the name of a file that cannot be read, and the
model waits for a signal at one that is called `slow.png`.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from ming_core.errors import BadMedia
from ming_core.output import write_file


@dataclass
class Answer:
    text: str
    thinking: str | None = None
    tokens: int = 1
    stopped: bool = True
    error: None = None
    repeated: bool = False
    sure: None = None

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        return {"text": self.text}

    def save(self, path: str) -> Any:
        return write_file(path, f"{self}\n")


class Model:
    config = SimpleNamespace(max_position_embeddings=4096)
    wording = staticmethod(lambda section: ())
    knowledge = None

    @property
    def engine(self) -> Any:
        from ming_core.testing import ScriptedEngine

        return ScriptedEngine(self.reply)

    def room(self, messages: Any, think: bool = False) -> int:
        return 4096

    def ask(self, question: Any, *media: Any, stream: bool = False, **options: Any) -> Any:
        text = os.environ.get("ANSWER", str(question))
        return iter(text) if stream else Answer(text)

    def chat(self, messages: Any, **options: Any) -> Any:
        return self.ask(messages[-1].text, stream=True)

    def reply(self, request: Any) -> Any:
        picture = str(request.messages[0].parts[0])
        if picture.endswith("slow.png"):
            print("waiting", file=sys.stderr, flush=True)
            time.sleep(60)
        if "BROKEN" in os.environ and picture.endswith(os.environ["BROKEN"]):
            raise BadMedia(f"{picture} is broken")
        return self.ask("a picture")


api = ModuleType("ming_core.api")
api.load = lambda *about, **options: Model()  # type: ignore[attr-defined]
sys.modules["ming_core.api"] = api

if __name__ == "__main__":
    from ming_core.cli import main

    main()
