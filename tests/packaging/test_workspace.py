"""What must hold for the files of the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

MEMBERS = ("core", "vision", "audio", "imagegen", "tts", "recipes")
UNSAFE_SUFFIXES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
REGISTRY_HOST = re.compile(r"(pypi|pythonhosted|npmjs|debian|download\.pytorch|proxy\.golang)\.org")


@pytest.fixture(scope="module")
def tracked(repository: Path) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, check=True, capture_output=True, text=True
    )
    files = [repository / name for name in listing.stdout.split("\0") if name]
    return [path for path in files if path.is_file()]


@pytest.fixture(scope="module")
def projects(repository: Path) -> dict[str, dict]:
    """[project] tables by distribution name."""
    files = [
        repository / "pyproject.toml",
        repository / "recipes/pyproject.toml",
        *repository.glob("packages/*/pyproject.toml"),
    ]
    tables = [tomllib.loads(path.read_text("utf-8"))["project"] for path in files]
    return {table["name"]: table for table in tables}


def test_every_member_is_there(projects: dict[str, dict]) -> None:
    assert set(projects) == {"ming-toolkit", *(f"ming-{member}" for member in MEMBERS)}


def test_all_packages_have_one_version(projects: dict[str, dict]) -> None:
    assert len({project["version"] for project in projects.values()}) == 1


def test_members_require_each_other_within_one_minor_version(projects: dict[str, dict]) -> None:
    version = projects["ming-core"]["version"]
    major, minor, _ = version.split(".")
    expected = f">={version},<{major}.{int(minor) + 1}"
    for name, project in projects.items():
        needs = [d for d in project["dependencies"] if d.startswith("ming-")]
        if name == "ming-toolkit":  # never published: it only ties the members together
            assert set(needs) == set(projects) - {name}
            continue
        assert needs or name == "ming-core", f"{name} does not require ming-core"
        for need in needs:
            assert need == re.match(r"[a-z-]+", need)[0] + expected, f"{name} requires {need}"  # type: ignore[index]


LICENCES = {"ming-audio": "MIT AND Apache-2.0"}
"""Of the packages with data of others; the others are MIT alone."""

DATA_OF_OTHERS = {
    "cmvn.json",
    "published.json",
    "contractions.json",
    "simplified.json",
    "spelling.json",
}
OWN_DATA = {
    *{"config.json", "demo.json", "demo.png", "directory.toml", "model.safetensors", "nano.yaml"},
    *{"preprocessor_config.json", "py.typed", "tokenizer.json", "tokenizer_config.json"},
    *{"training.json", "familiar-audio.safetensors", "familiar-image.safetensors"},
    *{"gpu.yaml", "flash-lora-8x80gb.yaml", "lite-1.5-full-8x80gb.yaml", "lite-1.5-lora-24gb.yaml"},
    *{"README.md", "metadata.jsonl", "text.jsonl"},
}


def test_members_say_their_licences(projects: dict[str, dict], repository: Path) -> None:
    for name, project in projects.items():
        assert project["license"] == LICENCES.get(name, "MIT"), name
    audio = repository / "packages/ming-audio"
    for file in projects["ming-audio"]["license-files"]:
        assert (audio / file).stat().st_size > 500
    apache = (audio / "LICENSE-APACHE").read_text("utf-8")
    assert "Apache License" in apache
    assert "Version 2.0, January 2004" in apache


def test_data_in_packages_is_ours_or_in_the_notice(repository: Path, tracked: list[Path]) -> None:
    folders = [*repository.glob("packages/*/src"), repository / "recipes/ming_recipes"]
    data = [
        path
        for path in tracked
        if path.suffix != ".py" and any(path.is_relative_to(folder) for folder in folders)
    ]
    assert data
    notice = (repository / "packages/ming-audio/NOTICE").read_text("utf-8")
    for path in data:
        if path.suffix == ".flac":
            continue  # the test below
        assert path.name in OWN_DATA | DATA_OF_OTHERS, f"whose is {path}, and under which licence?"
        if path.name in DATA_OF_OTHERS:
            assert "ming-audio" in path.parts
            assert path.name in notice


NOTES = ("README.md", "SOURCES.txt")


def test_every_recording_says_its_voice_and_licence(repository: Path, tracked: list[Path]) -> None:
    sounds = [p for p in tracked if p.suffix in {".flac", ".wav", ".mp3", ".ogg", ".m4a", ".opus"}]
    spoken = [
        p
        for p in sounds
        if p.parent in (repository / "docs/sounds", repository / "tests/speech")
        or p.is_relative_to(repository / "packages")
    ]
    assert len(spoken) >= 88
    for path in spoken:
        (file,) = [path.parent / name for name in NOTES if (path.parent / name).exists()]
        note = file.read_text("utf-8")
        patterns = re.findall(r"[\w*-]+\.flac", note)
        assert any(fnmatchcase(path.name, pattern) for pattern in patterns), path
        assert "icence" in note


def test_members_share_the_python_range(projects: dict[str, dict]) -> None:
    assert len({project["requires-python"] for project in projects.values()}) == 1


def test_constraints_are_plain_pins(repository: Path) -> None:
    lines = (repository / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.match(r"[a-z0-9][a-z0-9._-]*==[^\s/]+( ; .+)?$", pin) for pin in pins)
    assert any(pin.startswith("torch==") for pin in pins)


def test_no_tracked_file_names_a_package_registry(repository: Path, tracked: list[Path]) -> None:
    named = []
    for path in tracked:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # tensors and pictures
        if REGISTRY_HOST.search(text):
            named.append(str(path.relative_to(repository)))
    assert not named


def test_no_pickle_and_no_lock_file_is_tracked(tracked: list[Path]) -> None:
    unsafe = [p.name for p in tracked if p.suffix in UNSAFE_SUFFIXES or p.suffix == ".lock"]
    assert not unsafe


def test_golden_cases_stay_few_and_small(repository: Path, tracked: list[Path]) -> None:
    golden = repository / "tests/golden"
    files = [path for path in tracked if path.is_relative_to(golden)]
    assert sum(path.stat().st_size for path in files) <= 25 * 2**20
    cases = Counter(path.parent.parent.name for path in files if path.name == "meta.json")
    assert cases
    assert max(cases.values()) <= 2, cases
