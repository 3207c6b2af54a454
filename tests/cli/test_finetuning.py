"""Fine-tuning by the recipes: their YAML files, runs from rows to results, what is refused."""

from __future__ import annotations

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ming_core import load
from ming_core.errors import BadConfig
from ming_core.media import Text
from ming_core.plugins import get_plugins
from ming_recipes.asr import recipe as asr
from ming_recipes.cli import head
from ming_recipes.training.data import DataSet
from ming_recipes.training.dialects import Row
from ming_recipes.training.examples import Parts
from ming_recipes.training.files import open_rows
from ming_recipes.training.finetune import held_out
from ming_recipes.training.recipe import find_recipe, settings
from ming_recipes.training.sizes import Measured, Size, measure
from ming_recipes.understanding import recipe as understanding

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's

RECIPES = ("understanding", "asr")
FILES = [
    (entry.name, file)
    for entry in get_plugins().recipes
    if entry.plugin == "ming-recipes"
    for file in find_recipe(entry.name).files
]


@pytest.mark.parametrize(("name", "file"), FILES, ids=[f"{n}/{f.name}" for n, f in FILES])
def test_every_file_of_settings_is_valid_and_says_what_it_needs(name: str, file: Path) -> None:
    source = find_recipe(name)
    config = settings(source.load(), source.layers([file]), [])
    if name in RECIPES:
        assert config.patterns()
    told = head(file)
    wanted = ["Trains", "Data:", "Command:", "Time:"]
    for said in wanted + (["Hardware:", "Score:"] if name in RECIPES else []):
        assert said in told


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_the_same_files(name: str) -> None:
    assert [file.name for file in find_recipe(name).files] == [
        "nano.yaml",
        "flash-lora-8x80gb.yaml",
        "lite-1.5-full-8x80gb.yaml",
        "lite-1.5-lora-24gb.yaml",
    ]


def row(question: str, answer: str, **media: Any) -> dict[str, Any]:
    asked, said = {"role": "user", "content": question}, {"role": "assistant", "content": answer}
    return {"messages": [asked, said], **media}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures with questions, texts alone, reasoning, and one row that cannot be used."""
    folder = tmp_path / "data"
    folder.mkdir()
    rows: list[Any] = []
    for number in range(6):
        Image.new("RGB", (64, 64), (number * 40, 90, 10)).save(folder / f"{number}.png")
        rows.append(row("<image>what is this?", "a bolt", images=[f"{number}.png"]))
        rows.append(row("<image>is it a bolt?", "yes", images=[f"{number}.png"]))
    rows.append(row("what is a bolt?", "a shape"))
    rows.append(row("how many?", "<think>\none and one\n</think>\n\n2"))
    rows.append(row("<image>what is this?", "a bolt", images=["gone.png"]))
    (folder / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    return folder


SHORT = ("save_every=1", "validate_every=1", "hold_out=0.3", "capacity=256", "samples=1")


def test_the_nano_recipe_trains_an_adapter(run: Any, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ("train", "understanding", f"data={pictures}", f"out={out}", "steps=2", *SHORT)
    done = run(*words)
    assert done.code == 0, done.err
    assert "1 of 15 rows of rows are left out (missing media)" in done.err or "gone.png" in done.err
    assert "2 steps; " in done.err
    assert f"`ming export --adapter {out}/adapter -m nano -o {out}/model`" in done.err
    assert f"`ming compare nano {out}`" in done.err
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert {"answers", "validation/answers"} <= {name for line in rows for name in line}
    sample = json.loads((out / "samples.jsonl").read_text().splitlines()[0])
    assert {"question", "answer", "expected"} <= set(sample)
    again = run(*words)
    assert (again.code, again.err.splitlines()[-1]) == (
        0,
        f"ming: this run is finished; its result is in {out}/adapter",
    )
    # The settings that it wrote are those of the same run.
    whole = run("train", "understanding", "--config", out / "config.yaml")
    assert (whole.code, whole.err) == (again.code, again.err)
    other = run(*words, "lora.rank=2")
    assert other.code == 2
    assert "was started with other settings: lora.rank (16 there, 2 now)" in other.err


def test_rows_of_wrong_types_are_left_out_of_a_training(run: Any, tmp_path: Path) -> None:
    """Also by the processes that measure many rows."""
    bad: list[Any] = [{"messages": 1}, {"messages": True}, {"messages": [5]}, 3, None]
    rows = [*bad, *(row("what is a bolt?", f"shape {number}") for number in range(70))]
    data, out = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps(one) + "\n" for one in rows))
    words = ("train", "understanding", f"data={data}", f"out={out}", "steps=1", "rehearse=0")
    done = run(*words, "capacity=256", "system=be brief")
    assert done.code == 0, done.err
    assert "3 of 75 rows of rows are left out (wrong type)" in done.err
    assert "2 of 75 rows of rows are left out (broken row)" in done.err


@pytest.mark.parametrize("key", ["messages", "conversations"])
@pytest.mark.parametrize("as_text", [False, True])
def test_the_system_text_of_the_settings_is_for_rows_without(key: str, as_text: bool) -> None:
    names = ("role", "content") if key == "messages" else ("from", "value")
    turns = [("user", "how many?"), ("assistant", "two")]

    def read(turns: list[tuple[str, str]], **more: str) -> list[tuple[str, str]]:
        listed: Any = [dict(zip(names, turn, strict=True)) for turn in turns]
        values = {key: json.dumps(listed) if as_text else listed, **more}
        found = understanding.reader(understanding.Understanding(system="ours"))(
            Row(values, "row 1", "1", lambda kind, name: name)
        )
        return [
            (m.role, "".join(p.text for p in m.parts if isinstance(p, Text)))
            for m in found.messages
        ]

    assert read(turns) == [("system", "ours"), *turns]
    assert read([("system", ""), *turns]) == [("system", "ours"), *turns]
    assert read([("system", "own"), *turns]) == [("system", "own"), *turns]
    assert read(turns, system="own") == [("system", "own"), *turns]


def test_a_mended_command_may_use_the_folder_of_a_refused_one(
    run: Any, pictures: Path, tmp_path: Path
) -> None:
    words = ("train", "understanding", f"out={tmp_path / 'run'}", "steps=1", "rehearse=0", *SHORT)
    for wrong in ("data=gone", "data.0.path=gone", f"data={pictures} loggers=[tensorbord]"):
        refused = run(*words, *wrong.split())
        assert refused.code == 2
        assert "other settings" not in refused.err
    assert run(*words, f"data={pictures}").code == 0
    other = run(*words, f"data={pictures}", "seed=1")
    assert "was started with other settings: seed (0 there, 1 now)" in other.err


@pytest.mark.parametrize(
    ("values", "fault", "sentence"),
    [
        ({"audio": "silent.wav"}, "unreadable media", "nothing is heard in the recording; leave"),
        ({"audio": ""}, "wrong type", "'audio' is empty; name the file of the recording"),
        ({"audio": None}, "wrong type", "'audio' is empty; name the file of the recording"),
        ({"audio": 3}, "wrong type", "'audio' is 3; it must be a text"),
        ({"audio": "no.wav"}, "missing media", "there is no audio file"),
        ({"audio": "text.wav"}, "unreadable media", "text.wav is no sound in a known format"),
        ({"context": []}, "wrong type", "'context' is []; it must be a text"),
        ({"hotwords": [1]}, "wrong type", "'hotwords' is [1]; it must be a list of texts"),
        ({"language": "xx"}, "wrong type", "unknown language 'xx'; known: en, zh"),
        ({"id": [1]}, "wrong type", "'id' is [1]; it must be a text or a whole number"),
    ],
)
def test_rows_of_speech_that_are_left_out(
    tmp_path: Path, values: dict[str, Any], fault: str, sentence: str
) -> None:
    """Each with its kind and its place once, and no row after it is lost."""
    (tmp_path / "text.wav").write_text("no sound")
    for name, height in (("1", 8000), ("silent", 0)):
        with wave.open(str(tmp_path / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            tone = np.sin(np.arange(16_000) / 8) * height
            file.writeframes(tone.astype(np.int16).tobytes())
    good = {"audio": "1.wav", "text": "hi", "id": 5}
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in (good | values, good)))
    model = load("nano")
    rows = open_rows(data, read=asr.reader(asr.Asr(), model))
    measured = measure(rows, Parts.of(model))
    assert measured.kept() == [1]
    assert (measured.faults[0].fault, measured.faults[0].where) == (fault, "rows.jsonl line 1")
    assert sentence in measured.faults[0].reason
    assert "rows.jsonl" not in measured.faults[0].reason.replace(str(tmp_path), "")


def test_a_share_is_above_0(run: Any) -> None:
    refused = run("train", "understanding", "data=[{path: a, share: -1}, {path: b, share: 0}]")
    assert refused.code == 2
    assert "data.0.share is -1.0; it must be a number above 0 or null" in refused.err
    assert "data.1.share is 0.0; it must be a number above 0 or null" in refused.err


def test_whole_weights_become_a_model(run: Any, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = run(
        "train",
        "understanding",
        f"data={pictures}/rows.jsonl",
        f"out={out}",
        "steps=1",
        "lora.rank=0",
        "train.backbone.*=1",
        *SHORT,
    )
    assert done.code == 0, done.err
    assert f"`ming ask -m {out}/model` asks it" in done.err
    base, tuned = load("nano"), load(out / "model")
    assert tuned.knowledge is None
    name = "layers.0.attention.dense.weight"
    before, after = (dict(m.omni.backbone.named_parameters())[name] for m in (base, tuned))
    assert before.dtype == after.dtype
    assert not before.equal(after)


def test_the_nano_recipe_of_speech_trains(run: Any, tmp_path: Path) -> None:
    rows = []
    for number in range(6):
        with wave.open(str(tmp_path / f"{number}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            time = np.arange(16_000) / 16_000
            tone = np.sin(2 * np.pi * (200 + 50 * number) * time)
            file.writeframes((tone * 8000).astype(np.int16).tobytes())
        rows.append({"audio": f"{number}.wav", "text": "my name is Zerbina."})
    rows[0]["hotwords"] = ["Zerbina", "Ariadne"]
    rows[1]["context"] = "guests"
    rows.append({"audio": "0.wav", "text": ""})
    rows.append({"audio": "0.wav", "text": "hello", "hotwords": "Zerbina"})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    out = tmp_path / "run"
    done = run(
        "train", "asr", f"data={tmp_path}/rows.jsonl", f"out={out}", "steps=2", "hold_out=0", *SHORT
    )
    assert done.code == 0, done.err
    assert "line 7: the row has no 'text'; write what is said" in done.err
    assert "line 8: 'hotwords' is 'Zerbina'; it must be a list of texts" in done.err
    assert (out / "adapter" / "adapter_config.json").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "there is no data; name a file or folder of rows, as data=rows.jsonl"),
        (["data=no.jsonl"], "there is no file 'no.jsonl' with rows"),
        (["data={data}", "lora.rank=0"], "nothing is trained: set lora.rank, or name weights"),
        (["data={data}", "steps=-1"], "steps is -1; it must be a whole number at least 1"),
        (["data={data}", "capacity=16"], "nothing can be learnt from"),
        (["data={data}", "lora.targets=[atention]"], "did you mean 'attention'?"),
        (["data={data}", "train.bakbone.*=1"], "no weight has a name like 'bakbone.*'"),
        (["data={data}", "losses.answer=2"], "no objective has a term 'answer'; did you mean"),
        (["data={data}", "optimizer.kind=sgd"], "optimizer.kind is 'sgd'; it must be"),
    ],
)
def test_a_run_that_cannot_learn_is_refused(
    run: Any, pictures: Path, tmp_path: Path, words: list[str], sentence: str
) -> None:
    asked = [word.format(data=pictures) for word in words]
    result = run("train", "understanding", f"out={tmp_path}/run", "steps=1", *asked)
    assert result.code == 2
    assert sentence in result.err
    assert "Traceback" not in result.err


def test_rows_about_one_picture_are_held_out_together() -> None:
    sizes = [Size(10, 2, group=f"picture {number // 3}") for number in range(30)]
    measured = Measured([None] * 30, [*sizes, None])  # type: ignore[arg-type]
    kept, held = held_out(measured, 0.2, seed=1)
    assert len(held.kept()) == 6
    assert sorted(kept.kept() + held.kept()) == list(range(30))
    assert {sizes[n].group for n in held.kept()}.isdisjoint(sizes[n].group for n in kept.kept())
    assert held_out(measured, 0.2, seed=1)[1].kept() == held.kept()
    assert held_out(measured, 0.0, seed=1)[1].kept() == []


def test_a_copied_recipe_trains(run: Any, pictures: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert run("recipes", "cp", "understanding", str(mine)).code == 0
    code = mine / "recipe.py"
    code.write_text(code.read_text().replace('out: str = "runs/understanding"', 'out: str = "o"'))
    checked = run("recipes", "validate", str(mine / "flash-lora-8x80gb.yaml"))
    assert checked.out.endswith(f"is valid for the recipe {mine}\n")
    out = tmp_path / "run"
    done = run("train", str(mine), f"data={pictures}", f"out={out}", "steps=1", *SHORT)
    assert done.code == 0, done.err
    assert (out / "adapter").is_dir()


def test_a_data_set_is_named_by_its_path() -> None:
    source = find_recipe("understanding")
    chosen = settings(source.load(), source.layers([]), ["data=[a.jsonl, b.jsonl]"])
    assert chosen.data == [DataSet("a.jsonl"), DataSet("b.jsonl")]
    with pytest.raises(BadConfig, match=r"^unknown setting 'data.0.shar'; did you mean 'data.0.sh"):
        settings(source.load(), source.layers([]), ["data=a.jsonl", "data.0.shar=2"])
