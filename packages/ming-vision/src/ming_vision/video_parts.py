"""mp4s that were joined end to end. FFmpeg reads only the first one; we read all, in order."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from PIL import Image as pil

from ming_core.errors import BadMedia
from ming_core.media.boxes import boxes
from ming_core.media.files import MediaFile
from ming_core.notes import note_to_user
from ming_vision import video_decoding as decoding
from ming_vision.video_index import Index
from ming_vision.video_packets import scan

MICRO = Fraction(1, 1_000_000)
"""Seconds of a tick of the clock of several files."""


def parts_of(file: MediaFile) -> list[tuple[MediaFile, Index]]:
    """The mp4s in a file: nearly always one, the file itself. Raises BadMedia."""
    parts: list[tuple[MediaFile, Index]] = []
    fault: BadMedia | None = None
    for part in _split(file):
        try:
            parts.append((part, scan(part)))
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
        length = handle.seek(0, io.SEEK_END)
        for at, name, _ in boxes(handle):
            if not at and name not in (b"ftyp", b"moov"):
                break
            if at and name == b"ftyp":
                starts.append(at)
    if len(starts) == 1:
        return [file]
    return [replace(file, span=span) for span in pairwise([*starts, length])]


def in_turn(parts: Sequence[Index]) -> Index:
    """One index of several files that follow one another."""
    if len(parts) == 1:
        return parts[0]
    times: list[int] = []
    end = 0.0
    for part in parts:
        times += [round((end + part.seconds(time)) / MICRO) for time in part.times]
        end += part.length
    rate = parts[0].rate if len({part.rate for part in parts}) == 1 else None
    return Index(times, [], MICRO, rate, timed=True, start=parts[0].start)


def pictures_at(
    parts: Sequence[tuple[MediaFile, Index]], times: Sequence[int], targets: Sequence[int]
) -> Iterator[pil.Image]:
    """The pictures at `targets`, of which each is one of all `times`."""
    if len(parts) == 1:
        yield from decoding.pictures_at(*parts[0], targets)
        return
    first = 0
    for file, index in parts:
        numbers = [bisect_right(times, target) - 1 - first for target in targets]
        first += len(index.times)
        inside = [index.times[number] for number in numbers if 0 <= number < len(index.times)]
        if inside:
            yield from decoding.pictures_at(file, index, inside)


def every_picture(file: MediaFile) -> Iterator[tuple[float, pil.Image]]:
    """(seconds, picture) of all frames of all parts in turn, at least one. Raises BadMedia."""
    tally, latest, end = decoding.Tally(), 0.0, 0.0
    for part, index in parts_of(file):
        for seconds, picture in decoding.every_picture(part, index, tally):
            latest = max(latest, end + seconds)
            yield latest, picture
        end += index.length
    if not tally.pixels:
        raise BadMedia(decoding.undecodable(file))
    tally.note(file)
