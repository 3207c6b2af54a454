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


USE_RELEASE = """
import json, sys
from pathlib import Path
import numpy as np, torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from acme_omni.release import Eyes
from ming_core import load
from ming_core.chat.prompt import MediaTokens, build_prompt
from ming_core.checkpoints.keymap import identity_slots
from ming_core.checkpoints.writing import export
from ming_core.media import Image, user
from ming_core.model.transformer import Backbone
from ming_core.release import release_of

config, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
letters = sorted(pre_tokenizers.ByteLevel.alphabet())
words = Tokenizer(models.BPE({letter: i + 2 for i, letter in enumerate(letters)}, []))
words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
words.decoder = decoders.ByteLevel()
special = "<pad> <end> <turn> <see> <pixel> </see> <film> <frame> </film> <hear> <wave> </hear>"
words.add_special_tokens([AddedToken(token, normalized=False) for token in special.split()])
names = ("tokenizer.json", "tokenizer_config.json")
words.save(str(folder / names[0]))
(folder / names[1]).write_text("{}")
release = release_of(config)
torch.manual_seed(0)
backbone = Backbone(release.backbone(config))
with torch.no_grad():  # so that pictures, whose tokens have length 1, count
    backbone.word_embeddings.weight.mul_(0.1)
    backbone.lm_head.weight.normal_()
eyes = Eyes.from_config(config, {})
slots = release.slots(backbone.config)
parts = {"backbone": (backbone, slots), "image": (eyes, identity_slots(eyes))}
export(parts, folder / "model", config, files=[folder / name for name in names])

model = load(folder / "model")
red = np.full((4, 5, 3), (255, 0, 0), np.uint8)
answers = [model.ask("what?", *media, max_new_tokens=8).text for media in ([], [red], [255 - red])]
again = load(model.save(folder / "again"))
answers.append(again.ask("what?", 255 - red, max_new_tokens=8).text)
prompt = build_prompt([user(Image(red), "what?")], model.format, model.tokenizer, [MediaTokens(1)])
print(json.dumps({
    "release": model.release.name,
    "prompt": model.tokenizer.decode(prompt.input_ids, special=True),
    "width": model.config.hidden_size,
    "answers": answers,
    "worded": model.wording("vision_tasks"),
}))
"""


def documented_files(page: str, title: str = "") -> dict[str, str]:
    """File name -> content of the code blocks behind a line with a file name, below a heading."""
    start = page.index(f"\n## {title}\n") if title else 0
    end = page.index("\n## ", start + 1)
    block = r"^`(\S+)`\n\n(?:<!-- not run -->\n)?```\w+\n(.*?)^```"
    return dict(re.findall(block, page[start:end], re.MULTILINE | re.DOTALL))


def install(files: dict[str, str], project: Path, site: Path, environment: dict[str, str]) -> None:
    """Build a documented project as a wheel and install it into `site`."""
    for name, content in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content, "utf-8")

    def uv(*arguments: str) -> None:
        command = ["uv", *arguments, "--offline", "--quiet"]
        subprocess.run(command, cwd=project, env=environment, check=True, timeout=120)

    uv("build", "--wheel", "--out-dir", str(project / "wheels"), "--no-config")
    (wheel,) = (project / "wheels").glob("*.whl")
    uv("pip", "install", "--python", sys.executable, "--target", str(site), "--no-deps", str(wheel))


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
    site = tmp_path / "site"
    install(files, tmp_path / "project", site, user_environment)

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


def test_the_documented_release_works_as_a_wheel(
    repository: Path, tmp_path: Path, user_environment: dict[str, str]
) -> None:
    page = (repository / "docs/plugins.md").read_text("utf-8")
    files = documented_files(page, "A release of your own")
    assert list(files) == [
        "pyproject.toml",
        "src/acme_omni/__init__.py",
        "src/acme_omni/release.py",
    ]
    lines = sum(content.count("\n") for content in files.values())
    assert lines < 150
    assert f"three files with {lines} lines" in page
    site = tmp_path / "site"
    install(documented_files(page), tmp_path / "colour", site, user_environment)
    install(files, tmp_path / "omni", site, user_environment)
    found = re.search(r"^```json\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert found
    done = subprocess.run(
        [sys.executable, "-c", USE_RELEASE, found[1], str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert (result["release"], result["width"]) == ("acme-omni", 32)
    assert result["prompt"] == (
        "<turn>rules\nBe kind.<end>\n<turn>asked\n<see><pixel></see>\nwhat?<end>\n<turn>said\n"
    )
    plain, red, cyan, again = result["answers"]
    assert len({plain, red, cyan}) == 3
    assert again == cyan
    assert result["worded"] == [{"ground": "find {name}"}, {}]
