"""Shards: read and written as the safetensors library does, and refused but for listed rules."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ming_core.checkpoints.formats import DTYPES, open_weights, read_header
from ming_core.checkpoints.keymap import Slot
from ming_core.checkpoints.writing import export
from ming_core.errors import BadCheckpoint

STRICTER = (
    "supported are",  # a type of numbers that no Ming model has
    "occurs twice",  # a name that would be ambiguous
    "malformed",  # see UNLIKE
)
"""Parts of the sentences with which we alone may refuse."""


def accepted(path: Path) -> tuple[set[str] | None, set[str] | None, str]:
    """The names that the library finds and that we find, None for a refusal, and our sentence."""
    try:
        with safe_open(path, "pt") as file:
            theirs = set(file.keys())
    except SafetensorError:
        theirs = None
    try:
        return theirs, set(read_header(path)), ""
    except BadCheckpoint as error:
        return theirs, None, str(error)


def write(path: Path, header: object, body: int = 8) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    data = text.encode("utf-8", "surrogatepass")
    path.write_bytes(len(data).to_bytes(8, "little") + data + bytes(body))
    return path


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes


ONE = '"dtype":"F32","shape":[2],"data_offsets":[0,8]'
HEADERS: dict[str, tuple[object, int]] = {
    "plain": ({"a": entry()}, 8),
    "further key": ({"a": entry(note=1)}, 8),
    "further key that is no number": (f'{{"a":{{{ONE},"x":NaN}}}}', 8),
    "key of an entry twice": (f'{{"a":{{{ONE},"shape":[2]}}}}', 8),
    "notes": ({"__metadata__": {"format": "pt"}, "a": entry()}, 8),
    "no notes": ({"__metadata__": None, "a": entry()}, 8),
    "notes that are numbers": ({"__metadata__": {"x": 1}, "a": entry()}, 8),
    "notes in a list": ({"__metadata__": [], "a": entry()}, 8),
    "notes that are a text": ({"__metadata__": "x", "a": entry()}, 8),
    "notes like a tensor": ({"__metadata__": entry(), "a": entry()}, 8),
    "a name like the notes": ({"__metadata__x": entry()}, 8),
    "a number alone": ({"a": entry(shape=[], data_offsets=[0, 4])}, 4),
    "eight dimensions": ({"a": entry(shape=[1] * 7 + [2])}, 8),
    "nothing": ({"a": entry(shape=[0], data_offsets=[0, 0])}, 0),
    "nothing in between": (
        {"a": entry(shape=[0, 3], data_offsets=[8, 8]), "b": entry(), "c": entry(shape=[])},
        8,
    ),
    "no tensors": ({}, 0),
    "no tensors, some bytes": ({}, 8),
    "product too large": ({"a": entry(shape=[2**62, 2**62, 0], data_offsets=[0, 0])}, 0),
    "bytes too many": ({"a": entry(shape=[2**62, 4])}, 8),
    "size of 65 bits": ({"a": entry(shape=[0, 2**64], data_offsets=[0, 0])}, 0),
    "minus zero": (f'{{"a":{{{ONE.replace("[0,", "[-0,")}}}}}', 8),
    "fractions": (f'{{"a":{{{ONE.replace("[0,", "[0.0,")}}}}}', 8),
    "powers": (f'{{"a":{{{ONE.replace(",8]", ",8e0]")}}}}}', 8),
    "truth": ({"a": entry(shape=[True, 2])}, 8),
    "texts": ({"a": entry(shape=["2"])}, 8),
    "null": ({"a": entry(shape=None)}, 8),
    "three offsets": ({"a": entry(data_offsets=[0, 8, 8])}, 8),
    "offsets backwards": ({"a": entry(shape=[0], data_offsets=[8, 0])}, 8),
    "hole": ({"a": entry(data_offsets=[4, 12])}, 12),
    "overlap": ({"a": entry(), "b": entry(data_offsets=[4, 12])}, 12),
    "too few bytes": ({"a": entry()}, 7),
    "too many bytes": ({"a": entry()}, 9),
    "not aligned": (
        {"b": entry(dtype="U8", shape=[1], data_offsets=[0, 1]), "a": entry(data_offsets=[1, 9])},
        9,
    ),
    "type in small letters": ({"a": entry(dtype="f32")}, 8),
    "type null": ({"a": entry(dtype=None)}, 8),
    "empty name": ({"": entry()}, 8),
    "control character": ({"a\x1b[2J\n\0": entry()}, 8),
    "raw control character": (f'{{"a\x01":{{{ONE}}}}}', 8),
    "half a character": ('{"\\ud800":{' + ONE + "}}", 8),
    "raw half of a character": ('{"\ud800":{' + ONE + "}}", 8),
    "two halves": ('{"\\ud83d\\ude00":{' + ONE + "}}", 8),
    "space around": (f' \n{{"a":{{{ONE}}}}} \n\t ', 8),
    "zero bytes behind": (f'{{"a":{{{ONE}}}}}\0\0', 8),
    "byte order mark": (f'\ufeff{{"a":{{{ONE}}}}}', 8),
    "comma too many": (f'{{"a":{{{ONE}}},}}', 8),
    "no header": ("", 0),
    "list": ([], 0),
    "null header": ("null", 0),
}
UNLIKE: dict[str, tuple[object, int]] = {
    "nine dimensions": ({"a": entry(shape=[1] * 8 + [2])}, 8),
    "entry in a list": ({"a": ["F32", [2], [0, 8]]}, 8),
    "sizes beyond torch": ({"a": entry(shape=[0, 2**62, 2**62], data_offsets=[0, 0])}, 0),
    "size of 64 bits": ({"a": entry(shape=[0, 2**63], data_offsets=[0, 0])}, 0),
    "name twice": (f'{{"a":{{{ONE}}},"a":{{{ONE}}}}}', 8),
    "note twice": (f'{{"__metadata__":{{"x":"","x":""}},"a":{{{ONE}}}}}', 8),
    "type of another model": ({"a": entry(dtype="F8_E4M3", shape=[8])}, 8),
}
"""What the library accepts and we refuse."""


@pytest.mark.parametrize("name", HEADERS)
def test_as_the_library(tmp_path: Path, name: str) -> None:
    theirs, ours, sentence = accepted(write(tmp_path / "x.safetensors", *HEADERS[name]))
    assert ours == theirs, sentence
    assert sentence.isprintable()


@pytest.mark.parametrize("name", UNLIKE)
def test_stricter_than_the_library(tmp_path: Path, name: str) -> None:
    theirs, ours, sentence = accepted(write(tmp_path / "x.safetensors", *UNLIKE[name]))
    assert theirs is not None
    assert ours is None
    assert any(part in sentence for part in STRICTER)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_headers_are_refused_by_both(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3), "b": torch.zeros(2, 2, dtype=torch.int64)}, path)
    content = bytearray(path.read_bytes())
    end = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        written = st.sampled_from(sorted(set(b'0123456789-+.eE[]{},:" \\\t\nabFIU\x00\x80\xff')))
        content[data.draw(st.integers(8, end - 1))] = data.draw(written)
    path.write_bytes(content)
    theirs, ours, sentence = accepted(path)
    if theirs is None:
        assert ours is None
    elif ours is None:
        assert any(part in sentence for part in STRICTER)
    else:
        assert ours == theirs


def test_the_library_reads_what_we_write_and_we_what_it_writes(tmp_path: Path) -> None:
    """Every type and odd shape, in one file and in shards."""
    made = {
        f"{name}.{number}": torch.arange(prod(shape)).reshape(shape).to(dtype)
        for name, dtype in DTYPES.items()
        for number, shape in enumerate([(), (0,), (3, 5), (1, 2, 0), (7,)])
    }
    module = nn.Module()
    for number, (name, value) in enumerate(made.items()):
        made[name] = value % 2 if value.dtype == torch.bool else value
        module.register_buffer(f"b{number}", made[name])
    slots = {name: Slot(f"b{number}") for number, name in enumerate(made)}
    export({"all": (module, slots)}, tmp_path / "ours", {})
    save_file(made, tmp_path / "theirs.safetensors", {"format": "pt"})
    sizes = [
        (tmp_path / n).stat().st_size for n in ("ours/model.safetensors", "theirs.safetensors")
    ]
    assert sizes[0] == sizes[1]
    theirs = open_weights(tmp_path / "theirs.safetensors")
    for name, value in load_file(tmp_path / "ours/model.safetensors").items():
        assert value.dtype == made[name].dtype
        assert torch.equal(value, made[name])
        assert torch.equal(theirs.read(name), value)

    export({"all": (module, slots)}, tmp_path / "shards", {}, max_shard_bytes=200)
    parts = [load_file(path) for path in sorted((tmp_path / "shards").glob("*.safetensors"))]
    assert len(parts) > 3
    assert {name for part in parts for name in part} == made.keys()
