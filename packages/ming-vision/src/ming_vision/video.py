"""Frames of a video, one at a time: files of any kind, folders, lists and arrays.

A file is read twice. The first pass reads its packets without decoding them (`video_packets`). They
say when each frame is shown (`video_index`). The second pass decodes (`video_decoding`). For each
frame that is used, it starts at the nearest place where decoding can start. So a long video needs
little memory, and most of its other frames are never decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image as pil

from ming_core.errors import BadMedia
from ming_core.media import Frames, Image, kind_of_name
from ming_core.media.files import MediaFile, MediaSource
from ming_vision import animation
from ming_vision.image import open_image
from ming_vision.options import VideoSampling
from ming_vision.sampling import LISTED_FPS, VideoRule, check_any, check_sampled
from ming_vision.video_index import chosen
from ming_vision.video_parts import every_picture, in_turn, parts_of, pictures_at


@dataclass(frozen=True)
class VideoFrames:
    """The frames that are used.

    pictures: RGB pictures, decoded when they are asked for. seconds: their times.
    """

    pictures: Iterator[pil.Image]
    seconds: tuple[float, ...]


def read_video(source: Any, rule: VideoRule, sampling: VideoSampling | None = None) -> VideoFrames:
    """The frames of `source` that the rule chooses.

    The source is one of these:

    - the path, `file://` URI, pipe or bytes of a video file. If the file holds a still picture, it
      is a video of one frame.
    - the path of a folder of frames, which are sorted by name, with numbers in their order.
    - a sequence of pictures, or a uint8 array or tensor [T, H, W, 3].
    - `Frames`, which are all used.

    Folders, sequences and arrays count as 2 frames per second.

    Times count from the start of the file, as in a player: if the picture begins 3 s after the
    sound, the first frame is at 3 s. A pause keeps its length. If the clock of a file jumps or
    starts again, the next piece follows the one before; the same holds for mp4s that were joined.
    Frames that an edit list hides are left out. Recordings that are mirrored or turned are put
    upright. Pixels that are not square stay as they are, as in the reference.

    If a file is cut short or damaged, the frames that can be decoded are used, and a note says so.
    Raises BadMedia, here or while the pictures are decoded.
    """
    if isinstance(source, Frames):
        return _given(source)
    if isinstance(source, MediaSource):
        file = MediaFile.find(source, "video")
        if file.folder:
            return _listed(_pictures_in(file.folder), rule, sampling, file.name)
        form = _form(file)
        if form == "picture":
            return _listed([file], rule, sampling, file.name)
        if form == "animation":
            targets, seconds = chosen(animation.scan(file), rule, sampling)
            return VideoFrames(animation.pictures_at(file, targets), tuple(seconds))
        parts = parts_of(file)
        index = in_turn([index for _, index in parts])
        targets, seconds = chosen(index, rule, sampling)
        return VideoFrames(pictures_at(parts, index.times, targets), tuple(seconds))
    if isinstance(source, np.ndarray | torch.Tensor):
        if source.ndim != 4:
            raise BadMedia(
                f"an array of a video must be uint8 [frames, height, width, 3], not "
                f"{list(source.shape)}; give a single picture as an image"
            )
        return _listed(source, rule, sampling, "the video")
    if isinstance(source, Sequence):
        return _listed(source, rule, sampling, "the video")
    raise BadMedia(
        f"cannot read a video from {type(source).__name__}; give the path of a file or folder, a "
        "list of pictures or a uint8 array [frames, height, width, 3]"
    )


def open_stream(source: MediaSource) -> Iterator[tuple[float, pil.Image]]:
    """Yield (seconds, RGB picture) of every frame of a video file, at least one.

    Times and pictures are those of `read_video`. The pictures of a folder come at 2 per second.
    Only one picture is in memory at a time. Raises BadMedia as `read_video` does.
    """
    file = MediaFile.find(source, "video")
    form = "picture" if file.folder else _form(file)
    if form == "picture":
        pictures = _pictures_in(file.folder) if file.folder else [file]
        for number, picture in enumerate(pictures):
            yield number / LISTED_FPS, open_image(picture)
    elif form == "animation":
        yield from ((time / 1000, picture) for time, picture in animation.play(file))
    else:
        yield from every_picture(file)


def _given(frames: Frames) -> VideoFrames:
    """Frames that somebody has chosen."""
    seconds = tuple(map(float, frames.seconds))
    check_any(len(seconds), "the video")
    check_sampled(len(seconds))
    if not all(map(isfinite, seconds)):
        raise BadMedia("a frame has a time that is no finite number; give the seconds of each")
    return VideoFrames(map(open_image, frames.pictures), seconds)


def _listed(
    pictures: Any, rule: VideoRule, sampling: VideoSampling | None, name: str
) -> VideoFrames:
    """Frames of a sequence, or of an array along its first axis."""
    check_any(len(pictures), name)
    plan = rule.plan(len(pictures), LISTED_FPS, sampling, listed=True)
    return VideoFrames((open_image(pictures[i]) for i in plan.indices), tuple(plan.seconds))


def _pictures_in(folder: Path) -> list[Path]:
    """Paths of the pictures in a folder, `frame9` before `frame10`."""

    def by_number(path: Path) -> list[tuple[int, str]]:
        pieces = re.findall(r"\d+|\D+", path.name)
        return [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces]

    paths = [p for p in folder.iterdir() if kind_of_name(p) is Image and p.name[0] != "."]
    if not paths:
        raise BadMedia(
            f"the folder {str(folder)!r} holds no pictures (.png, .jpg, .webp, ...); give the path "
            "of a video file or of a folder of frames"
        )
    return sorted(paths, key=by_number)


def _form(file: MediaFile) -> Literal["picture", "animation", "video"]:
    """How a file is read, by its content. Raises BadMedia if it cannot be opened."""
    with file.open() as handle:
        head = handle.read(12)
    if head[4:8] == b"ftyp":  # of AVIF and HEIC, too, FFmpeg plays what moves
        return "video"
    if file.content() == "image":
        return "picture"
    return "animation" if head[:4] == b"\x89PNG" or head[8:] == b"WEBP" else "video"
