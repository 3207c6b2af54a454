"""Animated WebP and PNG, which FFmpeg reads in part or not at all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction

from PIL import Image as pil

from ming_core.errors import BadMedia
from ming_core.media.files import MediaFile
from ming_core.notes import note_to_user
from ming_vision.image import open_animation, open_image
from ming_vision.video_decoding import check_work, undecodable
from ming_vision.video_index import Index
from ming_vision.video_packets import check_size

UNSAID = 100
"""Milliseconds of a frame whose file does not say them."""


def scan(file: MediaFile) -> Index:
    """When its frames are shown, in milliseconds; it is played once for that. Raises BadMedia."""
    times = [time for time, _ in play(file)]
    if not times:
        raise BadMedia(undecodable(file))
    return Index(times, [], Fraction(1, 1000), None, timed=True)


def pictures_at(file: MediaFile, targets: Iterable[int]) -> Iterator[pil.Image]:
    """The frames of the ascending times `targets`."""
    waiting = deque(targets)
    for time, picture in play(file):
        while waiting and waiting[0] == time:
            waiting.popleft()
            yield picture
        if not waiting:
            return


def play(file: MediaFile) -> Iterator[tuple[int, pil.Image]]:
    """(milliseconds, RGB picture) of each frame in turn, up to where the file breaks off.

    Raises BadMedia for too large a one.
    """
    image = open_animation(file)
    count, time = getattr(image, "n_frames", 1), 0
    check_size(*image.size, file)
    check_work(count * image.width * image.height, file)
    # The first picture of a PNG may be one for who shows no animations.
    for number in range(bool(image.info.get("default_image")), count):
        try:
            image.seek(number)
            image.load()
        except Exception:  # Pillow raises nearly everything on damaged files
            note_to_user(f"{file.name} breaks off at {time / 1000:.1f} s")
            return
        yield time, open_image(image.copy())  # the next frame is drawn over this one
        time += round(image.info.get("duration") or UNSAID)
