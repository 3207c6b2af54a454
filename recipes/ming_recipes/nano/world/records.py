"""Records as JSON lines: what is asked about which scene; pixels come back from the seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ming_core.errors import BadConfig
from ming_core.output import replacing
from ming_recipes.nano.world.language import KINDS, VIDEO_KINDS, follow_up, questions
from ming_recipes.nano.world.motion import clip_of
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import QUESTION_STREAM, generator, pick, scene_of, seed_of
from ming_recipes.nano.world.vocabulary import WORLD, Language
from ming_recipes.nano.world.wording import caption, draw_language

_TASKS = {"locate": "ground", "click": "click", "describe": "caption"}


def make_record(
    split: str,
    index: int,
    kind: str | None = None,
    lang: Language | None = None,
    held_out_phrasing: bool = False,
) -> dict[str, Any]:
    """One single-turn record about a picture, or about a video if `kind` is one of videos.

    Kind and language are drawn where not given. Raises BadConfig if the scene does not allow the
    kind (reading where nothing is written).
    """
    clip = clip_of(split, index) if kind in VIDEO_KINDS else None
    scene = scene_of(split, index)
    rng = generator(seed_of(split, index), QUESTION_STREAM)
    language = lang or draw_language(rng)
    kinds = None if kind is None else [kind]
    motion = clip.motion if clip else ()
    asked = questions(scene, rng, language, held_out_phrasing, kinds, motion)
    if not asked:
        raise BadConfig(
            f"scene {index} of split {split!r} allows no question of kind {kind!r}; "
            f"choose another index or one of: {', '.join(KINDS)}"
        )
    question = asked[0] if kind else pick(rng, asked)
    record = {
        "id": f"{split}-{index:06d}-{question.kind}",
        "world": WORLD,
        "split": split,
        "index": index,
        "task": "video_qa" if clip else _TASKS.get(question.kind, "vqa"),
        "kind": question.kind,
        "lang": language,
        "messages": [
            {
                "role": "HUMAN",
                "content": [
                    {"type": "video" if clip else "image", "source": "scene"},
                    {"type": "text", "text": question.question},
                ],
            },
            {"role": "ASSISTANT", "content": [{"type": "text", "text": question.answer}]},
        ],
        "scene": scene.to_dict(),
    }
    if clip:
        record["video"] = {"frames": clip.frames, "steps": [list(step) for step in clip.steps]}
    return record


def write_jsonl(path: Path | str, records: Iterable[dict[str, Any]]) -> int:
    """Write one record a line; returns their number. The file appears only when complete."""
    count = 0
    with replacing(Path(path)) as file:
        for record in records:
            line = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
            file.write(line.encode())
            count += 1
    return count


def read_jsonl(path: Path | str) -> Iterator[dict[str, Any]]:
    """Yield the records of a file; raises BadConfig with the line number of a broken one."""
    with Path(path).open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise BadConfig(
                    f"line {number} of {str(path)!r} is not JSON ({error.msg}); "
                    "expected one record a line"
                ) from error
            if not isinstance(record, dict):
                raise BadConfig(
                    f"line {number} of {str(path)!r} holds a {type(record).__name__}; "
                    "expected one JSON object a line"
                )
            yield record


def fingerprint(split: str, n: int = 32) -> str:
    """SHA-256 over pixels, scenes and all sentences of the first n records of a split, each as a
    still and as a video."""
    digest = hashlib.sha256()
    for index in range(n):
        scene, clip = scene_of(split, index), clip_of(split, index)
        digest.update(render(scene).tobytes())
        digest.update(clip.pictures().tobytes())
        rng = generator(seed_of(split, index), QUESTION_STREAM)
        said: list[Any] = [scene.to_dict()]
        for language in ("en", "zh"):
            said.append(caption(scene, rng, language))
            for held_out in (False, True):
                asked = questions(scene, rng, language, held_out)
                more = [follow_up(scene, item, rng, held_out) for item in asked]
                asked += [item for item in more if item is not None]
                asked += questions(scene, rng, language, held_out, motion=clip.motion)
                said += [[item.question, item.answer] for item in asked]
        digest.update(json.dumps(said, ensure_ascii=False, sort_keys=True).encode())
    return digest.hexdigest()
