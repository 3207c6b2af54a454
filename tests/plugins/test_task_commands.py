"""A task of a plugin is a command without further code, and a plugin may add commands to a chat."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest
import typer

from ming_core.cli import build_app, build_program
from ming_core.cli import tasks as task_commands
from ming_core.cli.tasks import task_command
from ming_core.engine.answers import Answer
from ming_core.errors import BadConfig
from ming_core.plugins import Plugins
from ming_core.plugins.hooks import hookimpl
from ming_core.plugins.kinds import TaskEntry
from ming_core.testing import ScriptedEngine

TASKS = '''
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ming_core import Image, user
from ming_core.engine.request import Request
from ming_core.errors import BadConfig
from ming_core.tasks import Task

if TYPE_CHECKING:
    from nowhere import Unknown


class Style(Enum):
    plain = "plain"
    loud = "loud"


@dataclass(frozen=True)
class Told:
    call: tuple

    def __str__(self):
        return repr(self.call)

    def to_dict(self):
        return {"told": [repr(part) for part in self.call]}

    def save(self, path):
        Path(path).write_text(str(self))
        return path


def everything(
    model, image: Image, words: str, *others: str, times: int = 1, weight: float | None = None,
    style: Style = Style.plain, language: Literal["en", "zh"] = "en", polite: bool = False,
    folder: Path | None = None, names: Sequence[str] = (), odd: Unknown | None = None, **sampling
):
    """Tell all.

    And more.
    """
    given = times, weight, style, language, polite, folder, tuple(names), odd
    return Told((model.name, image.path, words, others, *given, sampling))


def untyped(model, source, mode="a"):
    return f"{source} {mode}"


def said(model, words):
    return words.upper()


def streamed(model, count: int):
    return (f"{number} " for number in range(count))


def impossible(model, table: dict[str, int]):
    """Never."""


@dataclass(frozen=True, eq=False)
class Count(Task):
    """Count pictures.

    Args:
        image: A picture.
    """

    image: Image
    _: KW_ONLY
    unit: Literal["px", "cm"] = "px"

    pieces = True

    def __post_init__(self):
        super().__post_init__()
        if str(self.image) == "-":
            raise BadConfig("no")

    def requests(self, model):
        for side in range(2):
            yield Request([user(self.image, f"{side} {self.unit}")])

    def result(self, model, answers):
        return " and ".join(map(str, answers))


def looks(model, argument, messages):
    return Image(argument) if argument else None


def fails(model, argument, messages):
    return [argument] if argument else 1 / 0


def counts(model, argument, messages):
    return f"{len(messages)} {argument}"
'''

PLUGIN = """
from ming_core import hookimpl


@hookimpl
def ming_register_tasks(register):
    for name in ("everything", "untyped", "streamed", "impossible"):
        register(name, f"acme_tasks:{name}", takes=("image",), summary=f"the task {name}")
    register("count", "acme_tasks:Count", takes=("image",), summary="count")
    register("said", "acme_tasks:said", takes=("text",))
    register("plain_words", "acme_tasks:said", takes=("text",))


@hookimpl
def ming_register_chat_commands(register):
    register("looks", "acme_tasks:looks", summary="look at a picture")
    register("fails", "acme_tasks:fails")
    register("counts", "acme_tasks:counts", summary="count what was said")
"""


class Model:
    name = "fake"
    config = SimpleNamespace(max_position_embeddings=64)

    def __init__(self) -> None:
        self.engine = ScriptedEngine(lambda request: Answer(request.messages[0].text, 1, True))


Ming = Callable[..., str]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugins:
    (tmp_path / "acme_tasks.py").write_text(TASKS)
    (tmp_path / "acme_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("acme_tasks", "acme_plugin"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import acme_plugin  # type: ignore[import-not-found]

    found = Plugins()
    found.add(acme_plugin, "acme", "acme")
    return found


@pytest.fixture
def ming(
    plugins: Plugins, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Ming:
    """Runs the command of a task in this process; gives what it printed."""
    monkeypatch.setattr(task_commands, "load_model", lambda *_: Model())

    def run(task: str, *arguments: str) -> str:
        task_command(plugins.tasks[task]).main(args=list(arguments), standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (4, 4)).save(path)
    return str(path)


def told(*given: str) -> str:
    return "(" + ", ".join(given) + ")\n"


def test_every_kind_of_parameter(ming: Ming, picture: str) -> None:
    path = repr(Path(picture))
    plain = "1, None, <Style.plain: 'plain'>, 'en', False, None, (), None, {}"
    assert ming("everything", picture, "red") == told("'fake'", path, "'red'", "()", plain)
    options = "--times 3 --weight .5 --style loud --language zh --polite --folder x"
    options += " --names a --names b --temperature 1 --seed 7 --max-new-tokens 9"
    assert ming("everything", picture, "red", "blue", "green", *options.split()) == told(
        *("'fake'", path, "'red'", "('blue', 'green')", "3, 0.5, <Style.loud: 'loud'>"),
        *("'zh', True, PosixPath('x'), ('a', 'b')", "None"),
        "{'max_new_tokens': 9, 'temperature': 1.0, 'seed': 7}",
    )


def test_json_and_saving(ming: Ming, picture: str, tmp_path: Path) -> None:
    result = json.loads(ming("everything", picture, "red", "--json", "--model", "other"))
    assert (result["task"], result["model"]) == ("everything", "other")
    assert result["told"][:2] == ["'fake'", repr(Path(picture))]
    out = tmp_path / "out.txt"
    assert ming("everything", picture, "red", "--out", str(out)) == ""
    assert out.read_text().startswith("('fake', ")
    said = json.loads(ming("said", "hello", "--json"))
    assert said == {"task": "said", "model": "nano", "result": "HELLO"}


def test_results_without_save_are_printed(
    ming: Ming, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.txt"
    with pytest.raises(BadConfig, match="what 'said' gives cannot be saved; leave out --out"):
        ming("said", "hello", "--out", str(out))
    assert capsys.readouterr().out == "HELLO\n"
    assert not out.exists()


def test_words_and_media_without_a_type(ming: Ming, picture: str) -> None:
    assert ming("said", "hello") == "HELLO\n"
    assert ming("untyped", picture, "--mode", "b") == f"{picture} b\n"
    assert ming("streamed", "3") == "0 1 2 \n"


def test_a_class_of_tasks(ming: Ming, picture: str) -> None:
    assert ming("count", picture) == "0 px and 1 px\n"
    options = "--unit cm --batch 1 --temperature 1 --top-p .5 --max-loop 0"
    assert ming("count", picture, *options.split()) == "0 cm and 1 cm\n"
    with pytest.raises(BadConfig, match="top_p has no effect at temperature 0"):
        ming("count", picture, "--top-p", "0.5")
    use = typer.BadParameter.__bases__[0]
    with pytest.raises(use, match="'m' is not one of"):
        ming("count", picture, "--unit", "m")


def test_wrong_use(ming: Ming, picture: str) -> None:
    use = typer.BadParameter.__bases__[0]
    with pytest.raises(use, match="words"):
        ming("everything", picture)
    with pytest.raises(use, match="'fr' is not one of"):
        ming("everything", picture, "red", "--language", "fr")
    with pytest.raises(BadConfig, match="'impossible' of acme has no command: its parameter 'ta"):
        ming("impossible", "x")


def test_the_program_has_them_and_registered_commands_win(plugins: Plugins) -> None:
    class Own:
        @hookimpl
        def ming_register_commands(self, app: typer.Typer) -> None:
            app.command("said")(lambda: print("mine"))

    plugins.add(Own(), "own", "own-package")
    program: Any = typer.main.get_command(build_app(plugins))
    assert plugins.commands["said"] == "own-package"
    assert plugins.commands["plain-words"] == plugins.commands["everything"] == "acme"
    assert program.commands["everything"].get_short_help_str(99) == "The task everything."
    assert "acme_tasks" not in sys.modules  # listing them imports nothing
    context = program.commands["everything"].make_context("everything", [], resilient_parsing=True)
    assert "Tell all." in program.commands["everything"].get_help(context)
    assert "acme_tasks" in sys.modules


@pytest.mark.parametrize("target", ["math:pi", "builtins:dict", "time:time", "os:getcwd"])
def test_what_is_no_function_of_a_model_has_no_command(target: str) -> None:
    with pytest.raises(
        BadConfig, match=r"must be a task or a function whose first parameter is the model"
    ):
        task_command(TaskEntry("odd", target, "acme"))


def test_a_command_that_cannot_be_built_is_left_out(plugins: Plugins) -> None:
    class Own:
        @hookimpl
        def ming_register_commands(self, app: typer.Typer) -> None:
            def odd(table: Nowhere) -> None: ...  # type: ignore  # noqa: F821

            app.command("odd")(odd)

    plugins.add(Own(), "own", "own-package")
    program = build_program(plugins)
    assert "odd" not in program.commands
    assert "said" in program.commands
    (failure,) = plugins.failures
    assert str(failure).startswith("plugin 'own' of own-package: the command 'odd': NameError: ")


@pytest.fixture
def installed(plugins: Plugins, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the program in another process, where the plugin is installed."""
    info = tmp_path / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ming]\nacme = acme_plugin\n")
    code = "import sys; from ming_core.cli import main; main(sys.argv[1:])"

    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "400"},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_in_the_installed_program(installed: Any, repository: Path) -> None:
    listed = installed("plugins")
    (row,) = [line for line in listed.stdout.splitlines() if line.startswith("acme ")]
    assert "commands: count, everything, impossible, plain-words, said, streamed, untyped" in row
    assert "chat_commands: counts, fails, looks" in row
    added = {
        p["name"]: p["adds"] for p in json.loads(installed("plugins", "--json").stdout)["plugins"]
    }
    assert added["vision"]["commands"] == ["click", "describe", "ground", "read", "watch"]
    assert "chat" in added["core"]["commands"]
    assert re.search(r"^  everything +The task everything\.$", installed("--help").stdout, re.M)
    done = installed("said", "hello", "--quiet")
    assert (done.stdout, done.returncode) == ("HELLO\n", 0), done.stderr

    scene = repository / "docs/images/scene.png"
    lines = [
        "/counts",
        f"/looks {scene}",
        "what color is the star?",
        "/fails",
        "/fails x",
        "/counts now",
        "/count",
    ]
    done = installed("chat", stdin="\n".join(lines))
    first, answer, count = done.stdout.splitlines()
    assert (first, count) == ("0 ", "2 now")
    assert answer == "pink"
    failed = "ming: the command /fails of a plugin failed: "
    assert f"{failed}ZeroDivisionError: division by zero\n{failed}TypeError: " in done.stderr
    assert "unknown chat command '/count'; did you mean '/counts'?" in done.stderr
