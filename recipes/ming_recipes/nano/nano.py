"""Train nano's perception: an image encoder, an audio encoder and the language model, on CPU.

Stage "sight": the image tower on dense labels. "language": the language model on packed questions,
in front of the frozen tower. "joint": both together. "hearing": the audio encoder on speech.
"senses": all of them on text, pictures, videos and speech. Each stage resumes from
`<out>/<stage>.ckpt` after an interruption, or from the state before it. The result is written in
the released layout, one folder per package.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch.core import LightningDataModule
from lightning.pytorch.utilities import rank_zero_only
from rich.progress import track
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from ming_audio.encoder import AudioEncoder
from ming_audio.whisper import WhisperTower
from ming_core.api import load
from ming_core.chat.tokenizer import Tokenizer
from ming_core.checkpoints.formats import fingerprint as weights_fingerprint
from ming_core.checkpoints.formats import open_checkpoint
from ming_core.checkpoints.keymap import backbone_slots, identity_slots
from ming_core.checkpoints.writing import export
from ming_core.model.omni import Omni
from ming_core.model.transformer import Backbone
from ming_core.output import write_file
from ming_core.release import backbone_of, release_of
from ming_recipes.nano.config import NanoPerception
from ming_recipes.nano.ctc import CTCHeads
from ming_recipes.nano.data import PackedBatch, Packer, Row, row_of
from ming_recipes.nano.dense import DenseHeads
from ming_recipes.nano.module import Perception, stage_steps
from ming_recipes.nano.routers import settle_routers
from ming_recipes.nano.scores.benchmark import evaluate
from ming_recipes.nano.scores.loads import draw_loads, held_out_talks, load_scores, router_loads
from ming_recipes.nano.speech import Listening, Sounds, Variety, recordings_of
from ming_recipes.nano.talk import PROMPTS, WINDOW, chosen, speech_rows
from ming_recipes.nano.world.batch import Mix, training_example
from ming_recipes.nano.world.records import fingerprint
from ming_recipes.nano.world.scene import MAX_OBJECTS, SPLITS
from ming_recipes.nano.world.tokenizer import train_tokenizer
from ming_recipes.nano.world.vocabulary import CANVAS, WORLD
from ming_recipes.training.ranges import check
from ming_recipes.training.recipe import Recipe
from ming_recipes.training.runs.folder import Run, running
from ming_recipes.training.runs.keeping import Keep
from ming_recipes.training.runs.logs import read_rows
from ming_recipes.training.runs.states import (
    SafeCheckpoints,
    State,
    before,
    newest_state,
    other_weights,
)
from ming_vision.encoder import QwenVisionEncoder

STAGES = ("sight", "language", "joint", "hearing", "senses")
REPORT = "training.json"
RESULTS = ("nano", "parts", *(f"{stage}.ckpt" for stage in STAGES))
"""What a run leaves in its folder, and may replace there."""

LLM: dict[str, Any] = {
    "model_type": "bailing_moe_v2",
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    # Few wide heads: on CPU attention over short rows costs by the number of scores.
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 48,
    "partial_rotary_factor": 1.0,
    "use_qk_norm": True,
    "num_experts": 8,
    "num_shared_experts": 2,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 2,
    "norm_topk_prob": True,
    "moe_router_topk_scaling_factor": 1.0,
    "use_expert_bias": True,
    "router_type": "MultiRouter",
    "moe_intermediate_size": 128,
    "first_k_dense_replace": 0,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "rope_scaling": {"type": "video_rope", "factor": None},
    "max_position_embeddings": 4096,
    "use_interleaved_frame_timestamp": True,
    "tie_word_embeddings": False,
    "use_qkv_bias": False,
    "use_bias": False,
}
VISION: dict[str, Any] = {
    "model_type": "qwen2_5_vit",
    "depth": 6,
    "hidden_size": 192,
    "num_heads": 6,
    "intermediate_size": 512,
    "out_hidden_size": 384,
    "in_channels": 3,
    "patch_size": 8,
    "temporal_patch_size": 2,
    "spatial_merge_size": 2,
    "window_size": 32,
    "fullatt_block_indexes": [1, 3, 5],
    "tokens_per_second": 2,
    "hidden_act": "silu",
}
HEARING: dict[str, Any] = {
    "model_type": "whisper",
    "whisper_encoder_config": {
        "n_mels": 80,
        "n_ctx": 400,  # 8 s at once
        "n_state": 192,
        "n_head": 3,
        "n_layer": 4,
    },
    # 25 tokens a second.
    "ds_kernel_size": 3,
    "ds_stride": 2,
}
PREPROCESSOR: dict[str, Any] = {
    "image_processor_type": "BailingMM2ImageProcessor",
    # Every picture is brought to about 64 x 64 px: 16 tokens.
    "min_pixels": 4096,
    "max_pixels": 4096,
    "patch_size": 8,
    "temporal_patch_size": 2,
    "merge_size": 2,
    # Training shows squares only: others become square, half by stretching, half by filling up.
    "square_stretch": 0.5,
    "use_interleaved_frame_timestamp": True,
    # Videos: the same size, 2 frames per second, 4 to 8 of them in training.
    "video_min_pixels": 4096,
    "video_max_pixels": 4096,
    "video_fps": 2.0,
    "video_max_frames": 8,
}
TASKS: dict[str, Any] = {
    "describe": {"en": "describe the picture.", "zh": "描述这张图。"},
    "describe_video": {"en": "what moves?", "zh": "什么在移动？"},
    "read": {"en": "read the text.", "zh": "读出文字。"},
    "ground": {"en": "locate the {name}.", "zh": "定位{name}。"},
    "click": {"en": "click the {name}.", "zh": "点击{name}。"},
    "box_scale": CANVAS,
    "box_style": "plain",
}
"""How nano's training worded the tasks of ming-vision, in place of the releases' sentences."""

SPEECH_TASKS: dict[str, Any] = {
    "hotwords": PROMPTS.hotwords,
    "hotword_separator": PROMPTS.hotword_separator,
    "languages": dict(PROMPTS.languages),
    "pause": 0.3,  # it was taught single sentences
    "compare_hotwords": True,  # and with lists of names only
}
"""How nano's training worded the tasks of ming-audio, where not as the releases."""

IDENTITY = (
    "attention.dense.weight",
    "down_proj",
    "down_proj.weight",
    "attn.out.weight",
    "mlp.2.weight",
)
"""Last matrices of the branches of a layer."""

TOKEN_FIELDS = {
    "pad_token_id": "<|endoftext|>",
    "eos_token_id": "<|role_end|>",
    "image_patch_token": "<imagePatch>",
    "video_patch_token": "<framePatch>",
    "image_start_token": "<image>",
    "video_start_token": "<video>",
}


def released_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json of the whole model, in the released form."""
    vocabulary = -(-tokenizer.vocab_size // 64) * 64  # padding rows, as in the releases
    ids = {field: tokenizer.id(token) for field, token in TOKEN_FIELDS.items()}
    return {
        "architectures": ["BailingMM2NativeForConditionalGeneration"],
        "model_type": "bailingmm_moe_v2_lite",
        "torch_dtype": "bfloat16",
        "mlp_depth": 2,
        "llm_config": {**LLM, "vocab_size": vocabulary, **ids},
        "vision_config": VISION,
        "vision_tasks": TASKS,
        "audio_config": HEARING,
        "audio_tasks": SPEECH_TASKS,
    }


def build(config: dict[str, Any], seed: int) -> Omni:
    """A freshly initialised model in bf16."""
    torch.manual_seed(seed)
    backbone = Backbone(backbone_of(config))
    eyes = QwenVisionEncoder.from_config(config, PREPROCESSOR)
    ears = AudioEncoder.from_config(config, PREPROCESSOR)
    width = config["llm_config"]["hidden_size"]
    with torch.no_grad():
        # Image tokens have length 1: word embeddings start at the same scale.
        backbone.word_embeddings.weight.normal_(std=width**-0.5)
        backbone.lm_head.weight.normal_(std=0.5 * width**-0.5)
        # Layers start as identities: at random their outputs would drown those short vectors, and
        # with them what an image token says. So it is with the states of sounds, which the table of
        # positions would drown as well.
        for name, parameter in (*backbone.named_parameters(), *ears.named_parameters()):
            if name.endswith(IDENTITY):
                parameter.zero_()
        for tower in ears.modules():
            if isinstance(tower, WhisperTower):
                tower.positional_embedding.mul_(0.1)
                for conv in (tower.conv1, tower.conv2):
                    conv.weight.mul_(2)
    return Omni(backbone, {"image": eyes, "audio": ears}).to(torch.bfloat16)


@dataclass(eq=False)
class Examples(IterableDataset):
    """Training batches of a stage from step `start` on; process `rank` of `world` takes every
    `world`-th batch."""

    config: NanoPerception
    packer: Packer
    listening: Listening
    stage: str
    start: int
    rank: int
    world: int

    def __iter__(self) -> Iterator[PackedBatch | Sounds]:
        for step in range(self.start, stage_steps(self.config, self.stage)):
            turn = step * self.world + self.rank
            if self.stage == "hearing":
                size = self.config.hearing_sounds
                uses = range(turn * size, (turn + 1) * size)
                yield Sounds.joined([self.listening(use) for use in uses])
            else:
                yield self.packer(self._rows(step, turn))

    def _rows(self, step: int, turn: int) -> list[Row]:
        config = self.config
        size = pictures(config, self.stage)
        # No picture is seen twice: each stage goes on where the one before ended.
        before = STAGES[: STAGES.index(self.stage)]
        seen = sum(stage_steps(config, stage) * pictures(config, stage) for stage in before)
        first = seen * self.world + turn * size
        wanted = mix(config, self.stage, step)
        rows = [row_of(training_example(first + i, wanted)) for i in range(size)]
        if self.stage == "senses":
            sounds = config.senses_sounds
            # The uses go on where "hearing" ended.
            used = config.hearing_steps * config.hearing_sounds * self.world
            used += turn * WINDOW * sounds
            uses = chosen(self.listening, used, sounds, config.senses_sentences)
            rows += speech_rows(self.packer, self.listening, uses, config.senses_spoken)
        return rows


def pictures(config: NanoPerception, stage: str) -> int:
    """Pictures and videos per step and process."""
    if stage == "hearing":
        return 0
    sizes = {"sight": config.sight_images, "senses": config.senses_images}
    return sizes.get(stage, config.images)


def mix(config: NanoPerception, stage: str, step: int) -> Mix:
    """What the examples of a training step are made of."""
    if stage == "sight":
        text, video = config.sight_text, config.sight_video
        return Mix(questions=0, text=text, video=video, still_clips=True)
    new = {name: getattr(config, name) for name in ("more_phrases", "framed", "unknown")}
    if stage == "language":
        return Mix(
            **new,
            max_objects=2 if step < config.easy_steps else MAX_OBJECTS,
            text=config.language_text,
            video=config.language_video,
            dialogue=config.language_dialogue,
            focus=config.language_focus,
        )
    joint = stage == "joint"
    return Mix(
        **new,
        text=config.joint_text,
        video=config.joint_video if joint else config.senses_video,
        dialogue=config.joint_dialogue,
        think=config.joint_think,
        focus=config.joint_focus if joint else config.senses_focus,
    )


class Stage(LightningDataModule):
    """Feeds one stage and knows the step from which a resumed run goes on."""

    def __init__(
        self, config: NanoPerception, packer: Packer, listening: Listening, stage: str
    ) -> None:
        super().__init__()
        self.parts = config, packer, listening, stage

    def train_dataloader(self) -> DataLoader[PackedBatch | Sounds]:
        trainer = self.trainer
        assert trainer is not None
        now = trainer.global_step, trainer.global_rank, trainer.world_size
        return DataLoader(Examples(*self.parts, *now), batch_size=None)


def train(config: NanoPerception, command: str) -> None:
    """Run what is still missing of the stages, then write and score the result.

    Raises BadConfig for a setting that cannot be used, and what `running` raises.
    """
    check(config)
    out = Path(config.out)
    with running(out, config, command, RESULTS, config.processes) as run:
        if (out / "nano" / REPORT).exists():
            run.note(f"this run is finished; its result is in {out / 'nano'}")
            return
        _train(config, command, run)


def _train(config: NanoPerception, command: str, run: Run) -> None:
    seed_everything(config.seed)
    torch.set_num_threads(1)
    out = run.folder
    words = tokenizer_files(config)
    recordings = recordings_of(config, out / "speech")
    if rank_zero_only.rank == 0:
        for some in recordings:
            some.prepare()
    tokenizer = Tokenizer(words[0].parent)
    released = released_config(tokenizer)
    omni = build(released, config.seed)
    eye = cast(QwenVisionEncoder, omni.encoders["image"])
    parts = omni.backbone.config, release_of(released), tokenizer, eye.processor
    packer, senses = (Packer(*parts, size) for size in (config.capacity, config.senses_capacity))
    width = omni.backbone.config.hidden_size
    ear = cast(AudioEncoder, omni.encoders["audio"]).config.listening
    heads = DenseHeads(width).to(torch.bfloat16)
    ctc = CTCHeads(ear.config.width, width, packer.tokenizer).to(torch.bfloat16)
    variety = Variety(config.joined_sounds, config.wordless_sounds, config.other_lists)
    training, validation = (Listening(some, ear, packer.tokenizer, variety) for some in recordings)
    learnt = nn.ModuleDict({"omni": omni, "heads": heads, "ctc": ctc})
    first, saved = last_state(run, config, learnt)
    for stage in STAGES[first:]:
        if stage == "senses" and saved is None:
            hear_as_read(omni.backbone)
        rows = senses if stage == "senses" else packer
        module = Perception(config, omni, heads, ctc, rows, validation, stage)
        fit(module, Stage(config, rows, training, stage), saved, run)
        saved = None
    run.stop.patient = False
    if run.stop.asked:
        raise run.stopped(run.stop.asked, "after the last stage")
    if rank_zero_only.rank == 0:
        some = Examples(config, senses, training, "senses", start=0, rank=0, world=1)
        batches = (batch for batch in some if isinstance(batch, PackedBatch))
        settle_routers(omni, islice(batches, config.settle_steps), config.settle_rate)
        ship(config, omni, released, command)


def tokenizer_files(config: NanoPerception) -> list[Path]:
    """The two files of the tokenizer, which are made where they are missing."""
    out = Path(config.out)
    files = [out / "tokenizer.json", out / "tokenizer_config.json"]
    if not all(file.exists() for file in files):
        train_tokenizer(out, seed=config.seed)
    return files


def last_state(run: Run, config: NanoPerception, parts: nn.Module) -> tuple[int, Path | None]:
    """Index of the stage to go on with, and the file with its state if it has begun.

    Afterwards parts hold what was learnt; a state holds what the stages before it learnt, too.
    Raises BadCheckpoint if no state can be used.
    """
    newest = [run.folder / f"{stage}.ckpt" for stage in reversed(STAGES)]

    def wrong(path: Path, state: State) -> str | None:
        if state.get("stage") != path.name.partition(".")[0]:
            return "it is no state of this stage"
        return other_weights(state, parts)

    found = newest_state((at for path in newest for at in (path, before(path))), wrong, run.note)
    if found is None:
        return 0, None
    path, state = found
    parts.load_state_dict(state["state_dict"])
    stage = STAGES.index(state["stage"])
    ended = state["global_step"] >= stage_steps(config, state["stage"])
    return (stage + 1, None) if ended else (stage, path)


def hear_as_read(backbone: Backbone) -> None:
    """Let the routers of sounds begin as those of text: after "hearing", a sound token lies where
    its word lies."""
    for mixture in backbone.mixtures:
        text, _, audio = mixture.gates
        audio.load_state_dict(text.state_dict())


def fit(module: Perception, data: Stage, saved: Path | None, run: Run) -> None:
    """Train one stage, from its start or from a state; raises Stopped if asked to stop."""
    config = module.config
    keep = Keep(run.folder / f"{module.stage}.ckpt", config.save_every, run.stop)
    trainer = Trainer(
        accelerator="cpu",
        devices=config.processes,
        strategy="ddp" if config.processes > 1 else "auto",
        max_steps=module.total_steps,
        gradient_clip_val=config.clip,
        callbacks=[keep],
        plugins=[SafeCheckpoints()],
        enable_checkpointing=False,
        logger=False,
        default_root_dir=run.folder,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data, ckpt_path=saved, weights_only=True)
    if keep.stopped_by:
        where = f"at step {trainer.global_step} of stage {module.stage!r}"
        raise run.stopped(keep.stopped_by, where)


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
    words = tokenizer_files(config)
    vision = {"vision_config", "mlp_depth", "vision_tasks"}
    audio = {"audio_config", "mlp_depth", "audio_tasks"}
    shares = {
        "backbone": ({k: v for k, v in released.items() if k not in vision | audio}, words),
        "vision": ({k: released[k] for k in sorted(vision)}, [preprocessor]),
        "audio": ({k: released[k] for k in sorted(audio)}, []),
    }
    export(tables, folder, released, files=[*words, preprocessor])
    for name, (section, files) in shares.items():
        export({name: tables[name]}, parts / name, section, files=files)
    model = load(folder)
    loads = router_loads(model, held_out_talks(model, config.test_images))
    draw_loads(loads, out / "routers.png")
    report = {
        "recipe": "nano-perception",
        "command": command,
        "settings": asdict(config),
        "world": WORLD,
        "world_fingerprint": {split: fingerprint(split) for split in SPLITS},
        "images": config.processes
        * sum(stage_steps(config, stage) * pictures(config, stage) for stage in STAGES),
        "utterances": config.processes
        * (
            config.hearing_steps * config.hearing_sounds
            + config.senses_steps * config.senses_sounds
        ),
        "seconds": training_seconds(out / "loss.jsonl"),
        "machine": f"{platform.machine()}, {config.processes} processes of one thread",
        "torch": torch.__version__,
        "backbone": weights_fingerprint(open_checkpoint(parts / "backbone")),
        "metrics": rounded(evaluate(model, config.test_images, partial(track, transient=True))),
        "experts": rounded(load_scores(loads)),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    for written in (*(parts / name for name in shares), folder):  # the last one ends the run
        write_file(written / REPORT, text)


def training_seconds(log: Path) -> int:
    """Seconds of all runs in a loss log; the clock starts again with each stage and each resume."""
    clock = [row["seconds"] for row in read_rows(log) if isinstance(row.get("seconds"), int)]
    return sum(now for now, after in pairwise([*clock, -1]) if after < now)


def rounded(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {name: {k: round(v, 4) for k, v in row.items()} for name, row in scores.items()}


RECIPE = Recipe(NanoPerception, train)
