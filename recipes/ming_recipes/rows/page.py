"""Rows as one page of HTML, which needs no other file and runs no program."""

from __future__ import annotations

import base64
import html
import io
import wave
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
from PIL import Image as pil

from ming_core.errors import MingError
from ming_core.media import Audio, Image, Media, Video
from ming_core.notes import collected_notes
from ming_core.text import printable
from ming_recipes.rows.preview import Piece, View, shortened

THUMBNAIL = 192
"""Pixels of the longer side of a picture."""

FRAMES = 4
"""Frames of a video that are shown."""

HEARD = 20
"""Seconds of a sound that can be heard on the page."""

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1f2328; background: #fff; }
section { border: 1px solid #d0d7de; border-radius: 8px; padding: .5rem 1rem 1rem; margin: 1rem 0; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: .4rem 0; }
p.numbers, figcaption { color: #59636e; margin: .2rem 0; font-size: .85rem; }
p.fault { color: #b3261e; font-weight: 600; } p.note { color: #7d4e00; }
figure { display: inline-block; margin: .3rem .6rem .3rem 0; vertical-align: top; }
img { image-rendering: auto; border: 1px solid #d0d7de; margin-right: 2px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f8fa; border-radius: 6px;
  padding: .6rem; margin: .4rem 0; }
.special { color: #8c959f; } .medium { background: #ddf4ff; color: #0550ae; border-radius: 4px; }
.target { background: #c8f0d0; color: #0b4f1e; } .target.special { color: #3d8b52; }
@media (prefers-color-scheme: dark) {
  body { background: #0d1117; color: #e6edf3; } pre { background: #161b22; }
  section, img { border-color: #30363d; } .medium { background: #0c2d4d; color: #79c0ff; }
  .target { background: #0f3d1f; color: #9be9a8; } p.fault { color: #ff7b72; }
}
"""


def page(views: Sequence[View], count: int, model: str, name: str) -> str:
    """The page. count: rows of the data set. name: its path."""
    title = _safe(f"{len(views)} of {count} rows of {name}, as {model} sees them")
    sections = "\n".join(map(_section, views))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{title}</h1>
<p class="numbers">The model learns to write what is <span class="target">green</span>.
<span class="special">Grey</span> are special tokens, <span class="medium">blue</span> are the
tokens of media. Nothing is cut: a row that is too long is left out.</p>
{sections}
</body>
</html>
"""


def _section(view: View) -> str:
    parts = [f"<h2>{_safe(view.where)}</h2>"]
    if view.pieces:
        share = view.targets / max(view.tokens, 1)
        parts.append(
            f'<p class="numbers">id {_safe(view.id)}: {view.tokens} tokens, {view.targets} of them '
            f"targets ({share:.0%})</p>"
        )
    if view.fault is not None:
        why = f"left out ({view.fault.fault}): {view.fault.reason}"
        parts.append(f'<p class="fault">{_safe(why)}</p>')
    parts += [f'<p class="note">{_safe(sentence)}</p>' for sentence in view.notes]
    parts += [_figure(medium, tokens) for medium, tokens in view.media]
    if view.pieces:
        parts.append(f"<pre>{''.join(map(_span, view.pieces))}</pre>")
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _span(piece: Piece) -> str:
    classes = [] if piece.kind == "text" else [piece.kind]
    classes += ["target"] * piece.target
    text = _safe(shortened(piece.text))
    return f'<span class="{" ".join(classes)}">{text}</span>' if classes else text


def _safe(text: str) -> str:
    """A text of the data as HTML. What would change the order of the page is written out."""
    return html.escape(printable(text))


def _figure(medium: Media, tokens: int) -> str:
    shown = ""
    # The model's own reader has read it; a picture for people is no reason to stop.
    with collected_notes(), suppress(MingError, OSError, ValueError):
        if isinstance(medium, Image):
            shown = _picture(_open(medium.source))
        elif isinstance(medium, Video):
            shown = "".join(map(_picture, _frames(medium)))
        elif isinstance(medium, Audio):
            shown = _sound(medium)
    caption = _safe(f"{medium}: {tokens} tokens")
    return f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"


def _open(source: Any) -> pil.Image:
    from ming_vision.image import open_image

    return open_image(source)


def _frames(video: Video) -> list[pil.Image]:
    """Some frames from all over a video."""
    from ming_vision.video import open_stream

    if isinstance(video.source, list):
        every = [_open(one) for one in video.source]
    else:
        every = []
        for number, (_, picture) in enumerate(open_stream(video.source)):
            if number == 600:
                break
            picture.thumbnail((THUMBNAIL, THUMBNAIL))
            every.append(picture)
    places = np.linspace(0, len(every) - 1, min(FRAMES, len(every))).round().astype(int)
    return [every[place] for place in places]


def _picture(picture: pil.Image) -> str:
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    small.save(data, "PNG" if max(small.size) <= 64 else "JPEG", quality=85)
    kind = "png" if max(small.size) <= 64 else "jpeg"
    width, height = (2 * side if max(small.size) <= 96 else side for side in small.size)
    uri = base64.b64encode(data.getvalue()).decode()
    return f'<img alt="" width="{width}" height="{height}" src="data:image/{kind};base64,{uri}">'


def _sound(sound: Audio) -> str:
    """A curve of the loudness, and what can be heard of the sound."""
    from ming_audio.reading import stream_audio

    samples = np.concatenate(list(stream_audio(sound.source, channel=sound.channel)))
    seconds = len(samples) / 16000
    edges = np.linspace(0, len(samples), 121).astype(int)
    loud = [float(np.abs(samples[a:b]).max(initial=0)) for a, b in pairwise(edges)]
    peak = max(max(loud), 1e-6)
    bars = "".join(
        f'<rect x="{2 * i}" y="{20 - 19 * v / peak:.1f}" width="1.5" height="{38 * v / peak:.1f}"/>'
        for i, v in enumerate(loud)
    )
    data = io.BytesIO()
    with wave.open(data, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        heard = samples[: HEARD * 16000].clip(-1, 1)
        out.writeframes((heard * 32767).astype("<i2").tobytes())
    uri = base64.b64encode(data.getvalue()).decode()
    return (
        f'<svg width="240" height="40" fill="#0969da">{bars}</svg> {seconds:.1f} s<br>'
        f'<audio controls src="data:audio/wav;base64,{uri}"></audio>'
    )
