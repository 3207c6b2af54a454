"""Opening pictures: every kind of source and format, and one clear sentence for the rest."""

from __future__ import annotations

import base64
import io
import os
import struct
import sys
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ming_core.errors import BadMedia
from ming_core.notes import collected_notes
from ming_vision.image import MAX_PIXELS, full_size, open_image, pages_of

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


# What a file is, and what of it counts

SAMPLE = Image.fromarray(np.asarray(Image.fromarray(RGB).resize((200, 120))))
SUFFIXED = ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"]


@pytest.mark.parametrize("kind", SUFFIXED)
def test_every_format_that_is_promised(kind: str) -> None:
    assert open_image(encoded(SAMPLE, kind)).size == (200, 120)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n", "an EPS or PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(28), "an EPS file"),
        (b"%PDF-1.7\n", "a PDF file"),
        (b"SIMPLE  =                    T", "a FITS file"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "a WMF file"),
        (b"8BPS\0\1" + bytes(30), "a Photoshop file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG file"),
        (b"\xff\x0a" + bytes(30), "a JPEG XL file"),
    ],
)
def test_other_formats_are_named_and_start_no_program(
    data: bytes, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess

    def started(*_: Any, **__: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(BadMedia, match=f"is {what}.*, which is not read; expected PNG, JPEG"):
        open_image(data)


def test_no_other_reader_of_pillow_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a format that says nothing about itself: only those of the list have a say."""
    Image.init()
    opener = (lambda *_: Image.new("RGB", (4, 4)), lambda _: True)
    monkeypatch.setitem(Image.OPEN, "EPS", opener)
    with pytest.raises(BadMedia, match="not an image in a known format"):
        open_image(b"anything at all, long enough")


def png_chunk(name: bytes, body: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(name + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def png_with(*chunks: bytes, behind: bool = False) -> bytes:
    """A PNG of RGB with other chunks after its header or behind its pixels."""
    data = encoded(Image.fromarray(RGB))
    at = len(data) - 12 if behind else 33
    return data[:at] + b"".join(chunks) + data[at:]


HUGE = zlib.compress(bytes(70_000_000), 9)
EXIF_GARBAGE = b"MM\0*" + b"\xff" * 60


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"zTXt", b"workflow\0\0" + HUGE),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + HUGE),
        png_chunk(b"iCCP", b"profile\0\0" + HUGE),
        png_chunk(b"iCCP", b"profile\0\0not compressed"),
        png_chunk(b"eXIf", EXIF_GARBAGE),
        png_chunk(b"eXIf", b""),
        png_chunk(b"tEXt", b"Comment\0hello", checksum=1),
        png_chunk(b"gAMA", b"\0", checksum=7),
        png_chunk(b"pHYs", b"\0"),
        png_chunk(b"cHRM", b"\xff" * 7),
        png_chunk(b"sRGB", b""),
        png_chunk(b"acTL", b"\xff" * 3),
        b"".join(png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) for _ in range(80)),
    ],
    ids=range(13),
)
def test_metadata_of_a_png_never_decide(chunk: bytes, behind: bool) -> None:
    assert np.array_equal(pixels(png_with(chunk, behind=behind)), RGB)


@pytest.mark.parametrize(
    "chunk",
    [png_chunk(b"tRNS", b"\0"), png_chunk(b"tRNS", b""), png_chunk(b"tRNS", bytes(6), checksum=1)],
    ids=["short", "empty", "checksum"],
)
def test_damaged_transparency_of_a_png_does_not_decide(chunk: bytes) -> None:
    assert np.array_equal(pixels(png_with(chunk)), RGB)


def test_transparency_of_a_png_decides() -> None:
    colour = b"".join(bytes((0, int(part))) for part in RGB[0, 0])
    seen = pixels(png_with(png_chunk(b"tRNS", colour)))
    assert seen[0, 0].tolist() == [255, 255, 255]


def jpeg_with(*segments: tuple[int, bytes]) -> bytes:
    data = encoded(Image.fromarray(RGB), "JPEG")
    added = b"".join(
        bytes((0xFF, mark)) + struct.pack(">H", len(body) + 2) + body for mark, body in segments
    )
    return data[:2] + added + data[2:]


@pytest.mark.parametrize(
    "segment",
    [
        (0xE1, b"Exif\0\0" + EXIF_GARBAGE),
        (0xE1, b"Exif\0\0"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 60_000),
        (0xE2, b"ICC_PROFILE\0\7\3" + b"x" * 100),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0" + b"\xff" * 50),
        (0xED, b"Photoshop 3.0\x008BIM\4\4\xff"),
        (0xFE, b"\xff" * 1000),
        (0xE0, b"JFXX\0\x10"),
        (0xE0, b"JFIF\0"),
        (0xE0, b""),
        (0xEE, b"Adobe"),
    ],
    ids=range(12),
)
def test_metadata_of_a_jpeg_never_decide(segment: tuple[int, bytes]) -> None:
    plain = pixels(encoded(Image.fromarray(RGB), "JPEG"))
    assert np.array_equal(pixels(jpeg_with(segment)), plain)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "AVIF"])
def test_garbage_exif_of_other_formats_never_decides(kind: str) -> None:
    plain = pixels(encoded(Image.fromarray(RGB), kind, lossless=True))
    for exif in (b"Exif\0\0" + EXIF_GARBAGE, b"\xff" * 30):
        try:
            data = encoded(Image.fromarray(RGB), kind, lossless=True, exif=exif)
        except Exception:  # Pillow itself refuses to write some of it
            continue
        assert np.array_equal(pixels(data), plain)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation_in_every_format(kind: str, number: int) -> None:
    from PIL import ImageOps

    picture = Image.new("RGB", (32, 16), "white")
    picture.paste("red", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = number
    picture.info["exif"] = exif.tobytes()
    upright = np.asarray(ImageOps.exif_transpose(picture)).astype(int)
    picture.info = {}
    seen = open_image(encoded(picture, kind, exif=exif.tobytes(), quality=95))
    assert np.abs(np.asarray(seen).astype(int) - upright).mean() < 12
    assert np.array_equal(pixels(seen), np.asarray(seen))  # opened again it is not turned again


def test_orientation_in_xmp() -> None:
    xmp = b'<x tiff:Orientation="6"/>'
    data = png_with(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    assert np.array_equal(pixels(data), np.rot90(RGB, -1))


@pytest.mark.parametrize("kind", SUFFIXED)
@pytest.mark.parametrize("share", [0.3, 0.7, 0.9])
def test_a_picture_that_broke_off_is_an_error(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(BadMedia, match="the image data is damaged or cut short: "):
        open_image(data[: int(share * len(data))])


MISSING = "the image data is damaged or cut short: a part of it is missing"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"\x89PNG\r\n\x1a\n", MISSING),
        (b"GIF89a\1\0\1", MISSING),
        (b"II*\0\x08", MISSING),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "the image data is an SVG file, which is not "),
        (b"\n<!DOCTYPE html><html>", "the image data is a web page, which is not read"),
    ],
)
def test_a_sentence_speaks_of_the_file(data: bytes, sentence: str) -> None:
    with pytest.raises(BadMedia, match=f"^{sentence}"):
        open_image(data)


def test_a_segment_of_a_wrong_length_is_damage() -> None:
    data = encoded(Image.fromarray(RGB), "JPEG")
    with pytest.raises(BadMedia, match="is damaged or cut short"):
        open_image(data[:2] + b"\xff\xe5\xff\xff" + data[2:])


def test_a_png_whose_end_mark_is_lost_is_whole() -> None:
    assert np.array_equal(pixels(encoded(Image.fromarray(RGB))[:-12]), RGB)


# More than one picture


def noted(source: Any) -> list[str]:
    with collected_notes() as notes:
        open_image(source)
    return notes


def test_pages_of_a_tiff() -> None:
    colours = ["red", "lime", "blue"]
    sheets = [Image.new("RGB", (8 + 2 * i, 6), c) for i, c in enumerate(colours)]
    data = encoded(sheets[0], "TIFF", save_all=True, append_images=sheets[1:])
    pages = list(pages_of(data))
    assert [page.tobytes() for page in pages] == [sheet.tobytes() for sheet in sheets]
    assert noted(data) == ["the image data has 3 pages, and page 1 of 3 is looked at"]
    assert [page.size for page in pages_of(RGB)] == [(20, 12)]


def test_pages_of_a_tiff_that_broke_off() -> None:
    sheets = [Image.new("RGB", (40, 40), colour) for colour in ("red", "lime", "blue")]
    data = encoded(sheets[0], "TIFF", save_all=True, append_images=sheets[1:])
    at, starts = 4, []
    for _ in sheets:  # each list of tags ends with the place of the next one
        starts.append(int.from_bytes(data[at : at + 4], "little"))
        at = starts[-1] + 2 + 12 * int.from_bytes(data[starts[-1] : starts[-1] + 2], "little")
    with collected_notes() as notes:
        first, second = pages_of(data[: starts[2] + 9])
    assert (first.tobytes(), second.tobytes()) == (sheets[0].tobytes(), sheets[1].tobytes())
    assert notes == ["the image data breaks off behind page 2; the pages up to there were read"]
    sentence = "the image data breaks off behind its first page, which is looked at"
    assert noted(data[: starts[1] + 9]) == [sentence]


def test_a_list_of_pages_that_leads_nowhere() -> None:
    data = bytearray(encoded(Image.fromarray(RGB), "TIFF"))
    start = int.from_bytes(data[4:8], "little")
    entries = int.from_bytes(data[start : start + 2], "little")
    at = start + 2 + 12 * entries
    data[at : at + 4] = (12).to_bytes(4, "little")  # into the pixels or the tags
    assert np.array_equal(pixels(bytes(data)), RGB)


def test_a_damaged_page_is_named() -> None:
    sheet = Image.fromarray(RGB)
    data = encoded(sheet, "TIFF", save_all=True, append_images=[sheet])
    pages = pages_of(data[:-300])
    assert next(pages).size == (20, 12)
    with pytest.raises(BadMedia, match="page 2 of the image data is damaged or cut short: "):
        next(pages)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_picture_and_a_note(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    note = "the image data is an animation, and only its first picture is looked at"
    assert noted(data) == [note]
    assert noted(encoded(frames[0], kind)) == []
    assert pixels(data)[8, 8, 0] > 240


# Very large ones


def test_a_very_large_jpeg_is_decoded_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ming_vision.image.MAX_PIXELS", 20_000)
    data = encoded(Image.new("RGB", (400, 160), "red"), "JPEG")
    small = open_image(data)
    assert small.size == (200, 80)
    assert full_size(small) == (400, 160)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = open_image(encoded(Image.new("RGB", (400, 160), "red"), "JPEG", exif=exif))
    assert (turned.size, full_size(turned)) == ((80, 200), (160, 400))
    assert full_size(open_image(turned)) == (160, 400)
    jp2 = open_image(encoded(Image.new("RGB", (400, 160), "red"), "JPEG2000"))
    assert (jp2.size, full_size(jp2)) == ((200, 80), (400, 160))
    for kind in ("PNG", "TIFF", "WEBP", "BMP"):
        with pytest.raises(BadMedia, match=r"has more than the 20,000 pixels allowed, 400 x 160"):
            open_image(encoded(Image.new("RGB", (400, 160)), kind))


def test_a_jpeg_of_too_many_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(RGB), "JPEG", progressive=True)
    assert open_image(data).size == (20, 12)
    monkeypatch.setattr("ming_vision.image.MAX_SCANNED", 1000)
    with pytest.raises(BadMedia, match=r"20 x 12 pixels in \d+ passes, which takes too long"):
        open_image(data)
    assert open_image(encoded(Image.fromarray(RGB), "JPEG")).size == (20, 12)


def test_a_long_strip_is_refused_before_it_is_decoded() -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", 89_000_000, 1, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header
    data += struct.pack(">I", zlib.crc32(header)) + png_chunk(b"IDAT", b"")
    with pytest.raises(BadMedia, match="one side may be at most 200 times the other"):
        open_image(data)
    with pytest.raises(BadMedia, match="one side may be at most 200 times the other"):
        open_image(np.zeros((1, 300, 3), dtype=np.uint8))


def test_a_file_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ming_vision.image.MAX_FILE", 1 << 20)
    path = tmp_path / "large.png"
    path.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(BadMedia, match="has more than 1 MB"):
        open_image(path)


# Pictures in memory

MODES = ["1", "L", "P", "LA", "PA", "La", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]


@pytest.mark.parametrize("mode", [*MODES, "I;16", "I;16B", "I", "F"])
def test_every_mode_of_pillow(mode: str) -> None:
    if mode in ("La", "RGBa"):
        image = Image.fromarray(RGB).convert(mode.upper()).convert(mode)
    elif mode.startswith("I;16"):
        image = Image.frombytes(mode, (20, 12), bytes(480))
    elif mode == "LAB":
        image = Image.frombytes(mode, (20, 12), bytes((200, 0, 0)) * 240)
    elif mode == "PA":
        image = Image.fromarray(RGB).quantize(8).convert(mode)
    else:
        image = Image.fromarray(RGB).convert(mode)
    assert pixels(image).shape == RGB.shape
    if mode in ("RGBA", "RGBa", "RGBX"):
        assert np.array_equal(pixels(image), RGB)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    grey = np.full((4, 4), 0.5, dtype=np.float32)
    grey[1, 2] = value
    for source in (Image.fromarray(grey), encoded(Image.fromarray(grey), "TIFF")):
        with pytest.raises(BadMedia, match="has values that are not finite"):
            open_image(source)


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        (np.zeros((4, 4, 3), np.float32), "first, as with (255 * x).round().astype('uint8')"),
        (np.zeros((3, 8, 8), np.uint8), "first, as with x.transpose(1, 2, 0)"),
        (torch.zeros(3, 8, 8), "first, as with (255 * x).round().byte().permute(1, 2, 0)"),
        (torch.zeros(3, 8, 8, dtype=torch.bfloat16), "not bfloat16 [3, 8, 8]"),
        (np.zeros((4, 4), bool), "first, as with 255 * x.astype('uint8')"),
        (torch.zeros(4, 4, dtype=torch.int64), "not int64 [4, 4]"),
        (np.zeros((4, 4, 2), np.uint8), "not uint8 [4, 4, 2]"),
        (np.zeros((1, 4, 4, 3), np.uint8), "not uint8 [1, 4, 4, 3]"),
        (np.array(["a"]), "an image array must be uint8"),
    ],
    ids=range(9),
)
def test_arrays_that_are_no_picture(source: Any, hint: str) -> None:
    with pytest.raises(BadMedia) as error:
        open_image(source)
    assert hint in str(error.value)


def test_heic(monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadMedia, match=r'is a HEIC picture; .*pip install "ming-vision\[heic\]"'):
        open_image(head)
    monkeypatch.undo()
    heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    heif.from_pillow(Image.new("RGB", (64, 48), "red")).save(buffer)
    seen = pixels(buffer.getvalue())
    assert seen.shape == (48, 64, 3)
    assert seen[..., 0].min() > 200
    with pytest.raises(BadMedia, match="is damaged or cut short"):
        open_image(head)


def test_the_pages_of_a_pipe_are_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = encoded(Image.new("RGB", (5, 4), "red"))
    writer = threading.Thread(target=pipe.write_bytes, args=(data,), daemon=True)
    writer.start()
    assert [page.size for page in pages_of(pipe)] == [(5, 4)]
    writer.join()
