"""`ming data check` and `ming data preview`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

Said = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def ming(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    from ming_core.cli import main

    monkeypatch.delenv("COLUMNS", raising=False)  # lines are whole

    def call(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as end:
            main([*map(str, arguments)])
        code = end.value.code
        out, err = capsys.readouterr()
        return Result(code if isinstance(code, int) else 0, out, err)

    return call


@pytest.fixture
def faulty(write_rows: Write, said: Said) -> Path:
    """Rows of which each but two has another fault."""
    answer = {"role": "assistant", "content": "red"}
    return write_rows(
        [
            said("one?", id="x"),
            said("一 and один?", "红", id="x"),
            "{",
            said(5),
            said("<image>?", images=["no.png"]),
            said("<audio>?", audios=["a.png"]),
            said("<image><image>?", images=["a.png"]),
            {"messages": [*said("?")["messages"], answer]},
            {"messages": said("?")["messages"][:1]},
            said("?", ""),
            said("red " * 20_000),
        ]
    )


def test_check_counts_what_is_wrong(faulty: Path, ming: Callable[..., Result]) -> None:
    found = ming("data", "check", faulty)
    assert found.code == 1
    assert found.out.startswith("2 of 11 rows can be trained on with nano: ")
    for line in (
        "1 x broken row",
        "1 x wrong type",
        "1 x missing media",
        "1 x unreadable media",
        "1 x placeholders",
        "1 x turns",
        "1 x no answer",
        "1 x empty text",
        "1 x too long",
        "1 x duplicate id (kept)",
        "  rows.jsonl line 8  there are two answers in a row; join them into one",
        "  rows.jsonl line 11  the row has 20018 tokens, and the context of nano holds 4096; "
        "shorten the row",
    ):
        assert line in found.out.splitlines()


def test_check_as_json(faulty: Path, ming: Callable[..., Result]) -> None:
    found = ming("data", "check", faulty, "--json")
    report = json.loads(found.out)
    assert found.code == 1
    assert (report["rows"], report["kept"]) == (11, 2)
    assert sum(report["counts"].values()) == len(report["faults"]) == 10
    assert report["faults"][0]["where"] == "rows.jsonl line 3"
    assert report["targets"] < report["tokens"] <= 2 * report["longest"]


def test_check_of_good_rows_and_of_none(
    mixed: list[dict[str, Any]], write_rows: Write, ming: Callable[..., Result]
) -> None:
    good = ming("data", "check", write_rows(mixed))
    assert good.code == 0
    assert good.out.count("\n") == 1
    assert ming("data", "check", write_rows(["{", "}"])).code == 2
    assert ming("data", "check", write_rows(mixed), "--capacity", "10").code == 2
    nothing = ming("data", "check", "nowhere.jsonl")
    assert nothing.code == 2
    assert "there is no file 'nowhere.jsonl' with rows" in nothing.err.splitlines()[-1]


def test_check_goes_on_behind_a_broken_file(
    write_rows: Write, said: Said, ming: Callable[..., Result]
) -> None:
    folder = write_rows([said("one?")], "rows-0.jsonl").parent
    (folder / "rows-1.tar").write_bytes(b"no tar" * 1000)
    found = ming("data", "check", folder / "rows-*")
    assert found.code == 1
    assert "1 of 1 rows" in found.out
    assert "rows-1.tar  the shard breaks off" in found.out


def test_preview_marks_what_is_learnt(
    mixed: list[dict[str, Any]], write_rows: Write, ming: Callable[..., Result]
) -> None:
    found = ming("data", "preview", write_rows(mixed), "-n", len(mixed))
    assert found.code == 0
    assert "<role>ASSISTANT</role>«no»«<|role_end|>»" in found.out
    assert "[image: 16 tokens]" in found.out
    assert "a.png: 16 tokens" in found.out
    assert "«<think>\none and two\n</think>\n\nthree»" in found.out
    assert re.search(r"rows\.jsonl line 8 \(8 drawn of 21\), id .*: \d+ tokens of nano", found.out)
    assert "a square»" in found.out  # an answer in the middle is learnt, too


def test_preview_draws_the_same_rows_for_a_seed(
    mixed: list[dict[str, Any]], write_rows: Write, ming: Callable[..., Result]
) -> None:
    path = write_rows(mixed)
    first = ming("data", "preview", path, "-n", 3).out
    assert ming("data", "preview", path, "-n", 3).out == first
    assert ming("data", "preview", path, "-n", 3, "--seed", 5).out != first
    assert first.count("tokens of nano") == 3


def test_preview_says_what_is_wrong_and_what_is_left_out(
    faulty: Path, write_rows: Write, ming: Callable[..., Result]
) -> None:
    found = ming("data", "preview", faulty, "-n", 20)
    assert found.code == 0
    assert "left out (turns): there are two answers in a row" in found.out
    assert "left out (too long): the row has 20018 tokens" in found.out
    assert "nothing of it is cut, it is left out" in found.out
    assert len(found.out) < 20_000
    bad = ming("data", "preview", write_rows(["{"]))
    assert bad.code == 2
    assert "none of the drawn rows can be trained on; the first: rows.jsonl line 1" in bad.err


class Page(HTMLParser):
    """Tags and texts of a page, and whether every tag is closed."""

    VOID = ("meta", "img", "br", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.spans: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "span":
            last = next(attrs for tag, attrs in reversed(self.tags) if tag == "span")
            self.spans.append((last["class"] or "", data))


def test_page_shows_media_and_targets_and_needs_nothing_else(
    mixed: list[dict[str, Any]], write_rows: Write, tmp_path: Path, ming: Callable[..., Result]
) -> None:
    out = tmp_path / "page.html"
    assert ming("data", "preview", write_rows(mixed), "-n", 30, "-o", out).code == 0
    text = out.read_text("utf-8")
    page = Page(text)
    assert not page.open
    sources = [attrs["src"] or "" for tag, attrs in page.tags if "src" in attrs]
    kinds = {source.partition(";")[0] for source in sources}
    assert kinds == {"data:image/png", "data:audio/wav"}
    assert not any("href" in attrs for _, attrs in page.tags)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert "default-src 'none'" in text
    assert ("target", "color") in page.spans
    assert ("special target", "<|role_end|>") in page.spans
    assert ("medium", "image: 16 tokens") in page.spans
    assert text.count("<section>") == len(mixed)
    assert text.count("<svg") == 2  # the sound, in two rows


def test_page_escapes_everything_in_the_data(
    write_rows: Write, said: Said, media: Path, tmp_path: Path, ming: Callable[..., Result]
) -> None:
    evil = "<script>alert('x')</script><img src=x onerror=y>\x1b[2J\u202e"
    name = "<b onload=x>.png"
    (media / name).write_bytes((media / "a.png").read_bytes())
    rows = [
        said(evil, evil, id=evil),
        said([{"type": "image", "image": name}]),
        said([{"type": "image", "image": "<script>.png"}]),
    ]
    out = tmp_path / "page.html"
    found = ming("data", "preview", write_rows(rows), "-o", out)
    text = out.read_text("utf-8")
    assert not Page(text).open
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "<b onload" not in text
    for page in (text, found.out):
        assert "\x1b" not in page
        assert "\u202e" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in text


def test_page_that_cannot_be_written_is_told_before_the_work(
    mixed: list[dict[str, Any]], write_rows: Write, tmp_path: Path, ming: Callable[..., Result]
) -> None:
    found = ming("data", "preview", write_rows(mixed), "-o", tmp_path / "no" / "page.html")
    assert found.code == 2
    assert not found.out
    assert "there is no folder" in found.err


def test_page_takes_the_place_of_a_page_only(
    mixed: list[dict[str, Any]], write_rows: Write, tmp_path: Path, ming: Callable[..., Result]
) -> None:
    rows, out = write_rows(mixed), tmp_path / "page.html"
    before = rows.read_bytes()
    found = ming("data", "preview", rows, "-o", rows)
    assert (found.code, found.out) == (2, "")
    assert "holds something else than a page; name another file with -o" in found.err
    assert rows.read_bytes() == before
    out.touch()  # as mktemp makes it
    for _ in range(2):
        assert ming("data", "preview", rows, "-n", 1, "-o", out).code == 0


def test_commands_are_light() -> None:
    import subprocess
    import sys

    code = (
        "import sys, ming_recipes.plugin, ming_recipes.rows.commands; "
        "print([m for m in ('torch', 'numpy', 'rich', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
