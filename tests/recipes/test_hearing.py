"""How hearing is scored: with a tiny model of random weights, and with answers made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ming_core.api import OmniModel
from ming_core.chat.tokenizer import Tokenizer
from ming_core.evaluation import Row, Sample
from ming_core.loading import Sources
from ming_core.model.moe import ModalityMoE
from ming_core.notes import collected_notes
from ming_core.presets import preset_folders
from ming_core.release import release_of
from ming_core.tasks import run_many
from ming_recipes.nano.build import PREPROCESSOR, build, released_config
from ming_recipes.nano.scores import evaluate as evaluation
from ming_recipes.nano.scores import hearing
from ming_recipes.nano.scores import loads as loading
from ming_recipes.nano.scores.benchmark import NanoPerception, evaluate
from ming_recipes.nano.scores.evaluate import SLICES, SOUND_SLICES
from ming_recipes.nano.scores.hearing import speech_samples, spoken, utterances
from ming_recipes.nano.scores.loads import (
    draw_loads,
    held_out_talks,
    load_scores,
    router_loads,
)
from ming_recipes.nano.world.names import alike
from ming_recipes.nano.world.speech import TRAIN_VOICES, Utterance
from ming_recipes.nano.world.voices import JOE, MissingVoice

RATE = 16_000


def syllables(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise that rises and falls as speech does."""
    time = np.arange(round(seconds * RATE)) / RATE
    noise = np.random.default_rng(seed).normal(0, 0.1, len(time))
    return (noise * np.abs(np.sin(4 * np.pi * time))).astype(np.float32)


@pytest.fixture(scope="module")
def tiny() -> OmniModel:
    """nano's parts with few layers and random weights."""
    tokenizer = Tokenizer(preset_folders("nano")["backbone"])
    config = released_config(tokenizer)
    config["llm_config"] = {**config["llm_config"], "num_hidden_layers": 2}
    few = {"depth": 1, "fullatt_block_indexes": [0]}
    config["vision_config"] = {**config["vision_config"], **few}
    whisper = {**config["audio_config"]["whisper_encoder_config"], "n_layer": 1}
    config["audio_config"] = {**config["audio_config"], "whisper_encoder_config": whisper}
    place, dtype = torch.device("cpu"), torch.float32
    release = release_of(config)
    sources = Sources(release, config, PREPROCESSOR, [], lambda: tokenizer, place, dtype)
    omni = build(config, seed=0).to(dtype).eval()
    for parameter in omni.parameters():
        if not parameter.any():  # training starts with layers that do nothing
            torch.nn.init.normal_(parameter, std=0.2)
    return OmniModel("tiny", omni, sources)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No programs, no sentences of training, short answers."""
    monkeypatch.setattr(hearing, "speak", lambda said: syllables(0.02 * len(said.text)))
    monkeypatch.setattr(hearing, "require", lambda *programs: None)
    monkeypatch.setattr(hearing, "trained_sentences", frozenset)
    monkeypatch.setattr(hearing, "LONGEST", 4)
    monkeypatch.setattr(evaluation, "LONGEST", 4)
    monkeypatch.setattr(loading, "LONGEST", 4)


Table = dict[str, dict[str, float]]
Heard = Callable[[Utterance], str]


def _table(alone: Heard, listed: Heard, count: int = 40) -> Table:
    """The scores of made-up transcripts, without and with names."""
    rows = [_row(sample, listed if sample.item.listing else alone) for sample in _speech(count)]
    table: Table = {}
    for score in NanoPerception().score(rows):
        table.setdefault(score.column, {})[score.name] = score.value
    return table


def _speech(count: int) -> list[Sample]:
    return list(speech_samples(count))


def _row(sample: Sample, heard: Heard) -> Row:
    return Row(sample.id, sample.facts, sample.column, heard(sample.item.spoken.said))


def _misspelt(said: Utterance) -> str:
    """Every name that has another spelling in it."""
    text = said.text
    for name in said.names:
        others = [other for other in alike(name, said.lang) if other != name]
        text = text.replace(name, others[0]) if others else text
    return text


def test_all_slices_of_a_model_that_hears(tiny: OmniModel) -> None:
    with collected_notes() as notes:
        scores = evaluate(tiny, 1, benchmark=NanoPerception({"test": SLICES["test"]}))
    expected = {f"{name} {lang}" for name in ("test", *SOUND_SLICES) for lang in ("en", "zh")}
    speech = {f"speech{more} {lang}" for more in ("", ", names listed") for lang in ("en", "zh")}
    family = {"new family en", "new family, names listed en"}
    assert set(scores) == expected | speech | family
    for name in expected:
        assert set(scores[name]) > {"vqa"}
        assert all(0 <= share <= 1 for share in scores[name].values())
    assert scores["asked aloud en"].keys() == scores["asked in writing en"].keys()
    for name in speech:
        metric = "wer" if name.endswith("en") else "cer"
        assert {metric, f"{metric} new sentences", "ne_wer", "ne_fnr"} <= set(scores[name])
        assert scores[name]["ne_fnr"] == 1  # random weights know no name
    assert notes == []


def test_a_model_without_ears_is_scored_on_what_it_sees(tiny: OmniModel) -> None:
    config = {key: part for key, part in tiny.sources.config.items() if key != "audio_config"}
    deaf = OmniModel("deaf", tiny.omni, replace(tiny.sources, config=config))
    with collected_notes() as notes:
        assert set(evaluate(deaf, 1, benchmark=NanoPerception({"test": SLICES["test"]}))) == {
            "test en",
            "test zh",
        }
    assert any("hearing is not scored: this model has no part for audio" in n for n in notes)


def test_missing_programs_leave_their_slices_out(
    tiny: OmniModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = {"flite"}

    def require(*programs: str) -> None:
        if missing & set(programs):
            raise MissingVoice(f"{programs[0]} is not installed: install it")

    monkeypatch.setattr(hearing, "require", require)
    with collected_notes() as notes:
        suited = NanoPerception().suited_to(tiny)
    assert (set(suited.slices), suited.sounds, suited.speech) == (set(SLICES), {}, False)
    assert len(notes) == 1
    assert "install it" in notes[0]
    missing.clear()
    missing.add("piper")
    with collected_notes() as notes:
        assert set(_table(lambda said: said.text, lambda said: said.text, 1)) == {
            "speech en",
            "speech zh",
            "speech, names listed en",
            "speech, names listed zh",
        }
    assert notes == ["a new family of voices is not scored: piper is not installed: install it"]


def test_the_gap_between_hearing_alone_and_with_names() -> None:
    assert all(3 <= len(sample.item.spoken.listed) <= 6 for sample in _speech(40))
    scores = _table(_misspelt, lambda said: said.text)
    for language, metric in (("en", "wer"), ("zh", "cer")):
        alone, listed = scores[f"speech {language}"], scores[f"speech, names listed {language}"]
        assert set(listed.values()) == {0.0}
        # Of 62 English names 46 have another spelling, of the Chinese all.
        assert alone["ne_fnr"] == pytest.approx(46 / 62 if language == "en" else 1.0, abs=0.12)
        assert 0.01 < alone[metric] < 0.15
        assert alone[f"{metric} by sound"] == 0
    assert {"wer flite", "wer espeak-ng", "wer new accent"} <= set(scores["speech en"])
    assert "cer espeak-ng" not in scores["speech zh"]  # the only kind


def test_sentences_of_training_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {said.text for _, (_, said) in zip(range(40), utterances("en"), strict=False)}
    known = {text for text in short if len(text) < 30}
    assert known
    monkeypatch.setattr(hearing, "trained_sentences", lambda: known)
    scores = _table(lambda said: said.text if said.text in known else "", lambda said: "")
    assert scores["speech en"]["wer"] < 1
    assert scores["speech en"]["wer new sentences"] == 1


def test_held_out_speech_is_in_new_voices(tiny: OmniModel) -> None:
    known = {voice for pools in TRAIN_VOICES.values() for pool in pools for voice in pool}
    some = [pair for _, pair in zip(range(20), utterances("en"), strict=False)]
    assert all(one.said.voice not in known for one in spoken(some))
    assert all(one.said.voice == JOE for one in spoken(some, JOE))
    assert all(set(one.said.names) <= set(one.listed) for one in spoken(some))


def test_many_sounds_at_once_give_what_transcribe_gives(tiny: OmniModel) -> None:
    sounds = [syllables(seconds, seed) for seed, seconds in enumerate((1.5, 0.7, 2.2))]
    listed = [("Sean", "Ann"), (), ("Lee",)]
    tasks = [hearing.hearing(*pair) for pair in zip(sounds, listed, strict=True)]
    together = [str(outcome.result) for outcome in run_many(tiny, tasks)]
    alone = [
        str(tiny.transcribe(sound, hotwords=names, max_new_tokens=4))
        for sound, names in zip(sounds, listed, strict=True)
    ]
    assert together == alone
    assert len(set(together)) > 1


def test_router_loads_tell_each_modality_apart(tiny: OmniModel) -> None:
    talks = held_out_talks(tiny, 1)
    assert len(talks) == 2 * 4  # of each language: written down, a picture, a video, aloud
    even = router_loads(tiny, talks)
    assert set(even) == {"text", "image", "audio"}
    for rows in even.values():
        assert rows.shape == (2, 8)
        np.testing.assert_allclose(rows.mean(-1), 1, rtol=1e-5)
    mixture = next(part for part in tiny.omni.modules() if isinstance(part, ModalityMoE))
    _, _, audio = mixture.gates
    assert audio.expert_bias is not None
    audio.expert_bias[:2] += 100
    try:
        loads = router_loads(tiny, talks)
    finally:
        audio.expert_bias[:2] -= 100
    np.testing.assert_array_equal(loads["audio"][0], [4, 4, 0, 0, 0, 0, 0, 0])
    scores = load_scores(loads)
    assert scores["router audio"] == {"least": 0.0, "most": 4.0, "dead": 6 + _dead(loads, 1)}
    assert scores["router text"]["dead"] == (loads["text"] < 0.01).sum()
    np.testing.assert_array_equal(loads["image"][0], even["image"][0])


def _dead(loads: dict[str, np.ndarray], layer: int) -> int:
    return int((loads["audio"][layer] < 0.01).sum())


def test_loads_are_drawn_with_dead_experts_in_red(tmp_path: Path) -> None:
    rows = np.array([[1.0, 1.0], [2.0, 0.0]])
    path = tmp_path / "loads.png"
    draw_loads({"text": np.ones((2, 2)), "audio": rows}, path)
    assert [file.name for file in tmp_path.iterdir()] == ["loads.png"]
    with Image.open(path) as picture:
        reds = [
            place
            for place in np.ndindex(picture.height, picture.width)
            if picture.getpixel(place[::-1]) == (214, 40, 40)
        ]
        assert reds
        middle = np.mean(reds, axis=0)
        assert middle[0] > picture.height / 2  # the second layer
        assert middle[1] > picture.width * 3 / 4  # the second expert of the second panel
