"""Sounds of any kind as one channel of float32 at the wanted rate, whole or block by block.

libsndfile reads wav, flac, ogg, mp3 and the like; what it does not know (m4a, the sound of a video)
is decoded by FFmpeg. Neither trusts the name of a file. The first channel is taken, never an
average: the models heard nothing else.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ming_audio.resampling import Resampler
from ming_core.errors import BadMedia
from ming_core.mediafile import MediaFile, MediaSource

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from soundfile import SoundFile

RATE = 16_000
"""Samples per second of every encoder of the family."""

RATES = range(1_000, 1_000_001)
MAX_CHANNELS = 64
"""Of an array; more is a matrix lying on its side."""

BLOCK = 1 << 18
"""Samples of one channel decoded at a time: a megabyte."""

MAX_DAMAGED = 100
"""Packets of one file that may fail to decode; players skip them, too."""

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,wav,w64,mp3,flac,aac,ac3,"
    "eac3,amr,aiff,au,caf,wv,tta,ape"
)
"""What FFmpeg may open: no playlist, which would make it open other files or addresses."""

KNOWN = "expected wav, flac, ogg, mp3, m4a or a video with sound"

_SIZES = re.compile(r"\b(?:data|SSND) : (\d+) \(should be (\d+)\)")
"""How libsndfile notes that a header and a file disagree."""

_ENDLESS = 0x7FFF_F000
"""From here on a size in a header means that the writer did not know it, as in a pipe."""


@dataclass(frozen=True, eq=False)
class Sound:
    """One channel. samples: [N] float32, usually within [-1, 1]. rate: samples per second."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


def open_audio(source: Any, rate: int = RATE) -> Sound:
    """The whole of a sound at `rate`.

    source: path or `file://` URI of a sound or of a video, bytes of such a file, a `Sound`, an
    array or tensor [N] or [channels, N] at 16 kHz, or a pair (array, its rate). Integers are
    divided by their full scale; unsigned bytes have their silence at 128.
    Raises BadMedia, also for a sound without samples, with values that are not finite, or cut short
    where the format tells (wav, aiff, flac, mp4); ogg and mp3 give what there is.
    """
    return Sound(np.concatenate(list(_resampled(source, rate))), rate)


def stream_audio(source: Any, rate: int = RATE, seconds: float = 30.0) -> Iterator[np.ndarray]:
    """What `open_audio` gives in blocks of so many seconds; only the last one may be shorter.

    Memory does not grow with the length of the sound. Raises BadMedia where it meets the fault.
    """
    size = max(1, round(seconds * rate))
    waiting: list[np.ndarray] = []
    count = 0
    for piece in _resampled(source, rate):
        waiting.append(piece)
        count += len(piece)
        if count >= size:
            joined = np.concatenate(waiting)
            cut = count - count % size
            yield from (joined[i : i + size] for i in range(0, cut, size))
            waiting, count = [joined[cut:].copy()], count - cut
    if count:
        yield np.concatenate(waiting)


def audio_seconds(source: Any) -> float | None:
    """How long a sound claims to be, without decoding it; None where its file does not say.

    Raises BadMedia for what cannot be opened.
    """
    if not isinstance(source, MediaSource):
        return _from_array(source).seconds
    file = MediaFile.find(source, "sound")
    with _sndfile(file) as sound:
        if sound is not None:
            return sound.frames / sound.samplerate
    with _container(file) as (container, stream):
        if stream.duration is not None and stream.time_base is not None:
            return float(stream.duration * stream.time_base)
        return None if container.duration is None else container.duration / 1e6


def _resampled(source: Any, rate: int) -> Iterator[np.ndarray]:
    """Pieces of any size at `rate`, at least one sample in all."""
    name = MediaFile.find(source, "sound").name if isinstance(source, MediaSource) else "the sound"
    resampler, of = Resampler(rate, rate), rate
    read = 0
    for sound in _pieces(source):
        if sound.rate not in RATES:
            raise BadMedia(
                f"{name} claims {sound.rate} samples per second; {RATES[0]:,} to {RATES[-1]:,} are "
                "allowed, so give its true rate"
            )
        if not np.isfinite(sound.samples).all():
            at = (read + int(np.isfinite(sound.samples).argmin())) / sound.rate
            raise BadMedia(
                f"{name} has a value that is no finite number at {at:.2f} s; repair it or convert "
                "it to 16-bit wav"
            )
        if sound.rate != of:
            yield resampler.flush()
            resampler, of = Resampler(sound.rate, rate), sound.rate
        read += len(sound.samples)
        yield resampler.feed(sound.samples)
    if not read:
        raise BadMedia(f"{name} has no samples; give a sound that lasts a moment")
    yield resampler.flush()


def _pieces(source: Any) -> Iterator[Sound]:
    if not isinstance(source, MediaSource):
        yield _from_array(source)
        return
    file = MediaFile.find(source, "sound")
    with _sndfile(file) as sound:
        if sound is not None:
            yield from _from_sndfile(file, sound)
            return
    yield from _from_container(file)


def _from_array(source: Any) -> Sound:
    if isinstance(source, Sound):
        return source
    samples: Any
    samples, rate = source if isinstance(source, tuple) and len(source) == 2 else (source, RATE)
    if hasattr(samples, "detach"):  # a tensor, without importing its library
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    if not isinstance(samples, np.ndarray) or not isinstance(rate, int | np.integer):
        raise BadMedia(
            f"cannot read a sound from {type(source).__name__}; give the path of a file, its "
            "bytes, an array or a pair (array, samples per second)"
        )
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 0 < len(samples) <= MAX_CHANNELS):
        raise BadMedia(
            f"an array of a sound must be [samples] or [channels, samples] with 1 to "
            f"{MAX_CHANNELS} channels, not {list(samples.shape)}; transpose it first"
        )
    return Sound(_unit(samples if samples.ndim == 1 else samples[0]), int(rate))


def _unit(samples: np.ndarray) -> np.ndarray:
    """Samples of any format as float32, integers divided by their full scale."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    if samples.dtype == np.uint8:
        return samples.astype(np.float32) / 128 - 1
    if samples.dtype.kind != "i":
        raise BadMedia(
            f"an array of a sound must hold floats in [-1, 1] or signed integers, not "
            f"{samples.dtype}; convert it first"
        )
    return samples.astype(np.float32) / np.float32(2 ** (8 * samples.dtype.itemsize - 1))


@contextmanager
def _sndfile(file: MediaFile) -> Iterator[SoundFile | None]:
    """The file as libsndfile reads it; None if it does not know the format. Raises BadMedia."""
    import soundfile

    if file.is_empty():
        raise BadMedia(f"{file.name} is empty; {KNOWN}")
    with file.open() as handle:
        # By descriptor, since soundfile judges a file by its name: anything called .raw is refused.
        target = handle if isinstance(handle, io.BytesIO) else handle.fileno()
        try:
            sound = soundfile.SoundFile(target, closefd=False)
        except soundfile.LibsndfileError:
            yield None
            return
        with sound:
            yield sound


def _from_sndfile(file: MediaFile, sound: SoundFile) -> Iterator[Sound]:
    from soundfile import LibsndfileError

    for claimed, real in _SIZES.findall(sound.extra_info):
        if int(real) < int(claimed) < _ENDLESS:
            raise BadMedia(_cut_short(file, f"{int(claimed):,} bytes", f"{int(real):,}"))
    read = 0
    frames = max(1, BLOCK // sound.channels)
    try:
        while len(block := sound.read(frames, dtype="float32", always_2d=True)):
            read += len(block)
            yield Sound(np.ascontiguousarray(block[:, 0]), sound.samplerate)
    except LibsndfileError as error:
        raise BadMedia(
            f"{file.name} is damaged or cut short at {read / sound.samplerate:.1f} s; get the "
            "whole file"
        ) from error
    if read < sound.frames and sound.format != "MP3":  # there the number may be a guess
        promised, held = (f"{count / sound.samplerate:.1f}" for count in (sound.frames, read))
        raise BadMedia(_cut_short(file, f"{promised} s", held))


def _cut_short(file: MediaFile, promised: str, held: str) -> str:
    return (
        f"{file.name} is cut short: it promises {promised} of sound and holds {held}; get the "
        "whole file"
    )


@contextmanager
def _container(file: MediaFile) -> Iterator[tuple[InputContainer, AudioStream]]:
    """The file and its first stream of sound. Raises BadMedia, also for errors inside the block."""
    import av
    from av.error import FFmpegError

    try:
        with av.open(
            file.address(),
            mode="r",
            options={"format_whitelist": FORMATS},
            metadata_errors="replace",  # titles are not looked at: they may be broken
        ) as container:
            if not container.streams.audio:
                raise BadMedia(f"{file.name} holds no sound; give a file that has some")
            yield container, container.streams.audio[0]
    except (FFmpegError, OSError) as error:
        raise BadMedia(
            f"{file.name} is no sound in a known format, or it is damaged or cut short; {KNOWN}"
        ) from error


def _from_container(file: MediaFile) -> Iterator[Sound]:
    from av.error import FFmpegError

    with _container(file) as (container, stream):
        damaged = read = 0
        for packet in container.demux(stream):
            read += bool(packet.size)
            try:
                frames = packet.decode()
            except FFmpegError as error:
                damaged += 1
                if damaged > MAX_DAMAGED:
                    raise BadMedia(
                        f"{file.name} is damaged: more than {MAX_DAMAGED} pieces cannot be "
                        "decoded; convert it to wav first"
                    ) from error
                continue
            for frame in frames:
                yield Sound(_first_channel(frame), frame.sample_rate)
        # Other containers count samples there, or nothing at all.
        if "mp4" in container.format.name and read < stream.frames:
            raise BadMedia(_cut_short(file, f"{stream.frames:,} pieces", f"{read:,}"))


def _first_channel(frame: AudioFrame) -> np.ndarray:
    array = frame.to_ndarray()  # [channels, N], or [1, N * channels] with the channels in turns
    step = 1 if frame.format.is_planar else frame.layout.nb_channels
    return _unit(np.ascontiguousarray(array[0, ::step]))
