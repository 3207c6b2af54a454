"""Animated WebP and PNG, which FFmpeg reads in part or not at all."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image as pil

from ming_core.mediafile import MediaFile
from ming_core.notes import note_to_user
from ming_vision.image import open_image

FORMATS = ("PNG", "WEBP")

UNSAID = 100
"""Milliseconds of a frame whose file does not say them."""


def play(file: MediaFile) -> Iterator[tuple[int, pil.Image]]:
    """(milliseconds, RGB picture) of each frame in turn, up to where the file breaks off."""
    with file.open() as handle, pil.open(handle, formats=FORMATS) as image:
        time = 0
        # The first picture of a PNG may be one for who shows no animations.
        for number in range(bool(image.info.get("default_image")), getattr(image, "n_frames", 1)):
            try:
                image.seek(number)
                image.load()
            except Exception:  # Pillow raises nearly everything on damaged files
                note_to_user(f"{file.name} breaks off at {time / 1000:.1f} s")
                return
            yield time, open_image(image.copy())  # the next frame is drawn over this one
            time += round(image.info.get("duration") or UNSAID)
