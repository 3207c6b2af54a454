"""The nano perception recipe: interruption, packing, scoring and its command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from ming_audio.encoder import AudioEncoder
from ming_audio.prompts import parse
from ming_core.api import load
from ming_core.chat.prompt import MediaTokens, build_example
from ming_core.chat.tokenizer import Tokenizer
from ming_core.checkpoints.formats import fingerprint, open_checkpoint
from ming_core.errors import BadConfig
from ming_core.media import Image, Message, Video, assistant, user
from ming_core.modalities import AUDIO, IMAGE, TEXT
from ming_core.model.encoder import Features
from ming_core.model.positions import frame_grids, rope_index
from ming_core.release import backbone_of, release_of
from ming_recipes.nano import speech
from ming_recipes.nano.augment import vary
from ming_recipes.nano.build import PREPROCESSOR, build, released_config
from ming_recipes.nano.config import STAGES, Heard, NanoPerception, Stage
from ming_recipes.nano.data import Packer, row_of
from ming_recipes.nano.learnt import LEARNT, load_learnt, save_learnt
from ming_recipes.nano.probes.cells import token_of
from ming_recipes.nano.probes.places import Referent
from ming_recipes.nano.probes.reading import asked
from ming_recipes.nano.probes.speech import (
    SpeechCTC,
    SpokenWords,
    best_paths,
    ctc,
    name_entries,
    words_before,
)
from ming_recipes.nano.recipe import train
from ming_recipes.nano.routers import settle_routers
from ming_recipes.nano.scores import hearing
from ming_recipes.nano.scores.evaluate import SLICES, box_iou, click_distance, is_right
from ming_recipes.nano.speech import Listening, Recordings, Sounds, Variety
from ming_recipes.nano.talk import PROMPTS, WINDOW, chosen, conversation, speech_rows
from ming_recipes.nano.world.batch import Mix, training_example
from ming_recipes.nano.world.language import Question, reasoning
from ming_recipes.nano.world.names import NAMES, alike
from ming_recipes.nano.world.scene import scene_of
from ming_recipes.nano.world.speech import Utterance, utterance_of
from ming_recipes.nano.world.tokenizer import train_tokenizer
from ming_recipes.nano.world.voices import MissingVoice
from ming_recipes.nano.world.wording import described
from ming_recipes.training.batch import Batch
from ming_recipes.training.module import OmniModule
from ming_recipes.training.objectives import Terms
from ming_recipes.training.recipe import load_recipe, recipe_entry, recipe_yaml, settings
from ming_recipes.training.runs.folder import BadRun, Run
from ming_recipes.training.runs.stopping import Stop
from ming_vision.encoder import QwenVisionEncoder

TINY = [
    "processes=1",
    "sight.steps=2",
    "sight.pictures=4",
    "language.steps=1",
    "language.pictures=2",
    "language.seen.easy_steps=1",
    "joint.steps=4",
    "joint.pictures=2",
    "recordings=4",
    "hearing.steps=1",
    "hearing.sounds=2",
    "senses.steps=2",
    "senses.pictures=1",
    "senses.sounds=3",
    "senses.spoken=1",
    "optimizer.warmup=2",
    "save_every=1",
    "settle_steps=2",
    "validate_every=100",
    "validation_pictures=2",
    "validation_sounds=4",
    "test_pictures=1",
]


def tiny(out: Path) -> NanoPerception:
    entry = recipe_entry("nano-perception")
    return settings(load_recipe(entry), [recipe_yaml(entry)], [f"out={out}", *TINY])


@pytest.fixture
def humming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speech without the programs that speak: noise whose length fits the sentence."""

    def hum(said: Utterance) -> np.ndarray:
        rng = np.random.default_rng(len(said.text))
        return 0.1 * rng.standard_normal(8000 + 400 * len(said.text)).astype(np.float32)

    def nobody(*programs: str) -> None:
        raise MissingVoice("nobody speaks in this test")

    monkeypatch.setattr(speech, "speak", hum)
    monkeypatch.setattr(hearing, "require", nobody)


@pytest.mark.slow
@pytest.mark.usefixtures("humming")
@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_run_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (tiny(tmp_path / name) for name in ("whole", "broken"))
    train(whole, "ming train nano-perception")

    step = OmniModule.training_step

    left = {"joint": 2, "senses": 1}  # the step of each stage at which power fails, once

    def dies(self: OmniModule, batch: Batch, index: int) -> dict[str, Any]:
        stage = Path(self.trainer.default_root_dir).name
        if left.get(stage) == self.global_step:
            del left[stage]
            raise RuntimeError("power cut")
        return step(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(OmniModule, "training_step", dies)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="power cut"):
                train(broken, "ming train nano-perception")
    assert not (tmp_path / "broken" / "nano").exists()
    train(broken, "ming train nano-perception")

    first, second = (open_checkpoint(tmp_path / n / "nano") for n in ("whole", "broken"))
    assert first.tensors.keys() == second.tensors.keys()
    for name in first.tensors:
        assert torch.equal(first.read(name), second.read(name)), name

    report = json.loads((tmp_path / "whole" / "parts" / "vision" / "training.json").read_text())
    assert report["command"] == "ming train nano-perception"
    assert report["images"] == 2 * 4 + (1 + 4) * 2 + 2 * 1
    assert report["utterances"] == 1 * 2 + 2 * 3
    seen = {f"{name} {language}" for name in SLICES for language in ("en", "zh")}
    assert seen <= set(report["metrics"])
    assert set(report["experts"]) >= {"router text", "router image"}
    parts = tmp_path / "whole" / "parts"
    assert report["backbone"] == fingerprint(open_checkpoint(parts / "backbone"))
    assert (tmp_path / "whole" / "routers.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(tmp_path.rglob("*.part"))

    train(whole, "again")  # is finished
    assert report == json.loads((tmp_path / "whole" / "nano" / "training.json").read_text())
    with pytest.raises(
        BadConfig, match=r"other settings: optimizer.*0\.002.* there, .*0\.01.* now"
    ):
        train(replace(whole, optimizer=replace(whole.optimizer, rate=0.01)), "again")
    answer = load(tmp_path / "broken" / "nano").ask("how many shapes are there?", max_new_tokens=4)
    assert 1 <= answer.tokens <= 4


def test_the_newest_stage_that_can_be_used_is_gone_on_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, parts = Run(tmp_path, Stop()), torch.nn.Linear(1, 1)
    assert load_learnt(run, parts) == 0
    for stage, value in zip(STAGES, (0.1, 0.2, 0.3), strict=False):
        torch.nn.init.constant_(parts.weight, value)
        save_learnt(tmp_path, stage, parts)
    assert load_learnt(run, parts) == 3
    assert parts.weight.item() == pytest.approx(0.3)
    assert not caplog.messages
    places = {stage: tmp_path / stage / LEARNT for stage in STAGES[:3]}
    places["joint"].write_bytes(places["joint"].read_bytes()[:-1])  # torn: the stage before it
    assert load_learnt(run, parts) == 2
    assert parts.weight.item() == pytest.approx(0.2)
    save_learnt(tmp_path, "language", torch.nn.Linear(2, 2))  # of another model
    assert load_learnt(run, parts) == 1
    assert parts.weight.item() == pytest.approx(0.1)
    why = "cannot be used: it is torn or of another model; it is made again"
    assert caplog.messages == [
        f"{places['joint']} {why}",
        f"{places['joint']} {why}",
        f"{places['language']} {why}",
    ]
    places["sight"].write_bytes(b"")
    assert load_learnt(run, parts) == 0


@pytest.mark.parametrize("name", ["nano", "parts", "sight"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(BadRun, match=rf"holds {name} but no run\.json"):
        train(tiny(tmp_path), "ming train nano-perception")
    assert (tmp_path / name).is_dir()


def test_settings_given_in_python_are_checked_before_anything_is_made(tmp_path: Path) -> None:
    config = NanoPerception(out=str(tmp_path / "run"))
    for name in ("matrix_rate", "rate"):
        wrong = replace(config, optimizer=replace(config.optimizer, **{name: float("nan")}))
        with pytest.raises(
            BadConfig, match=rf"^optimizer\.{name} is .*nan; it must be a number abov"
        ):
            train(wrong, "ming train nano-perception")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("answer", "right"),
    [("00 00 09 09", True), ("00 00 09 04", True), ("05 05 14 14", False), ("nine", False)],
)
def test_a_box_is_right_from_half_overlap(answer: str, right: bool) -> None:
    question = Question("locate", "en", "where is the star?", "00 00 09 09", 0, (0,))
    assert is_right(question, answer) is right


def test_a_click_is_right_near_the_centre() -> None:
    question = Question("click", "en", "click the star.", "click(x=0.50,y=0.50)", 0, (0,))
    assert is_right(question, "click(x=0.55,y=0.55)")
    assert not is_right(question, "click(x=0.60,y=0.50)")
    assert not is_right(question, "click(0.5, 0.5)")
    assert click_distance("click(x=0.50,y=0.25)", "click(x=0.25,y=0.25)") == pytest.approx(16)


def test_overlap_counts_inclusive_pixels() -> None:
    assert box_iou("00 00 09 09", "05 00 14 09") == pytest.approx(50 / 150)
    assert box_iou("09 09 00 00", "00 00 09 09") == 0


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder)
    return Tokenizer(folder)


@pytest.fixture(scope="module")
def packer(tokenizer: Tokenizer) -> Packer:
    config = released_config(tokenizer)
    processor = QwenVisionEncoder.from_config(config, PREPROCESSOR).processor
    backbone = backbone_of(config)
    return Packer(backbone, release_of(config), tokenizer, processor, capacity=208)


@pytest.mark.parametrize(
    "mix", [Mix(), Mix(dialogue=0.7), Mix(think=1.0), Mix(video=1.0, dialogue=0.5)]
)
def test_a_packed_conversation_is_the_prompt_of_the_chat_format(packer: Packer, mix: Mix) -> None:
    examples = [training_example(index, mix) for index in range(4)]
    batch = packer([row_of(example) for example in examples])
    omni = batch.omni
    assert omni.segment_ids is not None
    for row, example in enumerate(examples):
        shape = torch.tensor([[len(example.scenes), 8, 8]])
        seconds = [(2 * i + 0.5) / 2.0 for i in range(len(example.scenes))]
        medium = Video(None) if example.is_video else Image(None)
        size = MediaTokens(16 * len(example.scenes), seconds if example.is_video else ())
        last = int(omni.segment_ids[row].max())
        assert last >= 2
        kept = _kept(batch, row)
        for segment, turns in enumerate(kept, start=1):
            messages: list[Message] = []
            for question in turns:
                answer = question.answer
                if example.think:
                    thought = reasoning(example.scenes[0], question)
                    answer = f"<think>\n{thought}\n</think>\n\n{answer}"
                messages += [user(question.question), assistant(answer)]
            messages[0] = user(medium, messages[0].text)
            whole = build_example(
                messages, packer.format, packer.tokenizer, [size], think=example.think
            )
            ids = torch.tensor([whole.input_ids])
            grids = (None, frame_grids(shape)) if example.is_video else (shape, None)
            positions, _ = rope_index(packer.rule, ids, None, *grids)
            mine = (omni.segment_ids[row] == 0) | (omni.segment_ids[row] == segment)
            assert omni.input_ids[row, mine].tolist() == whole.input_ids
            assert batch.labels[row, mine].tolist() == whole.labels
            assert torch.equal(omni.position_ids[:, row, mine], positions[:, 0])


@pytest.fixture
def listening(tokenizer: Tokenizer, tmp_path: Path, humming: None) -> Listening:
    recordings = Recordings(tmp_path, "train", 60)
    recordings.prepare()
    encoder = AudioEncoder.from_config(released_config(tokenizer), PREPROCESSOR)
    return Listening(recordings, encoder.config.listening, tokenizer)


def test_packed_speech_is_the_prompt_of_the_chat_format(
    packer: Packer, listening: Listening
) -> None:
    rows = speech_rows(packer, listening, range(60, 100), spoken=2)
    batch = packer(rows)
    omni, sounds = batch.omni, batch.extra.sounds
    assert omni.segment_ids is not None
    assert sounds is not None
    kinds = [question.kind for question in batch.extra.questions]
    assert kinds.count("spoken") == 2
    assert {"transcribe", "name in context"} < set(kinds)
    assert len(rows) < 40
    heard = iter(sounds.features.tokens)
    for index, row in enumerate(rows[2:], start=2):
        for segment, talk in enumerate(row.conversations):
            mine = omni.segment_ids[index] == segment
            size = MediaTokens(next(s.features.tokens[0] for s in talk.sounds))
            whole = build_example(talk.turns, packer.format, packer.tokenizer, [size])
            ids = torch.tensor([whole.input_ids])
            assert omni.input_ids[index, mine].tolist() == whole.input_ids
            assert omni.modality_ids[index, mine].tolist() == whole.modality_ids
            assert batch.labels[index, mine].tolist() == whole.labels
            positions, _ = rope_index(packer.rule, ids, None, None, None)
            assert torch.equal(omni.position_ids[:, index, mine], positions[:, 0])
    places = [int(count) for count in (omni.modality_ids == AUDIO).sum(1)]
    assert sum(places) == sum(heard) == len(torch.nonzero(omni.modality_ids == AUDIO))


def test_a_spoken_question_is_about_the_picture_of_its_index(
    packer: Packer, listening: Listening
) -> None:
    for row in speech_rows(packer, listening, range(60), spoken=3)[:3]:
        aloud = row.conversations[0]
        (sound,) = aloud.sounds
        (said,) = sound.utterances
        assert said.question is not None
        assert aloud.turns[1].text == said.question.answer
        assert any(
            utterance_of("train", index).question == said.question
            and scene_of("train", index) == row.scenes[0]
            for index in range(60)
        )


def test_sentences_are_chosen_by_their_kind(tmp_path: Path, tokenizer: Tokenizer) -> None:
    encoder = AudioEncoder.from_config(released_config(tokenizer), PREPROCESSOR)
    thousand = Recordings(tmp_path, "train", 1000)  # of which only the texts are needed
    listening = Listening(thousand, encoder.config.listening, tokenizer)

    def share(focus: dict[str, float]) -> float:
        uses = chosen(listening, 0, 1000 // WINDOW, focus)
        assert uses == chosen(listening, 0, 1000 // WINDOW, focus)
        assert len(set(uses)) == 1000 // WINDOW
        assert set(uses) <= set(range(1000))
        return sum(bool(utterance_of("train", use).names) for use in uses) / len(uses)

    assert share({}) == pytest.approx(0.25, abs=0.07)
    assert share({"name": 3.0}) > 0.4
    assert share({"name": 0.01}) < 0.03


def test_without_variety_every_use_is_its_sentence(listening: Listening) -> None:
    """So it was for the weights that ship."""
    assert listening.variety == Variety(0, 0, 0)
    assert all(listening(use).utterances == [utterance_of("train", use)] for use in range(20))
    assert Heard() == Heard(joined=0, wordless=0, other_lists=0)
    assert Stage().capacity == 208


def test_some_uses_are_more_sentences_behind_each_other(listening: Listening) -> None:
    varied = Listening(
        listening.recordings, listening.ear, listening.tokenizer, Variety(joined=1.0)
    )
    many = 0
    for use in range(60):
        (said,) = varied(use).utterances
        first = utterance_of("train", use)
        assert said.text.startswith(first.text)
        assert varied(use).utterances == [said]  # a pure function of the use
        rest = said.text[len(first.text) :]
        if not rest:  # it would be too long
            assert said == first
            continue
        many += 1
        between = " " if said.lang == "en" else ""
        following = (utterance_of("train", (use + i) % 60) for i in range(1, 60))
        same = [one for one in following if one.lang == said.lang][:2]
        wanted = [between + same[0].text, between + same[0].text + between + same[1].text]
        assert rest in wanted
        names = same[0].names if rest == wanted[0] else same[0].names + same[1].names
        assert said.names == first.names + names
        assert said.question is None
        assert varied(use).ids == [varied.tokenizer.encode(said.text)]
        assert varied(use).features.tensors["mel"].shape[0] <= 800
    assert many > 20


def test_some_uses_are_sounds_without_a_word(listening: Listening, packer: Packer) -> None:
    varied = Listening(
        listening.recordings, listening.ear, listening.tokenizer, Variety(wordless=1.0)
    )
    for use in range(20):
        sound = varied(use)
        (said,) = sound.utterances
        assert (said.text, said.names, said.question, sound.ids) == ("", (), None, [[]])
        assert said.lang == utterance_of("train", use).lang
        assert torch.isfinite(sound.features.tensors["mel"]).all()
        (question,) = conversation("train", use, sound).questions
        assert question.answer in ("English\t", "Chinese\t")
        assert parse(PROMPTS, question.answer)[1] == ""
    batch = packer(speech_rows(packer, varied, range(20), spoken=3))
    assert {question.kind for question in batch.extra.questions} == {"transcribe"}
    heads = speech_ctc(packer)
    silent = Sounds.joined([varied(use) for use in range(3)])
    states = torch.randn(sum(silent.features.tokens), 8)
    tokens = torch.nn.functional.normalize(torch.randn(len(states), 16), dim=-1)
    words = torch.randn(1536, 16)
    losses = values(heads.read(states, silent.features.tokens, tokens, words, silent))
    # Per place, where another sound has its loss per letter: long silence must not drown speech.
    assert all(0 < loss.item() < 20 for loss in losses.values())


def test_shares_of_uses_are_as_often_as_they_say(listening: Listening) -> None:
    shares = Variety(joined=0.3, wordless=0.2)
    varied = Listening(listening.recordings, listening.ear, listening.tokenizer, shares)
    drawn = [varied(use).utterances[0] for use in range(300)]
    plain = [utterance_of("train", use % 60) for use in range(300)]
    assert np.mean([not said.text for said in drawn]) == pytest.approx(0.2, abs=0.06)
    joined = [len(said.text) > len(alone.text) for said, alone in zip(drawn, plain, strict=True)]
    assert 0.1 < np.mean(joined) < 0.36  # some would be too long


def test_lists_may_hold_words_of_no_sentence(packer: Packer, listening: Listening) -> None:
    heard = [listening(use) for use in range(60)]
    before = [conversation("train", use, sound) for use, sound in enumerate(heard)]
    after = [conversation("train", use, sound, 1.0) for use, sound in enumerate(heard)]
    lists = 0
    for old, new in zip(before, after, strict=True):
        assert new.turns[1] == old.turns[1]  # what is said stays
        if "following words" in old.turns[0].text:
            assert new.turns[0] != old.turns[0]
            lists += 1
        else:
            assert new == old  # who had no list has none
    assert lists > 15
    longest = max(len(packer.tokenizer.encode(talk.turns[0].text)) for talk in after)
    assert longest > 60


def test_the_next_run_has_all_of_it() -> None:
    entry = recipe_entry("nano-perception")
    config = settings(load_recipe(entry), [recipe_yaml(entry)], [])
    heard = config.senses.heard
    assert min(heard.joined, heard.wordless, heard.other_lists) > 0
    assert config.senses.capacity > config.joint.capacity


def test_an_utterance_varies_in_training_and_never_elsewhere(listening: Listening) -> None:
    first, again, later = (listening(use) for use in (7, 7, 67))
    assert first.utterances == later.utterances
    mel = first.features.tensors["mel"]
    assert torch.equal(mel, again.features.tensors["mel"])
    assert not torch.equal(mel[:32], later.features.tensors["mel"][:32])
    still = replace(listening.recordings, split="val")
    still.prepare()
    same = [Listening(still, listening.ear, listening.tokenizer)(use).features for use in (7, 67)]
    assert torch.equal(same[0].tensors["mel"], same[1].tensors["mel"])


def test_every_variation_fits_what_nano_hears_at_once() -> None:
    rng = np.random.default_rng(0)
    samples = (3000 * rng.standard_normal(9 * 16_000)).astype(np.int16)
    for length in (8_000, 40_000, len(samples)):
        mel = vary(samples[:length], 80, rng)
        assert mel.shape[0] % 32 == 0
        assert mel.shape[0] <= 800
        assert torch.isfinite(mel).all()


def test_ctc_of_the_right_words_is_low_and_its_path_gives_them_back(packer: Packer) -> None:
    """Tokens that are word embeddings are read as those words; others are not."""
    torch.manual_seed(0)
    heads = speech_ctc(packer)
    words = torch.nn.functional.normalize(torch.randn(1536, 16), dim=-1)
    said = utterance_of("train", 0)
    ids = packer.tokenizer.encode(said.text)
    blank = torch.nn.functional.normalize(torch.randn(16), dim=-1)
    with torch.no_grad():
        heads.scale.fill_(60)
        heads.blank.weight.copy_(20 * blank)
        heads.blank.bias.fill_(-30)
    tokens = torch.stack([token for i in ids for token in (words[i], blank)])
    features = Features("audio", {}, None, [len(tokens)])
    sounds = Sounds(features, [said], [ids])
    assert heads.misheard(tokens, words, sounds).total == 0
    states = torch.randn(4 * len(tokens), 8)
    right = values(heads.read(states, [len(states)], tokens, words, sounds))
    wrong = values(heads.read(states, [len(states)], tokens.roll(6, 0), words, sounds))
    assert right["token_ctc"] < 0.5 < wrong["token_ctc"]
    assert right["char_ctc"] == wrong["char_ctc"]


def test_ctc_ignores_what_lies_behind_a_shorter_sound() -> None:
    torch.manual_seed(0)
    logits = torch.randn(30, 5).log_softmax(-1)
    alone = [ctc(logits[:10], [10], [[1, 2]]), ctc(logits[10:], [20], [[3, 3, 4]])]
    torch.testing.assert_close(ctc(logits, [10, 20], [[1, 2], [3, 3, 4]]), torch.cat(alone))
    assert best_paths(logits, [10, 20])[0] == best_paths(logits[:10], [10])[0]


@pytest.mark.parametrize(
    ("path", "before"),
    [
        ([0, 5, 5, 0, 7, 0], [-1, 0, 0, -1, 5, -1]),
        ([5, 7, 7, 5], [0, 5, 5, 7]),
        ([5, 0, 5], [0, -1, 5]),  # the same word twice
        ([0, 0], [-1, -1]),
    ],
)
def test_the_word_before_each_word_of_a_path(path: list[int], before: list[int]) -> None:
    assert words_before(path) == before


def test_names_are_told_by_entries_that_only_they_have(packer: Packer) -> None:
    found = name_entries(packer.tokenizer)
    assert found[packer.tokenizer.encode(" Shaun")[0]] == ("Sean", "Shaun", "Shawn")
    assert found[packer.tokenizer.encode("章玮")[0]] == ("张伟", "章玮")
    for language, names in NAMES.items():
        for name in names:
            said = packer.tokenizer.encode(f" {name}" if language == "en" else name)
            assert alike(name, language) in [found.get(entry) for entry in said]
    for word in (" the", " star", "是"):
        assert packer.tokenizer.encode(word)[0] not in found


def test_a_name_is_asked_where_one_that_sounds_like_it_is_heard(packer: Packer) -> None:
    torch.manual_seed(0)
    heads = speech_ctc(packer)
    spoken = SpokenWords(heads, 16, packer.tokenizer)
    words = torch.nn.functional.normalize(torch.randn(1536, 16), dim=-1)
    said = next(
        said
        for index in range(5000)
        if (said := utterance_of("train", index)).names in (("Shaun",), ("Shawn",))
    )
    heard = packer.tokenizer.encode(said.text.replace(said.names[0], "Sean"))
    with torch.no_grad():
        heads.scale.fill_(60)
        heads.blank.bias.fill_(-60)
        spoken.person.weight.zero_()
    sounds = Sounds(Features("audio", {}, None, [len(heard)]), [said], [heard])

    def loss(name: str) -> float:
        with torch.no_grad():
            spoken.person.bias.zero_()
            spoken.person.bias[spoken.people.index(name)] = 30
        found = spoken.read(torch.randn(len(heard), 16), words[heard], words, sounds)
        return float(values(found)["name_spelling"])

    assert loss(said.names[0]) < 1e-6
    assert loss("Sean") == pytest.approx(30, abs=0.01)
    nobody = replace(said, names=())
    sounds = replace(sounds, utterances=[nobody])
    assert loss("Sean") == 0


def test_words_of_a_description_know_what_they_are_about(packer: Packer) -> None:
    found = 0
    for index in range(40):
        row = row_of(training_example(index, Mix(questions=40)))
        batch = packer([row])
        for number, question in enumerate(batch.extra.questions):
            mine = batch.extra.question[0] == number
            told = batch.extra.referent[0, mine].tolist()
            if question.kind != "describe":
                assert set(told) == {-1}
                continue
            marks = "；。" if question.lang == "zh" else ";."
            objects, _, background = question.answer.partition(marks[1])
            wanted: list[int] = []
            parts = objects.split(marks[0])
            for item, part in zip(described(row.scenes[0]), parts, strict=True):
                wanted += [token_of(item)] * len(packer.tokenizer.encode(part)) + [-1]
            wanted += [-1] * (len(told) - len(wanted))
            assert told == wanted
            assert background
            found += 1
    assert found >= 5


def test_words_about_nothing_are_not_asked() -> None:
    heads = Referent(8)
    hidden, about = torch.randn(5, 8), torch.tensor([-1, 3, -1, 9, -1])
    logits = heads.named(hidden)
    some = asked(logits[[1, 3]], about[[1, 3]])
    every = asked(logits, about)
    torch.testing.assert_close(every.total, some.total)
    assert every.count == some.count == 2
    nothing = asked(logits, torch.full((5,), -1))
    assert nothing.total.item() == nothing.count == 0


def test_routers_settle_where_no_answer_depends_on_them(
    tokenizer: Tokenizer, packer: Packer, listening: Listening
) -> None:
    omni = build(released_config(tokenizer), seed=0)
    batch = packer(
        [row_of(training_example(index, Mix())) for index in range(4)]
        + speech_rows(packer, listening, range(4), spoken=0)
    )
    inputs = batch.omni.to("cpu", torch.bfloat16)
    modality, last = inputs.modality_ids, omni.backbone.mixtures[-1]
    for gate in last.gates[1:]:
        assert gate.expert_bias is not None
        gate.expert_bias[0] -= 0.1  # no token comes to this expert

    def least(modality_id: int) -> float:
        chosen = omni(inputs).routing[-1].index[modality.flatten() == modality_id]
        counts = torch.bincount(chosen.flatten(), minlength=8)
        return float(counts.min() / counts.float().mean())

    with torch.no_grad():
        assert least(IMAGE) == least(AUDIO) == 0
        before = omni(inputs).hidden[modality == TEXT]
        settle_routers(omni, [batch] * 40, rate=0.02)
        assert least(IMAGE) > 0.2
        assert least(AUDIO) > 0.2
        assert torch.equal(omni(inputs).hidden[modality == TEXT], before)


def speech_ctc(packer: Packer) -> SpeechCTC:
    """For states of width 8 and tokens of width 16."""
    ear = SimpleNamespace(tower="audio", config=SimpleNamespace(width=8))
    return SpeechCTC(cast(Any, ear), 16, packer.tokenizer)


def values(terms: Terms) -> dict[str, torch.Tensor]:
    return {name: term.total.detach() / max(float(term.count), 1.0) for name, term in terms.items()}


def _kept(batch: Batch, row: int) -> list[list[Question]]:
    """Questions of each packed conversation of a row."""
    assert batch.omni.segment_ids is not None
    talks = []
    for segment in range(1, int(batch.omni.segment_ids[row].max()) + 1):
        numbers = batch.extra.question[row][batch.omni.segment_ids[row] == segment]
        talks.append([batch.extra.questions[n] for n in sorted(set(numbers.tolist()) - {-1})])
    return talks
