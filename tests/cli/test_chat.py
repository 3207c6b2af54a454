from __future__ import annotations

from pathlib import Path

from ming_core.cli import stdin
from ming_core.errors import BadMedia
from ming_core.media import Audio, Image


def test_piped_conversation_remembers_turns(run, fake) -> None:
    result = run("chat", stdin="hello\n\nand now?\n")
    assert (result.code, result.out, result.err) == (0, "answer 1!\nanswer 2!\n", "")
    assert [(m.role, m.text) for m in fake.heard[1]] == [
        ("user", "hello"),
        ("assistant", "answer 1!"),
        ("user", "and now?"),
    ]


def test_image_goes_with_the_next_question_only(run, fake, tmp_path: Path) -> None:
    picture = tmp_path / "my picture.png"
    picture.touch()
    run("chat", stdin=f'/image "{picture}"\nwhat?\nand?\n')
    first, second = fake.heard
    assert isinstance(first[0].parts[0], Image)
    assert first[0].parts[0].path == picture
    assert len(second[2].parts) == 1


def test_reset_keeps_the_instructions(run, fake) -> None:
    run("chat", "--instructions", "be brief", stdin="one\n/reset\ntwo\n")
    assert [m.text for m in fake.heard[1]] == ["be brief", "two"]


def test_quit_ends_it(run, fake) -> None:
    assert run("chat", stdin="/quit\nhello\n").code == 0
    assert fake.heard == []


def test_misspelt_command_piped_in(run, fake) -> None:
    result = run("chat", stdin="/rest\nhello\n")
    assert (result.code, result.out) == (2, "answer 1!\n")
    assert result.err == "ming: unknown chat command '/rest'; did you mean '/reset'?\n"


def test_an_error_does_not_end_an_interactive_chat(run, fake, monkeypatch) -> None:
    lines = iter(["/image nowhere.png", "hello"])

    def read(prompt: str) -> str:
        assert prompt == "> "
        line = next(lines, None)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", read)
    result = run("chat", "--quiet", tty=True)
    assert result.code == 0
    assert result.err.startswith("ming: cannot read 'nowhere.png': there is no such file")
    assert result.out == "answer 1!\n"


def test_an_error_does_not_end_a_piped_chat(run, fake) -> None:
    fake.error = BadMedia("cannot read it; convert it")
    result = run("chat", stdin="hello\nagain\n")
    assert (result.code, result.err) == (2, "ming: cannot read it; convert it\n" * 2)
    assert [len(turn) for turn in fake.heard] == [1, 1]  # a failed turn is not remembered


def test_reasoning_stays_out_of_the_history(run, fake, monkeypatch) -> None:
    heard = []

    def chat(messages, stream: bool, think: bool):
        heard.append([message.text for message in messages])
        assert (stream, think) == (True, True)
        return iter(["<think>why", "</think>\n\n", "so"])

    monkeypatch.setattr(fake, "chat", chat)
    result = run("chat", "--think", stdin="one\ntwo\n")
    assert (result.out, result.err) == ("so\nso\n", "why\nwhy\n")
    assert heard == [["one"], ["one", "so", "two"]]


def test_a_recording_asks_about_what_is_shown(run, fake, tmp_path: Path) -> None:
    picture, spoken = tmp_path / "a.png", tmp_path / "my question.wav"
    picture.touch()
    spoken.touch()
    assert run("chat", stdin=f'/image {picture}\n/say "{spoken}"\nand now?\n').code == 0
    first, second = fake.heard
    assert [type(part) for part in first[0].parts] == [Image, Audio]
    assert first[0].parts[1].path == spoken
    assert second[2].text == "and now?"


def test_bad_lines_do_not_end_a_piped_chat(run, fake) -> None:
    lines = ["/image none.png", "hello", "/image", "/say  ", "/image -", "a\0b", "again"]
    result = run("chat", stdin="\n".join(lines))
    assert (result.code, result.out) == (2, "answer 1!\nanswer 2!\n")
    assert [line[:44] for line in result.err.splitlines()] == [
        "ming: cannot read 'none.png': there is no su",
        "ming: /image needs the path of a file behind",
        "ming: /say needs the path of a file behind i",
        "ming: /image needs the path of a file behind",
        "ming: standard input is no text, it holds nu",
    ]
    assert [message.text for message in fake.heard[1]] == ["hello", "answer 1!", "again"]


def test_a_line_that_is_too_long(run, fake) -> None:
    long = "x" * (stdin.MOST + 5)
    result = run("chat", stdin=f"one\n{long}\ntwo\n")
    assert (result.code, result.out) == (2, "answer 1!\nanswer 2!\n")
    assert "more than 4,194,304 characters" in result.err
    assert fake.heard[1][-1].text == "two"


def test_the_oldest_turns_leave_at_the_end_of_the_context(run, fake, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.touch()
    fake.config.max_position_embeddings = 80
    asked = [f"question {i}" for i in range(30)]
    stdin = "\n".join([f"/image {picture}", *asked, "word " * 90, "last one"])
    result = run("chat", "--instructions", "be brief", stdin=stdin)
    assert result.code == 0  # the model does not mind the long one; it is the test's
    assert result.err.count("\n") == 1
    assert result.err.startswith("ming: the conversation has outgrown the context of the model")
    for turn in fake.heard[:-2]:
        assert fake.room(turn) >= 20
        assert turn[0].text == "be brief"
        assert isinstance(turn[1].parts[0], Image)  # media leave last
        assert [message.role for message in turn[1:]] == (["user", "assistant"] * 30)[
            : len(turn) - 1
        ]
    assert [message.text for message in fake.heard[-3]][-2:] == ["answer 29!", "question 29"]


def test_a_path_in_the_home_folder(run, fake, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").touch()
    run("chat", stdin="/image ~/a.png\nwhat?\n")
    assert fake.heard[0][0].parts[0].path == tmp_path / "a.png"
