"""Settings of every test: fixed seeds, one thread, an empty home folder and no network."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

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
def repository() -> Path:
    """The root folder of the checkout."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def user_environment() -> dict[str, str]:
    """The variables pytest was started with, for tools such as uv that need the real home."""
    return dict(USER_ENVIRONMENT)
