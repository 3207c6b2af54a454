"""Damaged, unsafe and foreign checkpoints: one clear sentence each, and nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ming_core.checkpoints import writing
from ming_core.checkpoints.files import missing_files
from ming_core.checkpoints.formats import open_checkpoint, open_weights, read_header
from ming_core.checkpoints.keymap import identity_slots
from ming_core.checkpoints.reading import load_module, on_meta
from ming_core.checkpoints.writing import export
from ming_core.errors import BadCheckpoint
from ming_core.release import release_of

INDEX = "model.safetensors.index.json"


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"vision": nn.Linear(4, 3), "proj": nn.Linear(3, 2)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound sharded checkpoint of three shards."""
    module = network()
    folder = tmp_path / "checkpoint"
    export({"x": (module, identity_slots(module))}, folder, {"a": 1}, max_shard_bytes=40)
    assert len(list(folder.glob("*.safetensors"))) == 3
    return folder


def load(folder: Path, dtype: torch.dtype = torch.float32) -> nn.Module:
    with on_meta():
        module = network()
    load_module(module, open_checkpoint(folder), identity_slots(module), "cpu", dtype)
    return module


def refuse(folder: Path, *words: str) -> None:
    """Loading fails with one sentence (or two) that contains `words`."""
    with pytest.raises(BadCheckpoint) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Rewrite the checkpoint as one file with changed tensors."""
    tensors: dict[str, Tensor] = {}
    for shard in folder.glob("*.safetensors"):
        tensors |= load_file(shard)
        shard.unlink()
    (folder / INDEX).unlink()
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def edit_index(folder: Path, name: str, place: object) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][name] = place
    (folder / INDEX).write_text(json.dumps(index))


def test_the_sound_one_loads(folder: Path) -> None:
    expected = network().state_dict()
    assert all(torch.equal(t, expected[name]) for name, t in load(folder).state_dict().items())


def test_missing_shard_is_named(folder: Path) -> None:
    (folder / "model-00002-of-00003.safetensors").unlink()
    refuse(folder, "lacks 1 of 3 shards: model-00002-of-00003.safetensors", "finish the download")


def test_wrong_shape(folder: Path) -> None:
    edit(folder, lambda t: t.update({"vision.weight": torch.zeros(3, 5)}))
    refuse(folder, "vision.weight is [3, 5], expected [3, 4]", "1 of the wrong shape")


def test_wrong_type(folder: Path) -> None:
    edit(folder, lambda t: t.update({"vision.weight": torch.zeros(3, 4, dtype=torch.int64)}))
    refuse(folder, "vision.weight is torch.int64, expected torch.float32")


def test_missing_and_unexpected_names_with_the_nearest(folder: Path) -> None:
    edit(folder, lambda t: t.update({"vision.weights": t.pop("vision.weight")}))
    refuse(
        folder,
        "1 missing (vision.weight, nearest is vision.weights)",
        "1 unexpected (vision.weights)",
    )


def test_other_parts_of_the_checkpoint_are_ignored(folder: Path) -> None:
    edit(
        folder, lambda t: t.update({"visionary.weight": torch.zeros(2), "talker.x": torch.ones(2)})
    )
    load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_values_that_are_no_numbers(folder: Path, value: float, dtype: torch.dtype) -> None:
    def poison(tensors: dict[str, Tensor]) -> None:
        tensors["vision.weight"][1, 2] = value
        tensors["proj.bias"][0] = value
        tensors.update({name: tensor.to(dtype) for name, tensor in tensors.items()})

    edit(folder, poison)
    refuse(folder, "NaN, infinite or too large", "proj.bias, vision.weight")


def test_values_too_large_for_the_wanted_type(folder: Path) -> None:
    edit(folder, lambda t: t["vision.bias"].fill_(1e6))
    load(folder, torch.bfloat16)
    with pytest.raises(BadCheckpoint, match=r"too large for torch.float16 in vision.bias"):
        load(folder, torch.float16)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"model_type": "llama"}, "model_type 'llama' without an llm_config"),
        ({"llm_config": {"model_type": "qwen3_moe"}}, "'qwen3_moe' language model"),
        ({"llm_config": {"model_type": "bailing_moe", "rope_scaling": {"type": "yarn"}}}, "'yarn'"),
        ({}, "model_type None"),
    ],
)
def test_unknown_architecture(config: dict, found: str) -> None:
    with pytest.raises(BadCheckpoint) as caught:
        release_of(config)
    message = str(caught.value)
    assert found in message
    for family in ("lite-1.0", "lite-1.5", "flash"):
        assert family in message


class Bomb:
    def __reduce__(self) -> tuple:
        return (pytest.fail, ("a pickle was opened",))


def test_pickle_in_place_of_safetensors(folder: Path) -> None:
    bomb = pickle.dumps(Bomb())
    shard = folder / "model-00001-of-00003.safetensors"
    shard.write_bytes(bomb)
    refuse(folder, shard.name, "no safetensors file")
    for path in [*folder.glob("*.safetensors"), folder / INDEX]:
        path.unlink()
    (folder / "pytorch_model.bin").write_bytes(bomb)
    refuse(folder, "'pytorch_model.bin'", "only safetensors", "convert it")
    with pytest.raises(BadCheckpoint, match="pickles run code"):
        open_weights(folder / "pytorch_model.bin")


@pytest.mark.parametrize("name", ["model.bin", "shard.pt", "shard.pth", "model.safetensors.pkl"])
def test_pickle_named_in_the_index(folder: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    edit_index(folder, "vision.weight", name)
    refuse(folder, repr(name), "pickles run code")


@pytest.mark.parametrize("how", ["absolute", "parent", "link", "folder link", "loop", "zero"])
def test_paths_that_leave_the_folder(folder: Path, tmp_path: Path, how: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(folder / "model-00001-of-00003.safetensors", outside / "x.safetensors")
    name = {
        "absolute": str(outside / "x.safetensors"),
        "parent": "../outside/x.safetensors",
        "link": "linked.safetensors",
        "folder link": "sub/x.safetensors",
        "loop": "loop.safetensors",
        "zero": "x\0.safetensors",
    }[how]
    (folder / "linked.safetensors").symlink_to(outside / "x.safetensors")
    (folder / "sub").symlink_to(outside)
    (folder / "loop.safetensors").symlink_to(folder / "loop.safetensors")
    edit_index(folder, "vision.weight", name)
    expected = {"loop": "impossible path", "zero": "impossible path"}.get(how, "lies outside")
    refuse(folder, expected)


def test_linked_index_and_config(folder: Path, tmp_path: Path) -> None:
    for name in (INDEX, "config.json"):
        shutil.move(folder / name, tmp_path / name)
        (folder / name).symlink_to(tmp_path / name)
        refuse(folder, f"{name!r}, which lies outside")
        (folder / name).unlink()
        shutil.copy(tmp_path / name, folder / name)


def test_every_truncation_of_a_shard_is_noticed(folder: Path) -> None:
    shard = folder / "model-00001-of-00003.safetensors"
    data = shard.read_bytes()
    for size in [*range(0, len(data), 7), len(data) - 1]:
        shard.write_bytes(data[:size])
        refuse(folder, shard.name, "copy it again")
    shard.write_bytes(data + b"\0")
    refuse(folder, shard.name, "damaged")


def test_file_that_shrinks_after_it_was_opened(folder: Path) -> None:
    weights = open_weights(folder)
    info = weights.tensors["vision.weight"]
    info.file.write_bytes(info.file.read_bytes()[:-1])
    name = max(
        weights.tensors,
        key=lambda n: (weights.tensors[n].file == info.file, weights.tensors[n].offset),
    )
    with pytest.raises(BadCheckpoint, match="ends inside"):
        weights.read(name)


@pytest.mark.parametrize("how", ["replaced", "rewritten", "longer", "gone"])
def test_weights_that_change_after_they_were_opened(folder: Path, how: str) -> None:
    """Encoders are read when they are first needed; then the file may be another one."""
    weights = open_weights(folder)
    file = weights.tensors["vision.weight"].file
    other = bytearray(file.read_bytes())
    other[-1] ^= 1
    if how == "replaced":
        (folder / "new").write_bytes(other)
        (folder / "new").replace(file)
    elif how == "gone":
        file.unlink()
    else:
        file.write_bytes(other + b"x" * (how == "longer"))
        os.utime(file, ns=(0, time.time_ns() + 10**9))  # clocks of file systems tick slowly
    with pytest.raises(BadCheckpoint) as caught:
        weights.read("vision.weight")
    expected = "cannot read" if how == "gone" else "was changed or replaced after the model was"
    assert expected in str(caught.value)
    assert file.name in str(caught.value)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4925\n"


@pytest.mark.parametrize(
    "name", ["model-00002-of-00003.safetensors", INDEX, "config.json", "preprocessor_config.json"]
)
def test_pointers_of_git_lfs(folder: Path, name: str) -> None:
    (folder / name).write_bytes(POINTER)
    refuse(folder, name, "run `git lfs pull` in", str(folder))


def test_a_pointer_in_place_of_the_only_file(folder: Path) -> None:
    edit(folder, lambda tensors: None)
    (folder / "model.safetensors").write_bytes(POINTER)
    refuse(folder, "model.safetensors is only a pointer", "`git lfs pull`")


def test_files_that_are_not_here_yet(folder: Path) -> None:
    assert missing_files(folder) == []
    assert missing_files(folder, ["tokenizer.json"]) == ["tokenizer.json"]
    second = "model-00002-of-00003.safetensors"
    (folder / second).write_bytes(POINTER)
    assert missing_files(folder) == [second]
    (folder / second).unlink()
    assert missing_files(folder) == [second]
    (folder / INDEX).unlink()
    assert missing_files(folder) == ["model.safetensors"]


ODD = "x\x1b[2J\a\n\u202e.weight"


def test_odd_names_never_reach_a_message_raw(folder: Path) -> None:
    edit(folder, lambda tensors: tensors.update({f"vision.{ODD}": torch.ones(1)}))
    with pytest.raises(BadCheckpoint) as caught:
        load(folder)
    assert str(caught.value).isprintable()
    assert "\\x1b" in str(caught.value)


@pytest.mark.parametrize("place", ["\x1b]0;x\a.safetensors", "\n.bin", "../\x1b[2J.safetensors"])
def test_odd_places_never_reach_a_message_raw(folder: Path, place: str) -> None:
    edit_index(folder, "vision.weight", place)
    with pytest.raises(BadCheckpoint) as caught:
        load(folder)
    assert str(caught.value).isprintable()


def test_a_folder_with_an_odd_name(folder: Path) -> None:
    odd = folder.with_name("a\x1b[2J\nb")
    folder.rename(odd)
    (odd / "config.json").unlink()
    with pytest.raises(BadCheckpoint) as caught:
        load(odd)
    assert str(caught.value).isprintable()
    assert r"a\x1b[2J\nb has no config.json" in str(caught.value)


def test_a_byte_order_mark_is_no_damage(folder: Path) -> None:
    (folder / "config.json").write_bytes(b'\xef\xbb\xbf{"a": 3}')
    assert open_checkpoint(folder).config == {"a": 3}


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**31])
def test_huge_header_length(folder: Path, length: int) -> None:
    shard = folder / "model-00001-of-00003.safetensors"
    shard.write_bytes(length.to_bytes(8, "little") + shard.read_bytes()[8:])
    refuse(folder, shard.name, str(length))


def test_header_longer_than_any_checkpoint_needs(folder: Path) -> None:
    shard = folder / "model-00001-of-00003.safetensors"
    with shard.open("wb") as file:  # sparse: takes no room on the disk
        file.write((150_000_000).to_bytes(8, "little"))
        file.truncate(200_000_000)
    refuse(folder, shard.name, "150000000 bytes of JSON")


def entry(dtype: object = "F32", shape: object = (2,), span: object = (0, 8)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ({"a": entry(shape=[3])}, "needs 12 bytes"),
        ({"a": entry(span=[8, 0])}, "its header gives -8"),
        ({"a": entry(span=[4, 12])}, "starts at byte"),
        ({"a": entry(), "b": entry()}, "starts at byte"),
        ({"a": entry(span=[0, 8]), "b": entry(span=[8, 16])}, "truncated"),
        ({"a": entry(dtype="F8_E4M3", shape=[8])}, "'F8_E4M3'"),
        ({"a": entry(dtype=["F32"])}, "supported are F64, F32"),
        ({"a": entry(shape=[-2])}, "malformed"),
        ({"a": entry(shape=[2.0])}, "malformed"),
        ({"a": entry(shape=[True, 2])}, "malformed"),
        ({"a": entry(shape=[0, 2**62, 2**62], span=[0, 0])}, "malformed"),
        ({"a": entry(shape=[1] * 9)}, "malformed"),
        ({"a": entry(span=[0])}, "malformed"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "malformed"),
        ({"a": None}, "malformed"),
        ([], "expected an object"),
        ({}, "damaged"),
    ],
)
def test_headers_that_lie(tmp_path: Path, header: object, word: str) -> None:
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(BadCheckpoint, match=word):
        read_header(path)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
    ids=["repeated name", "no text", "deep", "long number"],
)
def test_headers_that_are_no_json(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(BadCheckpoint, match="no valid JSON"):
        read_header(path)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_flipped_bytes_never_crash(tmp_path: Path, data: st.DataObject) -> None:
    """Any damage of a header either still describes the file or is a BadCheckpoint."""
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3), "b": torch.zeros(2, 2, dtype=torch.int64)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        weights = open_weights(path)
    except BadCheckpoint:
        return
    for name in weights.tensors:
        assert weights.read(name).nbytes == weights.tensors[name].nbytes


def test_index_that_lies(folder: Path) -> None:
    sound = (folder / INDEX).read_text()
    edit_index(folder, "vision.extra", "model-00001-of-00003.safetensors")
    refuse(folder, "'vision.extra'", "does not hold it")
    edit_index(folder, "vision.extra", 7)
    refuse(folder, "no weight_map")
    for text in ("", "[]", "{}", '{"weight_map": []}', sound[:-5]):
        (folder / INDEX).write_text(text)
        refuse(folder, INDEX)
    line = '"vision.bias": "model-00001-of-00003.safetensors",'
    (folder / INDEX).write_text(sound.replace('"weight_map": {', '"weight_map": {' + line))
    refuse(folder, "'vision.bias' occurs twice")


def test_folders_that_are_none(folder: Path, tmp_path: Path) -> None:
    refuse(tmp_path / "absent", "is not a folder")
    (folder / "config.json").write_text('{"a": 1, "a": 2}')
    assert open_checkpoint(folder).config == {"a": 2}
    (folder / "config.json").write_text("{")
    refuse(folder, "config.json", "no valid JSON")
    (folder / "config.json").unlink()
    refuse(folder, "no config.json")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.json").write_text("{}")
    refuse(tmp_path / "empty", "has no weights")
    with pytest.raises(BadCheckpoint, match="does not exist"):
        open_weights(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left")])
def test_interrupted_export_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] | OSError
) -> None:
    module = network()
    write, written = writing._write_shard, []

    def fail_at_second(path: Path, entries: list) -> None:
        if written:
            raise error
        write(path, entries)
        written.append(path)

    monkeypatch.setattr(writing, "_write_shard", fail_at_second)
    expected = BadCheckpoint if isinstance(error, OSError) else error
    with pytest.raises(expected):
        export({"x": (module, identity_slots(module))}, tmp_path / "out", {}, max_shard_bytes=40)
    assert written
    assert list(tmp_path.iterdir()) == []


def test_export_does_not_touch_what_is_there(tmp_path: Path) -> None:
    module = network()
    parts = {"x": (module, identity_slots(module))}
    (tmp_path / "mine").mkdir()
    export(parts, tmp_path / "mine", {})
    before = (tmp_path / "mine/model.safetensors").read_bytes()
    with pytest.raises(BadCheckpoint, match="not empty; choose another folder"):
        export(parts, tmp_path / "mine", {})
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadCheckpoint, match="choose another folder"):
        export(parts, tmp_path / "file", {})
    with pytest.raises(BadCheckpoint, match="cannot write"):
        export(parts, tmp_path / "file/below", {})
    with pytest.raises(BadCheckpoint, match=r"absent\.json"):
        export(parts, tmp_path / "new", {}, files=[tmp_path / "absent.json"])
    assert (tmp_path / "mine/model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]
