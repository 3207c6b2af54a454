from __future__ import annotations

from pathlib import Path

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
    run("chat", "--system", "be brief", stdin="one\n/reset\ntwo\n")
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

    def chat(messages, stream: bool, think: bool, max_new_tokens: int, seed: int | None):
        heard.append([message.text for message in messages])
        assert (stream, think, max_new_tokens, seed) == (True, True, 8192, None)
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
