"""Every setting of every section with hostile values: it can be used, or one sentence says why not.

The sections are the real ones of the releases and of nano. What passes is built and run for nano.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ming_audio.config import AudioConfig
from ming_audio.processing import AudioProcessor
from ming_audio.prompts import prompts_of as audio_prompts
from ming_core import Image, load
from ming_core.chat.tokenizer import Tokenizer
from ming_core.checkpoints.files import read_json
from ming_core.errors import BadCheckpoint, BadConfig, MingError
from ming_core.fields import Section
from ming_core.presets import preset_folders
from ming_core.release import backbone_of, release_of
from ming_vision.config import Qwen3VisionConfig, VisionConfig
from ming_vision.encoder import vision_sizes
from ming_vision.processing import ImageProcessor
from ming_vision.prompts import prompts_of as vision_prompts

HOSTILE: list[Any] = [
    *(None, -1, 0, 1, 2, 10**6, 10**30, 10**400),
    *(-0.5, 0.0, 1e-320, 1e308, math.nan, math.inf, -math.inf),
    *("x", "", "1", "\x1b[2J\n", "\ud800", True, False),
    *([], [[]], [0, 0], ["x"], [math.nan], [0] * 5000, {}, {"type": {}}, {"a": {"b": [1]}}),
]
NESTED: Any = []
for _ in range(500):
    NESTED = [NESTED]
HOSTILE.append(NESTED)

RELEASES = ("ming-lite-omni-1.0", "ming-lite-omni-1.5", "ming-flash-omni", "nano")


@pytest.fixture(params=RELEASES)
def files(request: pytest.FixtureRequest, repository: Path) -> tuple[dict, dict]:
    """config.json and preprocessor_config.json of a model."""
    if request.param != "nano":
        folder = repository / "tests/golden/released" / request.param
        return read_json(folder / "config.json"), read_json(folder / "preprocessor_config.json")
    config: dict[str, Any] = {}
    for part in preset_folders("nano").values():
        config |= read_json(part / "config.json")
    return config, read_json(preset_folders("nano")["vision"] / "preprocessor_config.json")


def places(section: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every field, inner ones included."""
    for key, value in section.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


def changed(section: dict[str, Any], hostile: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field with each hostile value, and each field left out."""
    for path in places(section):
        for value in [*hostile, places]:
            copied = copy.deepcopy(section)
            holder = copied
            for key in path[:-1]:
                holder = holder[key]
            if value is places:
                del holder[path[-1]]
            else:
                holder[path[-1]] = value
            yield f"{'.'.join(path)} = {str(value)[:40]}", copied


def attack(
    section: dict[str, Any],
    use: Callable[[dict[str, Any]], object],
    hostile: list[Any] = HOSTILE,
) -> None:
    use(section)  # as it is
    sentences = set()
    for what, values in changed(section, hostile):
        start = time.process_time()
        try:
            use(values)
        except MingError as error:
            sentences.add(str(error))
        except Exception as error:
            pytest.fail(f"{what}: {error!r}")
        assert time.process_time() - start < 1, what
    assert sentences
    for sentence in sentences:
        assert sentence.isprintable()
        assert len(sentence) < 1000


def test_language_model(files: tuple[dict, dict]) -> None:
    attack(files[0]["llm_config"], lambda llm: backbone_of({"llm_config": llm}))


def test_vision(files: tuple[dict, dict]) -> None:
    config, preprocessor = files
    flash = config["vision_config"]["model_type"] == "qwen3_moe_vit"
    kind = Qwen3VisionConfig if flash else VisionConfig

    def use(section: dict[str, Any]) -> None:
        kind.from_dict(section)
        ImageProcessor.from_config(section, preprocessor)

    attack(config["vision_config"], use)


def test_audio(files: tuple[dict, dict]) -> None:
    config, preprocessor = files

    def use(sections: dict[str, Any]) -> None:
        AudioProcessor.from_config(AudioConfig.from_dict({**config, **sections}), preprocessor)

    attack({k: config[k] for k in ("audio_config", "whisper_config") if k in config}, use)


def test_preprocessor(files: tuple[dict, dict]) -> None:
    config, preprocessor = files
    audio = AudioConfig.from_dict(config)

    def use(section: dict[str, Any]) -> None:
        ImageProcessor.from_config(config["vision_config"], section)
        AudioProcessor.from_config(audio, section)

    attack(preprocessor, use)


def test_whole_config(files: tuple[dict, dict]) -> None:
    """Sections that are none, and what stands beside them."""
    config, _ = files

    def use(values: dict[str, Any]) -> None:
        backbone_of({"llm_config": Section(values, "config.json").raw("llm_config")})
        vision_sizes(values)
        AudioConfig.from_dict(values)
        release = release_of(values)
        vision_prompts(release.worded("vision_tasks", values))
        audio_prompts(release.worded("audio_tasks", values))

    flat = {key: value for key, value in config.items() if not isinstance(value, dict)}
    sections = {key: {} for key in config if key not in flat}
    tasks = {key: config[key] for key in ("vision_tasks", "audio_tasks") if key in config}
    attack(flat | sections | tasks, lambda values: use({**config, **_filled(values, config)}))


def _filled(values: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The real section wherever it was not attacked."""
    return {k: config[k] if v == {} and k in config else v for k, v in values.items()}


@pytest.fixture
def tokenizer_file() -> dict[str, Any]:
    """nano's tokenizer.json with single bytes only, so that it is quickly read."""
    data = read_json(preset_folders("nano")["backbone"] / "tokenizer.json")
    data["added_tokens"] = []
    bytes_alone = {token: i for token, i in data["model"]["vocab"].items() if i < 256}
    data["model"] |= {"vocab": bytes_alone, "merges": []}
    data["pre_tokenizer"] = data["pre_tokenizer"]["pretokenizers"][1]
    return data


def test_tokenizer_config(tmp_path: Path, tokenizer_file: dict[str, Any]) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer_file), "utf-8")
    config = read_json(preset_folders("nano")["backbone"] / "tokenizer_config.json")
    config["added_tokens_decoder"] = {"256": {"content": "<new>", "special": True}}
    config |= {"eos_token": "<new>", "pad_token": {"content": "<new>"}}

    def use(values: dict[str, Any]) -> None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(values), "utf-8")
        tokenizer = Tokenizer(tmp_path)
        assert tokenizer.decode(tokenizer.encode("a red square")) == "a red square"

    attack(config, use)
    for key in ("-1", "1e3", "x", "٣", "9" * 5000, "", "1.0"):
        broken = {**config, "added_tokens_decoder": {key: {"content": "<new>"}}}
        with pytest.raises(BadConfig, match=r"must be the id of a token"):
            use(broken)


def test_tokenizer(
    tmp_path: Path, tokenizer_file: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the library makes of its own file, panics included."""
    monkeypatch.setenv("RUST_BACKTRACE", "0")  # looking up names for it takes seconds
    (tmp_path / "tokenizer_config.json").write_text("{}", "utf-8")
    vocabulary = tokenizer_file["model"].pop("vocab")

    def use(values: dict[str, Any]) -> None:
        if isinstance(values.get("model"), dict) and values["model"].get("type") == "BPE":
            values["model"] = {"vocab": vocabulary, **values["model"]}
        (tmp_path / "tokenizer.json").write_text(json.dumps(values), "utf-8")
        Tokenizer(tmp_path).encode("a red square")

    attack(tokenizer_file, use, HOSTILE[::4])  # reading the file takes the library long


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return load("nano").save(tmp_path_factory.mktemp("nano") / "model")


def altered(nano: Path, folder: Path, file: str, place: str, value: object) -> Path:
    """nano with another value at a dotted place of one of its files."""
    folder.mkdir()
    for path in nano.iterdir():
        os.link(path, folder / path.name)
    data = read_json(nano / file)
    holder = data
    *above, last = place.split(".")
    for key in above:
        holder = holder[key]
    holder[last] = value
    (folder / file).unlink()
    (folder / file).write_text(json.dumps(data), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("llm_config.num_hidden_layers", 10**9, "num_hidden_layers is 1000000000; it must be a"),
        ("llm_config.num_hidden_layers", 1000, "describes 1000 layers with 8 experts, at least"),
        ("llm_config.num_experts", 4000, "describes 6 layers with 4000 experts, at least 72012"),
        ("llm_config.num_hidden_layers", 7, "do not fit its config.json: "),
        ("llm_config.rms_norm_eps", -1, "rms_norm_eps is -1; it must be a number from 1e-30"),
        ("llm_config.rms_norm_eps", 0, "rms_norm_eps is 0; it must be a number from 1e-30"),
        ("llm_config.rms_norm_eps", math.nan, "rms_norm_eps is nan; it must be a number"),
        ("llm_config.rms_norm_eps", math.inf, "rms_norm_eps is inf; it must be a number"),
        ("llm_config.rope_theta", 0, "rope_theta is 0; it must be a number from 1 to"),
        ("llm_config.rope_theta", -10000.0, "rope_theta is -10000.0; it must be a number from 1"),
        ("llm_config.rope_theta", math.nan, "rope_theta is nan; it must be a number from 1"),
        ("llm_config.partial_rotary_factor", math.nan, "partial_rotary_factor is nan; it must"),
        ("llm_config.moe_router_topk_scaling_factor", -2.5, "scaling_factor is -2.5; it must be"),
        ("llm_config.pad_token_id", 1536, "pad_token_id is 1536; it must be .* at most 1535"),
        ("llm_config.use_qk_norm", False, "use_qk_norm is False; only True is supported"),
        ("llm_config.vocab_size", 1533, "has a token 1535 and the embeddings .* end at 1532"),
        ("vision_config.depth", 10**9, "depth is 1000000000; it must be a whole number"),
        ("vision_config.depth", 1000, "describes a part with far more tensors than the check"),
        ("vision_config.in_channels", 4, "in_channels is 4; only 3 is supported"),
        ("vision_config.fullatt_block_indexes", [6], r"is \[6\]; it must be .* from 0 to 5"),
        ("vision_config", [], r"vision_config is \[\]; it must be an object"),
        ("mlp_depth", 10**9, r"mlp_depth of config.json is 1000000000; it must be a whole"),
        ("mlp_depth", 60, "mlp_depth of config.json is 60|do not fit its config.json"),
    ],
)
def test_absurd_settings_are_refused_before_anything_is_built(
    nano: Path, tmp_path: Path, place: str, value: object, sentence: str
) -> None:
    folder = altered(nano, tmp_path / "model", "config.json", place, value)
    start = time.process_time()
    with pytest.raises((BadConfig, BadCheckpoint), match=sentence):
        load(folder, parts=["text", "image"])
    assert time.process_time() - start < 2


@pytest.mark.parametrize("size", [10**9, 1000])
def test_an_absurd_ear(nano: Path, tmp_path: Path, size: int) -> None:
    place = "audio_config.whisper_encoder_config.n_layer"
    folder = altered(nano, tmp_path / "model", "config.json", place, size)
    sentence = r"n_layer is 10+; it must be|far more tensors than the checkpoint holds"
    with pytest.raises((BadConfig, BadCheckpoint), match=sentence):
        load(folder, parts="audio")


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("min_pixels", 10**12, "min_pixels is 10+; it must be a whole number .* at most 4096"),
        ("max_pixels", 100, "max_pixels is 100; it must be a whole number of at least 256"),
        ("image_std", [0, 0, 0], r"image_std is \[0, 0, 0\]; it must be a list of 3 numbers"),
        ("image_mean", [math.nan] * 3, r"image_mean is \[nan, nan, nan\]; it must be a list"),
        ("video_fps", 0, "video_fps is 0|video_fps of preprocessor_config.json is 0; it must be"),
        ("merge_size", "x", "merge_size of preprocessor_config.json is 'x'; it must be a whole"),
    ],
)
def test_absurd_pictures(
    nano: Path, tmp_path: Path, place: str, value: object, sentence: str
) -> None:
    sentence = sentence.replace("_pixels is", "_pixels of preprocessor_config.json is")
    sentence = sentence.replace("image_std is", "image_std of preprocessor_config.json is")
    sentence = sentence.replace("image_mean is", "image_mean of preprocessor_config.json is")
    folder = altered(nano, tmp_path / "model", "preprocessor_config.json", place, value)
    with pytest.raises(BadConfig, match=sentence):
        load(folder).ask("what?", Image(np.zeros((64, 64, 3), np.uint8)))
