"""Rows of all dialects and files, and everything that can be wrong with them."""

from __future__ import annotations

import io
import json
import pickle
import random
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ming_core.errors import BadConfig, MingError, MissingPlugin
from ming_core.media import Audio, Image, Message, Text, Video, assistant, system
from ming_core.media.files import MediaFile
from ming_recipes.training import files
from ming_recipes.training.files import open_rows
from ming_recipes.training.records import BadRow, identity

Said = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


def outline(messages: tuple[Message, ...]) -> list[tuple[str, list[str]]]:
    """Roles with texts and kinds of media."""
    return [
        (m.role, [p.text if isinstance(p, Text) else f"<{p.kind}>" for p in m.parts])
        for m in messages
    ]


QUESTION = [("user", ["<image>", "what?"]), ("assistant", ["red"])]


@pytest.mark.parametrize(
    "row",
    [
        {  # ours
            "messages": [
                {
                    "role": "HUMAN",
                    "content": [
                        {"type": "image", "path": "a.png"},
                        {"type": "text", "text": "what?"},
                    ],
                },
                {"role": "ASSISTANT", "content": [{"type": "text", "text": "red"}]},
            ]
        },
        {  # ours, by a key of `media`
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image", "media": "front"},
                        {"type": "text", "text": "what?"},
                    ],
                },
                {"role": "assistant", "content": "red"},
            ],
            "media": {"front": {"path": "a.png", "width": 64}},
        },
        {  # the chat API
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "a.png"}},
                        {"type": "text", "text": "what?"},
                    ],
                },
                {"role": "assistant", "content": "red"},
            ]
        },
        {  # ms-swift, LLaMA-Factory openai
            "messages": [
                {"role": "user", "content": "<image>what?"},
                {"role": "assistant", "content": "red"},
            ],
            "images": ["a.png"],
        },
        {  # the list of a table
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image"}, {"type": "text", "text": "what?"}],
                },
                {"role": "assistant", "content": "red"},
            ],
            "images": [{"path": "a.png", "bytes": None}],
        },
        {  # sharegpt
            "conversations": [
                {"from": "human", "value": "<image>what?"},
                {"from": "gpt", "value": "red"},
            ],
            "images": ["a.png"],
            "system": "",
        },
        {"query": "<image>what?", "response": "red", "images": "a.png"},
        {"instruction": "<image>what?", "input": "", "output": "red", "images": ["a.png"]},
        {
            "query": "<image>what?",
            "response": "red",
            "images": ["a.png"],
            "videos": "",
            "audios": None,
        },
        # without a tag, media stand in front of the first question
        {"query": "what?", "response": "red", "images": ["a.png"]},
    ],
)
def test_dialects_give_the_same_record(row: dict[str, Any], write_rows: Write) -> None:
    (record,) = open_rows(write_rows([row]), "mine")
    assert outline(record.messages) == QUESTION
    assert record.messages[0].parts[0].path == write_rows([row]).parent / "a.png"  # type: ignore[union-attr]
    assert (record.dataset, record.where, record.id) == (
        "mine",
        "rows.jsonl line 1",
        "rows.jsonl:1",
    )


def test_turns_systems_history_and_facts_of_a_row(write_rows: Write) -> None:
    path = write_rows(
        [
            {
                "id": 7,
                "system": "be brief",
                "history": [["one?", "1"]],
                "query": "two?",
                "response": "2",
                "weight": 2,
                "lang": "en",
                "task": "text",
                "annotations": {"level": 3},
            }
        ]
    )
    (record,) = open_rows(path)
    assert record.messages[0] == system("be brief")
    assert [m.role for m in record.messages[1:]] == ["user", "assistant"] * 2
    assert (record.id, record.weight, record.lang, record.task) == ("7", 2.0, "en", "text")
    assert record.annotations == {"level": 3}
    assert record.dataset == "rows"


def test_media_of_every_kind_stand_where_their_tags_are(write_rows: Write, said: Said) -> None:
    row = said(
        "see <image> and <video>, hear <audio>!",
        images=["a.png"],
        videos=[["clip/0.png", "clip/1.png"]],
        audios=["s.wav"],
    )
    (record,) = open_rows(write_rows([row]))
    parts = record.messages[0].parts
    assert [type(p) for p in parts] == [Text, Image, Text, Video, Text, Audio, Text]
    assert parts[1].path is not None  # type: ignore[union-attr]
    assert [Path(p).name for p in parts[3].source] == ["0.png", "1.png"]  # type: ignore[union-attr]


def test_how_a_medium_is_read_can_be_said(write_rows: Write, said: Said) -> None:
    heard = {"type": "audio", "audio": "s.wav", "purpose": "transcribe"}
    (record,) = open_rows(write_rows([said([heard])]))
    (part,) = record.messages[0].parts
    assert isinstance(part, Audio)
    assert part.purpose == "transcribe"


@pytest.mark.parametrize(
    ("row", "thinks", "answer"),
    [
        ({"think": True}, True, "red"),
        ({"think": "it is warm"}, True, "<think>\nit is warm\n</think>\n\nred"),
        ({}, False, "red"),
        ({"think": None}, False, "red"),
    ],
)
def test_reasoning_of_a_row(
    row: dict[str, Any], thinks: bool, answer: str, write_rows: Write, said: Said
) -> None:
    (record,) = open_rows(write_rows([said("what?", **row)]))
    assert record.think is thinks
    assert record.messages[-1].text == answer


def test_reasoning_in_an_answer_or_a_message(write_rows: Write, said: Said) -> None:
    thought = {"role": "assistant", "content": "red", "reasoning_content": "warm"}
    rows = [
        said("what?", "<think>\nwarm\n</think>\n\nred"),
        {"messages": [{"role": "user", "content": "what?"}, thought]},
    ]
    records = open_rows(write_rows(rows))
    assert records[0].think
    assert records[1].think
    assert records[0].messages[-1].text == records[1].messages[-1].text


def test_tags_in_parts_are_plain_text(write_rows: Write, said: Said) -> None:
    row = said([{"type": "text", "text": "what does <image> mean?"}])
    (record,) = open_rows(write_rows([row]))
    assert record.messages[0].text == "what does <image> mean?"


USER, ANSWER = {"role": "user", "content": "what?"}, {"role": "assistant", "content": "red"}


@pytest.mark.parametrize(
    ("row", "fault", "reason"),
    [
        ('{"messages": [', "broken row", "the row is no JSON"),
        ("[1, 2]", "broken row", "the row is [1, 2]; it must be an object"),
        (b'{"id": "\xff"}', "broken row", "the row is no UTF-8 text"),
        ("[" * 100_000, "broken row", "without end"),
        ({}, "wrong type", "needs 'messages' or 'conversations', and has nothing"),
        ({"text": "hello"}, "wrong type", "and has 'text'"),
        ({"messages": "hello"}, "wrong type", "'messages' is a text that is no JSON"),
        ({"messages": {"role": "user"}}, "wrong type", "it must be a list of messages"),
        ({"messages": ["hello"]}, "wrong type", "message 1 is 'hello'; it must be an object"),
        ({"messages": [{"content": "a"}]}, "wrong type", "message 1 has no 'role'"),
        ({"messages": [{"role": 3, "content": "a"}]}, "wrong type", "message 1 has the role 3"),
        ({"messages": [USER, {"role": "tool", "content": "a"}]}, "wrong type", "calls of tools"),
        ({"messages": [{"role": "user"}, ANSWER]}, "wrong type", "has the content None"),
        ({"messages": [{"role": "user", "content": 5}, ANSWER]}, "wrong type", "the content 5"),
        ({"messages": [{"role": "user", "content": [5]}, ANSWER]}, "wrong type", "holds 5"),
        (
            {"messages": [{"role": "user", "content": [{"type": "pdf"}]}, ANSWER]},
            "wrong type",
            "a part of the type 'pdf'",
        ),
        ({"messages": [USER, ANSWER], "images": 3}, "wrong type", "'images' is 3"),
        ({"messages": [USER, ANSWER], "images": [3]}, "wrong type", "the image is 3"),
        ({"messages": [USER, ANSWER], "id": []}, "wrong type", "'id' is []"),
        ({"messages": [USER, ANSWER], "weight": "2"}, "wrong type", "'weight' is '2'"),
        ({"messages": [USER, ANSWER], "weight": -1}, "wrong type", "a number above 0"),
        ({"messages": [USER, ANSWER], "think": 1}, "wrong type", "'think' is 1"),
        ({"messages": [USER, ANSWER], "lang": 1}, "wrong type", "'lang' is 1"),
        ({"messages": [USER, ANSWER], "annotations": []}, "wrong type", "'annotations' is []"),
        ({"messages": [USER, ANSWER], "tools": "[]"}, "wrong type", "'tools' cannot be trained"),
        ({"query": "a", "response": "b", "history": [["a"]]}, "wrong type", "pairs of two texts"),
        ({"messages": [USER, ANSWER], "images": ["no.png"]}, "missing media", "no image file"),
        ({"messages": [USER, ANSWER], "audios": ["\x00"]}, "missing media", "no audio file"),
        ({"messages": [USER, ANSWER], "images": ["clip"]}, "missing media", "is no image file"),
        (
            {"messages": [USER, ANSWER], "images": ["https://a.b/c.png"]},
            "unreadable media",
            "is a web address",
        ),
        (
            {"messages": [USER, ANSWER], "videos": ["s3://bucket/c.mp4"]},
            "unreadable media",
            "is a web address",
        ),
        (
            {"messages": [USER, ANSWER], "images": ["data:image/png;base64,§"]},
            "unreadable media",
            "no valid base64",
        ),
        (
            {
                "messages": [{"role": "user", "content": "<image><image>?"}, ANSWER],
                "images": ["a.png"],
            },
            "placeholders",
            "hold 2 placeholders <image>, and the row lists 1",
        ),
        (
            {
                "messages": [{"role": "user", "content": "<image>?"}, ANSWER],
                "images": ["a.png", "b.png"],
            },
            "placeholders",
            "hold 1 placeholders <image>, and the row lists 2",
        ),
        (
            {"messages": [{"role": "user", "content": "<audio>?"}, ANSWER]},
            "placeholders",
            "hold 1 placeholders <audio>, and the row lists 0",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}, ANSWER]},
            "placeholders",
            "hold 1 placeholders <video>",
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": "<image>"}], "images": ["a.png"]},
            "placeholders",
            "answers are text only",
        ),
        ({"messages": [USER, ANSWER, ANSWER]}, "turns", "two answers in a row"),
        ({"messages": [USER, USER, ANSWER]}, "turns", "two questions in a row"),
        ({"messages": [ANSWER, USER, ANSWER]}, "turns", "begins with an answer"),
        (
            {"messages": [USER, ANSWER, {"role": "system", "content": "x"}]},
            "turns",
            "a system message can only be the first",
        ),
        ({"messages": []}, "no answer", "has no answer"),
        ({"messages": [USER]}, "no answer", "has no answer"),
        ({"messages": [USER, ANSWER, USER]}, "no answer", "ends with a question"),
        (
            {"messages": [USER, {"role": "assistant", "content": " \n"}]},
            "empty text",
            "an empty answer",
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": []}]},
            "empty text",
            "an empty answer",
        ),
        (
            {"messages": [{"role": "user", "content": ""}, ANSWER]},
            "empty text",
            "an empty question",
        ),
    ],
)
def test_bad_row_is_one_sentence_and_the_others_can_be_read(
    row: Any, fault: str, reason: str, write_rows: Write, said: Said
) -> None:
    rows = open_rows(write_rows([said("first?"), "", row, said("last?")]))
    assert len(rows) == 3
    with pytest.raises(BadRow) as caught:
        rows[1]
    assert caught.value.fault == fault
    assert reason in caught.value.reason
    assert str(caught.value).startswith("rows.jsonl line 3: ")
    assert "\n" not in str(caught.value)
    assert [rows[0].messages[0].text, rows[2].messages[0].text] == ["first?", "last?"]


def test_errors_of_rows_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(BadRow("turns", "a line 1", "wrong")))
    assert (error.fault, error.where, str(error)) == ("turns", "a line 1", "a line 1: wrong")


def test_json_list_is_read_like_lines(media: Path, said: Said) -> None:
    path = media / "rows.json"
    path.write_text("\ufeff " + json.dumps([said("one?"), 5, said("two?")]), "utf-8")
    rows = open_rows(path)
    assert [rows[0].messages[0].text, rows[2].messages[0].text] == ["one?", "two?"]
    assert rows.where(2) == "rows.json row 3"
    with pytest.raises(BadRow, match=r"rows\.json row 2: the row is 5"):
        rows[1]


def test_lines_may_end_and_begin_in_any_way(media: Path, said: Said) -> None:
    line = json.dumps(said("one?")).encode()
    (media / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n" + line)
    rows = open_rows(media / "rows.jsonl")
    assert [record.where for record in rows] == ["rows.jsonl line 1", "rows.jsonl line 4"]


def test_very_long_line_is_refused_without_reading_it(
    write_rows: Write, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LONGEST_ROW", 500)
    rows = open_rows(write_rows([said("x" * 600), said("one?")]))
    with pytest.raises(BadRow, match="a row has at most 500"):
        rows[0]
    assert rows[1].messages[-1] == assistant("red")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rows.jsonl", b"", "has no rows"),
        ("rows.jsonl", b"\n \n", "has no rows"),
        ("rows.json", b"[]", "has no rows"),
        ("rows.json", b"[{", "is no JSON"),
        ("rows.json", b'["\xff"]', "is no UTF-8 text"),
        ("rows.jsonl", "{}".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("rows.jsonl.gz", b"\x1f\x8b", "is packed; unpack it first"),
        ("rows.csv", b"a,b", "its name must end in .jsonl"),
        ("rows.tar", b"", "has no rows|breaks off"),
        ("rows.tar", b"no tar at all" * 100, "breaks off"),
    ],
)
def test_file_without_rows_is_one_sentence(
    name: str, content: bytes, reason: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadConfig, match=reason):
        open_rows(tmp_path / name)


def test_places_that_hold_no_rows(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="there is no file"):
        open_rows(tmp_path / "nowhere.jsonl")
    with pytest.raises(BadConfig, match="no file is named like"):
        open_rows(tmp_path / "rows-*.jsonl")
    with pytest.raises(BadConfig, match="has no file of rows"):
        open_rows(tmp_path)
    with pytest.raises(BadConfig, match="there is no file"):
        open_rows("\x00")
    (tmp_path / "rows.jsonl").write_text("{}")
    with pytest.raises(BadConfig, match=r"no folder .* with media"):
        open_rows(tmp_path / "rows.jsonl", media=tmp_path / "nowhere")


def test_folder_is_one_set_of_rows_or_refused(write_rows: Write, said: Said) -> None:
    folder = write_rows([said("one?")], "train-000.jsonl").parent
    write_rows([said("two?")], "train-001.jsonl")
    rows = open_rows(folder)
    assert [record.messages[0].text for record in rows] == ["one?", "two?"]
    assert rows[1].where == "train-001.jsonl line 1"
    write_rows([said("three?")], "test.jsonl")
    with pytest.raises(BadConfig, match="holds several sets of rows"):
        open_rows(folder)
    assert len(open_rows(folder / "train-*.jsonl")) == 2


def test_media_may_lie_in_another_folder(media: Path, tmp_path: Path, said: Said) -> None:
    path = tmp_path / "elsewhere.jsonl"
    path.write_text(json.dumps(said("<image>?", images=["a.png"])))
    assert open_rows(path, media=media)[0].messages[0].parts[0].path == media / "a.png"  # type: ignore[union-attr]
    with pytest.raises(BadRow, match="no image file"):
        open_rows(path)[0]


def test_fingerprint_changes_with_the_file(write_rows: Write, said: Said) -> None:
    before = open_rows(write_rows([said("one?")])).fingerprint()
    assert open_rows(write_rows([said("one, two?")])).fingerprint() != before


# Tables


def table(path: Path, rows: list[dict[str, Any]], **how: Any) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(rows), path, **how)
    return path


def test_table_with_media_inside(tmp_path: Path, bytes_of: dict[str, bytes], said: Said) -> None:
    picture = {"bytes": bytes_of["png"], "path": "a.png"}
    rows = [said(f"<image>{n}?", str(n), images=[picture]) for n in range(5)]
    found = open_rows(table(tmp_path / "rows.parquet", rows, row_group_size=2))
    assert [record.messages[-1].text for record in found] == list("01234")
    (part, _) = found[4].messages[0].parts
    assert isinstance(part, Image)
    assert part.source.read() == bytes_of["png"]
    assert found[4].where == "rows.parquet row 5"
    again = pickle.loads(pickle.dumps(found))
    assert again[3].messages[-1].text == "3"


def test_table_that_is_damaged_or_not_one(tmp_path: Path, said: Said) -> None:
    path = table(tmp_path / "rows.parquet", [said(f"{n} " * 50) for n in range(400)])
    whole = path.read_bytes()
    for content in (b"", b"PAR1 no table PAR1", whole[:-40], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(BadConfig, match="is no whole parquet file"):
            open_rows(path)
    path.write_bytes(whole[:4] + bytes(2000) + whole[2004:])
    rows = open_rows(path)
    with pytest.raises(BadRow) as caught:
        list(rows)
    assert caught.value.fault in ("broken file", "broken row", "wrong type")


def test_table_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingPlugin, match=r"pip install 'ming-recipes\[parquet\]'"):
        open_rows(tmp_path / "rows.parquet")


# Shards


def shard(path: Path, members: list[tuple[str, bytes] | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def row_bytes(row: dict[str, Any]) -> bytes:
    return json.dumps(row).encode()


def test_shard_gives_media_of_the_same_sample(
    tmp_path: Path, bytes_of: dict[str, bytes], said: Said
) -> None:
    path = shard(
        tmp_path / "rows-000.tar",
        [
            ("x/01.json", row_bytes(said("<image>one?", images=["01.png"]))),
            ("x/01.png", bytes_of["png"]),
            ("x/02.json", row_bytes(said("<image>two?"))),
            ("x/02.png", bytes_of["png"]),
            ("x/03.png", bytes_of["png"]),
            ("x/03.front.wav", bytes_of["wav"]),
            ("x/03.json", row_bytes(said([{"type": "audio", "media": "front"}]))),
        ],
    )
    rows = open_rows(path)
    assert len(rows) == 3
    first, second, third = rows
    assert outline(first.messages)[0] == ("user", ["<image>", "one?"])
    assert outline(second.messages)[0] == ("user", ["<image>", "two?"])
    assert outline(third.messages)[0] == ("user", ["<audio>"])
    source = third.messages[0].parts[0].source  # type: ignore[union-attr]
    assert isinstance(source, MediaFile)
    assert source.read() == bytes_of["wav"]
    assert (first.id, first.where) == ("x/01", "rows-000.tar sample x/01")


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([link("1.png", "/etc/passwd")], "is a link or a device"),
        ([link("1.png", "../secret.png", tarfile.LNKTYPE)], "is a link or a device"),
        ([link("1.png", "", tarfile.CHRTYPE)], "is a link or a device"),
        ([link("1.png", "", tarfile.FIFOTYPE)], "is a link or a device"),
        ([("1.txt", b"text")], "the sample has no image '1.png'"),
    ],
)
def test_shard_with_links_is_not_followed(
    members: list[Any], reason: str, tmp_path: Path, said: Said
) -> None:
    own = ("1.json", row_bytes(said("<image>?", images=["1.png"])))
    last = ("2.json", row_bytes(said("two?")))
    rows = open_rows(shard(tmp_path / "rows.tar", [own, *members, last]))
    with pytest.raises(BadRow, match=reason):
        rows[0]
    assert rows[1].messages[0].text == "two?"


@pytest.mark.parametrize("name", ["../1", "/tmp/1", "a/../../1"])
def test_shard_whose_names_lead_out_is_refused(name: str, tmp_path: Path, said: Said) -> None:
    rows = open_rows(shard(tmp_path / "rows.tar", [(f"{name}.json", row_bytes(said("one?")))]))
    with pytest.raises(BadRow, match="leads out of the shard"):
        rows[0]


@pytest.mark.parametrize("name", ["/etc/passwd", "../../a.png", "file:///etc/passwd", "a.png"])
def test_row_of_a_shard_reads_nothing_beside_it(name: str, media: Path, said: Said) -> None:
    members: list[Any] = [("1.json", row_bytes(said("<image>?", images=[name])))]
    rows = open_rows(shard(media / "rows.tar", members))
    with pytest.raises(BadRow, match="a shard holds all of its media"):
        rows[0]


def test_members_are_bounded(
    tmp_path: Path, said: Said, bytes_of: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [("1.json", row_bytes(said("<image>?"))), ("1.png", bytes_of["png"])]
    rows = open_rows(shard(tmp_path / "rows.tar", [*members]))
    monkeypatch.setattr(files, "LARGEST_MEMBER", 10)
    with pytest.raises(BadRow, match="a member has at most 10"):
        rows[0]


def test_sample_without_a_row(tmp_path: Path, bytes_of: dict[str, bytes]) -> None:
    rows = open_rows(shard(tmp_path / "rows.tar", [("1.png", bytes_of["png"])]))
    with pytest.raises(BadRow, match=r"the sample has no 1\.json"):
        rows[0]


@pytest.mark.parametrize("damage", ["cut in a medium", "cut between", "no end", "noise", "size"])
def test_broken_shard_is_refused_and_its_whole_samples_can_be_had(
    damage: str, tmp_path: Path, said: Said, bytes_of: dict[str, bytes]
) -> None:
    members: list[Any] = []
    for number in range(4):
        members.append((f"{number}.json", row_bytes(said(f"{number}?"))))
        members.append((f"{number}.wav", bytes_of["wav"]))
    path = shard(tmp_path / "rows.tar", members)
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-2]
    whole = path.read_bytes()
    header = last.offset
    content = {
        "cut in a medium": whole[: header + 1024 + 600],
        "cut between": whole[:header],
        "no end": whole[:header],
        "noise": whole[:header] + b"\x07" * 2048,
        "size": whole[:header]
        + whole[header : header + 124]
        + b"77777777777"
        + whole[header + 135 :],
    }[damage]
    path.write_bytes(content)
    with pytest.raises(BadConfig, match=r"rows\.tar: the shard breaks off after \d samples"):
        open_rows(path)
    told: list[BadRow] = []
    rows = open_rows(path, report=told.append)
    assert [error.fault for error in told] == ["broken file"]
    assert 2 <= len(rows) <= 3
    assert [record.messages[0].text for record in rows] == ["0?", "1?", "2?"][: len(rows)]


def test_broken_file_among_others_is_told(write_rows: Write, said: Said) -> None:
    folder = write_rows([said("one?")], "rows-0.jsonl").parent
    (folder / "rows-1.json").write_text("[{")
    told: list[BadRow] = []
    rows = open_rows(folder / "rows-*", report=told.append)
    assert len(rows) == 1
    assert told[0].where == "rows-1.json"
    with pytest.raises(BadConfig, match="is no JSON"):
        open_rows(folder / "rows-*")


def test_equal_media_have_one_identity(media: Path) -> None:
    picture = str(media / "a.png")
    assert identity(Image(picture)) == identity(Image(picture))
    assert identity(Image(picture)) != identity(Image(str(media / "b.png")))
    assert identity(Audio("s.wav")) != identity(Audio("s.wav", purpose="transcribe"))
    assert identity(Image(b"1")) == identity(Image(MediaFile("image", None, b"1")))
    assert identity(Video(["a", "b"])) != identity(Video(["b", "a"]))


@pytest.mark.parametrize("name", ["rows.tar", "rows.jsonl", "rows.json", "rows.parquet"])
def test_damaged_files_are_sentences_or_rows(
    name: str, tmp_path: Path, said: Said, bytes_of: dict[str, bytes]
) -> None:
    """Whatever bytes are wrong, there is no other error than a sentence."""
    path = tmp_path / name
    rows = [said(f"<image>{n}?", images=["1.png"]) for n in range(4)]
    if name == "rows.tar":
        members = [(f"{n}.json", row_bytes(row)) for n, row in enumerate(rows)]
        shard(path, [*members, ("3.png", bytes_of["png"]), ("x" * 150 + ".txt", b"long")])
    elif name == "rows.parquet":
        table(path, rows, row_group_size=2)
    else:
        whole = name == "rows.json"
        path.write_text(json.dumps(rows) if whole else "\n".join(map(json.dumps, rows)))
    content, rng = path.read_bytes(), random.Random(0)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 3, 20))):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice((len(damaged), rng.randrange(1, len(damaged))))])
        with suppress(MingError):
            found = open_rows(path, report=lambda error: None)
            for number in range(len(found)):
                with suppress(BadRow):
                    found[number]
