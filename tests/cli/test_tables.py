"""Tables: as wide as the terminal allows, and no wider."""

from __future__ import annotations

import pytest

from ming_core.cli.tables import print_table, print_text
from ming_core.cli.terminal import cells

ROWS = [
    ("name", "here", "summary"),
    ("ming-flash-omni", "no", "a sentence that is too long for a line of a narrow terminal"),
    ("纳米", "yes", "一个很小的模型，它只认识形状和颜色，别的什么都不知道"),
]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def call(columns: int, rows=ROWS) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        print_table(rows)
        return capsys.readouterr().out.splitlines()

    return call


@pytest.mark.parametrize("columns", [20, 33, 40, 60, 80])
def test_no_line_is_wider_and_nothing_is_lost(printed, columns: int) -> None:
    lines = printed(columns)
    assert max(map(cells, lines)) <= columns
    together = "".join("".join(lines).split())
    for row in ROWS:
        for word in " ".join(row).split():
            if word.isascii():
                assert word in together


def test_the_long_column_is_wrapped(printed) -> None:
    assert printed(50) == [
        "name             here  summary",
        "ming-flash-omni  no    a sentence that is too long",
        "                       for a line of a narrow",
        "                       terminal",
        "纳米             yes   一个很小的模型，它只认识形",
        "                       状和颜色，别的什么都不知道",
    ]


def test_text_keeps_its_indent(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_text("words:\n  a word and another one\n\nend")
    assert capsys.readouterr().out == "words:\n  a word and another\n  one\n\nend\n"


def test_rows_become_paragraphs_where_columns_would_be_too_narrow(printed) -> None:
    assert printed(20)[:5] == ["name", "  here", "  summary", "ming-flash-omni", "  no"]


def test_without_a_terminal_lines_are_whole(monkeypatch, capsys) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(ROWS)
    assert len(capsys.readouterr().out.splitlines()) == len(ROWS)


def test_cells_are_one_line_and_move_nothing(printed) -> None:
    assert printed(80, [("a\nb", "\x1b[31m")]) == ["a\\nb  \\x1b[31m"]
