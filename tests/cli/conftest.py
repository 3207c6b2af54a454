"""An in-process runner for `ming` and a model that answers without weights."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol

import pytest

from ming_core.chat.thinking import parse_thinking
from ming_core.engine.answers import Answer
from ming_core.engine.request import Request
from ming_core.engine.sampling import Sampling
from ming_core.errors import BadCheckpoint
from ming_core.media import Message, Part, Text
from ming_core.plugins import get_plugins
from ming_core.testing import ScriptedEngine


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *arguments: str, stdin: str | bytes = "", tty: bool = False) -> Result: ...


class Stream(io.StringIO):
    """A text stream that claims to be a terminal if told so; with bytes, one of a file."""

    def __init__(self, content: str | bytes = "", tty: bool = False) -> None:
        super().__init__(content if isinstance(content, str) else "")
        self.tty = tty
        if isinstance(content, bytes):
            self.buffer = io.BytesIO(content)  # pyright: ignore[reportAttributeAccessIssue]

    def isatty(self) -> bool:
        return self.tty


@dataclass(frozen=True)
class FakeAnswer:
    text: str
    tokens: int = 2
    stopped: bool = True
    repeated: bool = False
    confidence: float = 1.0
    sure: bool | None = None

    @property
    def answer(self) -> str:
        return parse_thinking(self.text).answer

    @property
    def thinking(self) -> str | None:
        return parse_thinking(self.text).thinking

    def to_dict(self) -> dict[str, Any]:
        return {"text": self.text, **asdict(parse_thinking(self.text)), "tokens": self.tokens}

    def save(self, path: Path) -> Path:
        path.write_text(f"{self}\n", "utf-8")
        return path

    def __str__(self) -> str:
        return self.answer


@dataclass
class FakeModel:
    """Answers `pieces`, or raises `error`; remembers what it was asked."""

    pieces: tuple[str, ...] = ("three", " shapes")
    stopped: bool = True
    asked: list[tuple[str, tuple[Part, ...], dict[str, Any]]] = field(default_factory=list)
    heard: list[list[Message]] = field(default_factory=list)
    loaded: list[tuple[str, str, str]] = field(default_factory=list)
    error: BaseException | None = None
    config: Any = field(default_factory=lambda: SimpleNamespace(max_position_embeddings=4096))

    knowledge: None = None

    def __post_init__(self) -> None:
        self.engine = ScriptedEngine(lambda request: self.reply(request))

    def chosen(self, request: Request) -> dict[str, Any]:
        """What is chosen differently than usual."""
        usual, rules = vars(Sampling()), vars(request.sampling)
        return {name: value for name, value in rules.items() if value != usual[name]}

    def reply(self, request: Request) -> Answer:
        """What the tasks get, whose question stands behind its medium."""
        (message,) = request.messages
        *media, question = message.parts
        assert isinstance(question, Text)
        self.asked.append((question.text, tuple(media), self.chosen(request)))
        if self.error:
            raise self.error
        return Answer("".join(self.pieces), 2, self.stopped)

    def load(self, name: str, device: str = "auto", dtype: str = "auto") -> FakeModel:
        if name == "broken":
            raise BadCheckpoint("broken lacks config.json; copy it again")
        self.loaded.append((name, device, dtype))
        return self

    def ask(self, question: str, *media: Part, stream: bool = False, **options: Any) -> Any:
        self.asked.append((question, media, options))
        if self.error:
            raise self.error
        return (
            iter(self.pieces) if stream else FakeAnswer("".join(self.pieces), stopped=self.stopped)
        )

    def room(self, messages: list[Message], think: bool = False) -> int:
        """A word is a token, and a medium ten."""
        parts = [part for message in messages for part in message.parts]
        words = [part.text.split() if isinstance(part, Text) else [""] * 10 for part in parts]
        return self.config.max_position_embeddings - sum(map(len, words))

    def chat(self, messages: list[Message], stream: bool, **options: Any) -> Iterator[str]:
        self.heard.append(list(messages))
        if self.error:
            raise self.error
        yield from (f"answer {len(self.heard)}", "!")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    model = FakeModel()
    api = ModuleType("ming_core.api")
    api.load = model.load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ming_core.api", api)
    return model


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    from ming_core.cli import main

    get_plugins()  # what it may report is not part of a command's stderr

    def call(*arguments: str, stdin: str | bytes = "", tty: bool = False) -> Result:
        out, err = Stream(tty=tty), Stream(tty=tty)
        with monkeypatch.context() as patch:
            for name in ("COLUMNS", "NO_COLOR"):
                patch.delenv(name, raising=False)
            patch.setenv("TERM", "xterm")
            patch.setattr("sys.stdin", Stream(stdin, tty))
            patch.setattr("sys.stdout", out)
            patch.setattr("sys.stderr", err)
            with pytest.raises(SystemExit) as exit:
                main(arguments)
        return Result(int(exit.value.code or 0), out.getvalue(), err.getvalue())

    return call
