"""Open pictures of any kind as plain 8-bit RGB, or say in one sentence why not."""

from __future__ import annotations

import base64
import io
import warnings
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ming_core.errors import BadMedia
from ming_core.mediafile import MediaFile, MediaSource, shortened

MAX_PIXELS = 89_478_485
"""Largest width x height that is decoded (Pillow's own warning threshold, 256 MiB as RGB)."""


def open_image(source: Any) -> Image.Image:
    """RGB picture from a path, `file://` or `data:` URI, bytes, PIL image, uint8 array or tensor.

    Arrays are [H, W], [H, W, 1], [H, W, 3] or [H, W, 4]. Of an animation the first frame is taken;
    transparency is laid on white; 16-bit and float grey is scaled to 8 bit. The EXIF orientation is
    applied: the reference ignores it and sees phone photos lying on their side. Plain RGB and grey
    pictures come out exactly as in the reference. Raises BadMedia.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source, "the image")
    if isinstance(source, np.ndarray | torch.Tensor):
        return _to_rgb(_from_array(source), "the image")
    if isinstance(source, str) and source[:5].lower() == "data:":
        return _decode(_from_data_uri(source), "the data: URI")
    if isinstance(source, MediaSource):
        file = MediaFile.find(source, "image")
        return _decode(file.read(), file.name)
    raise BadMedia(
        f"cannot read an image from {type(source).__name__}; give a path, a data: URI, bytes, "
        "a PIL image or a uint8 array [height, width, 3]"
    )


def _from_data_uri(uri: str) -> bytes:
    header, comma, payload = uri.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise BadMedia(f"{shortened(uri)!r} must look like 'data:image/png;base64,...'")
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except ValueError as error:
        raise BadMedia(f"the data: URI holds no valid base64: {error}") from error


def _from_array(source: np.ndarray | torch.Tensor) -> Image.Image:
    array = source.numpy(force=True) if isinstance(source, torch.Tensor) else source
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    right = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))
    if array.dtype != np.uint8 or not right or not array.size:
        raise BadMedia(
            f"an image array must be uint8 [height, width, 3], not {array.dtype} "
            f"{list(array.shape)}; scale and transpose it first"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _decode(data: bytes, name: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data))
        return _to_rgb(image, name)
    except BadMedia:
        raise
    except UnidentifiedImageError as error:
        what = "empty" if not data else "not an image in a known format"
        raise BadMedia(f"{name} is {what}; expected PNG, JPEG, WebP, GIF, TIFF or BMP") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadMedia(
            f"{name} has more than the {MAX_PIXELS:,} pixels allowed; make it smaller first"
        ) from error
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        raise BadMedia(f"{name} is damaged or cut short: {error}") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.width * image.height > MAX_PIXELS:
        raise BadMedia(
            f"{name} has {image.width} x {image.height} pixels, more than the {MAX_PIXELS:,} "
            "allowed; make it smaller first"
        )
    image.load()  # a file is decoded only here: damage must show inside our error handling
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _grey_to_8_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image if image.mode == "RGB" else image.convert("RGB")  # `convert` always copies


def _grey_to_8_bit(image: Image.Image) -> Image.Image:
    """Grey of 16 bit (0..65535), of 32 bit with such values, or float (0..1 or 0..255)."""
    grey = np.nan_to_num(np.asarray(image, dtype=np.float64))
    if image.mode == "F":
        scale = 255.0 if grey.max(initial=0) <= 1 else 1.0
    else:
        scale = 1 / 257 if image.mode != "I" or grey.max(initial=0) > 255 else 1.0
    return Image.fromarray((grey * scale).round().clip(0, 255).astype(np.uint8))
