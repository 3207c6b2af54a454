"""Open pictures of any kind as plain RGB of 8 bit, or raise an error of one sentence."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import torch
from PIL import Image

from ming_core.errors import BadMedia
from ming_core.media.files import MediaFile, MediaSource, shortened
from ming_core.notes import note_to_user
from ming_core.text import one_line
from ming_vision.metadata import (
    is_animated_png,
    jpeg_scans,
    orientation_of,
    without_metadata,
)

MAX_PIXELS = 89_478_485
"""Largest width x height that is decoded (Pillow's own warning threshold, 256 MiB as RGB)."""

MAX_ASPECT = 200
"""How many times longer one side may be than the other."""

MAX_FILE = 1 << 29
"""Most bytes of a picture's file."""

MAX_SCANNED = 1_500_000_000
"""Most pixels x scans of a JPEG: a small file can ask for thousands of passes over a large one."""

MAX_PAGES = 1000
"""Most pages of one file that are read."""

FORMATS = {
    "PNG": "PngImagePlugin",
    "JPEG": "JpegImagePlugin",
    "WEBP": "WebPImagePlugin",
    "GIF": "GifImagePlugin",
    "TIFF": "TiffImagePlugin",
    "BMP": "BmpImagePlugin",
    "AVIF": "AvifImagePlugin",
    "JPEG2000": "Jpeg2KImagePlugin",
    "PPM": "PpmImagePlugin",
}
"""What a file may be, and the module of Pillow that reads it. Pillow knows many more; one of them
starts another program."""

KNOWN = "expected PNG, JPEG, WebP, GIF, TIFF, BMP, AVIF, JPEG 2000 or PPM"

_OTHERS = {
    b"%!PS": "an EPS or PostScript file",
    b"\xc5\xd0\xd3\xc6": "an EPS file",
    b"%PDF": "a PDF file",
    b"8BPS": "a Photoshop file",
    b"\0\0\1\0": "an icon file",
    b"\0\0\0\x0cJXL ": "a JPEG XL file",
    b"\xff\x0a": "a JPEG XL file",
    b"<!DOCTYPE html": "a web page",
    b"<html": "a web page",
    b"SIMPLE": "a FITS file",
    b"\xd7\xcd\xc6\x9a": "a WMF file",
}
"""Pictures that are not read, by how they begin."""

_HEAD = 1024
"""Bytes in which an XML file shows that it is an SVG."""

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Brands of HEIF files that Pillow itself cannot read."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What puts a picture upright, by its EXIF orientation."""

_FULL_SIZE = "ming_full_size"
_ROWS = 256
_filters = threading.Lock()


def open_image(source: Any) -> Image.Image:
    """An RGB picture from a path, a `file://` or `data:` URI, bytes, a PIL picture, a uint8 array
    or a tensor.

    - Arrays are [H, W], [H, W, 1], [H, W, 3] or [H, W, 4].
    - If the file is an animation or has several pages, the first picture is taken, and a note says
      so.
    - Transparent pictures are put on white. Grey of 16 bit or float is scaled to 8 bit.
    - The EXIF orientation is applied. The reference ignores it, so it sees many phone photos on
      their side. Other metadata are not read.
    - A JPEG or JPEG 2000 with more than MAX_PIXELS pixels is decoded at a half, a quarter or an
      eighth of its size (`full_size` gives the true one).

    Plain RGB and grey pictures are exactly those of the reference. Raises BadMedia.
    """
    if isinstance(source, Image.Image):
        return _in_memory(source)
    if isinstance(source, np.ndarray | torch.Tensor):
        return _in_memory(_from_array(source))
    file = _read(source)
    data, name = file.data or b"", file.name
    with _explained(name):
        image = _opened(data, name)
        _note_more(image, data, name)
        return _decoded(image, data, name)


def pages_of(source: Any) -> Iterator[Image.Image]:
    """All pages of a TIFF, one after another, as `open_image` gives them. Any other file has one.

    Raises BadMedia, also for a file with more than MAX_PAGES pages.
    """
    if isinstance(source, Image.Image | np.ndarray | torch.Tensor):
        yield open_image(source)
        return
    file = _read(source)
    data, name = file.data or b"", file.name
    with _explained(name):
        count, whole = _page_count(data, name)
    if count == 1:
        yield open_image(file)
        return
    if not whole:
        note_to_user(f"{name} breaks off behind page {count}; the pages up to there were read")
    if count > MAX_PAGES:
        raise BadMedia(f"{name} has {count:,} pages; split it into files of at most {MAX_PAGES:,}")
    for number in range(count):
        with _explained(f"page {number + 1} of {name}"):
            image = _opened(data, name)
            with _quiet():
                image.seek(number)
            yield _decoded(image, data, name)


def open_animation(file: MediaFile) -> Image.Image:
    """Open an animated PNG or WebP. No picture is decoded yet. Raises BadMedia."""
    data = file.read(MAX_FILE)
    with _explained(file.name):
        return _opened(data, file.name, animated=True)


def full_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the picture in the file, also if `open_image` made it smaller."""
    return image.info.get(_FULL_SIZE, image.size)


def check_aspect(width: int, height: int, name: str = "the image") -> None:
    """Raises BadMedia if one side is more than MAX_ASPECT times as long as the other."""
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise BadMedia(
            f"{name} is {width} x {height} pixels; one side may be at most {MAX_ASPECT} times the "
            "other, so crop it first"
        )


def _check_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise BadMedia(
            f"{name} has more than the {MAX_PIXELS:,} pixels allowed, {width:,} x {height:,}; make "
            "it smaller first"
        )
    check_aspect(width, height, name)


def _read(source: Any) -> MediaFile:
    """A picture's file, with its bytes in memory."""
    if isinstance(source, MediaSource):
        file = MediaFile.find(source, "image")
        return replace(file, data=file.read(MAX_FILE))
    raise BadMedia(
        f"cannot read an image from {type(source).__name__}; give a path, a data: URI, bytes, "
        "a PIL image or a uint8 array [height, width, 3]"
    )


def _from_array(source: np.ndarray | torch.Tensor) -> Image.Image:
    dtype, shape = str(source.dtype).removeprefix("torch."), list(source.shape)
    flat = len(shape) == 3 and shape[-1] == 1
    right = len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3, 4))
    if dtype != "uint8" or not right or 0 in shape:
        raise BadMedia(
            f"an image array must be uint8 [height, width, 3], not {dtype} {shape}; scale and "
            f"transpose it first{_hint(source, dtype, shape)}"
        )
    array = source.numpy(force=True) if isinstance(source, torch.Tensor) else source
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if flat else array))


def _hint(source: np.ndarray | torch.Tensor, dtype: str, shape: list[int]) -> str:
    """How to make a picture of an array that is none."""
    torches = isinstance(source, torch.Tensor)
    steps = ""
    if "float" in dtype:
        steps = "(255 * x).round()" + (".byte()" if torches else ".astype('uint8')")
    elif dtype == "bool":
        steps = "255 * x" + (".byte()" if torches else ".astype('uint8')")
    if len(shape) == 3 and shape[0] in (1, 3, 4) and shape[-1] not in (1, 3, 4):
        turn = ".permute(1, 2, 0)" if torches else ".transpose(1, 2, 0)"
        steps = (f"({steps})" if steps.startswith("255") else steps or "x") + turn
    return f", as with {steps}" if steps else ""


def _in_memory(image: Image.Image) -> Image.Image:
    name = "the image"
    with _explained(name):
        _check_size(image.width, image.height, name)
        image.load()
        size = full_size(image)
        rgb = _upright(_to_rgb(image, name), orientation_of(image))
        return rgb if size == image.size else _remember(rgb, size)


def _opened(data: bytes, name: str, animated: bool = False) -> Image.Image:
    """The picture of a file, its pixels still undecoded. Raises BadMedia for an unknown format.

    animated: all pictures of a PNG are wanted, not only the first.
    """
    if not data:
        raise BadMedia(f"{name} is empty; {KNOWN}")
    data = without_metadata(data, animated)
    for factory in _factories(data[:32], name):
        try:
            # Not `Image.open`, whose limits are switches of the whole process.
            with _quiet():
                return factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, KeyError) as error:
            raise _damaged(name, error) from error
    head = data[:_HEAD].lstrip()
    what = next((what for start, what in _OTHERS.items() if head.startswith(start)), "")
    if not what and b"<svg" in head:
        what = "an SVG file"
    if what:
        raise BadMedia(f"{name} is {what}, which is not read; {KNOWN}, so convert it first")
    raise BadMedia(f"{name} is not an image in a known format; {KNOWN}")


def _factories(head: bytes, name: str) -> Iterator[Callable[[io.BytesIO, str], Image.Image]]:
    """What Pillow opens a file with that begins so."""
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC:
        yield _heic(name)
    for kind, module in FORMATS.items():  # not `Image.init`, which imports forty of them
        with suppress(ModuleNotFoundError):  # AVIF came with Pillow 11.3
            import_module(f"PIL.{module}")
        if kind not in Image.OPEN:
            continue
        factory, accept = Image.OPEN[kind]
        if accept is None or accept(head) is True:
            yield factory


def _heic(name: str) -> Callable[[io.BytesIO, str], Image.Image]:
    try:
        from pillow_heif import HeifImageFile  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise BadMedia(
            f'{name} is a HEIC picture; to read it, pip install "ming-vision[heic]", or save it '
            "as JPEG"
        ) from None
    return HeifImageFile


@contextmanager
def _quiet() -> Iterator[None]:
    """Pillow warns of odd tags, which decide nothing. The filters belong to the whole process."""
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _page_count(data: bytes, name: str) -> tuple[int, bool]:
    """(pages of a TIFF, 1 of anything else; whether the list of them can be followed to its end)"""
    if not _is_tiff(data):
        return 1, True
    count = 0
    try:
        # Opened for this alone: counting moves from page to page.
        image = _opened(data, name)
        with _quiet():
            while True:
                image.seek(count)
                count += 1
    except EOFError:
        return count, True
    except Exception:
        return max(1, count), False


def _note_more(image: Image.Image, data: bytes, name: str) -> None:
    """Say what is not looked at: other pages, or the rest of an animation."""
    pages, whole = _page_count(data, name)
    if pages > 1:
        note_to_user(f"{name} has {pages} pages, and page 1 of {pages} is looked at")
    elif not whole:
        note_to_user(f"{name} breaks off behind its first page, which is looked at")
    elif not _is_tiff(data) and (getattr(image, "is_animated", False) or is_animated_png(data)):
        note_to_user(f"{name} is an animation, and only its first picture is looked at")


def _decoded(image: Image.Image, data: bytes, name: str) -> Image.Image:
    """RGB of an opened file, upright, at once small if it is too large."""
    width, height = image.size
    if image.format == "JPEG" and (scans := jpeg_scans(data)) * width * height > MAX_SCANNED:
        raise BadMedia(
            f"{name} has {width:,} x {height:,} pixels in {scans:,} passes, which takes too long; "
            "save it again as a plain JPEG"
        )
    power = _made_smaller(image)
    _check_size(width >> power, height >> power, name)
    image.load()  # a file is decoded only here: damage must show inside our error handling
    number = orientation_of(image, data)
    rgb = _upright(_to_rgb(image, name), number)
    if power:
        _remember(rgb, (height, width) if number >= 5 else (width, height))
    return rgb


def _made_smaller(image: Any) -> int:
    """Has the decoder of a large picture give a half, a quarter or an eighth of its size.

    Returns the power of two; 0 for pictures that are small enough or whose decoder cannot do so.
    """
    width, height = image.size
    power = next(
        (power for power in range(4) if (width >> power) * (height >> power) <= MAX_PIXELS), 3
    )
    if power and image.format == "JPEG":
        image.draft(None, (width >> power, height >> power))
    elif power and image.format == "JPEG2000":
        image.reduce = power
    else:
        return 0
    return power


def _upright(rgb: Image.Image, number: int) -> Image.Image:
    """The picture turned as its orientation says, which it then no longer has."""
    if number not in _TURNS:
        return rgb
    turned = rgb.transpose(_TURNS[number])
    turned.info = {}
    return turned


def _remember(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    image.info[_FULL_SIZE] = size
    return image


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turns what Pillow raises, nearly everything on damaged files, into one sentence."""
    try:
        yield
    except BadMedia:
        raise
    except MemoryError as error:
        raise BadMedia(f"{name} does not fit into the memory; make it smaller first") from error
    except Exception as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> BadMedia:
    """What Pillow says of the fault stands behind, unless it speaks of its own code."""
    own = struct.error in (type(error), type(error.__cause__))
    reason = "" if own else shortened(one_line(str(error)))
    return BadMedia(f"{name} is damaged or cut short: {reason or 'a part of it is missing'}")


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _grey_to_8_bit(image, name)
    if image.mode == "LAB":
        from PIL import ImageCms

        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="RGB") or image
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba.getchannel("A"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey_to_8_bit(image: Image.Image, name: str) -> Image.Image:
    """Grey of 16 bit (0..65535), of 32 bit with such values, or float (0..1 or 0..255).

    Raises BadMedia for values that are not finite.
    """
    grey = np.asarray(image)
    most = grey.max(initial=0)
    if not np.isfinite(most) or not np.isfinite(grey.min(initial=0)):
        raise BadMedia(f"{name} has values that are not finite (NaN or infinite); replace them")
    if image.mode == "F":
        scale = 255.0 if most <= 1 else 1.0
    else:
        scale = 1 / 257 if image.mode != "I" or most > 255 else 1.0
    small = np.empty(grey.shape, dtype=np.uint8)
    for row in range(0, len(grey), _ROWS):  # a copy of all as float64 would be eight times as large
        rows = grey[row : row + _ROWS].astype(np.float64)
        small[row : row + _ROWS] = (rows * scale).round().clip(0, 255)
    return Image.fromarray(small)
