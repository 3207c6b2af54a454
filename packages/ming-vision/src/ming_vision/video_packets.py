"""The packets of a video file, which are read without decoding them.

They say how many frames there are, when each is shown, and where decoding can start. The header may
be wrong about all of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from typing import TYPE_CHECKING

from ming_core.errors import BadMedia
from ming_core.media.files import MediaFile
from ming_core.media.timeline import LONGEST_OF_BROADCASTS, LONGEST_PAUSE, Timeline
from ming_core.notes import note_to_user
from ming_vision.sampling import check_any
from ming_vision.video_index import Index

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

MAX_PACKETS = 2_000_000
"""Most frames of a file (18 hours at 30 per second). Nothing here reads further."""

MAX_PIXELS = 8192 * 4320
"""Largest width x height of a frame (8K). A decoder holds up to 20 of them."""

MAX_RATIO = 200
"""How many times as long as the other one side of a frame may be; encoders refuse more, too."""

MAX_BROKEN = 100
"""Times that a file is read on behind a place that cannot be followed."""

MAX_FPS = 1000

LATE = 0.1
"""Seconds by which the first frame may be late and still be at 0: encoders of sound start early."""

MISSING = 0.25
"""Seconds by which a file may be shorter than its header says."""

HEADED = frozenset({"mp4", "matroska", "avi", "flv", "asf"})
"""Formats whose header says how long they are."""

MAX_THREADED = 4096 * 2304
"""Pixels of a frame up to which several threads decode."""

DECODER_THREADS = 4
"""Each keeps frames of full size in memory, so not as many as there are cores."""

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,h264,hevc,"
    "yuv4mpegpipe,wav,mp3,flac,aac"
)
"""What a file may be: no playlist, which would make the decoder open other files or addresses."""

KNOWN = "expected mp4, mkv, webm, mov, avi or gif"


@contextmanager
def opened(file: MediaFile) -> Iterator[tuple[InputContainer, VideoStream]]:
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
            check_size(width, height, file)
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


def check_size(width: int, height: int, file: MediaFile) -> None:
    """Raises BadMedia for frames that are too large or far longer than wide."""
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


def scan(file: MediaFile) -> Index:
    """Read all packets without decoding them, and note what is missing. Raises BadMedia."""
    shown: list[int | None] = []
    keys: list[tuple[int, int, int]] = []
    with opened(file) as (container, stream):
        count = len(_videos(file, container))
        if count > 1:
            note_to_user(f"{file.name} has {count} videos; only the main one is read")
        clock, guessed = _Clock(container, stream), container.format.name == "avi"
        number = last = 0
        torn = False
        for packet in _demuxed(container, stream):
            number += 1
            if number > MAX_PACKETS:
                raise BadMedia(
                    f"{file.name} has more than the {MAX_PACKETS:,} frames allowed; cut it first"
                )
            dts, pts, hidden, torn = packet.dts, packet.pts, packet.is_discard, packet.is_corrupt
            length, key = packet.duration or 0, packet.is_keyframe
            where = pts if dts is None else dts
            dts, pts = clock.placed(dts, pts, length, key, hidden)
            time = dts if pts is None or guessed else pts
            if time is not None and time + length > last:
                last = time + length
            if hidden:  # behind the edit list: players do not show it either
                continue
            shown.append(time)
            if key and time is not None and where is not None:
                keys.append((time, where, number - 1))
        check_any(len(shown), file.name)
        tick, rate = stream.time_base or Fraction(1, 1000), stream.average_rate
        claimed = 0.0 if clock.joined else _claimed(container)
        end, missing = float(last * tick), max(MISSING, 0.01 * claimed)
        if claimed and (claimed - end > missing or number < stream.frames):
            sound, torn = _other_streams(file, stream.index)
            end = max(end, sound)
        if claimed - end > missing:
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
        return Index(list(range(len(shown))), [], 1 / rate, rate, timed=False)
    if container.format.name == "gif":  # most are only what changed, whatever their flags say
        keys = []
    places = sorted((time, number if clock.joined else where) for time, where, number in keys)
    late = float(times[0] * tick) - origin
    return Index(
        times,
        places,
        tick,
        rate,
        timed=True,
        mended=clock.mended,
        joined=clock.joined,
        guessed=guessed,
        start=late if LATE < late <= LONGEST_PAUSE else 0.0,
    )


def _claimed(container: InputContainer) -> float:
    """Seconds that its header claims, or 0; of other formats the duration is an estimate."""
    headed = any(name in HEADED for name in container.format.name.split(","))
    return (container.duration or 0) / 1e6 if headed else 0.0


def _other_streams(file: MediaFile, own: int) -> tuple[float, bool]:
    """(second at which all streams but `own` have ended, whether the last packet of all is torn).

    Sound may go on behind the pictures of a whole file. It is only looked at if they seem to lack.
    """
    ends, torn = [0.0], False
    with opened(file) as (container, _):
        for packet in _demuxed(container):
            torn = packet.is_corrupt
            if packet.stream_index != own:
                last = (packet.pts or 0) + (packet.duration or 0)
                ends.append(float(last * (packet.time_base or 0)))
    return max(ends), torn


def _demuxed(container: InputContainer, *streams: VideoStream) -> Iterator[Packet]:
    """Packets with content, up to the end; what cannot be followed is passed over."""
    from av.error import FFmpegError

    for _ in range(MAX_BROKEN):
        with suppress(FFmpegError):
            for packet in container.demux(*streams):
                if packet.size:
                    yield packet
            return


class Packets(Iterator["Packet"]):
    """Packets from where a file stands, on one clock.

    number: of the one that was given last. first: those with a smaller number are passed over.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, index: Index) -> None:
        self.number, self.first = -1, 0
        self._packets = _demuxed(container, stream)
        self._clock = _Clock(container, stream, index.joined) if index.mended else None

    def __next__(self) -> Packet:
        for packet in self._packets:
            self.number += 1
            if self._clock:
                packet.dts, packet.pts = self._clock.placed(
                    packet.dts,
                    packet.pts,
                    packet.duration or 0,
                    packet.is_keyframe,
                    packet.is_discard,
                )
            if self.number >= self.first:
                return packet
        raise StopIteration


class _Clock:
    """Puts the times of packets, one after the other, on one clock.

    jumps: whether the clock of the file may jump. mended: whether any times were changed so far.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, jumps: bool = True) -> None:
        from av.format import Flags

        tick = stream.time_base or Fraction(1, 1000)
        broadcast = container.format.flags & Flags.ts_discont.value
        self._timeline = Timeline(tick, LONGEST_OF_BROADCASTS if broadcast else LONGEST_PAUSE)
        self._far = int(LONGEST_OF_BROADCASTS / tick)
        self._jumps, self.mended = jumps, False

    @property
    def joined(self) -> bool:
        """Whether the file has more than one clock."""
        return self._timeline.pieces > 1

    def placed(
        self, dts: int | None, pts: int | None, length: int, key: bool, hidden: bool
    ) -> tuple[int | None, int | None]:
        """When the next packet is decoded and shown. Far from one another is a mistake.

        hidden: it lies behind an edit list, which repeats and skips times.
        """
        timeline = self._timeline
        if self._jumps and not hidden:
            timeline.offset_at(dts, pts, length, key)
        offset = timeline.offset
        if dts is None or pts is None:
            self.mended |= bool(offset)
            return dts, None if pts is None else pts + offset
        if -self._far <= pts - dts <= self._far and not offset:
            return dts, pts
        self.mended = True
        pts = pts if -self._far <= pts - dts <= self._far else dts
        return dts + offset, pts + offset
