"""What nano knows, made from its world: `python -m ming_recipes.nano.scores.knowledge`.

Writes the section `knows` of its config.json from the vocabulary and the phrases of shapes world,
and, into the folders of its eyes and ears, what its encoders make of pictures and speech of that
world. A medium is familiar if the mean of its embeddings is not too far from theirs (Mahalanobis
distance). The limit is set on media of the training split that the fit did not see; tests/nano
measures on others, photos, screenshots, noise and music. docs/nano.md has the figures. To be run
again when the weights change; needs espeak-ng and flite.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image as pil
from PIL import ImageDraw
from safetensors.torch import save_file

from ming_core.api import OmniModel, load
from ming_core.checkpoints.knowledge import SECTION, Familiar, familiar_name
from ming_core.media import Audio, Frames, Image, Media, Video
from ming_core.model.seen import Seen, encode
from ming_core.output import write_file
from ming_core.presets import preset_folders
from ming_recipes.nano.world.motion import FPS, clip_of
from ming_recipes.nano.world.phrases import FOLLOW_UPS, PHRASES
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import generator, scene_of
from ming_recipes.nano.world.speech import HEARD_PHRASES, utterance_of
from ming_recipes.nano.world.vocabulary import (
    COLOR_RGB,
    COLORS,
    HUE_RGB,
    PLURALS,
    RELATIONS,
    SHAPES,
    SIZES,
    Language,
    Word,
)
from ming_recipes.nano.world.voices import speak

SUMMARY = "coloured shapes and its own sentences about them; `ming models nano` lists them"
CONFIDENCE = 0.7
"""Mean probability of an answer's tokens below which nano is not sure."""

LIMITS = (
    "It sees pictures and videos as 64 x 64 pixels, with one to five shapes and a short text.",
    "It hears sentences about shapes, people and numbers, one at a time.",
    "A question must be about a picture, a video or a sound.",
    "Other questions, photos and screenshots are answered in the words of its world, and wrongly.",
)
LANGUAGES: tuple[Language, ...] = ("en", "zh")
PICTURES = 4000
SOUNDS = 1200
STREAM = 11  # of the random numbers of a picture's index
ALLOWED = 0.99
"""Share of its own media that are to be familiar."""

EVEN = {"image": 0.001, "audio": 0.1}
"""Variance added in every direction, as a share of the mean, so that those in which next to nothing
varies do not decide alone. Sounds are fewer and vary more."""


def section() -> dict[str, Any]:
    """The section `knows`: all words and sentences of the world, and nothing else."""

    def both(table: Mapping[Any, Word]) -> dict[str, list[str]]:
        return {language: [word[language] for word in table.values()] for language in LANGUAGES}

    words: dict[str, dict[str, list[str]]] = {
        "size": both(SIZES),
        "color": both(COLORS),
        "shape": both(SHAPES),
        "plural": both(PLURALS),
        "rel": both(RELATIONS),
        "name": {
            "en": ["{shape}", "{color} {shape}", "{size} {color} {shape}"],
            "zh": ["{shape}", "{color}{shape}", "{size}{color}{shape}"],
        },
        "a_name": {"en": ["a {name}", "an {name}"], "zh": ["{name}"]},
        "a": {"en": ["{name}"], "zh": ["{name}"]},
        "b": {"en": ["{name}"], "zh": ["{name}"]},
    }
    sentences = {
        kind: {language: list(phrases[language]) for language in LANGUAGES}
        for kind, phrases in (PHRASES | HEARD_PHRASES).items()
    }
    for kind, phrases in FOLLOW_UPS.items():
        sentences[f"{kind} of it"] = {language: list(phrases[language]) for language in LANGUAGES}
    return {
        "summary": SUMMARY,
        "confidence": CONFIDENCE,
        "limits": list(LIMITS),
        "words": words,
        "sentences": sentences,
    }


def pictures(split: str, count: int) -> Iterator[Media]:
    """Media of the world as people keep them: enlarged, compressed, drawn by hand, and videos."""
    for index in range(count):
        rng = generator(index, STREAM)
        if index % 8 == 7:
            clip = clip_of(split, index)
            seconds = [frame / FPS for frame in range(clip.frames)]
            yield Video(Frames(list(clip.pictures()), seconds))
        elif index % 8 == 6:
            yield Image(drawn(rng))
        else:
            yield Image(_kept(pil.fromarray(render(scene_of(split, index))), rng))


def drawn(rng: np.random.Generator, size: tuple[int, int] | None = None) -> pil.Image:
    """A flat drawing with one to four shapes of the world, as somebody would make it.

    size: width and height; by default one that screens have.
    """
    sizes = ((64, 64), (256, 256), (640, 640), (640, 480), (1280, 720), (480, 800))
    width, height = size or sizes[int(rng.integers(len(sizes)))]
    light = [hue for name, hue in HUE_RGB.items() if name != "night"]
    page = pil.new("RGB", (width, height), tuple(light[int(rng.integers(len(light)))]))
    draw = ImageDraw.Draw(page)
    unit = min(width, height)
    places = [(x, y) for x in (0.25, 0.75) for y in (0.25, 0.75)]
    chosen = rng.permutation(4)[: int(rng.integers(1, 5))]
    colors = rng.permutation(list(COLOR_RGB))
    for place, color in zip(chosen, colors, strict=False):
        radius = unit * rng.uniform(0.1, 0.2)
        x, y = (places[place][axis] * side for axis, side in enumerate((width, height)))
        _draw_shape(draw, str(rng.choice(list(SHAPES))), x, y, radius, COLOR_RGB[color], page)
    return page


def sounds(count: int) -> Iterator[Audio]:
    """Utterances of training, louder or softer, most of them with some noise."""
    for index in range(count):
        rng = generator(index, STREAM)
        samples = np.asarray(speak(utterance_of("train", index)), np.float32)
        if rng.random() < 0.75:
            samples = samples * 10 ** (rng.uniform(-20, 3) / 20)
            level = np.abs(samples).std() * 10 ** (-rng.uniform(10, 45) / 20)
            samples = samples + level * rng.standard_normal(len(samples))
        yield Audio(samples.astype(np.float32), "transcribe")


def fit(model: OmniModel, media: Iterable[Media], even: float) -> Familiar:
    """What the means of encoded media look like; the limit is that of the last fifth of them."""
    means = torch.stack([values.mean(0) for values in encoded_media(model, media)]).double()
    count = len(means) * 4 // 5
    known = means[:count]
    values, vectors = torch.linalg.eigh(known.T.cov())
    whitening = vectors / (values + even * values.mean()).sqrt()
    familiar = Familiar(known.mean(0).float(), whitening.half().float(), 0.0)
    held_out = torch.tensor([familiar.distance(row[None]) for row in means[count:]])
    return Familiar(familiar.mean, familiar.whitening, float(held_out.quantile(ALLOWED)))


def encoded_media(model: OmniModel, media: Iterable[Media]) -> Iterator[torch.Tensor]:
    """Embeddings [tokens, D] of each medium."""
    group: list[Seen] = []
    for medium in media:
        group.append(Seen(model.encoder(medium.modality).processor([medium])))
        if len(group) == 64:
            yield from _encode(model, group)
            group = []
    yield from _encode(model, group)


def main() -> None:
    folders = preset_folders("nano")
    place = folders["backbone"] / "config.json"
    config = json.loads(place.read_text("utf-8")) | {SECTION: section()}
    write_file(place, json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    model = load("nano")
    media = {"image": ("vision", pictures("train", PICTURES)), "audio": ("audio", sounds(SOUNDS))}
    for modality, (part, those) in media.items():
        familiar = fit(model, those, EVEN[modality])
        tensors = {
            "mean": familiar.mean,
            "whitening": familiar.whitening.half().contiguous(),
            "limit": torch.tensor(familiar.limit),
        }
        save_file(tensors, folders[part] / familiar_name(modality))
        print(f"{modality}: familiar up to a distance of {familiar.limit:.1f}")


@torch.inference_mode()
def _encode(model: OmniModel, group: list[Seen]) -> Iterator[torch.Tensor]:
    encode(model.omni, group, model.sources.device, model.sources.dtype)
    for seen in group:
        assert seen.values is not None
        yield seen.values.clone()


def _kept(picture: pil.Image, rng: np.random.Generator) -> pil.Image:
    """A picture as it is, enlarged, or enlarged and compressed."""
    way = int(rng.integers(4))
    if way == 0:
        return picture
    side = 64 * int(rng.integers(1, 9))
    filters = (pil.Resampling.NEAREST, pil.Resampling.BILINEAR, pil.Resampling.BICUBIC)
    picture = picture.resize((side, side), filters[int(rng.integers(3))])
    if way < 3:
        return picture
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
    return pil.open(buffer).convert("RGB")


def _draw_shape(
    draw: ImageDraw.ImageDraw,
    shape: str,
    x: float,
    y: float,
    r: float,
    color: tuple[int, int, int],
    page: pil.Image,
) -> None:
    box = (x - r, y - r, x + r, y + r)
    if shape in ("circle", "ring", "moon"):
        behind = page.getpixel((2, 2))
        draw.ellipse(box, fill=color)
        if shape == "ring":
            draw.ellipse((x - r * 0.55, y - r * 0.55, x + r * 0.55, y + r * 0.55), fill=behind)
        if shape == "moon":
            draw.ellipse((x - r * 0.45, y - r, x + r * 1.55, y + r), fill=behind)
    elif shape == "square":
        draw.rectangle((x - r * 0.85, y - r * 0.85, x + r * 0.85, y + r * 0.85), fill=color)
    elif shape == "cross":
        draw.rectangle((x - r, y - r / 3, x + r, y + r / 3), fill=color)
        draw.rectangle((x - r / 3, y - r, x + r / 3, y + r), fill=color)
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x + r * 0.87, y + r / 2), (x - r * 0.87, y + r / 2)], fill=color)
    elif shape == "star":
        turn = np.pi / 5 * np.arange(10) - np.pi / 2
        reach = np.where(np.arange(10) % 2, r * 0.45, r)
        draw.polygon(list(zip(x + reach * np.cos(turn), y + reach * np.sin(turn))), fill=color)
    else:  # heart
        draw.ellipse((x - r, y - r * 0.9, x + r * 0.08, y + r * 0.2), fill=color)
        draw.ellipse((x - r * 0.08, y - r * 0.9, x + r, y + r * 0.2), fill=color)
        draw.polygon(
            [(x - r * 0.93, y - r * 0.1), (x + r * 0.93, y - r * 0.1), (x, y + r)], fill=color
        )


if __name__ == "__main__":
    main()
