"""One loop for all commands that take several inputs, and one rule for where results go."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ming_core.engine.answers import Answer
from ming_core.engine.request import Request
from ming_core.errors import BadConfig, BadMedia
from ming_core.notes import note_to_user
from ming_vision import tasks


@pytest.fixture(autouse=True)
def model(fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fake model with eyes, in a folder with pictures, a torn one among them."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "photos/c.png", "photos/deep/d.png", "photos/.e.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(name)
    Path("torn.png").write_bytes(Path("a.png").read_bytes()[:40])
    fake.wording = lambda section: ()
    return fake


COMMANDS = pytest.mark.parametrize("command", ["describe", "read"])


@COMMANDS
def test_one_bad_item_is_told_and_the_others_are_done(run, model, command: str) -> None:
    reply = model.reply

    def looked_at(request: Request) -> Answer:
        if str(request.messages[0].parts[0]) == "torn.png":
            raise BadMedia("torn.png is damaged")
        return reply(request)

    model.reply = looked_at
    files = ["a.png", "torn.png", "none.png", "a.png"]
    told = run(command, *files, "--json")
    assert told.code == 2
    results = json.loads(told.out)["results"]
    assert [result["file"] for result in results] == files
    assert ["error" in result for result in results] == [False, True, True, False]
    assert results[3]["text"] == "three shapes"
    assert told.err.splitlines() == [
        f"ming: {results[1]['error']}",
        f"ming: {results[2]['error']}",
        "ming: 2 of 4 files could not be read",
    ]
    assert "torn.png is" in results[1]["error"]
    shown = run(command, *files)
    assert shown.out == "==> a.png <==\nthree shapes\n\n" * 2
    assert (shown.code, shown.err) == (2, told.err)


@COMMANDS
def test_a_bad_one_alone(run, model, command: str) -> None:
    result = run(command, "none.png", "--json")
    assert result.code == 2
    assert json.loads(result.out)["results"][0]["error"] in result.err
    assert result.err.count("\n") == 1
    assert model.loaded == []


def test_an_error_without_a_name_gets_one(run, model) -> None:
    model.error = BadConfig("too long")
    result = run("describe", "a.png", "b.png")
    assert result.err.startswith("ming: a.png: too long\nming: b.png: too long\n")
    model.error = OSError(5, "Input/output error")
    result = run("describe", "a.png", "b.png")
    assert (result.code, "ming: a.png: cannot read it: Input/output error\n" in result.err) == (
        2,
        True,
    )


def test_notes_go_with_their_result(run, model, monkeypatch) -> None:
    result_of = tasks.Describe.result

    def result(self: Any, *about: Any) -> Answer:
        note_to_user("1 of 3 pages was read")
        return result_of(self, *about)

    monkeypatch.setattr(tasks.Describe, "result", result)
    result = run("describe", "a.png", "--json")
    assert json.loads(result.out)["results"][0]["notes"] == ["1 of 3 pages was read"]
    assert result.err == "ming: a.png: 1 of 3 pages was read\n"


def test_an_interruption_before_the_first_result(run, model) -> None:
    model.error = KeyboardInterrupt()
    result = run("describe", "a.png", "b.png", "--json")
    assert (result.code, result.err) == (130, "")
    told = json.loads(result.out)
    assert (told["results"], told["interrupted"]) == ([], True)


def test_a_bug_keeps_what_is_done(run, model, capsys) -> None:
    reply = model.reply

    def second_fails(request: Request) -> Answer:
        if len(model.asked) == 1:
            raise ZeroDivisionError
        return reply(request)

    model.reply = second_fails
    with pytest.raises(ZeroDivisionError):
        run("describe", "a.png", "b.png", "-o", "out/")
    assert Path("out/a.txt").read_text() == "three shapes\n"


def test_folders(run, model) -> None:
    shown = run("read", "photos", "a.png")
    assert [line for line in shown.out.splitlines() if line.startswith("==>")] == [
        "==> photos/c.png <==",
        "==> photos/deep/d.png <==",
        "==> a.png <==",
    ]
    assert run("read", "photos", "-o", "out").code == 0
    assert sorted(str(p) for p in Path("out").rglob("*.txt")) == ["out/c.txt", "out/deep/d.txt"]


def test_a_folder_of_nothing_but_pictures_is_described_as_a_video(run, model) -> None:
    values = json.loads(run("describe", "photos", "--json").out)
    assert [result["file"] for result in values["results"]] == ["photos"]
    Path("photos/clip.mp4").touch()
    values = json.loads(run("describe", "photos", "--json").out)
    names = [result["file"] for result in values["results"]]
    assert names == ["photos/c.png", "photos/clip.mp4", "photos/deep/d.png"]


@COMMANDS
def test_a_folder_of_results_is_resumed(run, model, command: str) -> None:
    files = ["a.png", "b.png"]
    assert run(command, "a.png", "-o", "out/").code == 0
    model.pieces = ("new",)
    again = run(command, *files, "-o", "out", "--json")
    assert [result.get("skipped", False) for result in json.loads(again.out)["results"]] == [
        True,
        False,
    ]
    assert again.err == "ming: 1 of 2 results are there already; --again does them over\n"
    assert Path("out/a.txt").read_text() == "three shapes\n"
    loads = len(model.loaded)
    assert run(command, *files, "-o", "out", "-q").err == ""
    assert len(model.loaded) == loads
    assert run(command, *files, "-o", "out", "--again").code == 0
    assert Path("out/a.txt").read_text() == "new\n"
    assert "--again is about results in a folder" in run(command, "a.png", "--again").err


@COMMANDS
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["a.png", "-o", "x.docx"], "cannot write 'x.docx': .docx is no known format; end the"),
        (["a.png", "-o", "none/x.txt"], "cannot write 'none/x.txt': there is no folder 'none'"),
        (["a.png", "b.png", "-o", "x.txt"], "'x.txt' is one file, and there may be several texts"),
        (["a.png", "b.png", "-o", "a.png/x"], "cannot write 'a.png/x'"),
        (["link.txt", "-o", "link.txt"], "'link.txt' is the input itself; choose another name"),
        (["a.png", "photos/a.png", "-o", "out"], "would have one name, 'out/a.png.txt'; give"),
        (["-", "-"], "standard input can be read once only; give just one argument as -"),
    ],
    ids=str,
)
def test_targets_are_tried_before_the_work(
    run, model, command: str, arguments: list[str], sentence: str
) -> None:
    Path("photos/a.png").write_bytes(Path("a.png").read_bytes())
    Path("link.txt").symlink_to("a.png")
    result = run(command, *arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("ming: ")
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert model.loaded == []
    assert not Path("out").exists()


@COMMANDS
def test_a_dash_and_devices_as_targets(run, model, command: str) -> None:
    assert run(command, "a.png", "-o", "-").out == "three shapes\n"
    assert run(command, "a.png", "-o", os.devnull).code == 0
    os.mkfifo("pipe")
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(Path("pipe").read_bytes()))
    reader.start()
    assert run(command, "a.png", "-o", "pipe").code == 0
    reader.join(20)
    assert heard == [b"three shapes\n"]
    Path("real.txt").write_text("old")
    Path("to.txt").symlink_to("real.txt")
    assert run(command, "a.png", "-o", "to.txt").code == 0
    assert (Path("real.txt").read_text(), Path("to.txt").is_symlink()) == ("three shapes\n", True)


@COMMANDS
def test_what_cannot_be_saved_is_printed(run, model, command: str) -> None:
    reply = model.reply

    def folder_goes(request: Request) -> Answer:
        Path("out").rmdir()
        Path("out").touch()
        return reply(request)

    Path("out").mkdir()
    model.reply = folder_goes
    result = run(command, "a.png", "-o", "out/x.txt")
    assert (result.code, result.out) == (2, "three shapes\n")
    assert result.err.startswith("ming: cannot write 'out")
    assert result.err.count("\n") == 1
    Path("out").unlink()
    Path("out").mkdir()
    result = run(command, "a.png", "-o", "out/x.txt", "--json")
    (told,) = json.loads(result.out)["results"]
    assert (told["text"], told["error"] in result.err) == ("three shapes", True)


def test_a_marked_picture_that_cannot_be_saved(run, model) -> None:
    model.pieces = ("click(x=0.5,y=0.25)",)
    result = run(
        "click", "a.png", "the bar", "-o", "/dev/full" if Path("/dev/full").exists() else "/"
    )
    assert result.code == 2
    assert result.err.startswith("ming: cannot write")


@pytest.mark.parametrize(
    "arguments",
    [
        ["describe", "a.png", "--fps", "2"],
        ["describe", "a.png", "b.png", "--max-frames", "2"],
        ["ask", "what?", "a.png", "--sound"],
        ["ask", "what?", "--fps", "1"],
    ],
    ids=str,
)
def test_options_without_effect(run, model, arguments: list[str]) -> None:
    result = run(*arguments)
    assert (result.code, result.out, model.loaded) == (2, "", [])
    assert "is about videos, and there is none; leave it out\n" in result.err


@pytest.mark.parametrize("command", [["ask", "what?"], ["read", "a.png"], ["click", "a.png", "x"]])
def test_options_about_drawing_need_a_temperature(run, model, command: list[str]) -> None:
    for option in ("--seed=3", "--top-p=0.9", "--top-k=5"):
        result = run(*command, option)
        assert (result.code, result.out, model.loaded) == (2, "", [])
        name = option[2:].partition("=")[0].replace("-", "_")
        assert result.err.startswith(f"ming: {name} has no effect at temperature 0, which always")
        assert run(*command, option, "--temperature", "0").code == 2
    assert run(*command, "--temperature", "0.7", "--seed", "3", "--top-p", "0.9").code < 2


def test_other_options_without_effect(run, model) -> None:
    assert "--every is about --whenever" in run("watch", "a.png", "--ask", "x", "--every", "3").err


def test_unreadable_named_files_are_told_before_loading(run, model, monkeypatch) -> None:
    def refused(self: Any) -> Any:
        raise BadMedia("cannot read the image file 'a.png': Permission denied")

    monkeypatch.setattr("ming_core.media.files.MediaFile.open", refused)
    assert "Permission denied" in run("describe", "a.png").err
    assert model.loaded == []
