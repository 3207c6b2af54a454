"""Log-mel and fbank: frame counts, levels that can be worked out by hand, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ming_audio import fbank as fbank_module
from ming_audio import logmel
from ming_audio.fbank import fbank, fbank_features, read_cmvn, released_cmvn, stack_frames
from ming_audio.logmel import log_mel, mel_filters
from ming_core.errors import BadCheckpoint, BadMedia

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_of_a_tone_peaks_at_its_bin(n_mels: int) -> None:
    mel = log_mel(tone(1000), n_mels)
    assert mel.shape == (100, n_mels)
    assert mel.dtype == torch.float32
    peak = mel_filters(n_mels)[:, 25].argmax()  # bins of 40 Hz
    assert (mel[2:-2].argmax(1) == peak).all()
    assert mel.max() - mel.min() == pytest.approx(2.0)  # eight powers of ten, divided by four


@pytest.mark.parametrize(("samples", "frames"), [(201, 1), (319, 1), (320, 2), (16_159, 100)])
def test_log_mel_has_a_frame_for_every_full_hop(samples: int, frames: int) -> None:
    assert len(log_mel(np.zeros(samples, np.float32))) == frames


def test_silence_is_at_the_floor() -> None:
    silence = np.zeros(RATE, np.float32)
    assert torch.all(log_mel(silence) == -1.5)
    floor = np.log(np.finfo(np.float32).eps)
    assert torch.allclose(fbank(silence), torch.tensor(floor), atol=1e-6)


def test_filters_have_area_one_and_overlap() -> None:
    for n_mels in (80, 128):
        filters = mel_filters(n_mels)
        assert filters.shape == (n_mels, 201)
        assert (filters >= 0).all()
        assert filters[-1].sum().item() * 40 == pytest.approx(1, rel=0.05)


def test_pieces_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.randn(40_000)
    mel, bank = log_mel(noise), fbank(noise)
    for module in (logmel, fbank_module):
        monkeypatch.setattr(module, "CHUNK", 7)
    assert (log_mel(noise) - mel).abs().max() < 1e-5
    assert (fbank(noise) - bank).abs().max() < 1e-4


def test_fbank_of_twice_the_level_is_twice_the_amplitude() -> None:
    noise = 0.1 * torch.randn(RATE)
    difference = fbank(2 * noise) - fbank(noise)
    assert torch.allclose(difference, torch.tensor(2 * np.log(2), dtype=torch.float32), atol=1e-3)
    offset = fbank(noise + 0.3) - fbank(noise)
    assert offset.abs().max() < 0.05  # the mean of each frame is taken away


def test_stacked_frames_repeat_the_ends() -> None:
    frames = torch.arange(8.0)[:, None]
    assert stack_frames(frames).tolist() == [
        [0, 0, 0, 0, 1, 2, 3],
        [3, 4, 5, 6, 7, 7, 7],
    ]
    assert stack_frames(torch.zeros(1, 80)).shape == (1, 560)
    assert stack_frames(torch.zeros(6, 80)).shape == (1, 560)
    assert stack_frames(torch.zeros(7, 80)).shape == (2, 560)


def test_normalisation_shifts_then_scales() -> None:
    cmvn = released_cmvn()
    assert cmvn.shape == (2, 560)
    assert torch.equal(cmvn[:, :80], cmvn[:, 480:])
    noise = torch.randn(RATE)
    wanted = (stack_frames(fbank(noise)) + cmvn[0]) * cmvn[1]
    assert torch.equal(fbank_features(noise, cmvn), wanted)


def test_cmvn_is_read_from_the_file_of_the_release(tmp_path: Path) -> None:
    path = tmp_path / "am.mvn"
    path.write_text(
        "<Nnet>\n<AddShift> 2 2\n<LearnRateCoef> 0 [ -8.5 -9.25 ]\n"
        "<Rescale> 2 2\n<LearnRateCoef> 0 [ 0.5 0.25 ]\n</Nnet>\n",
        "utf-8",
    )
    assert read_cmvn(path).tolist() == [[-8.5, -9.25], [0.5, 0.25]]
    path.write_text("<AddShift> 2 2\n<LearnRateCoef> 0 [ -8.5 ]\n", "utf-8")
    with pytest.raises(BadCheckpoint, match=r"holds no normalisation \(no <Rescale>\)"):
        read_cmvn(path)
    with pytest.raises(BadCheckpoint, match="holds no normalisation"):
        read_cmvn(tmp_path / "missing.mvn")


def test_sounds_below_one_frame_are_refused() -> None:
    with pytest.raises(BadMedia, match=r"200 samples \(12 ms\) at 16 kHz; at least 201 are needed"):
        log_mel(np.zeros(200, np.float32))
    with pytest.raises(BadMedia, match=r"399 samples .* at least 400"):
        fbank(np.zeros(399, np.float32))


@pytest.mark.gpu
def test_a_gpu_gives_the_same(gpu: torch.device) -> None:
    sound = torch.from_numpy(tone(440, 1.3) + 0.1 * tone(1234, 1.3))
    for front_end in (log_mel, fbank, lambda samples: fbank_features(samples, released_cmvn())):
        features = front_end(sound.to(gpu))
        assert features.device.type == gpu.type
        torch.testing.assert_close(features.cpu(), front_end(sound), rtol=1e-3, atol=1e-3)
