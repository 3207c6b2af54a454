"""`ming` itself: help, unknown commands, start-up cost, and the commands that need no model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from ming_core.cli import build_app, main, new_app
from ming_core.plugins import Plugins, get_plugins
from ming_core.plugins.hooks import hookimpl
from ming_core.presets import preset_folders

HEAVY = ("torch", "numpy", "transformers", "lightning", "omegaconf", "rich", "PIL")


def test_help_lists_the_commands_in_name_order(run) -> None:
    bare = run()
    assert bare == run("--help")
    assert bare.code == 0
    listed = [line.split()[0] for line in bare.out.partition("Commands:\n")[2].splitlines()]
    assert listed == sorted(listed)
    assert {"ask", "chat", "demo", "doctor", "models", "plugins"} <= set(listed)


def test_every_help_ends_with_an_example(run) -> None:
    for name in ("ask", "chat", "demo", "doctor", "models", "plugins"):
        assert "Example:" in run(name, "--help").out


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("aks", "ming: unknown command 'aks'; did you mean 'ask'? See `ming --help`.\n"),
        (
            "say",
            "ming: the command 'say' needs a later version of ming-tts: the installed one, 0.1.0, "
            "does not have it yet\n",
        ),
    ],
)
def test_unknown_command(run, typed: str, message: str) -> None:
    result = run(typed)
    assert (result.code, result.out, result.err) == (2, "", message)


def test_an_unknown_command_that_is_like_no_other_gets_two_sentences(run) -> None:
    error = run("xyzzy").err
    assert error.startswith("ming: unknown command 'xyzzy'; known: ask, chat, ")
    assert error.endswith(", watch. See `ming --help`.\n")


def test_unknown_option(run) -> None:
    result = run("models", "--bogus")
    assert result.code == 2
    assert "No such option: --bogus" in result.err


def test_version(run) -> None:
    assert run("--version").out == f"ming-core {version('ming-core')}\n"


def test_models(run) -> None:
    listed = run("models").out.splitlines()
    assert listed[0].split() == ["model", "weights", "parts", "summary"]
    found = {model["name"]: model for model in json.loads(run("models", "--json").out)["models"]}
    assert len(listed) == len(found) + 1
    assert found["ming-lite-omni-1.5"]["ready"] is False
    assert found["ming-lite-omni-1.5"]["parts"][0]["target"].startswith("hub:")
    assert "backbone" in {part["name"] for part in found["nano"]["parts"]}


def test_models_shows_what_a_model_consists_of(run, tmp_path: Path) -> None:
    (nano,) = json.loads(run("models", "nano", "--json").out)["models"]
    found = {part["name"]: part for part in nano["components"]}
    assert {name: part["reader"] for name, part in found.items()} == {
        "backbone": "ming-core",
        "image": "ming-vision",
        "audio": "ming-audio",
    }
    backbone = preset_folders("nano")["backbone"]
    assert found["backbone"]["folder"] == str(backbone)
    assert 0 < found["backbone"]["bytes"] < (backbone / "model.safetensors").stat().st_size

    folder = tmp_path / "model"
    shutil.copytree(backbone, folder)
    (folder / "talker").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "talker")
    out = run("models", str(folder)).out
    assert re.search(r"^backbone +11\.4 MB +ming-core +.*model$", out, re.MULTILINE)
    assert re.search(r"^talker +11\.4 MB +no installed package +.*talker$", out, re.MULTILINE)
    shutil.rmtree(folder / "talker")
    (folder / "model.safetensors").unlink()
    result = run("models", str(folder))
    assert (result.code, result.out) == (2, "")
    assert result.err == (f"ming: {folder} has a config.json and no weights; finish the download\n")
    result = run("models", str(tmp_path / "none"))
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "there is no folder" in result.err


def test_plugins_shows_what_came_from_where(run) -> None:
    found = json.loads(run("plugins", "--json").out)["plugins"]
    core = found[0]
    assert (core["name"], core["distribution"]) == ("core", "ming-core")
    assert core["version"] == version("ming-core")
    assert core["adds"]["tasks"] == ["ask", "chat"]
    assert "ming_register_commands" in core["hooks"]
    assert "core " in run("plugins").out


def test_doctor_fails_when_a_plugin_does(run, monkeypatch) -> None:
    plugins = get_plugins()
    monkeypatch.setattr(plugins, "failures", [])
    findings = json.loads(run("doctor", "--json").out)["findings"]
    assert {"python", "torch", "plugins", "versions"} <= {f["name"] for f in findings}
    plugins.fail("acme", "acme-asr", "cannot be imported: no acme")
    result = run("doctor")
    assert result.code == 1
    assert "FAIL" in result.out
    assert "plugin 'acme' of acme-asr: cannot be imported: no acme" in result.out


def test_doctor_goes_on_after_a_plugin_that_finds_odd_things(run, monkeypatch) -> None:
    class Odd:
        @hookimpl
        def ming_doctor(self) -> Any:
            return ["ok"]

    plugins = Plugins()
    plugins.add(Odd(), "odd", "odd-package")
    monkeypatch.setattr("ming_core.cli.doctor.get_plugins", lambda: plugins)
    result = run("doctor", "--json")
    assert json.loads(result.out) == {"ok": True, "findings": []}
    assert "plugin 'odd' of odd-package: ming_doctor gave list; it must give" in result.err


def test_demo_asks_the_shipped_questions(run, fake, monkeypatch, tmp_path: Path) -> None:
    questions = ["how many?", "有几个图形？"]
    (tmp_path / "demo.json").write_text(json.dumps({"questions": questions}), "utf-8")
    monkeypatch.setattr("ming_core.cli.demo.preset_folders", lambda name: {"backbone": tmp_path})
    shown = run("demo").out.splitlines()
    assert shown[0] == f"picture: {tmp_path / 'demo.png'}"
    assert shown[2].split() == ["question", "answer", "seconds"]
    assert [line.index("three") for line in (shown[3], shown[4])] == [14, 8]  # 12 cells each
    answers = json.loads(run("demo", "--json").out)["answers"]
    assert [a["question"] for a in answers] == questions
    assert {a["answer"] for a in answers} == {"three shapes"}
    assert {part.path for _, (part,), _ in fake.asked} == {tmp_path / "demo.png"}


def test_plugin_warnings_go_to_stderr(capsys, monkeypatch) -> None:
    monkeypatch.setenv("MING_DISABLE_PLUGINS", "viison")
    get_plugins.cache_clear()
    try:
        with pytest.raises(SystemExit):
            main(["models", "--json"])
    finally:
        get_plugins.cache_clear()
    captured = capsys.readouterr()
    json.loads(captured.out)
    assert (
        "ming: unknown plugin in MING_DISABLE_PLUGINS 'viison'; did you mean 'vision'?\n"
        in captured.err
    )


def test_a_command_has_one_owner() -> None:
    class First:
        @hookimpl
        def ming_register_commands(self, app):
            @app.command()
            def greet() -> None:
                """First."""

            app.add_typer(new_app("Group."), name="group")

    class Second(First):
        pass

    plugins = Plugins()
    plugins.add(First(), "first", "acme-first")
    plugins.add(Second(), "second", "acme-second")
    app = build_app(plugins)
    assert [info.name for info in app.registered_groups] == ["group"]
    assert len(app.registered_commands) == 1
    assert [failure.reason for failure in plugins.failures] == [
        f"the command '{name}' is registered by both acme-first and acme-second; using that of "
        "acme-first, switch one off with MING_DISABLE_PLUGINS"
        for name in ("greet", "group")
    ]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom ming_core.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        f"heavy = set({HEAVY}) & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    best = 9.0
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - start)
    assert best < 2.0  # 0.2 s of CPU; the limit leaves room for a busy machine
