"""The packages can be installed on Linux, macOS and Windows: each dependency has a wheel there."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.utils import parse_wheel_filename

PLATFORMS = {
    "linux x86_64": ("linux", "Linux", "posix", "x86_64", r"(many)?linux.*x86_64"),
    "linux aarch64": ("linux", "Linux", "posix", "aarch64", r"(many)?linux.*aarch64"),
    "macOS arm64": ("darwin", "Darwin", "posix", "arm64", r"macosx_.*(arm64|universal2)"),
    "Windows": ("win32", "Windows", "nt", "AMD64", r"win_amd64"),
}
PYTHONS = ("3.11", "3.12", "3.13")


@pytest.fixture(scope="module")
def wheels(repository: Path) -> dict[tuple[str, str], list[str]]:
    """Names of the wheels of each resolved package; a source alone counts as a wheel for all."""
    export = ["uv", "export", "--offline", "--quiet", "--format", "pylock.toml", "--all-packages"]
    try:
        resolved = subprocess.run(
            [*export, "--no-emit-workspace", "--no-dev"],
            cwd=repository,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        pytest.skip("needs uv")
    if resolved.returncode:
        pytest.skip("the workspace is not resolved here; `uv sync` does that")
    found: dict[tuple[str, str], list[str]] = {}
    for package in tomllib.loads(resolved.stdout)["packages"]:
        names = [wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", ())]
        if not names and "sdist" in package:
            names = [f"{package['name'].replace('-', '_')}-{package['version']}-py3-none-any.whl"]
        found[package["name"], package.get("version", "")] = names
    return found


@pytest.mark.parametrize("platform", PLATFORMS)
def test_every_dependency_has_a_wheel(
    platform: str, wheels: dict[tuple[str, str], list[str]], repository: Path
) -> None:
    sys_platform, system, os_name, machine, tag = PLATFORMS[platform]
    lacking, needed = [], 0
    for line in (repository / "constraints.txt").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        pin, _, condition = line.partition(" ; ")
        name, _, version = pin.partition("==")
        for python in PYTHONS:
            environment = {
                "sys_platform": sys_platform,
                "platform_system": system,
                "os_name": os_name,
                "platform_machine": machine,
                "python_version": python,
                "python_full_version": f"{python}.1",
                "implementation_name": "cpython",
                "platform_python_implementation": "CPython",
            }
            if condition and not Marker(condition).evaluate(environment):
                continue
            needed += 1
            if not any(_fits(wheel, python, tag) for wheel in wheels[name, version]):
                lacking.append(f"{pin} on Python {python}")
    assert needed > 100
    assert not lacking


def _fits(wheel: str, python: str, platform: str) -> bool:
    *_, tags = parse_wheel_filename(wheel)
    minor = int(python.partition(".")[2])
    for tag in tags:
        version = re.fullmatch(r"(?:cp|py)3(\d*)", tag.interpreter)
        if version is None or (tag.platform != "any" and not re.fullmatch(platform, tag.platform)):
            continue
        own = int(version[1] or 0)
        if own == minor or (tag.abi in ("none", "abi3") and own <= minor):
            return True
    return False


def test_all_three_systems_are_resolved_for(repository: Path) -> None:
    settings = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))["tool"]["uv"]
    assert "environments" not in settings  # would leave the others out
    named = " ".join(settings["required-environments"])
    assert all(f"sys_platform == '{name}'" in named for name in ("linux", "darwin", "win32"))
