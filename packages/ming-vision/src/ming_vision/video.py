"""Frames of a video, one at a time: files of any kind, folders, lists and arrays.

A file is read twice. The first pass only looks at its packets, which gives the number of frames,
their times and where decoding can start, whatever the header claims. The second decodes from the
nearest such place to each frame that is looked at, so that a long video costs neither memory nor
the decoding of what lies between.
"""

from __future__ import annotations

import re
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image as pil

from ming_core.errors import BadMedia
from ming_core.media import Frames, VideoSampling
from ming_core.mediafile import MediaFile, MediaSource
from ming_vision.image import MAX_PIXELS, open_image
from ming_vision.sampling import LISTED_FPS, VideoRule, check_sampled

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    _Timed = tuple[int, VideoFrame]

MAX_PACKETS = 2_000_000
"""Most frames of a file (18 hours at 30 per second). Nothing here reads further."""

MAX_DAMAGED = 100
"""Packets of one file that may fail to decode; players skip them, too."""

DECODER_THREADS = 4
"""Each keeps frames of full size in memory, so not as many as there are cores."""

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,h264,hevc,"
    "yuv4mpegpipe,wav,mp3,flac,aac"
)
"""What a file may be: no playlist, which would make the decoder open other files or addresses."""

KNOWN = "expected mp4, mkv, webm, mov, avi or gif"

PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})

_TURNS = {
    90: pil.Transpose.ROTATE_90,
    180: pil.Transpose.ROTATE_180,
    270: pil.Transpose.ROTATE_270,
}
"""By the counter-clockwise angle of the display matrix."""


@dataclass(frozen=True)
class VideoFrames:
    """Sampled frames. pictures: RGB, decoded as they are asked for, once. seconds: their times."""

    pictures: Iterator[pil.Image]
    seconds: tuple[float, ...]


def read_video(source: Any, rule: VideoRule, sampling: VideoSampling | None = None) -> VideoFrames:
    """The frames of `source` that the rule looks at.

    source: path, `file://` URI or bytes of a video file; path of a folder of frames, which are
    sorted by name, numbers by value; sequence of pictures; array or tensor [T, H, W, 3] uint8;
    `Frames`, which are all taken. Folders, sequences and arrays count as 2 frames per second.
    A file that holds a still picture, whatever its name, is a video of one frame. Times count from
    the first frame. Recordings with a quarter turn are put upright; pixels that are not square stay
    so, as in the reference. Raises BadMedia, here or while the pictures are decoded.
    """
    if isinstance(source, Frames):
        pictures = source.pictures
        _check_count(len(pictures), "the video")
        check_sampled(len(pictures))
        return VideoFrames(map(open_image, pictures), tuple(map(float, source.seconds)))
    if isinstance(source, MediaSource):
        file = MediaFile.find(source, "video")
        if file.folder:
            return _listed(_pictures_in(file.folder), rule, sampling, file.name)
        if _is_picture(file):
            return _listed([source], rule, sampling, file.name)
        return _from_file(file, rule, sampling)
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


def open_stream(source: Any) -> Iterator[tuple[float, pil.Image]]:
    """(seconds since the first frame, RGB picture) of every frame of a video file in turn.

    Of a folder, its pictures at 2 per second. Only one picture is held at a time. Raises BadMedia
    as `read_video` does.
    """
    file = MediaFile.find(source, "video")
    if file.folder:
        for number, path in enumerate(_pictures_in(file.folder)):
            yield number / LISTED_FPS, open_image(path)
        return
    index = _scan(file)
    with _opened(file) as (container, stream):
        for time, frame in _decoded(file, container, stream, index.timed):
            yield float((time - index.times[0]) * index.tick), _upright(frame)


def _listed(
    pictures: Any, rule: VideoRule, sampling: VideoSampling | None, name: str
) -> VideoFrames:
    """Frames of a sequence, or of an array along its first axis."""
    _check_count(len(pictures), name)
    plan = rule.plan(len(pictures), LISTED_FPS, sampling, listed=True)
    return VideoFrames((open_image(pictures[i]) for i in plan.indices), tuple(plan.seconds))


def _pictures_in(folder: Path) -> list[Path]:
    """Paths of the pictures in a folder, `frame9` before `frame10`."""

    def by_number(path: Path) -> list[tuple[int, str]]:
        pieces = re.findall(r"\d+|\D+", path.name)
        return [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces]

    paths = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."]
    if not paths:
        raise BadMedia(
            f"the folder {str(folder)!r} holds no pictures ({', '.join(sorted(SUFFIXES))}); give "
            "the path of a video file or of a folder of frames"
        )
    return sorted(paths, key=by_number)


def _check_count(count: int, name: str) -> None:
    if not count:
        raise BadMedia(f"{name} has no frames; give at least one")


def _is_picture(file: MediaFile) -> bool:
    """Whether it is a still picture by its content; raises BadMedia for an animated one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pil.DecompressionBombWarning)
            with file.open() as handle, pil.open(handle, formats=PICTURES) as image:
                if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
                    raise BadMedia(
                        f"{file.name} is an animated {image.format}, which is not read as a video; "
                        "convert it to mp4, webm or gif"
                    )
                return True
    except BadMedia:
        raise
    except (pil.DecompressionBombError, pil.DecompressionBombWarning):
        return True  # `open_image` names the limit
    except Exception:  # Pillow raises nearly everything on what it does not know
        return False


@dataclass(frozen=True)
class _Index:
    """What the packets of a stream say, in ticks of the stream.

    times: when each frame is shown, ascending. keys: (shown at, seek to) of the frames that can be
    decoded without others, ascending. tick: seconds of one tick. rate: frames per second that the
    file claims. timed: whether the packets carry times at all; if not, times are frame numbers.
    """

    times: list[int]
    keys: list[tuple[int, int]]
    tick: Fraction
    rate: Fraction | None
    timed: bool

    @cached_property
    def step(self) -> float:
        """Mean ticks from one frame to the next; 0 for a single frame."""
        return (self.times[-1] - self.times[0]) / max(1, len(self.times) - 1)

    @cached_property
    def fps(self) -> float:
        """The claimed rate, which is exact where times are rounded, unless the times differ."""
        claimed = float(self.rate or 0)
        if not self.step:
            return claimed or LISTED_FPS
        counted = 1 / (self.step * float(self.tick))
        return claimed if abs(claimed - counted) < 0.01 * counted else counted

    @cached_property
    def steady(self) -> bool:
        """Whether every frame is where a constant rate would put it, give or take half a frame."""
        even = (self.times[0] + i * self.step for i in range(len(self.times)))
        return all(abs(t - e) <= self.step / 2 for t, e in zip(self.times, even))


def _from_file(file: MediaFile, rule: VideoRule, sampling: VideoSampling | None) -> VideoFrames:
    """Frames of a file; of variable frame rate those shown at evenly spaced moments."""
    index = _scan(file)
    total = len(index.times)
    plan = rule.plan(total, index.fps, sampling, own_times=not index.steady)
    if index.steady:
        targets, seconds = [index.times[i] for i in plan.indices], plan.seconds
    else:
        targets, seconds = _shown(index, plan.indices)
    return VideoFrames(_pictures(file, index, targets), tuple(seconds))


def _shown(index: _Index, numbers: Sequence[int]) -> tuple[list[int], list[float]]:
    """(times of frames in ticks, seconds) for numbers of evenly spaced moments.

    A frame that is still shown at a later moment is said to be at that moment.
    """
    start = index.times[0]
    targets: list[int] = []
    seconds: list[float] = []
    for number in numbers:
        moment = start + number * index.step
        shown = index.times[bisect_right(index.times, moment + 0.5) - 1]
        again = bool(targets) and targets[-1] == shown
        targets.append(shown)
        seconds.append(float(((moment if again else shown) - start) * float(index.tick)))
    return targets, seconds


@contextmanager
def _opened(file: MediaFile) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its first video stream. Raises BadMedia, also for errors inside the block."""
    import av
    from av.error import FFmpegError
    from av.stream import Disposition

    if file.is_empty():
        raise BadMedia(f"{file.name} is empty; {KNOWN}")
    limits = {"max_pixels": str(MAX_PIXELS)}  # of the decoder, also while it probes the file
    try:
        options = {"format_whitelist": FORMATS, **limits}
        with av.open(
            file.address(), mode="r", options=options, metadata_errors="replace"
        ) as container:
            streams = [
                s
                for s in container.streams.video
                if s.codec_context is not None  # a codec that nobody knows, or its name is lost
                and not s.disposition & Disposition.attached_pic  # the cover of a song
            ]
            if not streams:
                sound = "only sound" if container.streams.audio else "no video that can be found"
                raise BadMedia(
                    f"{file.name} holds {sound}; give a file with a video stream that is complete"
                )
            stream = streams[0]
            _check_size(stream.codec_context.width, stream.codec_context.height, file)
            stream.codec_context.options = limits
            stream.codec_context.thread_count = DECODER_THREADS
            stream.thread_type = "AUTO"
            yield container, stream
    except (FFmpegError, OSError) as error:
        raise BadMedia(
            f"{file.name} is no video in a known format, or it is damaged or cut short; {KNOWN}"
        ) from error


def _check_size(width: int, height: int, file: MediaFile) -> None:
    if not width or not height or width * height > MAX_PIXELS:
        size = f"{width} x {height} pixels" if width else "a size that is unknown or too large"
        raise BadMedia(
            f"{file.name} has frames of {size}; at most {MAX_PIXELS:,} pixels are allowed, so make "
            "it smaller first"
        )


def _scan(file: MediaFile) -> _Index:
    """Read all packets without decoding them. Raises BadMedia."""
    shown: list[int | None] = []
    keys: list[tuple[int, int]] = []
    with _opened(file) as (container, stream):
        promised = stream.frames
        read = 0
        for packet in _packets(container, stream):
            if not packet.size:  # the end
                continue
            read += 1
            if read > MAX_PACKETS:
                raise BadMedia(
                    f"{file.name} has more than the {MAX_PACKETS:,} frames allowed; cut it first"
                )
            if packet.is_discard:
                continue
            time = packet.pts if packet.pts is not None else packet.dts
            shown.append(time)
            if packet.is_keyframe and time is not None:
                keys.append((time, packet.dts if packet.dts is not None else time))
        tick, rate = stream.time_base or Fraction(1, 1000), stream.average_rate
    _check_count(len(shown), file.name)
    if read < promised:
        raise BadMedia(
            f"{file.name} is cut short: it promises {promised} frames and holds {read}; get the "
            "whole file"
        )
    times = sorted(time for time in shown if time is not None)
    if len(times) < len(shown):
        rate = rate or Fraction(25)
        return _Index(list(range(len(shown))), [], 1 / rate, rate, timed=False)
    return _Index(times, sorted(keys), tick, rate, timed=True)


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet]:
    """Packets up to the end, or to where the file cannot be followed any more."""
    from av.error import FFmpegError

    with suppress(FFmpegError):
        yield from container.demux(stream)


def _pictures(file: MediaFile, index: _Index, targets: Iterable[int]) -> Iterator[pil.Image]:
    """The picture on screen at each of the ascending times `targets`."""
    with _opened(file) as (container, stream):
        frames = _decoded(file, container, stream, index.timed)
        keys, at = index.keys, index.times[0]
        shown: _Timed | None = None
        ahead: _Timed | None = None
        for target in targets:
            key = bisect_right(keys, target, key=itemgetter(0)) - 1
            if key >= 0 and keys[key][0] > at:
                container.seek(keys[key][1], stream=stream)
                frames = _decoded(file, container, stream, index.timed)
                shown, ahead = None, next(frames, None)
                if ahead is None or ahead[0] > target:  # it cannot be sought: play from the start
                    container.seek(keys[0][1], stream=stream)
                    frames, keys, ahead = _decoded(file, container, stream, index.timed), [], None
            while shown is None or shown[0] < target:
                ahead = ahead or next(frames, None)
                if ahead is None or (shown and ahead[0] > target):
                    break
                shown, ahead = ahead, None
            if shown is None:
                raise BadMedia(f"no frame of {file.name} can be decoded; convert it to mp4 first")
            at = (ahead or shown)[0]
            yield _upright(shown[1])


def _decoded(
    file: MediaFile, container: InputContainer, stream: VideoStream, timed: bool
) -> Iterator[_Timed]:
    """(time in ticks, frame) from where the file stands; times are numbers if not `timed`."""
    from av.error import FFmpegError

    damaged, time = 0, -1
    for packet in _packets(container, stream):
        try:
            frames = packet.decode()
        except FFmpegError as error:
            damaged += 1
            if damaged > MAX_DAMAGED:
                raise BadMedia(
                    f"{file.name} is damaged: more than {MAX_DAMAGED} frames cannot be decoded; "
                    "convert it to mp4 first"
                ) from error
            continue
        for frame in frames:
            _check_size(frame.width, frame.height, file)
            time = frame.pts if timed and frame.pts is not None else time + 1
            yield time, frame


def _upright(frame: VideoFrame) -> pil.Image:
    """RGB picture, turned as the recording says; transparency is laid on white."""
    clear = frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)
    picture = open_image(frame.to_ndarray(format="rgba" if clear else "rgb24"))
    turn = _TURNS.get(frame.rotation % 360)
    return picture if turn is None else picture.transpose(turn)
