"""The sound of a file as FFmpeg decodes it, on the clock of the file.

Everything that can be decoded is read, whatever the header says about the length. Where packets are
lost, there is silence, so that the seconds stay those of the file. If the clock of the file jumps,
for example between two recordings in one stream, the second one follows the first without a pause.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from ming_audio.links import Link, View, links
from ming_core.errors import BadMedia
from ming_core.media.files import MediaFile
from ming_core.media.timeline import LONGEST_OF_BROADCASTS, LONGEST_PAUSE
from ming_core.notes import note_to_user

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

BLOCK = 1 << 18
"""Samples of all channels together that are handed on at a time: a megabyte."""

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,wav,w64,mp3,flac,aac,ac3,"
    "eac3,amr,amrnb,amrwb,aiff,au,caf,wv,tta,ape,mpc,mpc8,dsf,voc,iff,ircam,nistsphere,dts,truehd"
)
"""What FFmpeg may open: no playlist, which would make it open other files or addresses."""

KNOWN = "expected wav, flac, ogg, mp3, m4a or a video with sound"

GAP = 0.05
"""Seconds without packets that are silence; less is how clocks are rounded."""

BACK = 1.0
"""A clock that falls back by more seconds begins anew."""

SHORT = 1.0
"""Seconds by which a header may promise too much."""

LOST = 0.2
"""Seconds of damage that a note is worth; less is, for example, the joint of two mp3s."""

MAX_FAULTS = 100
"""Times that a file is read on behind a place that cannot be followed."""

UNTOLD = 0.02
"""Seconds of a packet that does not tell them."""

RUN_OVER = 8192
"""Most samples of one channel in a packet of Vorbis, of which the last is only partly meant."""

_DTYPES: dict[str, type[np.generic]] = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}


@dataclass(frozen=True, eq=False)
class Block:
    """Sound of all channels. samples: [channels, N] of any type. rate: samples per second.

    low: the channels that have only what is too low for speech. exact: as they were recorded,
    so that a value out of range is a fault of the file and not of the decoder.
    """

    samples: np.ndarray
    rate: int
    low: tuple[int, ...] = ()
    exact: bool = True


def decode(file: MediaFile) -> Iterator[Block]:
    """Yield all sound of a file. Notes say what is missing, and which of several tracks is read.

    Raises BadMedia for a file without sound that can be decoded.
    """
    if file.is_empty():
        raise BadMedia(f"{file.name} is empty; {KNOWN}")
    fault: BadMedia | None = None
    told = False
    for link in links(file):
        try:
            for block in _Sound(file, link).blocks():
                told = True
                yield block
        except BadMedia as error:
            fault = fault or error
    if not told and fault is not None:
        raise fault
    if fault is not None:
        note_to_user(f"{file.name} has a part that cannot be decoded; the rest was used")


def claimed_seconds(file: MediaFile) -> float | None:
    """What the headers say, without decoding; None if they do not. Raises BadMedia."""
    if file.is_empty():
        raise BadMedia(f"{file.name} is empty; {KNOWN}")
    total = 0.0
    for link in links(file):
        with _container(file, link) as container:
            stream = _tracks(file, container)[0]
            if stream.duration is not None and stream.time_base is not None:
                total += float(stream.duration * stream.time_base)
            elif container.duration is not None:
                total += container.duration / 1e6
            else:
                return None
    return total


@contextmanager
def _container(file: MediaFile, link: Link) -> Iterator[InputContainer]:
    """A link, opened. Raises BadMedia, also for errors inside the block."""
    import av
    from av.error import FFmpegError

    try:
        with ExitStack() as stack:
            target: str | io.BytesIO | View = file.address()
            handle = stack.enter_context(file.open())
            if link.patches or link.start or link.end < handle.seek(0, 2):
                target = View(handle, link)
            opened = av.open(
                target,
                mode="r",
                options={"format_whitelist": FORMATS, **link.options},
                metadata_errors="replace",  # titles are not looked at: they may be broken
            )
            yield stack.enter_context(opened)
    except (FFmpegError, OSError) as error:
        raise BadMedia(
            f"{file.name} is no sound in a known format, or it is damaged or cut short; {KNOWN}"
        ) from error


def _tracks(file: MediaFile, container: InputContainer) -> list[AudioStream]:
    """Those that can be decoded, what the file shows by default first. Raises BadMedia."""
    from av.stream import Disposition

    if not container.streams.audio:
        raise BadMedia(f"{file.name} holds no sound; give a file that has some")
    found = [stream for stream in container.streams.audio if stream.codec_context is not None]
    if not found:
        raise BadMedia(f"{file.name} holds sound in an unknown coding; convert it to wav first")
    return sorted(found, key=lambda stream: not stream.disposition & Disposition.default)


class _Sound:
    """The sound of one link: its best track, from the first packet to the last."""

    def __init__(self, file: MediaFile, link: Link) -> None:
        self.file, self.link = file, link
        self.broken = False
        self.lost = 0.0

    def blocks(self) -> Iterator[Block]:
        """Raises BadMedia if no track can be decoded."""
        with _container(self.file, self.link) as container:
            count = len(container.streams.audio)
            numbers = [
                container.streams.audio.index(track) for track in _tracks(self.file, container)
            ]
        for number in numbers:
            self.broken, self.lost = False, 0.0
            with _container(self.file, self.link) as container:
                stream = container.streams.audio[number]
                clock = _Clock(container, stream)
                blocks = _blocks(self._frames(container, stream), clock, stream)
                if _is_vorbis(container, stream):
                    blocks = _ended(blocks, stream)
                first = next(blocks, None)
                if first is None:
                    continue
                if count > 1:
                    note_to_user(
                        f"{self.file.name} has {count} tracks of sound, of which only number "
                        f"{number + 1} was heard"
                    )
                yield first
                yield from blocks
                self._tell(clock, container, stream)
                return
        if self.broken or self.lost:
            raise BadMedia(
                f"{self.file.name} has no samples that can be decoded, so it is damaged or cut "
                "short; get the whole file, or convert it to wav first"
            )
        raise BadMedia(f"{self.file.name} has no samples; give a sound that lasts a moment")

    def _frames(self, container: InputContainer, stream: AudioStream) -> Iterator[list[AudioFrame]]:
        """What each packet gives, up to where the file cannot be followed any more."""
        from av.error import FFmpegError

        run_up = _is_vorbis(container, stream)
        if run_up:  # FFmpeg would count the first packet, which has no sound, and end too early
            stream.codec_context.options = {"flags2": "+skip_manual"}
        packets, decode = container.demux(stream), stream.codec_context.decode
        faults, last = 0, False
        while not last:
            try:
                packet = next(packets, None)
            except (FFmpegError, IndexError):  # IndexError: of a stream that begins in the middle
                faults += 1
                self.broken, packets = True, container.demux(stream)
                if faults <= MAX_FAULTS:
                    continue
                packet = None
            last = packet is None
            if packet is not None and not packet.size:  # it would end the decoder
                continue
            self.broken = self.broken and last
            try:
                frames = decode(packet)
            except FFmpegError:
                if packet is not None:
                    seconds = (packet.duration or 0) * float(stream.time_base or 0)
                    self.lost += seconds or UNTOLD
                continue
            if run_up:
                run_up = False
            elif frames:
                yield frames

    def _tell(self, clock: _Clock, container: InputContainer, stream: AudioStream) -> None:
        """Note what is missing."""
        missing = self.link.missing / (self.link.end - self.link.start) * clock.heard
        if container.format.name == "flac" and stream.duration and stream.time_base:
            missing = float(stream.duration * stream.time_base) - clock.heard
        torn = container.format.name == "ogg" and self.link.missing > 0
        if self.broken or torn or missing >= SHORT:
            note_to_user(
                f"{self.file.name} breaks off at {clock.now:.1f} s; what it holds was used"
            )
        elif self.lost >= LOST:
            note_to_user(
                f"{self.file.name} is damaged: {self.lost:.1f} s of its sound cannot be decoded; "
                "the rest was used"
            )


class _Clock:
    """Where the frames of a stream stand on the clock of its file.

    heard: seconds decoded so far. now: the same with the silence between them.
    """

    def __init__(self, container: InputContainer, stream: AudioStream) -> None:
        from av.format import Flags

        self.heard = self.now = 0.0
        self._tick = float(stream.time_base or 0)
        # What lies before zero is the run-up of a codec. A track that is alone begins the file.
        self._zero = max(0, container.start_time or 0) / 1e6
        self._shift = None if len(container.streams) == 1 else -self._zero
        jumps = container.format.flags & Flags.ts_discont.value
        self._longest = LONGEST_OF_BROADCASTS if jumps else LONGEST_PAUSE

    def gap(self, frame: AudioFrame) -> int:
        """Samples of silence before a frame, which comes next."""
        rate, pts = frame.sample_rate, frame.pts
        gap = 0 if pts is None else self._gap(pts * self._tick, rate)
        seconds = frame.samples / rate
        self.heard += seconds
        self.now += seconds + gap / rate
        return gap

    def _gap(self, at: float, rate: int) -> int:
        if self._shift is None:
            self._shift = -at
        ahead = at + self._shift - self.now
        if not -BACK <= ahead <= self._longest:
            self._shift = self.now - at
        elif ahead > (GAP if self.heard else 0):
            return round(ahead * rate)
        return 0


def _is_vorbis(container: InputContainer, stream: AudioStream) -> bool:
    return container.format.name == "ogg" and stream.codec_context.name == "vorbis"


def _blocks(
    packets: Iterable[list[AudioFrame]], clock: _Clock, stream: AudioStream
) -> Iterator[Block]:
    """Frames of one kind together, and the silence between them."""
    exact = stream.codec_context.name.startswith("pcm")
    waiting: list[AudioFrame] = []
    kind = ("", 0, 0)
    count = 0
    for frame in chain.from_iterable(packets):
        if not frame.samples or not frame.sample_rate:
            continue
        own = (frame.format.name, frame.sample_rate, frame.layout.nb_channels)
        silence = clock.gap(frame)
        if waiting and (silence or count >= BLOCK or own != kind):
            yield _block(waiting, exact)
            waiting, count = [], 0
        kind = own
        while silence > 0:
            some = min(silence, max(1, BLOCK // own[2]))
            yield Block(np.zeros((own[2], some), np.float32), own[1])
            silence -= some
        waiting.append(frame)
        count += frame.samples * own[2]
    if waiting:
        yield _block(waiting, exact)


def _ended(blocks: Iterable[Block], stream: AudioStream) -> Iterator[Block]:
    """Without what the last packet of Vorbis has beyond the end that its page tells."""
    left = round(float((stream.duration or 0) * (stream.time_base or 0)) * stream.sample_rate)
    held: list[Block] = []
    for block in blocks:
        size = block.samples.shape[1]
        if left >= size or left < -RUN_OVER:
            yield block
        else:
            held.append(block)
            if left - size < -RUN_OVER:  # a page that was wrong
                yield from held
                held = []
        left -= size
    over = -left
    for block in held:
        yield replace(block, samples=block.samples[:, : block.samples.shape[1] - over])
        over = 0


def _block(frames: Sequence[AudioFrame], exact: bool) -> Block:
    from av.audio.plane import AudioPlane

    first = frames[0]
    channels, name = first.layout.nb_channels, first.format.name.removesuffix("p")
    planes = channels if first.format.is_planar else 1

    # Neither `frame.planes` nor `to_ndarray`: they read beyond the list of 8 or more planes.
    def plane(number: int) -> np.ndarray:
        return np.concatenate(
            [
                np.frombuffer(
                    memoryview(AudioPlane(f, number)), _DTYPES[name], f.samples * channels // planes
                )
                for f in frames
            ]
        )

    rows = [plane(number) for number in range(planes)]
    samples = np.stack(rows) if planes > 1 else rows[0].reshape(-1, channels).T
    low = tuple(i for i, c in enumerate(first.layout.channels) if c.name in ("LFE", "LFE2"))
    return Block(samples, first.sample_rate, low, exact)
