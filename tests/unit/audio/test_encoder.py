"""The audio encoders of each release: which tower hears what, names and bytes, batches."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ming_audio.config import AudioConfig, SanmConfig, WhisperConfig
from ming_audio.encoder import AudioEncoder
from ming_core.checkpoints.reading import on_meta
from ming_core.errors import BadConfig, BadMedia
from ming_core.loading import Sources
from ming_core.media import Audio, Image
from ming_core.model.encoder import by_modality

RELEASED = Path(__file__).parents[2] / "golden/released"
WHISPER = {"n_mels": 128, "n_ctx": 100, "n_state": 24, "n_head": 4, "n_layer": 2}
SANM = {
    "input_size": 560,
    "output_size": 32,
    "attention_heads": 4,
    "linear_units": 48,
    "num_blocks": 3,
    "kernel_size": 11,
    "sanm_shfit": 0,
}
LLM: dict[str, Any] = {"llm_config": {"hidden_size": 40}, "mlp_depth": 2}
FLASH = {
    **LLM,
    "audio_config": {"whisper_encoder_config": WHISPER, "ds_kernel_size": 3, "ds_stride": 2},
}
LITE_1_0 = {
    **LLM,
    "audio_config": {
        "audio_encoder_config_sanm": SANM,
        "audio_encoder_output_size": 32,
        "ds_kernel_size": 1,
        "ds_stride": 1,
    },
    "whisper_config": {"whisper_encoder_config": WHISPER, "ds_kernel_size": 3, "ds_stride": 2},
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def make(config: dict[str, Any]) -> AudioEncoder:
    return AudioEncoder.from_config(config, {}).eval()


def noise(seconds: float, purpose: Any = "listen") -> Audio:
    samples = np.random.default_rng(int(1000 * seconds)).normal(size=int(16_000 * seconds))
    return Audio(0.1 * samples.astype(np.float32), purpose)


def released(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = RELEASED / name
    config, preprocessor = (
        json.loads((folder / f"{file}.json").read_text("utf-8"))
        for file in ("config", "preprocessor_config")
    )
    return config, preprocessor


def elements(encoder: AudioEncoder) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, tensor in encoder.state_dict().items():
        counts[name.partition(".")[0]] += tensor.numel()
    return counts


def test_lite_1_0_is_exactly_the_released_part() -> None:
    """652 tensors of SANM, 487 of Whisper, two projectors: as its weight index lists them.

    What is left of its bytes after the language model and the image encoder is the talker.
    """
    with on_meta():
        encoder = AudioEncoder.from_config(*released("ming-lite-omni-1.0"))
    index = json.loads(
        (RELEASED / "ming-lite-omni-1.0/model.safetensors.index.json").read_text("utf-8")
    )
    sizes = elements(encoder)
    assert set(encoder.state_dict()) == {
        name for name in index["weight_map"] if name.partition(".")[0] in sizes
    }
    assert sizes == {
        "audio": 157_975_648,
        "linear_proj_audio": 5_246_976,
        "whisper_encoder": 654_248_960,
        "linear_proj_whisper": 12_062_720,
    }
    language, sight, talker = 67_237_257_216, 4 * (704_573_696 + 20_975_616), 2_761_729_536
    assert index["metadata"]["total_size"] == language + sight + talker + 4 * sizes.total()


def test_lite_1_5_and_flash() -> None:
    """One Whisper under the name that SANM has in 1.0; the config.json of 1.5 describes both."""
    for name, projector in (("ming-lite-omni-1.5", 12_062_720), ("ming-flash-omni", 32_514_048)):
        with on_meta():
            encoder = AudioEncoder.from_config(*released(name))
        assert elements(encoder) == {"audio": 654_248_960, "linear_proj_audio": projector}
        assert len(encoder.state_dict()) == 491
        (ear,) = encoder.config.ears
        assert ear.tokens(3000) == 750  # 25 tokens a second


@pytest.mark.parametrize("name", ["ming-lite-omni-1.0", "ming-lite-omni-1.5", "ming-flash-omni"])
def test_released_configs_find_the_encoder(name: str) -> None:
    """They leave the type of the section empty, or write that of the whole model."""
    config, preprocessor = released(name)
    nothing: Any = None
    sources = Sources(
        nothing, config, preprocessor, [], nothing, torch.device("cpu"), torch.float32, parts=None
    )
    assert sources.encoder_entry("audio").load() is AudioEncoder


def test_tasks_and_ears() -> None:
    lite = AudioConfig.from_dict(LITE_1_0)
    assert (lite.listening.tower, lite.transcribing.tower) == ("audio", "whisper_encoder")
    assert isinstance(lite.listening.config, SanmConfig)
    assert isinstance(lite.transcribing.config, WhisperConfig)
    preview = AudioConfig.from_dict({k: v for k, v in LITE_1_0.items() if k != "whisper_config"})
    assert preview.listening is preview.transcribing
    assert preview.listening == lite.listening
    flash = AudioConfig.from_dict(FLASH)
    assert flash.listening is flash.transcribing
    assert flash.listening.projector == "linear_proj_audio"


def test_each_ear_of_lite_1_0_hears_its_own() -> None:
    encoder = make(LITE_1_0)
    parts = [noise(1.0, "transcribe"), noise(0.5), noise(0.7, "transcribe"), noise(0.3)]
    features = encoder.processor(parts)
    assert features.tokens == [25, 8, 18, 5]
    assert features.tensors["frames"].tolist() == [[0, 100], [8, 0], [0, 70], [5, 0]]
    with torch.no_grad():
        embeds = encoder(features)
        single = [encoder(encoder.processor([part])) for part in parts]
    assert embeds.shape == (56, 40)
    torch.testing.assert_close(embeds, torch.cat(single), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(56))


def test_sounds_processed_apart_join_into_one_batch() -> None:
    encoder = make(LITE_1_0)
    parts = [noise(0.4), noise(0.6, "transcribe"), noise(0.2)]
    together = encoder.processor(parts)
    (joined,) = by_modality([encoder.processor([part]) for part in parts])
    assert joined.tokens == together.tokens
    assert joined.tensors.keys() == together.tensors.keys()
    for name, tensor in together.tensors.items():
        assert torch.equal(joined.tensors[name], tensor), name


def test_one_ear_hears_whatever_the_purpose() -> None:
    encoder = make(FLASH)
    listen, write = (
        encoder.processor([noise(0.5, purpose)]) for purpose in ("listen", "transcribe")
    )
    assert torch.equal(listen.tensors["mel"], write.tensors["mel"])
    with pytest.raises(BadConfig, match="purpose of a sound is 'sing'; known: 'listen', 'trans"):
        encoder.processor([noise(0.5, "sing")])


def test_released_padding_changes_the_shorter_sounds_only() -> None:
    encoder = make(FLASH)
    features = encoder.processor([noise(1.0), noise(0.5)])
    padded = encoder.processor.released_padding(features)
    assert padded.tensors["frames"].tolist() == [[100], [100]]
    assert padded.tokens == features.tokens == [25, 13]
    with torch.no_grad():
        alone, in_company = encoder(features), encoder(padded)
    torch.testing.assert_close(in_company[:25], alone[:25], rtol=1e-5, atol=1e-5)
    assert (in_company[25:] - alone[25:]).abs().max() > 1e-3


def test_norm_query_embeds_false_leaves_the_length() -> None:
    config = {**FLASH, "audio_config": {**FLASH["audio_config"], "norm_query_embeds": False}}
    with torch.no_grad():
        norms = make(config)(make(config).processor([noise(0.5)])).norm(dim=-1)
    assert (norms - 1).abs().min() > 0.01


def test_built_on_meta_and_assigned_equals_built_directly() -> None:
    encoder = make(LITE_1_0)
    with on_meta():
        shell = make(LITE_1_0)
    assert all(tensor.is_meta for tensor in (*shell.parameters(), *shell.buffers()))
    shell.load_state_dict(encoder.state_dict(), assign=True)
    features = encoder.processor([noise(0.5), noise(0.5, "transcribe")])
    with torch.no_grad():
        assert torch.equal(shell(features), encoder(features))


def test_a_sound_beyond_the_positions_is_refused_before_it_is_read_to_the_end() -> None:
    """100 positions are 200 frames, 2 s."""
    processor = make(FLASH).processor
    assert processor([noise(2.0)]).tokens == [50]
    with pytest.raises(BadMedia, match="is longer than the 2 s that can be heard at once"):
        processor([noise(2.02)])


def test_pictures_are_refused() -> None:
    with pytest.raises(BadMedia, match="hears sounds, it cannot read image input"):
        make(FLASH).processor([Image("a.png")])


@pytest.mark.parametrize(
    ("audio", "sentence"),
    [
        ({"whisper_encoder_config": {**WHISPER, "n_state": 30}}, "n_state 30 must be even and a"),
        (
            {"whisper_encoder_config": {**WHISPER, "n_layer": 0}},
            "n_layer is 0; it must be a whole number of at least 1",
        ),
        (
            {"whisper_encoder_config": {**WHISPER, "n_ctx": "9"}},
            "n_ctx is '9'; it must be a whole number",
        ),
        ({"whisper_encoder_config": {"n_mels": 80}}, "lacks the field 'n_ctx'; take"),
        ({"whisper_encoder_config": WHISPER, "ds_stride": 0}, "audio_config.ds_stride is 0"),
        ({}, "audio_config of config.json describes no encoder"),
    ],
)
def test_bad_configuration(audio: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadConfig, match=sentence):
        make({**LLM, "audio_config": audio})


def test_front_ends_that_do_not_fit() -> None:
    with pytest.raises(BadConfig, match=r"n_mels 80 for Whisper and config\.json says 128"):
        AudioEncoder.from_config(FLASH, {"whisper_frontend_args": {"n_mels": 80}})
    with pytest.raises(BadConfig, match="sampling_rate 8000; the front ends work at 16000"):
        AudioEncoder.from_config(FLASH, {"sampling_rate": 8000})
    narrow = {**SANM, "input_size": 28}
    config = {**LLM, "audio_config": {"audio_encoder_config_sanm": narrow}}
    with pytest.raises(BadConfig, match=r"input_size is 28; the only front end .+ gives 560"):
        make(config).processor([noise(0.5)])


def test_a_config_without_hearing() -> None:
    with pytest.raises(BadConfig, match=r"config\.json has no 'audio_config'"):
        make(LLM)


@pytest.mark.gpu
@pytest.mark.parametrize("config", [FLASH, LITE_1_0], ids=["flash", "lite-1.0"])
def test_a_gpu_gives_the_same(config: dict[str, Any], gpu: torch.device) -> None:
    encoder = make(config)
    sounds = [noise(0.5), noise(0.3, "transcribe"), noise(0.9)]
    (features,) = by_modality([encoder.processor([sound]) for sound in sounds])
    with torch.no_grad():
        expected = encoder(features)
        values = encoder.to(gpu)(features.to(gpu, torch.float32))
        half = encoder.bfloat16()(features.to(gpu, torch.bfloat16))
    torch.testing.assert_close(values.cpu(), expected, rtol=1e-4, atol=1e-5)
    assert torch.cosine_similarity(half.float().cpu(), expected).min() > 0.98
