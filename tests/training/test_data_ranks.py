"""Two real processes have the same work in every step."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("data_ranks.py")


@pytest.mark.slow
def test_two_processes_have_the_same_work(
    write_rows: Callable[..., Path],
    said: Callable[..., dict[str, Any]],
    media: Path,
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(24):
        picture = (media / "a.png").read_bytes()
        if number % 4 == 0:  # sounds of 0.3 to 7 s
            (media / f"{number}.wav").write_bytes(wav(float(rng.uniform(0.3, 7))))
            rows.append(said("<audio>what is said?", "hello", audios=[f"{number}.wav"]))
        elif number % 4 == 1:  # videos of 2 to 8 frames
            folder = media / f"{number}"
            folder.mkdir()
            for frame in range(int(rng.integers(2, 9))):
                (folder / f"{frame}.png").write_bytes(picture)
            rows.append(said("<video>what moves?", "nothing", videos=[str(number)]))
        elif number % 4 == 2:
            count = int(rng.integers(1, 5))
            rows.append(said("<image>" * count + "?", "red", images=["b.png"] * count))
        else:
            rows.append(said("red " * int(rng.integers(5, 300)), "red"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(SCRIPT), str(write_rows(rows)), str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = json.loads((tmp_path / "ranks.json").read_text())
    assert first["kept"] == second["kept"] == list(range(24))
    assert len(list((tmp_path / "sizes").glob("*.jsonl"))) == 1
    ratios = []
    for one, other in zip(first["costs"], second["costs"], strict=True):
        mean = (one["cost"] + other["cost"]) / 2
        ratios.append(max(one["cost"], other["cost"]) / mean)
    assert max(ratios) < 1.1
    assert np.mean(ratios) < 1.05
    seeing, hearing = (
        [cost.get(name, 0.0) for rank in (first, second) for cost in rank["costs"]]
        for name in ("image", "audio")
    )
    assert min(seeing) < max(seeing)  # the mixture differs, and still the work is the same
    assert min(hearing) < max(hearing)
    assert first["ids"] != second["ids"]


def wav(seconds: float) -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        samples = np.random.default_rng(1).normal(0, 3000, int(16000 * seconds))
        out.writeframes(samples.astype("<i2").tobytes())
    return data.getvalue()
