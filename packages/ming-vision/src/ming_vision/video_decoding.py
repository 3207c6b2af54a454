"""The pictures of a video file: decoding from the nearest possible place, and turning upright."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

from PIL import Image as pil

from ming_core.errors import BadMedia
from ming_core.media.files import MediaFile
from ming_core.media.timeline import MOST_REORDERED
from ming_core.notes import note_to_user
from ming_vision.image import open_image
from ming_vision.video_index import Index
from ming_vision.video_packets import Packets, check_size, opened

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    _Timed = tuple[int, VideoFrame]

MAX_DECODED = 1 << 39
"""Pixels that are decoded to look at a video: two and a half hours of 1080p without key frames."""

ALIGNED = 100
"""How many times as large the one half of a display matrix must be for a whole quarter turn."""

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


@dataclass
class Tally:
    """What one reading of a file has cost so far: pixels decoded, packets that were damaged."""

    pixels: int = 0
    damaged: int = 0

    def note(self, file: MediaFile) -> None:
        if self.damaged:
            pieces = "1 piece" if self.damaged == 1 else f"{self.damaged} pieces"
            note_to_user(f"{file.name} is damaged: {pieces} of it cannot be decoded")


def pictures_at(file: MediaFile, index: Index, targets: Iterable[int]) -> Iterator[pil.Image]:
    """The picture on screen at each of the ascending times `targets`."""
    tally = Tally()
    with opened(file) as (container, stream):

        def play() -> tuple[Packets, Iterator[_Timed]]:
            packets = Packets(container, stream, index)
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
                check_work(tally.pixels, file)
                ahead = ahead or next(frames, None)
                if ahead is None or (shown and ahead[0] > target):
                    break
                shown, ahead = ahead, None
            shown = shown or before
            if shown is None:
                raise BadMedia(undecodable(file))
            at = (ahead or shown)[0]
            yield _upright(shown[1])
    tally.note(file)


def every_picture(file: MediaFile, index: Index, tally: Tally) -> Iterator[tuple[float, pil.Image]]:
    """(seconds, picture) of all frames in turn."""
    with opened(file) as (container, stream):
        packets = Packets(container, stream, index)
        for time, frame in _decoded(file, stream, packets, index, tally):
            yield index.seconds(time), _upright(frame)


def check_work(pixels: int, file: MediaFile) -> None:
    """Raises BadMedia if more pixels than MAX_DECODED are to be decoded."""
    if pixels > MAX_DECODED:
        raise BadMedia(
            f"{file.name} takes too long: to look at it, more than {MAX_DECODED:,} pixels have to "
            "be decoded; make it smaller or shorter, or give it more key frames"
        )


def undecodable(file: MediaFile) -> str:
    return f"no frame of {file.name} can be decoded; convert it to mp4 first"


def _decoded(
    file: MediaFile, stream: VideoStream, packets: Iterator[Packet], index: Index, tally: Tally
) -> Iterator[_Timed]:
    """(time in ticks, frame) of the packets; times are numbers if the file is not timed."""
    from av.error import FFmpegError

    time, size, area, waiting = -1, (0, 0), 0, deque(maxlen=MOST_REORDERED)
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
            if size != (frame.width, frame.height):
                size = frame.width, frame.height
                check_size(*size, file)
                area = frame.width * frame.height
            shown = waiting.popleft() if waiting else frame.pts
            time = shown if index.timed and shown is not None else time + 1
            tally.pixels += area
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
    from av.sidedata.sidedata import SideDataContainer

    # `frame.side_data` would keep the frame until the garbage is collected: it leads back to it.
    matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # pyright: ignore[reportCallIssue]
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
