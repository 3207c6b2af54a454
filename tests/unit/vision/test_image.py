"""Opening pictures: every kind of source and format, and one clear sentence for the rest."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ming_core.errors import BadMedia
from ming_vision.image import MAX_PIXELS, open_image

RGB = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source: Any) -> np.ndarray:
    image = open_image(source)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    data = encoded(Image.fromarray(RGB))
    path.write_bytes(data)
    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    image = Image.fromarray(RGB)
    for source in (path, str(path), path.as_uri(), uri, data, image, RGB, torch.from_numpy(RGB)):
        assert np.array_equal(pixels(source), RGB), type(source)


def test_formats_become_8_bit_rgb() -> None:
    image = Image.fromarray(RGB)
    grey = np.linspace(0, 65535, 12 * 20).reshape(12, 20)
    grey_rgb = np.repeat((grey / 257).round().astype(np.uint8)[..., None], 3, axis=-1)
    assert np.array_equal(pixels(encoded(Image.fromarray(grey.astype(np.uint16)))), grey_rgb)
    assert np.array_equal(pixels(Image.fromarray(grey.astype(np.int32))), grey_rgb)
    unit = Image.fromarray((grey / 65535).astype(np.float32))
    assert np.abs(pixels(encoded(unit, "TIFF")).astype(int) - grey_rgb).max() <= 1
    cmyk = encoded(image.convert("CMYK"), "TIFF")
    assert np.abs(pixels(cmyk).astype(int) - RGB).max() <= 1
    assert np.array_equal(
        pixels(encoded(image.convert("L"))), np.array(image.convert("L").convert("RGB"))
    )
    palette = image.quantize(16)
    assert np.array_equal(pixels(encoded(palette)), np.asarray(palette.convert("RGB")))
    assert pixels(encoded(image.convert("1"))).shape == RGB.shape


def test_transparency_lies_on_white() -> None:
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[0, 0] = 255, 0, 0, 255
    rgba[1, 1] = 0, 0, 0, 128
    assert pixels(rgba).tolist() == [[[255, 0, 0], [255] * 3], [[255] * 3, [127] * 3]]
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "L").convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    data = encoded(palette, transparency=1)
    assert pixels(data).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(pixels(data), np.asarray(frames[0]))


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to view
    data = encoded(Image.fromarray(RGB), exif=exif)
    assert np.array_equal(pixels(data), np.rot90(RGB, -1))


def bomb(width: int, height: int) -> bytes:
    """A PNG header that announces a huge picture and brings no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\0" * 4


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (b"", "the image data is empty; expected PNG"),
        (b"hello", "the image data is not an image in a known format; expected PNG, JPEG, WebP"),
        (encoded(Image.fromarray(RGB))[:-40], "the image data is damaged or cut short: "),
        (bomb(30_000, 30_000), f"the image data has more than the {MAX_PIXELS:,} pixels allowed"),
        (bomb(11_000, 11_000), f"the image data has more than the {MAX_PIXELS:,} pixels allowed"),
        ("missing.png", "there is no image file 'missing.png'; check the path"),
        ("bad\0name.png", "cannot read the image file 'bad\\x00name.png': embedded null byte"),
        ("x" * 5000, "cannot read the image file 'xxxx"),
        ("http://example.com/a.png", "'http://example.com/a.png' is a web address, which is not"),
        ("data:image/png,abc", "'data:image/png,abc' must look like 'data:image/png;base64,...'"),
        ("data:image/png;base64,***", "the data: URI holds no valid base64: "),
        (
            np.zeros((4, 4, 3)),
            "an image array must be uint8 [height, width, 3], not float64 [4, 4, 3]",
        ),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "not uint8 [3, 8, 8]; scale and transpose it"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "not uint8 [0, 4, 3]"),
        (7, "cannot read an image from int; give a path, a data: URI, bytes, a PIL image or a"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_bad_sources_say_what_is_wrong(source: Any, sentence: str) -> None:
    with pytest.raises(BadMedia) as error:
        open_image(source)
    message = str(error.value)
    assert sentence in message
    assert len(message) < 300
    assert "\n" not in message


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(BadMedia, match="is a folder; give the path of one image file"):
        open_image(tmp_path)
