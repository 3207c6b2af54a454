"""nano on a GPU in one call: pictures drawn where they are used, stages that end in time, and the
script, rehearsed on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import yaml

from ming_core.errors import BadConfig
from ming_core.media import Image, Video
from ming_recipes.nano import on_device
from ming_recipes.nano.build import PREPROCESSOR, VISION
from ming_recipes.nano.config import STAGES, NanoPerception, Seen, Stage
from ming_recipes.nano.on_device import Order, features_of, labels_of
from ming_recipes.nano.pace import EVERY, WARM_UP, Pace, pace_table, seconds_of
from ming_recipes.nano.probes.cells import DenseLabels, dense_labels
from ming_recipes.nano.recipe import RECIPE
from ming_recipes.nano.shards import Shard, write_shards
from ming_recipes.nano.stages import check_stages
from ming_recipes.nano.world.language import Motion
from ming_recipes.nano.world.lots import draw_motion, draw_scenes
from ming_recipes.nano.world.many import Scenes, paint
from ming_recipes.nano.world.scene import scene_of
from ming_recipes.nano.world.speech import utterance_of
from ming_recipes.training.module import OmniModule
from ming_recipes.training.recipe import settings
from ming_vision.processing import ImageProcessor

ROOT = Path(__file__).parents[2]
NANO = ROOT / "recipes" / "ming_recipes" / "nano"
PROCESSOR = ImageProcessor.from_config(VISION, PREPROCESSOR)
CPU = torch.device("cpu")


def _motions(scenes: Scenes, right: torch.Tensor, down: torch.Tensor) -> list[Motion]:
    signs = zip(right.sign().int().tolist(), down.sign().int().tolist(), strict=True)
    return [
        tuple((x, y) if x or y else None for x, y in zip(xs[:count], ys[:count], strict=True))
        for (xs, ys), count in zip(signs, scenes.count.tolist(), strict=True)
    ]


def test_labels_are_those_of_scenes_one_by_one() -> None:
    rng = torch.Generator().manual_seed(0)
    scenes = draw_scenes(150, rng, text_probability=0.8)
    right, down, _ = draw_motion(scenes, rng)
    between = scenes.moved(right / 2, down / 2)
    here = labels_of(between, right, down)
    there = dense_labels(between.scenes(), _motions(scenes, right, down))
    for field in fields(DenseLabels):
        own, other = getattr(here, field.name), getattr(there, field.name)
        torch.testing.assert_close(own, other, atol=2e-3, rtol=0)  # scenes() rounds places
    still = Scenes.of([scene_of("train", index) for index in range(20)])
    assert not labels_of(still, torch.zeros(20, 5), torch.zeros(20, 5)).motion.any()


def test_features_are_those_of_the_image_processor() -> None:
    scenes = draw_scenes(6, torch.Generator().manual_seed(1))
    frames = [paint(scenes, torch.randn(6, 3, 64, 64)) for _ in range(2)]
    stills = features_of(torch.stack((frames[0], frames[0]), 1), PROCESSOR)
    arrays = [frame.permute(0, 2, 3, 1).numpy() for frame in frames]
    right = PROCESSOR([Image(array) for array in arrays[0]])
    assert (stills.modality, stills.tokens) == (right.modality, right.tokens)
    torch.testing.assert_close(stills.grid, right.grid)
    torch.testing.assert_close(stills.tensors, right.tensors, atol=1e-5, rtol=0)
    moving = features_of(torch.stack(frames, 1), PROCESSOR)
    clips = PROCESSOR([Video(np.stack(pair)) for pair in zip(*arrays, strict=True)])
    torch.testing.assert_close(moving.tensors, clips.tensors, atol=1e-5, rtol=0)


def test_an_order_becomes_a_batch_that_depends_on_its_seed() -> None:
    seen = Seen(questions=0, text=0.8, video=0.5)
    order = Order(5, 40, seen, PROCESSOR)
    first, again = order.to(CPU, torch.bfloat16), order.to(CPU, torch.bfloat16)
    other = replace(order, seed=6).to(CPU, torch.bfloat16)
    pixels = [batch.omni.features[0].tensors["pixel_values"] for batch in (first, again, other)]
    assert pixels[0].dtype == torch.bfloat16
    assert pixels[0].shape == (40 * 64, 3 * 2 * 64)
    assert torch.equal(pixels[0], pixels[1])
    assert not torch.equal(pixels[0], pixels[2])
    assert len(first.extra.scenes) == 40
    assert first.extra.cells.motion.any()
    # The two frames of a still are one picture.
    frames = pixels[0].unflatten(1, (3, 2, 64)).unflatten(0, (40, 64))
    same = (frames[..., 0, :] == frames[..., 1, :]).flatten(1).all(1)
    assert 5 < same.sum() < 35
    calm = replace(order, seen=replace(seen, video=0.0)).to(CPU, torch.float32)
    assert not calm.extra.cells.motion.any()


def test_nothing_in_the_drawing_names_a_device() -> None:
    for module in (on_device, sys.modules[paint.__module__], sys.modules[draw_scenes.__module__]):
        text = Path(cast(str, module.__file__)).read_text()
        assert '"cpu"' not in text
        assert ".cuda(" not in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"on_device": True, "pictures": 8}, "sight.on_device draws pictures of which nothing"),
        (
            {"on_device": True, "pictures": 8, "sounds": 2, "seen": Seen(questions=0)},
            "set sight.seen.questions=0 and sight.sounds=0",
        ),
        ({"share": 1.0}, "shares of all stages add up to 1"),
    ],
)
def test_stages_that_cannot_be_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadConfig, match=reason):
        check_stages(NanoPerception(minutes=1.0, sight=Stage(**change)))
    with pytest.raises(BadConfig, match="add up to 0"):
        check_stages(NanoPerception(minutes=1.0))
    check_stages(NanoPerception())


def test_stages_share_the_time_that_is_left() -> None:
    config = NanoPerception(
        minutes=10.0,
        sight=Stage(share=0.2),
        language=Stage(share=0.4),
        joint=Stage(share=0.2),
    )
    assert seconds_of(replace(config, minutes=0.0), "sight", time.monotonic()) is None
    begun = time.monotonic() - 100  # of 600 s, for preparing
    assert seconds_of(config, "sight", begun) == pytest.approx(500 * 0.2, abs=1)
    # "sight" took as long as it should: the rest is for "language", "joint" and the result.
    assert seconds_of(config, "language", begun - 100) == pytest.approx(400 * 0.5, abs=1)
    assert seconds_of(config, "joint", begun - 300) == pytest.approx(200 * 0.5, abs=1)
    assert seconds_of(config, "sight", begun - 1000) == 0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize(("seconds", "steps"), [(None, 400), (1e6, 400), (30.0, 149), (0.0, EVERY)])
def test_a_stage_has_as_many_steps_as_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float | None, steps: int
) -> None:
    """Steps take 0.2 s, those of the warm-up 0.3 s more; a quarter is waiting for data."""
    clock = Clock()
    monkeypatch.setattr("ming_recipes.nano.pace.time", clock)
    config = NanoPerception(out=str(tmp_path), joint=Stage(steps=400))
    pace = Pace(config, "joint", seconds)
    module = cast(OmniModule, SimpleNamespace(device=CPU, steps=400))
    loop = SimpleNamespace(max_steps=400)
    trainer: Any = SimpleNamespace(
        global_step=0,
        global_rank=0,
        strategy=SimpleNamespace(broadcast=lambda value: value),
        fit_loop=SimpleNamespace(epoch_loop=loop),
    )
    pace.on_train_start(trainer, module)
    while trainer.global_step < loop.max_steps:
        clock.now += 0.05
        pace.on_train_batch_start(trainer, module, None, 0)
        clock.now += 0.15 + 0.3 * (trainer.global_step < WARM_UP)
        trainer.global_step += 1
        pace.on_train_batch_end(trainer, module, None, None, 0)
    pace.on_train_end(trainer, module)
    assert trainer.global_step == pytest.approx(steps, abs=15)
    assert module.steps == loop.max_steps
    if seconds == 30.0:
        assert clock.now - 1000 == pytest.approx(30, abs=1)
    title, row = pace_table(tmp_path)
    assert title == ("stage", "steps", "seconds", "steps/s", "waiting for data")
    assert row[:2] == ("joint", f"{trainer.global_step} of 400")
    if trainer.global_step > WARM_UP:
        assert row[3:] == ("5.00", "25%")


def test_the_settings_for_a_gpu_fit_those_of_the_recipe() -> None:
    config = settings(RECIPE, [NANO / "nano.yaml", NANO / "gpu.yaml"], ["speech=speech.tar"])
    assert (config.device, config.processes) == ("cuda", 1)
    assert config.minutes < 9
    check_stages(config)
    plain = settings(RECIPE, [NANO / "nano.yaml"], [])
    for name in STAGES:
        assert config.stage(name).share > 0
        assert config.stage(name).losses == plain.stage(name).losses


TINY: dict[str, Any] = {
    "device": "cpu",
    "processes": 1,
    "workers": 1,
    "minutes": 0.5,
    "recordings": 12,
    "save_every": 1000,
    "validate_every": 1_000_000,
    "validation_pictures": 2,
    "validation_sounds": 3,
    "test_pictures": 1,
    "settle_steps": 1,
    "sight": {"steps": 2, "pictures": 4, "on_device": True, "share": 0.1},
    "language": {"steps": 100_000, "pictures": 1, "share": 0.01},
    "joint": {"steps": 1, "pictures": 1, "share": 0.1},
    "hearing": {"steps": 1, "sounds": 2, "share": 0.1},
    "senses": {"steps": 1, "pictures": 1, "sounds": 2, "spoken": 1, "share": 0.1},
}


@pytest.mark.slow
def test_the_script_makes_nano_and_goes_on_with_a_run(tmp_path: Path) -> None:
    speech, config = tmp_path / "speech.tar", tmp_path / "tiny.yaml"
    rng = np.random.default_rng(0)
    shards = []
    for split, count, free in (("train", 12, 0.3), ("val", 3, 0.0)):
        texts = [utterance_of(split, index, free).text for index in range(count)]
        ends = (16_000 * np.arange(1, count + 1)).tolist()
        sound = rng.integers(-999, 999, ends[-1]).astype(np.int16)
        shards.append((Shard(split, 0, ends, texts), sound))
    write_shards(speech, shards)
    config.write_text(yaml.safe_dump(TINY))
    (tmp_path / "bin").mkdir()  # a machine without programs that speak
    for program in [
        "bash",
        "basename",
        "cat",
        "cp",
        "dirname",
        "find",
        "ls",
        "mkdir",
        "mktemp",
        "rm",
        "tar",
        "tee",
        "uname",
    ]:
        found = (
            Path("/bin", program) if Path("/bin", program).exists() else Path("/usr/bin", program)
        )
        (tmp_path / "bin" / program).symlink_to(found)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST")},
        "PATH": str(tmp_path / "bin"),
        "PYTHON": sys.executable,
        "WHEELS": str(tmp_path / "none"),
        "SPEECH": str(speech),
        "CONFIG": str(config),
        "OUT": str(tmp_path / "run"),
        "OMP_NUM_THREADS": "1",
    }
    command = ["bash", str(ROOT / "recipes" / "nano-gpu.sh")]
    made = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=400, cwd=tmp_path
    )
    assert made.returncode == 0, made.stdout + made.stderr
    table = [line.split() for line in made.stdout.splitlines() if " of " in line]
    reached = {row[0]: row[1:4] for row in table if row[0] in STAGES}
    assert reached["sight"] == ["2", "of", "2"]
    assert reached["language"] == [str(EVERY), "of", "100000"]  # it ended in time
    result = tmp_path / "run" / "result"
    assert {file.name for file in result.iterdir()} == {
        "audio.tar",
        "backbone.tar",
        "vision.tar",
        "log.txt",
    }
    sizes = [file.stat().st_size for file in tmp_path.glob("run/**/nano/*.safetensors")]
    assert max(sizes) <= 16_000_000
    assert max(file.stat().st_size for file in result.iterdir()) <= 16_000_000
    assert (tmp_path / "run" / "nano" / "training.json").exists()

    again = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, cwd=tmp_path
    )
    assert again.returncode == 0
    assert "this run is finished" in again.stdout
