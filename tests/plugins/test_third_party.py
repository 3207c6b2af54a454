"""The encoder of docs/plugins.md, built as a wheel, installed and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import PIL.Image

USE = """
import json, sys
import numpy as np, torch
from ming_core import Image
from ming_core.cli import main
from ming_core.plugins import get_plugins

plugins = get_plugins()
added = {e.name: e.plugin for e in plugins.encoders}
assert "acme_colour.encoder" not in sys.modules
with torch.device("meta"):
    cls = plugins.encoders["acme_colour"].load()
    encoder = cls.from_config({"llm_config": {"hidden_size": 3}}, {})
encoder.load_state_dict(
    {"linear_proj.weight": torch.eye(3), "linear_proj.bias": torch.zeros(3)}, assign=True
)
blue = Image(np.full((4, 5, 3), (0, 51, 68), np.uint8))
white = Image(np.full((9, 9, 3), 255, np.uint8))
features = encoder.processor([blue, white])
files = encoder.processor([Image(path) for path in sys.argv[1:]])
result = {"added": added, "tokens": features.tokens, "out": encoder(features).tolist()}
print(json.dumps(result | {"files": files.tensors["colours"].tolist()}))
main(["plugins"])
"""


def documented_files(page: str) -> dict[str, str]:
    """File name -> content of the page's code blocks that follow a line with a file name."""
    return dict(re.findall(r"^`(\S+)`\n\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL))


def test_the_documented_plugin_works_as_a_wheel(
    repository: Path, tmp_path: Path, user_environment: dict[str, str]
) -> None:
    files = documented_files((repository / "docs/plugins.md").read_text("utf-8"))
    assert list(files) == [
        "pyproject.toml",
        "src/acme_colour/__init__.py",
        "src/acme_colour/encoder.py",
    ]
    lines = sum(content.count("\n") for content in files.values())
    assert lines < 50
    assert f"three files with {lines} lines" in (repository / "docs/plugins.md").read_text("utf-8")
    project, site = tmp_path / "project", tmp_path / "site"
    for name, content in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content, "utf-8")

    def uv(*arguments: str) -> None:
        command = ["uv", *arguments, "--offline", "--quiet"]
        subprocess.run(command, cwd=project, env=user_environment, check=True, timeout=120)

    uv("build", "--wheel", "--out-dir", str(tmp_path), "--no-config")
    (wheel,) = tmp_path.glob("acme_colour-1.0-*.whl")
    uv("pip", "install", "--python", sys.executable, "--target", str(site), "--no-deps", str(wheel))

    environment = {**os.environ, "PYTHONPATH": str(site)}
    pictures = [tmp_path / name for name in ("a.png", "gray.jpg", "palette.gif")]
    for path, mode in zip(pictures, ("RGBA", "L", "P")):
        PIL.Image.new("RGB", (16, 8), (102, 102, 102)).convert(mode).save(path)
    done = subprocess.run(
        [sys.executable, "-c", USE, *pictures],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    first, *table = done.stdout.splitlines()
    result = json.loads(first)
    assert result["added"]["acme_colour"] == "acme-colour"
    assert result["tokens"] == [1, 1]
    gray = 3**-0.5
    expected = [[0, 0.6, 0.8], [gray, gray, gray]]
    error = [abs(a - b) for x, y in zip(result["out"], expected) for a, b in zip(x, y)]
    assert max(error) < 1e-6
    assert all(abs(value - 0.4) < 0.01 for row in result["files"] for value in row)
    (row,) = [line for line in table if line.startswith("acme ")]
    assert row.split() == ["acme", "acme-colour", "1.0", "encoders:", "acme_colour"]
