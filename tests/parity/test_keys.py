"""No adapter passes a key over: variants of the shipped cases, and prompts with every option."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ming_core.testing import GoldenCase, Outcome, golden_cases, run_case

ADAPTERS = Path(__file__).parent / "components"
CASES = list(golden_cases(Path(__file__).parents[1] / "golden"))


def outcomes_of(case: GoldenCase) -> list[Outcome]:
    """An adapter that stops because of a key has failed the case, too."""
    try:
        return run_case(GoldenCase(case.folder), ADAPTERS)
    except (AssertionError, KeyError, TypeError) as error:
        return [Outcome("stopped", float("inf"), False, str(error))]


@pytest.fixture(params=CASES, ids=lambda case: f"{case.component}/{case.name}")
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> GoldenCase:
    folder = tmp_path / request.param.component / request.param.name
    shutil.copytree(request.param.folder, folder)
    return GoldenCase(folder)


def change(path: Path, **entries: Any) -> None:
    """Add entries to a file of tensors or of text."""
    if path.suffix == ".json":
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | entries), "utf-8")
    else:
        tensors = load_file(path) if path.exists() else {}
        save_file({**tensors, **{name: torch.zeros(1) for name in entries}}, path)


@pytest.mark.parametrize("file", ["meta.json", "config.json"])
def test_an_unknown_setting_fails_the_case(copy: GoldenCase, file: str) -> None:
    change(copy.folder / file, surprise=1)
    failed = [outcome for outcome in outcomes_of(copy) if not outcome.passed]
    assert len(failed) == 1
    assert "surprise" in failed[0].where


@pytest.mark.parametrize("name", ["in.surprise", "out.surprise"])
def test_an_unknown_tensor_fails_the_case(copy: GoldenCase, name: str) -> None:
    change(copy.folder / "io.safetensors", **{name: 1})
    failed = [outcome for outcome in outcomes_of(copy) if not outcome.passed]
    assert len(failed) == 1
    assert "surprise" in failed[0].where


TAGS = {
    "<|endoftext|>": 10,
    "<|role_end|>": 11,
    "<role>": 12,
    "</role>": 13,
    "<audio>": 14,
    "</audio>": 15,
    "<audioPatch>": 16,
    "<end_of_audio>": 17,
}
SYSTEM_OF = {"default": "你是一个友好的AI助手。", "own": "You write down speech."}


@pytest.mark.parametrize(
    ("release", "kwargs", "begin"),
    [
        ("flash", {}, f"<role>SYSTEM</role>{SYSTEM_OF['default']}\n\ndetailed thinking off"),
        (
            "flash",
            {"sys_prompt_exp": SYSTEM_OF["own"]},
            f"<role>SYSTEM</role>{SYSTEM_OF['own']}\n\ndetailed thinking off",
        ),
        (
            "flash",
            {"sys_prompt_exp": SYSTEM_OF["own"], "use_cot_system_prompt": True},
            f"<role>SYSTEM</role>{SYSTEM_OF['own']}\n\ndetailed thinking on",
        ),
        ("v15", {}, ""),
        (
            "v15",
            {"system_template": "<role>SYSTEM</role>Listen.<role>HUMAN</role>"},
            "<role>SYSTEM</role>Listen.",
        ),
        ("v10", {"system_template": "<role>HUMAN</role>Listen: "}, "Listen: "),
    ],
)
@pytest.mark.parametrize("answer", [True, False])
def test_prompts_with_sounds_read_every_option(
    tmp_path: Path, release: str, kwargs: dict[str, Any], begin: str, answer: bool
) -> None:
    """What the release writes is spelt out here by hand, and no token is ours."""
    end = "<|role_end|>" if release == "flash" else ""
    human = "<role>HUMAN</role>"
    head = human + begin if begin == "Listen: " else begin + end + human
    if not answer:
        kwargs = kwargs | {"add_generation_prompt": False}
    placeholder = "<audio>" if release == "v10" else "<AUDIO>"
    prompt = f"{head}What is said?{placeholder}{end}" + "<role>ASSISTANT</role>" * answer
    tokens = 25  # of 16,000 samples, heard by Whisper: 100 frames, halved twice
    expanded = prompt.replace(placeholder, f"<audio><audioPatch>*{tokens}</audio>")
    full = expanded.replace(f"*{tokens}", "<audioPatch>" * (tokens - 1))
    pieces = re.split("(" + "|".join(map(re.escape, TAGS)) + ")", full)
    ids = [i for p in pieces for i in ([TAGS[p]] if p in TAGS else [10**6 + ord(c) for c in p])]

    case = GoldenCase(tmp_path / "audio_lengths" / "own")
    case.folder.mkdir(parents=True)
    said = [{"type": "text", "text": "What is said?"}, {"type": "audio", "audio": "a.wav"}]
    texts = {
        "release": release,
        "conversations": [[{"role": "HUMAN", "content": said}]],
        "use_whisper_encoder": True,
        "chat_template_kwargs": kwargs,
        "prompt": [prompt],
        "expanded": [expanded],
        "language_prefix": None,
        "special_token_ids": TAGS,
    }
    for name, value in (
        ("meta", {"tolerance": {"atol": 0, "rtol": 0}}),
        ("config", {"release": release}),
        ("io", texts),
    ):
        (case.folder / f"{name}.json").write_text(json.dumps(value), "utf-8")
    numbers = {
        "in.n_samples": [16_000],
        "out.audio_feats_lengths": [[100]],
        "out.audio_placeholder_loc_lens": [[[ids.index(TAGS["<audio>"]) + 1, tokens]]],
        "out.attention_mask": [[1] * len(ids)],
        "out.input_ids": [ids],
    }
    tensors = {name: torch.tensor(value) for name, value in numbers.items()}
    save_file(tensors, case.folder / "io.safetensors")
    failed = [outcome for outcome in outcomes_of(case) if not outcome.passed]
    assert not failed
