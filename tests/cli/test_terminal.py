"""Text on its way in and out of a real process: closed streams, codes of terminals, encodings."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

FAKED = str(Path(__file__).with_name("faked.py"))
NASTY = "\x1b]0;title\x07 a\x1b[2J\rb\x9b31m\u202ec\u2028d"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a picture, and nothing of the caller's terminal."""
    for name in ("NO_COLOR", "COLUMNS", "PYTHONIOENCODING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    return tmp_path


def ming(
    *arguments: str | bytes,
    stdin: bytes = b"",
    shell: str = "",
    env: dict[str, str] | None = None,
    **environ: str,
) -> subprocess.CompletedProcess[bytes]:
    """shell: redirections, as `>&-`."""
    command: Sequence[str | bytes] = (sys.executable, FAKED, *arguments)
    if shell:
        command = ("bash", "-c", f'"$@" {shell}', "bash", *command)
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        env={**os.environ, **(env or {}), **environ},
        timeout=60,
    )


def on_a_terminal(
    *arguments: str, columns: int = 80, env: dict[str, str] | None = None, **environ: str
) -> tuple[int, bytes]:
    """Exit code, and all that a terminal got."""
    here, there = pty.openpty()
    process = subprocess.Popen(
        (sys.executable, FAKED, *arguments),
        stdin=there,
        stdout=there,
        stderr=there,
        env={**os.environ, "TERM": "xterm", "COLUMNS": str(columns), **(env or {}), **environ},
    )
    os.close(there)
    shown = b""
    while piece := _read(here):
        shown += piece
    os.close(here)
    return process.wait(60), shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # what Linux says at the end
        return b""


def tame(shown: bytes) -> bool:
    """Whether nothing moves a cursor, and no line but ours is there."""
    text = shown.decode()
    return not any(c in text for c in "\x1b\x07\r\x9b\u202e\u2028")


@pytest.mark.parametrize("shell", [">&-", "<&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams(shell: str) -> None:
    result = ming("ask", "hello", shell=shell)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout == (b"" if ">&- " in f" {shell} ".replace("2>", "") else b"hello\n")
    assert ming("ask", "-", shell="<&-").stderr.startswith(b"ming: the question is empty")
    assert ming("chat", shell="<&-").returncode == 0


@pytest.mark.parametrize(
    "command", [["models"], ["--help"], ["ask", "hello"], ["describe", "a.png"]]
)
def test_nobody_reads_on(command: list[str]) -> None:
    process = subprocess.Popen(
        (sys.executable, FAKED, *command), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert (process.wait(60), process.stderr.read()) == (141, b"")
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_stdout_is_full() -> None:
    for command in (["models"], ["--help"], ["ask", "hello"], ["describe", "a.png", "--json"]):
        result = ming(*command, shell=">/dev/full")
        assert result.returncode == 2
        assert b"No space left on device" in result.stderr
        assert result.stderr.count(b"\n") == 1


def test_answers_and_names_reach_the_terminal_harmless() -> None:
    Path(f"{NASTY}.png").write_bytes(Path("a.png").read_bytes())
    for command in (
        ["ask", "hello"],
        ["describe", "a.png", f"{NASTY}.png"],
        ["describe", "a.png", f"no{NASTY}.png"],
        ["ask", "hello", "-m", NASTY, f"no{NASTY}.png"],
        [f"--{NASTY}"],
        ["ask", f"--{NASTY}"],
        [NASTY],
        ["models", NASTY],
    ):
        result = ming(*command, ANSWER=f"first\n{NASTY}")
        assert tame(result.stdout + result.stderr), command
    streamed = on_a_terminal("ask", "hello", "-q", ANSWER=f"first\n{NASTY}", NO_COLOR="1")
    assert tame(streamed[1].replace(b"\r\n", b"\n"))
    assert b"first\r\n\\x1b]0;title\\x07 a\\x1b[2J\\rb\\x9b31m\\u202ec\\u2028d" in streamed[1]
    chatted = ming("chat", stdin=f"x\n{NASTY}\n/{NASTY}\n".encode(), ANSWER=NASTY)
    assert tame(chatted.stdout + chatted.stderr)


def test_json_keeps_the_true_text() -> None:
    result = ming("ask", "hello", "--json", ANSWER=NASTY)
    assert tame(result.stdout)
    assert json.loads(result.stdout)["text"] == NASTY


def test_notes_are_one_line() -> None:
    result = ming("models", MING_DISABLE_PLUGINS="x\x1b[2J")
    assert result.stderr.count(b"\n") == 1
    assert tame(result.stderr)


def test_other_locales() -> None:
    answer = "红色 ring"
    shown = ming("ask", "hello", ANSWER=answer, PYTHONIOENCODING="cp1252")
    assert (shown.returncode, shown.stdout) == (0, b"\\u7ea2\\u8272 ring\n")
    for about in ({"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}):
        told = ming("ask", "hello", "--json", env={"ANSWER": answer, **about})
        assert json.loads(told.stdout.decode("utf-8"))["text"] == answer


def test_arguments_and_names_that_are_no_utf8() -> None:
    assert ming("ask", b"caf\xe9").stdout.decode() == "caf\ufffd\n"
    name = b"caf\xe9.png"
    Path(os.fsdecode(name)).write_bytes(Path("a.png").read_bytes())
    told = ming("describe", name, "--json", PYTHONIOENCODING="utf-8:strict")
    assert (told.returncode, told.stderr) == (0, b"")
    assert json.loads(told.stdout)["results"][0]["file"] == "caf\ufffd.png"
    assert ming("describe", name, "a.png").stdout.decode().startswith("==> caf\ufffd.png <==\n")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_questions_in_other_encodings(encoding: str) -> None:
    question = "was zeigt café?\nsag es"
    assert ming("ask", "-", stdin=question.encode(encoding)).stdout.decode() == f"{question}\n"
    assert ming("chat", stdin=question.encode(encoding)).stdout.decode() == f"{question}\n"


def test_questions_that_are_no_text() -> None:
    latin = ming("ask", "-", stdin=b"caf\xe9?")
    assert latin.stdout.decode() == "caf\ufffd?\n"
    assert latin.stderr.decode() == (
        "ming: the text on standard input is no valid UTF-8; what could not be read became \ufffd\n"
    )
    picture = ming("ask", "-", stdin=Path("a.png").read_bytes())
    assert (picture.returncode, picture.stdout) == (2, b"")
    assert picture.stderr.startswith(b"ming: standard input is no text, it holds null bytes")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="a device of Unix")
def test_endless_input_is_refused() -> None:
    for command in ("ask -", "click a.png -"):
        for source in ("yes |", "</dev/zero"):
            line = f'{source} "$0" "$1" {command}'
            if source.startswith("<"):
                line = f'"$0" "$1" {command} {source}'
            result = subprocess.run(
                ("bash", "-c", line, sys.executable, FAKED), capture_output=True, timeout=60
            )
            assert result.returncode == 2
            assert b"more than 4,194,304 characters" in result.stderr
    result = ming("chat", shell="</dev/zero")
    assert result.returncode == 2
    assert b"ming: standard input has a line that does not end" in result.stderr


@pytest.mark.parametrize("environ", [{"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_no_codes_where_they_are_not_wanted(environ: dict[str, str]) -> None:
    think = "<think>why</think>so"
    for command in (["ask", "hello", "--think"], ["describe", "a.png", "a.png"]):
        assert b"\x1b" in on_a_terminal(*command, ANSWER=think)[1]
        code, shown = on_a_terminal(*command, env={"ANSWER": think, **environ})
        assert (code, b"\x1b" in shown) == (0, False)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_is_done_is_kept(number: signal.Signals, code: int) -> None:
    Path("slow.png").write_bytes(Path("a.png").read_bytes())
    process = subprocess.Popen(
        (sys.executable, FAKED, "describe", "a.png", "slow.png", "a.png", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stderr
    assert process.stderr.readline() == b"waiting\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, b"")
    told = json.loads(out)
    assert [result["file"] for result in told["results"]] == ["a.png"]
    assert told["interrupted"] is True


@pytest.mark.parametrize("columns", [40, 80])
def test_tables_fit_the_terminal(columns: int) -> None:
    code, shown = on_a_terminal("models", columns=columns)
    assert code == 0
    assert max(len(line) for line in shown.decode().splitlines()) <= columns


def test_completion_is_quick_and_complete() -> None:
    words = {"_MING_COMPLETE": "complete_bash", "COMP_WORDS": "ming des", "COMP_CWORD": "1"}
    code = "import sys\nfrom ming_core.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "assert not {'torch', 'numpy', 'rich'} & set(sys.modules)"
    result = subprocess.run(
        (sys.executable, "-c", code),
        env={**os.environ, **words},
        capture_output=True,
    )
    assert (result.returncode, result.stdout.split()) == (0, [b"describe"])
    help = ming("--help").stdout
    assert b"--install-completion" in help
    assert b"--show-completion" in help
