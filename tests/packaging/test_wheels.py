"""Wheels: their contents, and that core + vision alone work in an environment of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

SOURCES = {
    "ming_core": "packages/ming-core/src/ming_core",
    "ming_vision": "packages/ming-vision/src/ming_vision",
    "ming_audio": "packages/ming-audio/src/ming_audio",
    "ming_imagegen": "packages/ming-imagegen/src/ming_imagegen",
    "ming_tts": "packages/ming-tts/src/ming_tts",
    "ming_recipes": "recipes/ming_recipes",
}
MAX_WHEEL_BYTES = 20 * 2**20


def run(command: list[str | Path], folder: Path, environment: dict[str, str]) -> str:
    """stdout of a command that must succeed."""
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheels(
    repository: Path,
    user_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A wheel of every package, each built from its own source distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    build = ["uv", "build", "--all-packages", "--offline", "--quiet", "--out-dir", folder]
    run(build, repository, user_environment)
    return {path.name.split("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def small_install(
    wheels: dict[str, Path],
    user_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The `ming` script of an environment with core, vision and what they declare to need."""
    root = tmp_path_factory.mktemp("install")
    environment = root / "environment"
    run(["uv", "venv", "--quiet", "--python", sys.executable, environment], root, user_environment)
    python = environment / "bin/python"
    pair = [wheels["ming_core"], wheels["ming_vision"]]
    install = ["uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python]
    run([*install, *pair], root, user_environment)
    # The declared third-party packages are linked rather than installed: gigabytes, and a network.
    links = root / "links"
    links.mkdir()
    for place in third_party_files(["ming-core", "ming-vision"]):
        if not (links / place.name).exists():
            (links / place.name).symlink_to(place)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "links.pth").write_text(f"{links}\n", "utf-8")
    return environment / "bin/ming"


def third_party_files(names: Iterable[str]) -> set[Path]:
    """Top-level files and folders of everything the named distributions need, without ours."""
    waiting, seen, places = list(names), set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform, although its marker does not say so
        needed = [Requirement(line) for line in found.requires or []]
        waiting += [r.name for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
        if not name.startswith("ming-"):
            roots = {file.parts[0] for file in found.files or []} - {"..", "__pycache__"}
            places |= {Path(str(found.locate_file(root))) for root in roots}
    return places


def test_wheels_hold_all_tracked_package_files_and_the_licence(
    repository: Path, wheels: dict[str, Path]
) -> None:
    licence = (repository / "LICENSE").read_bytes()
    assert set(wheels) == set(SOURCES)
    for package, source in SOURCES.items():
        listing = run(["git", "ls-files", source], repository, dict(os.environ))
        tracked = {
            f"{package}/{Path(name).relative_to(source).as_posix()}"
            for name in listing.splitlines()
            if (repository / name).exists()
        }
        with zipfile.ZipFile(wheels[package]) as wheel:
            missing = tracked - set(wheel.namelist())
            assert not missing, f"{package}: {missing}"
            assert f"{package}/py.typed" in tracked
            (licence_name,) = [n for n in wheel.namelist() if n.endswith("licenses/LICENSE")]
            assert wheel.read(licence_name) == licence
        assert wheels[package].stat().st_size <= MAX_WHEEL_BYTES


def test_core_and_vision_alone_list_only_their_plugins(small_install: Path, tmp_path: Path) -> None:
    listing = json.loads(run([small_install, "plugins", "--json"], tmp_path, clean(tmp_path)))
    assert [plugin["name"] for plugin in listing["plugins"]] == ["core", "vision"]
    assert listing["failed"] == []
    help_text = run([small_install, "--help"], tmp_path, clean(tmp_path))
    assert " ask " in help_text
    assert " train " not in help_text


def test_core_and_vision_alone_answer_about_a_picture(
    repository: Path, small_install: Path, tmp_path: Path
) -> None:
    (picture,) = [*(repository / "packages").glob("*/src/*/presets/nano/demo.png")]
    question = "how many shapes are there?"
    answer = run([small_install, "ask", question, picture], tmp_path, clean(tmp_path))
    assert answer.strip()


def clean(home: Path) -> dict[str, str]:
    """Variables of a new user: no module paths of the surrounding environment."""
    return {"PATH": os.environ["PATH"], "HOME": str(home)}
