"""The end of nano's training: its weights in the released layout, and what they reach."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import track

from ming_core.api import load
from ming_core.checkpoints.formats import fingerprint as weights_fingerprint
from ming_core.checkpoints.formats import open_checkpoint
from ming_core.checkpoints.keymap import backbone_slots, identity_slots
from ming_core.checkpoints.writing import export
from ming_core.model.omni import Omni
from ming_core.output import write_file
from ming_recipes.nano.build import PREPROCESSOR, tokenizer_files
from ming_recipes.nano.config import STAGES, NanoPerception
from ming_recipes.nano.scores.benchmark import evaluate
from ming_recipes.nano.scores.loads import draw_loads, held_out_talks, load_scores, router_loads
from ming_recipes.nano.world.records import fingerprint
from ming_recipes.nano.world.scene import SPLITS
from ming_recipes.nano.world.vocabulary import WORLD
from ming_recipes.training.runs.logs import read_rows
from ming_recipes.training.runs.metrics import METRICS

REPORT = "training.json"
LARGEST = 15_000_000
"""Bytes of a file with weights: what any mail, repository or machine takes."""


def ship(config: NanoPerception, omni: Omni, released: dict[str, Any], command: str) -> None:
    """Export the model, score it on held-out data, and split it by the packages that ship it.

    Writes <out>/nano (the whole checkpoint) and <out>/parts/{backbone,vision,audio}, each with
    training.json: how the weights were made and what they reach; and <out>/routers.png. From here
    on the backbone is frozen: heads are trained in front of it, and its fingerprint says which one
    they belong to.
    """
    out, folder = Path(config.out), Path(config.out) / "nano"
    parts = out / "parts"
    for old in (folder, parts):
        shutil.rmtree(old, ignore_errors=True)
    tables = {
        "backbone": (omni.backbone, backbone_slots(omni.backbone.config)),
        "vision": (omni.encoders["image"], identity_slots(omni.encoders["image"])),
        "audio": (omni.encoders["audio"], identity_slots(omni.encoders["audio"])),
    }
    preprocessor = out / "preprocessor_config.json"
    write_file(preprocessor, json.dumps(PREPROCESSOR, indent=2) + "\n")
    words = tokenizer_files(out, config.seed)
    vision = {"vision_config", "mlp_depth", "vision_tasks"}
    audio = {"audio_config", "mlp_depth", "audio_tasks"}
    shares = {
        "backbone": ({k: v for k, v in released.items() if k not in vision | audio}, words),
        "vision": ({k: released[k] for k in sorted(vision)}, [preprocessor]),
        "audio": ({k: released[k] for k in sorted(audio)}, []),
    }
    export(tables, folder, released, LARGEST, files=[*words, preprocessor])
    for name, (section, files) in shares.items():
        export({name: tables[name]}, parts / name, section, LARGEST, files=files)
    model = load(folder)
    loads = router_loads(model, held_out_talks(model, config.test_pictures))
    draw_loads(loads, out / "routers.png")
    stages = [config.stage(name) for name in STAGES]
    report = {
        "recipe": "nano-perception",
        "command": command,
        "settings": asdict(config),
        "world": WORLD,
        "world_fingerprint": {split: fingerprint(split) for split in SPLITS},
        "images": config.processes * sum(stage.steps * stage.pictures for stage in stages),
        "utterances": config.processes * sum(stage.steps * stage.sounds for stage in stages),
        "seconds": sum(training_seconds(out / name / METRICS) for name in STAGES),
        "machine": f"{platform.machine()}, {config.processes} processes of one thread",
        "torch": torch.__version__,
        "backbone": weights_fingerprint(open_checkpoint(parts / "backbone")),
        "metrics": rounded(evaluate(model, config.test_pictures, partial(track, transient=True))),
        "experts": rounded(load_scores(loads)),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    for written in (*(parts / name for name in shares), folder):  # the last one ends the run
        write_file(written / REPORT, text)


def training_seconds(log: Path) -> int:
    """Seconds of all steps of a stage, those of interrupted runs included."""
    clock = [
        row["seconds"] for row in read_rows(log) if isinstance(row.get("seconds"), int | float)
    ]
    return round(max(clock, default=0))


def rounded(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {name: {k: round(v, 4) for k, v in row.items()} for name, row in scores.items()}
