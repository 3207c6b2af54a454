"""Text at the borders: valid Unicode inside, nothing that commands a terminal outside."""

from __future__ import annotations

import os

import pytest

from ming_core.notes import collected_notes, note_to_user
from ming_core.text import one_line, printable, valid


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ("café 月", "café 月"),
        (os.fsdecode(b"caf\xe9.png"), "caf\ufffd.png"),
        (os.fsdecode("月".encode()), "月"),
        ("月".encode().decode("ascii", "surrogateescape"), "月"),  # read in a C locale
        ("\ud83d", "\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("a\ud83d b", "a\ufffd b"),
    ],
)
def test_any_string_becomes_valid(given: str, right: str) -> None:
    assert valid(given) == right
    assert valid(given).encode("utf-8")


def test_control_characters_are_written_out() -> None:
    evil = "a\x1b[31mb\x07\r\nc\td\x9b2Je\u202ef\x7f\u2028"
    assert one_line(evil) == ("a\\x1b[31mb\\x07\\r\\nc\\td\\x9b2Je\\u202ef\\x7f\\u2028")
    assert printable(evil) == "a\\x1b[31mb\\x07\\r\nc\td\\x9b2Je\\u202ef\\x7f\\u2028"
    family = "👨\u200d👩 é 月 ‌"
    assert printable(family) == family


def test_notes_are_logged_or_collected(caplog: pytest.LogCaptureFixture) -> None:
    note_to_user("said at once")
    assert caplog.messages == ["said at once"]
    with collected_notes() as notes:
        note_to_user("kept")
        with collected_notes() as inner:
            note_to_user("inside")
        note_to_user("kept")
    assert (notes, inner) == (["kept"], ["inside"])
    assert caplog.messages == ["said at once"]
