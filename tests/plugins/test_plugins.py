from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import pytest

from ming_core.api import OmniModel, load
from ming_core.errors import MissingPlugin, UnknownName
from ming_core.plugins import Failure, Plugins, get_plugins, load_plugins, mismatch, version_of
from ming_core.plugins.directory import missing, missing_encoder, missing_media, missing_task
from ming_core.plugins.hooks import hookimpl


class Encoders:
    """A plugin that adds one encoder."""

    def __init__(self, name: str, target: str = "math:pi") -> None:
        self.name, self.target = name, target

    @hookimpl
    def ming_register_encoders(self, register) -> None:
        register(
            self.name,
            self.target,
            modality="image",
            section="vision_config",
            summary="an encoder",
        )


class Dist:
    """A stand-in for an installed distribution."""

    def __init__(self, name: str, metadata: str = "") -> None:
        self.name, self.metadata = name, metadata

    def read_text(self, file: str) -> str | None:
        return self.metadata if file == "METADATA" else None


def entry(name: str, value: str, distribution: str, metadata: str = "") -> EntryPoint:
    point = EntryPoint(name, value, "ming")
    return point._for(Dist(distribution, metadata))  # type: ignore[attr-defined]


def test_a_registered_name_is_imported_on_first_use() -> None:
    plugins = Plugins()
    plugins.add(Encoders("acme"), "acme", "acme-vision")
    found = plugins.encoders["acme"]
    assert (found.target, found.plugin, found.summary) == ("math:pi", "acme-vision", "an encoder")
    assert (found.modality, found.section) == ("image", "vision_config")
    assert found.load() == pytest.approx(3.14159, abs=1e-5)


def test_two_owners_of_a_name_keep_the_first_and_name_both(caplog) -> None:
    plugins = Plugins()
    plugins.add(Encoders("whisper"), "audio", "ming-audio")
    plugins.add(Encoders("whisper", "math:tau"), "acme", "acme-asr")
    plugins.add(Encoders("other"), "third", "third")
    assert plugins.encoders["whisper"].target == "math:pi"
    assert plugins.encoders.names() == ["other", "whisper"]
    assert [str(failure) for failure in plugins.failures] == [
        "plugin 'acme' of acme-asr: encoder 'whisper' is registered by both ming-audio and "
        "acme-asr; using that of ming-audio, switch one off with MING_DISABLE_PLUGINS"
    ]
    assert caplog.messages == [str(plugins.failures[0])]


def test_a_misspelt_hook_leaves_the_plugin_out() -> None:
    class Misspelt(Encoders):
        @hookimpl
        def ming_register_encodres(self, register) -> None: ...

    plugins = Plugins()
    plugins.add(Misspelt("acme"), "acme", "acme-vision")
    assert len(plugins.encoders) == 0
    assert plugins.loaded == []
    expected = "unknown hook 'ming_register_encodres'; did you mean 'ming_register_encoders'?"
    assert plugins.failures == [Failure("acme", "acme-vision", expected)]
    plugins.add(Encoders("fine"), "fine", "fine")  # the next one is not blamed
    assert plugins.encoders.names() == ["fine"]


def test_a_wrong_argument_leaves_the_plugin_out() -> None:
    class Wrong:
        @hookimpl
        def ming_register_encoders(self, registrar) -> None: ...

    plugins = Plugins()
    plugins.add(Wrong(), "acme", "acme-vision")
    assert plugins.loaded == []
    assert "'registrar'" in plugins.failures[0].reason


def test_a_hook_that_raises_stops_neither_the_others_nor_its_plugin() -> None:
    class Half(Encoders):
        @hookimpl
        def ming_register_tasks(self, register) -> None:
            register("caption", "no colon")

    plugins = Plugins()
    plugins.add(Half("acme"), "acme", "acme-vision")
    plugins.add(Encoders("fine"), "fine", "fine")
    assert plugins.encoders.names() == ["acme", "fine"]
    assert [failure.reason for failure in plugins.failures] == [
        "task 'caption': target must be 'module:attribute', not 'no colon'"
    ]


def test_a_wrong_registration_does_not_reach_the_user() -> None:
    """A plugin that forgets `modality` left every question about a picture without an answer."""

    class Forgets:
        @hookimpl
        def ming_register_encoders(self, register) -> None:
            register("acme", "acme.encoder:Acme", section="vision_config")
            register("acme_2", "math:pi", modality="image", section="vision_config")

        @hookimpl
        def ming_register_recipes(self, register) -> None:
            register("depth", "acme.recipes:RECIPE")

    plugins = get_plugins()
    try:
        plugins.add(Forgets(), "acme", "acme-vision")
        assert load("nano").sources.encoder_entry("image").plugin == "ming-vision"
        assert plugins.encoders["acme_2"].plugin == "acme-vision"
        assert "depth" not in plugins.recipes
        assert [str(failure) for failure in plugins.failures] == [
            "plugin 'acme' of acme-vision: encoder 'acme': register it with modality=...",
            "plugin 'acme' of acme-vision: recipe 'depth': register it with settings=...",
        ]
    finally:
        get_plugins.cache_clear()


def test_each_calls_plugin_by_plugin() -> None:
    class Doctor:
        def __init__(self, answer: list[str] | None) -> None:
            self.answer = answer

        @hookimpl
        def ming_doctor(self) -> list[str]:
            if self.answer is None:
                raise RuntimeError("ill")
            return self.answer

    plugins = Plugins()
    plugins.add(Doctor(["a"]), "one", "one")
    plugins.add(Doctor(None), "two", "two")
    plugins.add(Doctor(["b", "c"]), "three", "three")
    answers = [(plugin.name, answer) for plugin, answer in plugins.each("ming_doctor")]
    assert answers == [("one", ["a"]), ("two", None), ("three", ["b", "c"])]
    assert plugins.failures == [Failure("two", "two", "ming_doctor raised RuntimeError: ill")]


def test_entry_points_load_in_name_order_with_the_core_first(caplog) -> None:
    points = [
        entry("zeta", "math", "acme-zeta"),
        entry("core", "ming_core.plugins.builtin", "ming-core"),
        entry("alpha", "math", "acme-alpha"),
        entry("beta", "no_such_module_acme", "acme-beta"),
        entry("gamma", "math", "acme-gamma"),
        entry("alpha", "math", "another"),
    ]
    plugins = load_plugins(points, blocked={"acme-gamma", "core", "zet"})
    assert [plugin.name for plugin in plugins.blocked] == ["gamma"]
    # `math` is one module: pluggy refuses to register an object twice
    assert [plugin.name for plugin in plugins.loaded] == ["core", "alpha"]
    reasons = {failure.distribution: failure.reason for failure in plugins.failures}
    assert reasons["acme-beta"] == (
        "cannot be imported: ModuleNotFoundError: No module named 'no_such_module_acme'"
    )
    assert reasons["another"] == (
        "acme-alpha has a plugin of this name already; rename one or switch one off with "
        "MING_DISABLE_PLUGINS=another"
    )
    assert "acme-zeta" in reasons
    assert any("'zet'; did you mean 'zeta'?" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("wanted", "core", "fits"),
    [
        (">=0.1.0,<0.2", "0.1.0", True),
        (">=0.1.0,<0.2", "0.1.9", True),
        ("<0.2,>=0.1.0", "0.2.0", False),
        (">=0.2", "0.1.5", False),
        (">=1,<2", "2.0.0rc1", False),
        ("==0.1", "0.1.0", True),
        ("(>=0.3)", "0.1.0", False),
        ("!=0.1.0", "0.1.0", True),  # left to the installer, as are ~= and wildcards
        ("", "0.1.0", True),
    ],
)
def test_a_plugin_made_for_another_core_is_recognised(wanted: str, core: str, fits: bool) -> None:
    dist = Dist("acme", f"Name: acme\nRequires-Dist: torch>=9\nRequires-Dist: ming-core{wanted}\n")
    found = mismatch(dist, core)  # type: ignore[arg-type]
    assert (found is None) is fits
    if found:
        assert found.endswith(f"but {core} is installed; update acme or ming-core")


def test_a_plugin_made_for_another_core_is_left_out(caplog) -> None:
    metadata = 'Requires-Dist: ming_core >=7,<8 ; python_version > "3"\n'
    plugins = load_plugins([entry("acme", "math", "acme-old", metadata)])
    assert plugins.loaded == []
    assert caplog.records[0].levelno == logging.WARNING
    assert "made for ming-core >=7,<8" in caplog.messages[0]
    assert "acme-old" in caplog.messages[0]


def test_names_nobody_registered_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown task 'aks'; did you mean 'ask'\\?"):
        get_plugins().tasks["aks"]


def test_hints_say_what_to_install(monkeypatch) -> None:
    plugins = Plugins()
    monkeypatch.setattr("ming_core.plugins.directory.get_plugins", lambda: plugins)
    assert str(missing_media("image")) == (
        "reading images needs ming-vision: pip install ming-vision"
    )
    assert str(missing_encoder("whisper")) == (
        "the encoder 'whisper' needs ming-audio: pip install ming-audio"
    )
    assert str(missing_task("draw")) == "task 'draw' needs ming-imagegen: pip install ming-imagegen"
    assert missing_task("juggle") is None
    assert "`ming plugins`" in str(missing_encoder("unheard_of"))


def test_hints_tell_installed_packages_that_do_not_work(monkeypatch) -> None:
    plugins = Plugins()
    monkeypatch.setattr("ming_core.plugins.directory.get_plugins", lambda: plugins)
    plugins.fail("vision", "ming-vision", "cannot be imported: no pillow")
    assert str(missing_media("image")) == (
        "reading images needs ming-vision, but plugin 'vision' of ming-vision: cannot be "
        "imported: no pillow"
    )
    load = load_plugins([entry("audio", "math", "ming-audio")], blocked=["audio"])
    monkeypatch.setattr("ming_core.plugins.directory.get_plugins", lambda: load)
    assert isinstance(missing("x", None), MissingPlugin)
    assert "which MING_DISABLE_PLUGINS switches off" in str(missing_media("audio"))


@pytest.mark.parametrize(
    ("task", "package"), [("draw", "imagegen"), ("edit", "imagegen"), ("say", "tts")]
)
def test_hints_tell_installed_packages_that_are_too_early(task: str, package: str) -> None:
    """They are installed here and register nothing yet."""
    version = version_of(f"ming-{package}")
    sentence = (
        f"needs a later version of ming-{package}: the installed one, {version}, does not have it "
        "yet"
    )
    assert str(missing_task(task)) == f"task {task!r} {sentence}"
    with pytest.raises(MissingPlugin, match=re.escape(sentence)):
        getattr(object.__new__(OmniModel), task)
    done = subprocess.run(
        [sys.executable, "-c", f"from ming_core.cli import main; main([{task!r}, 'a red star'])"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"ming: the command {task!r} {sentence}\n"


def test_the_core_registers_itself_through_its_own_hooks() -> None:
    import ming_core.plugins.builtin

    plugins = Plugins()
    plugins.add(ming_core.plugins.builtin, "core", "ming-core")
    assert plugins.failures == []
    assert plugins.releases.names() == ["flash", "lite-1.0", "lite-1.5", "nano"]
    assert plugins.releases["flash"].load().name == "flash"


def test_a_target_that_cannot_be_imported_names_its_package() -> None:
    plugins = Plugins()
    plugins.add(Encoders("acme", "no_such_module_acme:X"), "acme", "acme-vision")
    with pytest.raises(MissingPlugin, match="'acme' of acme-vision cannot be loaded from"):
        plugins.encoders["acme"].load()


def test_component_loaded_reaches_every_plugin() -> None:
    seen = []

    class Listener:
        @hookimpl
        def ming_component_loaded(self, model, name) -> None:
            seen.append((model.name, name))

    plugins = Plugins()
    plugins.add(Listener(), "a", "a")
    plugins.add(Listener(), "b", "b")
    arrived = {"model": SimpleNamespace(name="nano"), "name": "image", "module": None}
    list(plugins.each("ming_component_loaded", **arrived))
    assert seen == [("nano", "image")] * 2


class Panic(BaseException):
    """Like the exceptions of libraries in Rust: no Exception."""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("import sys; sys.exit('needs licence')", "SystemExit: needs licence"),
        ("raise SystemExit", "SystemExit"),
        ("raise GeneratorExit('odd')", "GeneratorExit: odd"),
        ("class Panic(BaseException): ...\nraise Panic('at\\nthe disco')", "Panic: at"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError: invalid syntax (acme_breaks.py, line 1)"),
    ],
)
def test_an_import_that_ends_the_program_leaves_only_its_plugin_out(
    line: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_breaks.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("acme_breaks", None)
    points = [entry("breaks", "acme_breaks", "acme-breaks"), entry("zeta", "math", "acme-zeta")]
    plugins = load_plugins(points)
    assert [plugin.name for plugin in plugins.loaded] == ["zeta"]
    assert plugins.failures == [Failure("breaks", "acme-breaks", f"cannot be imported: {reason}")]


@pytest.mark.parametrize("error", [SystemExit("no licence"), Panic("no licence")])
def test_a_hook_that_ends_the_program_is_left_out(error: BaseException) -> None:
    class Ends:
        @hookimpl
        def ming_register_encoders(self, register) -> None:
            raise error

        @hookimpl
        def ming_doctor(self) -> list[str]:
            raise error

    class Answers:
        @hookimpl
        def ming_doctor(self) -> list[str]:
            return ["acme"]

    plugins = Plugins()
    plugins.add(Answers(), "answers", "answers")
    plugins.add(Ends(), "ends", "ends")
    plugins.add(Encoders("fine"), "fine", "fine")
    assert plugins.encoders.names() == ["fine"]
    assert [answer for _, answer in plugins.each("ming_doctor")] == [["acme"], None]
    kind = type(error).__name__
    assert [failure.reason for failure in plugins.failures] == [
        f"ming_register_encoders raised {kind}: no licence",
        f"ming_doctor raised {kind}: no licence",
    ]


def test_an_interruption_is_no_failure_of_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        @hookimpl
        def ming_register_encoders(self, register) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Plugins().add(Interrupted(), "acme", "acme")
    (tmp_path / "acme_interrupted.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        load_plugins([entry("acme", "acme_interrupted", "acme")])


@pytest.mark.parametrize("line", ["raise SystemExit('no licence')", "1 / 0"])
def test_a_target_whose_import_ends_the_program_names_its_package(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_late.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("acme_late", None)
    plugins = Plugins()
    plugins.add(Encoders("acme", "acme_late:X"), "acme", "acme-vision")
    with pytest.raises(MissingPlugin, match=r"loaded from .* (SystemExit|ZeroDiv)"):
        plugins.encoders["acme"].load()


def test_the_program_goes_on_without_a_plugin_that_exits(tmp_path: Path) -> None:
    """As it is installed: a module and its dist-info."""
    info = tmp_path / "acme_exits-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-exits\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ming]\nexits = acme_exits\n")
    (tmp_path / "acme_exits.py").write_text("import sys\nsys.exit('needs licence')\n")
    done = subprocess.run(
        [sys.executable, "-c", "from ming_core.cli import main; main(['plugins'])"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    sentence = "plugin 'exits' of acme-exits: cannot be imported: SystemExit: needs licence"
    assert done.returncode == 0
    assert f"ming: {sentence}" in done.stderr.splitlines()
    assert f"left out: {sentence}" in done.stdout.splitlines()
    assert "Traceback" not in done.stderr
