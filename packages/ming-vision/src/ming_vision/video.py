"""Frames of a video, one at a time: files of any kind, folders, lists and arrays.

A file is read twice. The first pass only looks at its packets, which gives the number of frames,
their times and where decoding can start, whatever the header claims. The second decodes from the
nearest such place to each frame that is looked at, so that a long video costs neither memory nor
the decoding of what lies between.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import chain, pairwise
from math import isfinite
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image as pil

from ming_core.errors import BadMedia
from ming_core.media import Frames, VideoSampling
from ming_core.mediafile import MediaFile, MediaSource
from ming_core.notes import note_to_user
from ming_core.timeline import LONGEST_OF_BROADCASTS, LONGEST_PAUSE, MOST_REORDERED, Timeline
from ming_vision import animation
from ming_vision.image import open_image
from ming_vision.sampling import LISTED_FPS, VideoRule, check_sampled

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    _Timed = tuple[int, VideoFrame]

MAX_PACKETS = 2_000_000
"""Most frames of a file (18 hours at 30 per second). Nothing here reads further."""

MAX_PIXELS = 8192 * 4320
"""Largest width x height of a frame (8K). A decoder holds up to 20 of them."""

MAX_RATIO = 200
"""How many times as long as the other one side of a frame may be; encoders refuse more, too."""

MAX_DECODED = 1 << 39
"""Pixels that are decoded to look at a video: two and a half hours of 1080p without key frames."""

MAX_BROKEN = 100
"""Times that a file is read on behind a place that cannot be followed."""

MAX_BOXES = 1_000_000
"""Of an mp4, those that others lie in not counted."""

MICRO = Fraction(1, 1_000_000)
"""Seconds of a tick of the clock of several files."""

MAX_FPS = 1000

LATE = 0.1
"""Seconds by which the first frame may be late and still be at 0: encoders of sound start early."""

MISSING = 0.25
"""Seconds by which a file may be shorter than its header says."""

HEADED = frozenset({"mp4", "matroska", "avi", "flv", "asf"})
"""Formats whose header says how long they are."""

MAX_THREADED = 4096 * 2304
"""Pixels of a frame up to which several threads decode."""

ALIGNED = 100
"""How many times as large the one half of a display matrix must be for a whole quarter turn."""

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
    (-1, 0, 0, 1): pil.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): pil.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): pil.Transpose.ROTATE_180,
    (0, 1, 1, 0): pil.Transpose.TRANSPOSE,
    (0, -1, -1, 0): pil.Transpose.TRANSVERSE,
    (0, 1, -1, 0): pil.Transpose.ROTATE_270,
    (0, -1, 1, 0): pil.Transpose.ROTATE_90,
}
"""By the signs of the display matrix; see `_directions`."""


@dataclass(frozen=True)
class VideoFrames:
    """Sampled frames. pictures: RGB, decoded as they are asked for, once. seconds: their times."""

    pictures: Iterator[pil.Image]
    seconds: tuple[float, ...]


def read_video(source: Any, rule: VideoRule, sampling: VideoSampling | None = None) -> VideoFrames:
    """The frames of `source` that the rule looks at.

    source: path, `file://` URI, pipe or bytes of a video file; path of a folder of frames, which
    are sorted by name, numbers by value; sequence of pictures; array or tensor [T, H, W, 3] uint8;
    `Frames`, which are all taken. Folders, sequences and arrays count as 2 frames per second.
    A file that holds a still picture, whatever its name, is a video of one frame.

    Times count from the start of the file, as in players: a picture that begins 3 s after the sound
    is at 3 s, and a pause keeps its length. Where the clock of a file jumps or begins anew, its
    pieces follow one another, and so do mp4s that were joined. What an edit list hides is not
    shown. Recordings that are mirrored or turned are put upright; pixels that are not square stay
    so, as in the reference.

    A file that is cut short or damaged gives what can be decoded, with a note. Raises BadMedia,
    here or while the pictures are decoded.
    """
    if isinstance(source, Frames):
        return _given(source)
    if isinstance(source, MediaSource):
        file = MediaFile.find(source, "video")
        if file.folder:
            return _listed(_pictures_in(file.folder), rule, sampling, file.name)
        count = _pictures_inside(file)
        if count == 1:
            return _listed([file], rule, sampling, file.name)
        return (_animated if count else _from_file)(file, rule, sampling)
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
    """(seconds, RGB picture) of every frame of a video file in turn, at least one.

    Files, their times and their pictures are those of `read_video`. Of a folder, its pictures at 2
    per second. Only one picture is held at a time. Raises BadMedia as `read_video` does.
    """
    file = MediaFile.find(source, "video")
    count = 1 if file.folder else _pictures_inside(file)
    if count == 1:
        pictures = _pictures_in(file.folder) if file.folder else [file]
        for number, picture in enumerate(pictures):
            yield number / LISTED_FPS, open_image(picture)
        return
    if count:
        yield from ((time / 1000, picture) for time, picture in animation.play(file))
        return
    tally, latest, end = _Tally(), 0.0, 0.0
    for part, index in _parts(file):
        with _opened(part) as (container, stream):
            packets = _Packets(container, stream, index.joined)
            for time, frame in _decoded(part, stream, packets, index, tally):
                latest = max(latest, end + index.seconds(time))
                yield latest, _upright(frame)
        end += index.length
    if not tally.pixels:
        raise BadMedia(_undecodable(file))
    tally.note(file)


def _given(frames: Frames) -> VideoFrames:
    """Frames that somebody has chosen."""
    seconds = tuple(map(float, frames.seconds))
    _check_count(len(seconds), "the video")
    check_sampled(len(seconds))
    if not all(map(isfinite, seconds)):
        raise BadMedia("a frame has a time that is no finite number; give the seconds of each")
    return VideoFrames(map(open_image, frames.pictures), seconds)


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


def _pictures_inside(file: MediaFile) -> int:
    """How many pictures a file holds that is one by its content; 0 for a video.

    More than one only for an animated PNG or WebP. Raises BadMedia for too large a one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pil.DecompressionBombWarning)
            with file.open() as handle, pil.open(handle, formats=PICTURES) as image:
                count = getattr(image, "n_frames", 1) if image.format in animation.FORMATS else 1
                size = image.size
    except BadMedia:
        raise
    except (pil.DecompressionBombError, pil.DecompressionBombWarning):
        return 1  # `open_image` names the limit
    except Exception:  # Pillow raises nearly everything on what it does not know
        return 0
    if count > 1:
        _check_size(*size, file)
        _check_work(count * size[0] * size[1], file)
    return count


def _animated(file: MediaFile, rule: VideoRule, sampling: VideoSampling | None) -> VideoFrames:
    """Frames of an animated PNG or WebP, which is played once for its times."""
    times = [time for time, _ in animation.play(file)]
    if not times:
        raise BadMedia(_undecodable(file))
    targets, seconds = _chosen(_Index(times, [], Fraction(1, 1000), None, True), rule, sampling)

    def pictures() -> Iterator[pil.Image]:
        waiting = deque(targets)
        for time, picture in animation.play(file):
            while waiting and waiting[0] == time:
                waiting.popleft()
                yield picture
            if not waiting:
                return

    return VideoFrames(pictures(), tuple(seconds))


@dataclass(frozen=True)
class _Index:
    """What the packets of a stream say, in ticks of the stream.

    times: when each frame is shown, ascending. keys: (shown at, where) of the frames that can be
    decoded without others, ascending; where: the time to seek to, or, if the file is `joined` of
    pieces with a clock each, the number of the packet. tick: seconds of one tick. rate: frames per
    second that the file claims. timed: whether the packets carry times at all; if not, times are
    frame numbers. guessed: whether the file only has the order in which frames are decoded; that in
    which they are shown is known to the decoder. start: seconds from the start of the file to the
    first frame.
    """

    times: list[int]
    keys: list[tuple[int, int]]
    tick: Fraction
    rate: Fraction | None
    timed: bool
    joined: bool = False
    guessed: bool = False
    start: float = 0.0

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

    @property
    def length(self) -> float:
        """Seconds from the start of the file to the end of the last frame."""
        return self.seconds(self.times[-1]) + 1 / self.fps

    def seconds(self, time: float) -> float:
        """Seconds from the start of the file to a time in ticks."""
        return self.start + (time - self.times[0]) * float(self.tick)


@dataclass
class _Tally:
    """What one reading of a file has cost so far: pixels decoded, packets that were damaged."""

    pixels: int = 0
    damaged: int = 0

    def note(self, file: MediaFile) -> None:
        if self.damaged:
            pieces = "1 piece" if self.damaged == 1 else f"{self.damaged} pieces"
            note_to_user(f"{file.name} is damaged: {pieces} of it cannot be decoded")


def _from_file(file: MediaFile, rule: VideoRule, sampling: VideoSampling | None) -> VideoFrames:
    parts = _parts(file)
    index = _in_turn([index for _, index in parts])
    targets, seconds = _chosen(index, rule, sampling)
    return VideoFrames(_pictures_in_turn(parts, index.times, targets), tuple(seconds))


def _parts(file: MediaFile) -> list[tuple[MediaFile, _Index]]:
    """The files that a file was joined of, mostly itself alone. Raises BadMedia."""
    parts: list[tuple[MediaFile, _Index]] = []
    fault: BadMedia | None = None
    for part in _split(file):
        try:
            parts.append((part, _scan(part)))
        except BadMedia as error:
            fault = fault or error
    if fault and not parts:
        raise fault
    if fault:
        note_to_user(f"{file.name} has a part that cannot be decoded; the rest was used")
    return parts


def _split(file: MediaFile) -> list[MediaFile]:
    """Of mp4s that were joined end to end FFmpeg reads the first one, so each by itself."""
    starts = [0]
    with file.open() as handle, file.explained():
        at, length = 0, handle.seek(0, io.SEEK_END)
        for _ in range(MAX_BOXES):
            handle.seek(at)
            head = handle.read(16)
            size, name = int.from_bytes(head[:4], "big"), head[4:8]
            if not at and name not in (b"ftyp", b"moov"):
                break
            if at and name == b"ftyp":
                starts.append(at)
            if size == 1:
                size = int.from_bytes(head[8:], "big")
            if size < 8:  # also at the end
                break
            at += size
    if len(starts) == 1:
        return [file]
    return [replace(file, span=span) for span in pairwise([*starts, length])]


def _in_turn(parts: Sequence[_Index]) -> _Index:
    """One index of several files that follow one another."""
    if len(parts) == 1:
        return parts[0]
    times: list[int] = []
    end = 0.0
    for part in parts:
        times += [round((end + part.seconds(time)) / MICRO) for time in part.times]
        end += part.length
    rate = parts[0].rate if len({part.rate for part in parts}) == 1 else None
    return _Index(times, [], MICRO, rate, timed=True, start=parts[0].start)


def _pictures_in_turn(
    parts: Sequence[tuple[MediaFile, _Index]], times: Sequence[int], targets: Sequence[int]
) -> Iterator[pil.Image]:
    """The pictures at `targets`, of which each is one of all `times`."""
    if len(parts) == 1:
        yield from _pictures(*parts[0], targets)
        return
    first = 0
    for file, index in parts:
        numbers = [bisect_right(times, target) - 1 - first for target in targets]
        first += len(index.times)
        inside = [index.times[number] for number in numbers if 0 <= number < len(index.times)]
        if inside:
            yield from _pictures(file, index, inside)


def _chosen(
    index: _Index, rule: VideoRule, sampling: VideoSampling | None
) -> tuple[list[int], list[float]]:
    """(times in ticks, seconds) of the frames to look at.

    Of variable frame rate they are those shown at evenly spaced moments.
    """
    plan = rule.plan(len(index.times), index.fps, sampling, own_times=not index.steady)
    if not index.steady:
        return _shown(index, plan.indices)
    targets = [index.times[i] for i in plan.indices]
    return targets, [index.start + second for second in plan.seconds]


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
        seconds.append(index.seconds(moment if again else shown))
    return targets, seconds


@contextmanager
def _opened(file: MediaFile) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its video stream. Raises BadMedia, also for errors inside the block."""
    import av
    from av.error import FFmpegError

    if file.is_empty():
        raise BadMedia(f"{file.name} is empty; {KNOWN}")
    limits = {"max_pixels": str(MAX_PIXELS)}  # of the decoder, also while it probes the file
    try:
        options = {"format_whitelist": FORMATS, **limits}
        with av.open(
            file.address(), mode="r", options=options, metadata_errors="replace"
        ) as container:
            stream = _videos(file, container)[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            _check_size(width, height, file)
            stream.codec_context.options = limits
            small = width * height <= MAX_THREADED
            stream.codec_context.thread_count = DECODER_THREADS if small else 1
            stream.thread_type = "AUTO"
            yield container, stream
    except (FFmpegError, OSError) as error:
        raise BadMedia(
            f"{file.name} is no video in a known format, or it is damaged or cut short; {KNOWN}"
        ) from error


def _videos(file: MediaFile, container: InputContainer) -> list[VideoStream]:
    """Its video streams, the one to read first. Raises BadMedia if there is none."""
    from av.stream import Disposition

    streams = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None  # a codec that nobody knows, or its name is lost
        and not stream.disposition & Disposition.attached_pic  # the cover of a song
    ]
    if not streams:
        sound = "only sound" if container.streams.audio else "no video that can be found"
        raise BadMedia(
            f"{file.name} holds {sound}; give a file with a video stream that is complete"
        )

    def worth(stream: VideoStream) -> tuple[bool, bool]:
        filled = bool(stream.codec_context.width and stream.codec_context.height)
        return filled, bool(stream.disposition & Disposition.default)

    return sorted(streams, key=worth, reverse=True)  # which keeps the order of equals


def _check_size(width: int, height: int, file: MediaFile) -> None:
    if not width or not height or width * height > MAX_PIXELS:
        size = f"{width} x {height} pixels" if width else "a size that is unknown or too large"
        raise BadMedia(
            f"{file.name} has frames of {size}; at most {MAX_PIXELS:,} pixels are allowed, so make "
            "it smaller first"
        )
    if max(width, height) > MAX_RATIO * min(width, height):
        raise BadMedia(
            f"{file.name} has frames of {width} x {height} pixels; one side may be at most "
            f"{MAX_RATIO} times as long as the other, so crop it first"
        )


def _scan(file: MediaFile) -> _Index:
    """Read all packets without decoding them, and note what is missing. Raises BadMedia."""
    shown: list[int | None] = []
    keys: list[tuple[int, int, int]] = []
    with _opened(file) as (container, stream):
        count = len(_videos(file, container))
        if count > 1:
            note_to_user(f"{file.name} has {count} videos; only the main one is read")
        clock, guessed = _clock(container, stream), container.format.name == "avi"
        number, own, torn = 0, stream.index, False
        ends = [0] * len(container.streams)
        # How long the file is, its sound tells as well; it is asked only if there is a claim.
        for packet in _demuxed(container, *(() if _claims(container) else (stream,))):
            torn, at = packet.is_corrupt, packet.stream_index
            if at != own:
                ends[at] = max(ends[at], (packet.pts or 0) + (packet.duration or 0))
                continue
            number += 1
            if number > MAX_PACKETS:
                raise BadMedia(
                    f"{file.name} has more than the {MAX_PACKETS:,} frames allowed; cut it first"
                )
            where = packet.dts if packet.dts is not None else packet.pts
            _place(packet, _offset(clock, packet), clock.tick)
            ends[own] = max(ends[own], (packet.pts or 0) + (packet.duration or 0))
            if packet.is_discard:  # behind the edit list: players do not show it either
                continue
            time = packet.dts if packet.pts is None or guessed else packet.pts
            shown.append(time)
            if packet.is_keyframe and time is not None and where is not None:
                keys.append((time, where, number - 1))
        _check_count(len(shown), file.name)
        tick, rate = stream.time_base or Fraction(1, 1000), stream.average_rate
        joined = clock.pieces > 1
        end = max(float(e * (s.time_base or 0)) for e, s in zip(ends, container.streams))
        claimed = (container.duration or 0) / 1e6 if _claims(container) and not joined else 0.0
        if claimed - end > max(MISSING, 0.01 * claimed):
            note_to_user(
                f"{file.name} breaks off: it holds {end:.1f} s of the {claimed:.1f} s that its "
                "header promises"
            )
        elif torn and len(shown) > 1:  # of a single one it is said that it cannot be decoded
            note_to_user(f"{file.name} breaks off in the middle of its last frame")
        origin = (container.start_time or 0) / 1e6
    times = sorted(time for time in shown if time is not None)
    if len(times) < len(shown):
        rate = rate if rate and 1 / LONGEST_PAUSE <= rate <= MAX_FPS else Fraction(25)
        return _Index(list(range(len(shown))), [], 1 / rate, rate, timed=False)
    if container.format.name == "gif":  # most are only what changed, whatever their flags say
        keys = []
    places = sorted((time, number if joined else where) for time, where, number in keys)
    late = float(times[0] * tick) - origin
    start = late if LATE < late <= LONGEST_PAUSE else 0.0
    return _Index(
        times, places, tick, rate, timed=True, joined=joined, guessed=guessed, start=start
    )


def _claims(container: InputContainer) -> bool:
    """Whether its header says how long it is; of other formats the duration is an estimate."""
    return any(name in HEADED for name in container.format.name.split(","))


def _demuxed(container: InputContainer, *streams: VideoStream) -> Iterator[Packet]:
    """Packets with content, up to the end; what cannot be followed is passed over."""
    from av.error import FFmpegError

    for _ in range(MAX_BROKEN):
        with suppress(FFmpegError):
            yield from (packet for packet in container.demux(*streams) if packet.size)
            return


class _Packets(Iterator["Packet"]):
    """Packets from where a file stands; times of a `joined` one are put on one clock.

    number: of the one that was given last. first: those with a smaller number are passed over.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, joined: bool) -> None:
        self.number, self.first = -1, 0
        self._packets = _demuxed(container, stream)
        self._clock, self._joined = _clock(container, stream), joined

    def __next__(self) -> Packet:
        for packet in self._packets:
            self.number += 1
            offset = _offset(self._clock, packet) if self._joined else 0
            _place(packet, offset, self._clock.tick)
            if self.number >= self.first:
                return packet
        raise StopIteration


def _clock(container: InputContainer, stream: VideoStream) -> Timeline:
    from av.format import Flags

    jumps = container.format.flags & Flags.ts_discont.value
    pause = LONGEST_OF_BROADCASTS if jumps else LONGEST_PAUSE
    return Timeline(stream.time_base or Fraction(1, 1000), pause)


def _offset(clock: Timeline, packet: Packet) -> int:
    """Ticks to add to the times of the packet that comes next."""
    if packet.is_discard:  # an edit list repeats and skips times
        return clock.offset
    return clock.offset_at(packet.dts, packet.pts, packet.duration or 0, packet.is_keyframe)


def _place(packet: Packet, offset: int, tick: Fraction) -> None:
    """Move its times. One to be shown far from where it is decoded is a mistake."""
    dts, pts = packet.dts, packet.pts
    if dts is None or pts is None:
        packet.pts = None if pts is None else pts + offset
    elif abs(pts - dts) * tick.numerator > LONGEST_OF_BROADCASTS * tick.denominator:
        packet.dts = packet.pts = dts + offset
    elif offset:
        packet.dts, packet.pts = dts + offset, pts + offset


def _pictures(file: MediaFile, index: _Index, targets: Iterable[int]) -> Iterator[pil.Image]:
    """The picture on screen at each of the ascending times `targets`."""
    tally = _Tally()
    with _opened(file) as (container, stream):

        def play() -> tuple[_Packets, Iterator[_Timed]]:
            packets = _Packets(container, stream, index.joined)
            return packets, _decoded(file, stream, packets, index, tally)

        packets, frames = play()
        keys, at = index.keys, index.times[0]
        shown: _Timed | None = None
        ahead: _Timed | None = None
        for target in targets:
            key = bisect_right(keys, target, key=itemgetter(0)) - 1
            before = shown
            if key >= 0 and keys[key][0] > at and not index.joined:
                container.seek(keys[key][1], stream=stream)
                packets, frames = play()
                shown, ahead = None, next(frames, None)
                if ahead is None or ahead[0] > target:  # it cannot be sought: play from the start
                    container.seek(keys[0][1], stream=stream)
                    packets, frames = play()
                    keys, ahead = [], None
            elif key >= 0 and keys[key][1] > packets.number and index.joined:
                stream.codec_context.flush_buffers()
                packets.first = keys[key][1]
                shown = ahead = None
            while shown is None or shown[0] < target:
                _check_work(tally.pixels, file)
                ahead = ahead or next(frames, None)
                if ahead is None or (shown and ahead[0] > target):
                    break
                shown, ahead = ahead, None
            shown = shown or before
            if shown is None:
                raise BadMedia(_undecodable(file))
            at = (ahead or shown)[0]
            yield _upright(shown[1])
    tally.note(file)


def _check_work(pixels: int, file: MediaFile) -> None:
    if pixels > MAX_DECODED:
        raise BadMedia(
            f"{file.name} takes too long: to look at it, more than {MAX_DECODED:,} pixels have to "
            "be decoded; make it smaller or shorter, or give it more key frames"
        )


def _undecodable(file: MediaFile) -> str:
    return f"no frame of {file.name} can be decoded; convert it to mp4 first"


def _decoded(
    file: MediaFile, stream: VideoStream, packets: Iterator[Packet], index: _Index, tally: _Tally
) -> Iterator[_Timed]:
    """(time in ticks, frame) of the packets; times are numbers if the file is not timed."""
    from av.error import FFmpegError

    time, waiting = -1, deque(maxlen=MOST_REORDERED)
    for packet in chain(packets, [None]):  # None: what is left in the decoder
        if packet and index.guessed:
            waiting.append(packet.dts)
        try:
            frames = stream.decode(packet)
        except FFmpegError:
            if packet and not packet.is_corrupt:  # of a torn one the demuxer has told already
                tally.damaged += 1
            continue
        for frame in frames:
            _check_size(frame.width, frame.height, file)
            shown = waiting.popleft() if waiting else frame.pts
            time = shown if index.timed and shown is not None else time + 1
            tally.pixels += frame.width * frame.height
            yield time, frame


def _upright(frame: VideoFrame) -> pil.Image:
    """RGB picture, turned as the recording says; transparency is laid on white."""
    clear = frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)
    picture = open_image(frame.to_ndarray(format="rgba" if clear else "rgb24"))
    turn = _TURNS.get(_directions(frame))
    return picture if turn is None else picture.transpose(turn)


def _directions(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Where the display matrix points the axes of the picture, as signs; (0, 0, 0, 0) if nowhere.

    Its upper left part (a, b, c, d) takes (x, y) to (ax + cy, bx + dy). An angle between the axes
    is left alone, as players do.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 0, 0, 0, 0
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(matrix))
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if straight > ALIGNED * max(abs(b), abs(c)):
        return _sign(a), 0, 0, _sign(d)
    if crossed > ALIGNED * max(abs(a), abs(d)):
        return 0, _sign(b), _sign(c), 0
    return 0, 0, 0, 0


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
