"""Settings of every test: fixed seeds, one thread, an empty home folder and no network."""

from __future__ import annotations

import os
import random
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch
from PIL import Image

from ming_core.devices import find_device

if TYPE_CHECKING:
    from av.video.stream import VideoStream

HOME_VARIABLES = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME")
USER_ENVIRONMENT = dict(os.environ)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        action="append",
        default=[],
        metavar="DIR",
        help="a further folder of golden cases; may be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Before any test module is imported: libraries read these variables at import time.
    home = tempfile.TemporaryDirectory(prefix="ming-home-")
    config.add_cleanup(home.cleanup)
    config.add_cleanup(_restore_environment)
    for name in HOME_VARIABLES:
        os.environ.pop(name, None)
    os.environ["HOME"] = home.name
    torch.set_num_threads(1)
    # Who starts the tests in the background lets them ignore these, and so would each child.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _restore_environment() -> None:
    for name in HOME_VARIABLES:
        os.environ.pop(name, None)
        if name in USER_ENVIRONMENT:
            os.environ[name] = USER_ENVIRONMENT[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, and this machine has none")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    """Seed every generator; give back the default dtype and process group a test may have set."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    dtype = torch.get_default_dtype()
    yield
    torch.set_default_dtype(dtype)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise RuntimeError(f"a test tried to reach {address!r}: tests run without a network")
        connect(self, address)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    """Where tests marked `gpu` compute; in float32 without shortcuts, so that a CPU can agree."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    return find_device("auto")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root folder of the checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def user_environment() -> dict[str, str]:
    """The variables pytest was started with, for tools such as uv that need the real home."""
    return dict(USER_ENVIRONMENT)


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    """Writes small videos whose frames can be told apart."""
    return Clips(tmp_path)


class Clips:
    """Videos of 8 grey stripes each: black and white are the bits of the frame's number."""

    BITS = 8

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def picture(self, number: int, width: int = 64, height: int = 48) -> np.ndarray:
        """The frame of this number, [height, width, 3] uint8."""
        stripe = np.arange(width) * self.BITS // width
        row = np.where(number >> stripe & 1, 230, 20).astype(np.uint8)
        return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()

    def number(self, picture: Image.Image) -> int:
        """Which frame a picture is, also after lossy coding."""
        middle = np.asarray(picture.convert("L"))[picture.height // 2]
        centres = (np.arange(self.BITS) + 0.5) * len(middle) / self.BITS
        return sum(int(middle[int(x)] > 125) << bit for bit, x in enumerate(centres))

    def write(
        self,
        name: str,
        codec: str = "libx264",
        frames: int = 30,
        fps: int = 10,
        size: tuple[int, int] = (64, 48),
        pixels: str = "yuv420p",
        milliseconds: Sequence[int] | None = None,
        rotation: int = 0,
        key_every: int = 12,
        header_first: bool = False,
    ) -> Path:
        """Encode a video file. milliseconds: the time of each frame instead of `fps`.

        header_first: as for the web, where mp4 has its header behind the frames otherwise.
        """
        import av

        path = self.folder / name
        options = {"movflags": "faststart"} if header_first else {}
        with av.open(path, "w", options=options) as container:
            stream = cast("VideoStream", container.add_stream(codec, rate=fps))
            stream.width, stream.height = size
            stream.pix_fmt = pixels
            stream.codec_context.gop_size = key_every
            if rotation:
                stream.set_display_rotation(rotation)
            if milliseconds is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            for i in range(frames if milliseconds is None else len(milliseconds)):
                frame = av.VideoFrame.from_ndarray(self.picture(i, *size), format="rgb24")
                frame.pts = i if milliseconds is None else milliseconds[i]
                frame.time_base = Fraction(1, fps if milliseconds is None else 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path
