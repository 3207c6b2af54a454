"""The tokenizer wrapper: harmless user text, exact round trips, streaming in whole characters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ming_core.chat import StreamDecoder, Tokenizer
from ming_core.errors import BadCheckpoint, BadConfig

SPECIAL_TEXT = "<role>a</role><image><|role_end|><framePatch>"

_loaded: list[Tokenizer] = []


@pytest.fixture(autouse=True)
def _share(tokenizer: Tokenizer) -> None:
    """Property tests cannot take fixtures of function scope; hand them the shared one."""
    _loaded[:] = [tokenizer]


def test_special_tokens_in_text_are_characters(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(SPECIAL_TEXT)
    assert not tokenizer.special_ids & set(ids)
    assert tokenizer.decode(ids) == SPECIAL_TEXT


def test_special_tokens_are_read_on_request(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(SPECIAL_TEXT, special=True)
    names = ("<role>", "</role>", "<image>", "<|role_end|>", "<framePatch>")
    role, end, *rest = map(tokenizer.id, names)
    assert ids == [role, *tokenizer.encode("a"), end, *rest]
    assert tokenizer.decode(ids) == "a"
    assert tokenizer.decode(ids, special=True) == SPECIAL_TEXT


def test_configured_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_id == tokenizer.id("<|role_end|>")
    assert tokenizer.pad_id == tokenizer.id("<|endoftext|>")
    assert tokenizer.vocab_size == max(tokenizer.special_ids) + 1


def test_decode_takes_tensors_and_rows_beyond_the_vocabulary(tokenizer: Tokenizer) -> None:
    ids = torch.tensor([*tokenizer.encode("ok"), tokenizer.eos_id, tokenizer.vocab_size + 7])
    assert tokenizer.decode(ids) == "ok"


@given(st.text())
def test_round_trip(text: str) -> None:
    tokenizer = _loaded[0]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_stream_joins_to_the_whole_and_never_breaks_a_character(text: str) -> None:
    tokenizer = _loaded[0]
    stream = StreamDecoder(tokenizer)
    pieces = [stream.push(i) for i in tokenizer.encode(text)]
    assert stream.flush() == ""
    assert "".join(pieces) == text
    assert sum(piece.count("\ufffd") for piece in pieces) == text.count("\ufffd")


@given(st.lists(st.integers(0, 255), max_size=12))
def test_stream_of_any_ids_agrees_with_decode(ids: list[int]) -> None:
    tokenizer = _loaded[0]
    stream = StreamDecoder(tokenizer)
    assert stream.extend(ids) + stream.flush() == tokenizer.decode(ids)


def test_stream_holds_a_character_back_until_it_is_whole(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("😀")
    assert len(ids) == 4
    stream = StreamDecoder(tokenizer)
    assert [stream.push(i) for i in ids] == ["", "", "", "😀"]
    assert stream.extend([*ids[:2], tokenizer.id("<|role_end|>")]) == ""
    assert stream.flush() == "\ufffd"
    assert stream.push(tokenizer.encode("a")[0]) == "a"


def test_unknown_token_is_named(tokenizer: Tokenizer) -> None:
    assert tokenizer.find("<missing>") is None
    with pytest.raises(BadCheckpoint, match="no token '<missing>'"):
        tokenizer.id("<missing>")


def test_tokens_of_the_config_are_added(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = _copy(tokenizer_folder, tmp_path)
    new = Tokenizer(folder).vocab_size
    _edit_config(folder, str(new), "<asr>")
    tokenizer = Tokenizer(folder)
    assert tokenizer.id("<asr>") == new
    assert new in tokenizer.special_ids


def test_contradicting_files(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = _copy(tokenizer_folder, tmp_path)
    _edit_config(folder, "5", "<image>")
    with pytest.raises(BadCheckpoint, match=r"'<image>' is token \d+ in tokenizer.json but 5"):
        Tokenizer(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_missing_and_damaged_files(tokenizer_folder: Path, tmp_path: Path, name: str) -> None:
    folder = _copy(tokenizer_folder, tmp_path)
    (folder / name).write_text("{", "utf-8")
    with pytest.raises(BadCheckpoint, match=f"{name} is no valid"):
        Tokenizer(folder)
    (folder / name).unlink()
    with pytest.raises(BadCheckpoint, match=f"has no {name}"):
        Tokenizer(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_pointers_of_git_lfs_and_links_that_lead_away(
    tokenizer_folder: Path, tmp_path: Path, name: str
) -> None:
    folder = _copy(tokenizer_folder, tmp_path)
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(BadCheckpoint, match=f"{name} is only a pointer .* `git lfs pull`"):
        Tokenizer(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(tokenizer_folder / name)
    with pytest.raises(BadCheckpoint, match=f"refers to '{name}', which lies outside of it"):
        Tokenizer(folder)


@pytest.mark.parametrize(
    ("given", "read"),
    [("a\ud83d", "a\ufffd"), ("\ud83d\ude00", "😀"), ("\udce9t", "\ufffdt"), ("\udcc3\udca9", "é")],
)
def test_halves_of_characters_and_bytes_of_a_shell(
    tokenizer: Tokenizer, given: str, read: str
) -> None:
    assert tokenizer.decode(tokenizer.encode(given)) == read
    assert tokenizer.fewest(given) <= len(tokenizer.encode(given))


@given(st.text())
def test_a_lower_bound_of_tokens(text: str) -> None:
    assert _loaded[0].fewest(text) <= len(_loaded[0].encode(text))


def test_a_panic_of_the_library_is_a_sentence(
    tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its search gives up in very long words of some patterns, which is no Exception."""
    monkeypatch.setenv("RUST_BACKTRACE", "0")
    folder = _copy(tokenizer_folder, tmp_path)
    data = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    split = {"type": "Split", "pattern": {"Regex": "(?:a|aa)+b"}, "behavior": "Isolated"}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    parts = [split | {"invert": False}, byte_level | {"use_regex": False}]
    data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": parts}
    (folder / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(BadConfig, match="a text of 1,000 characters cannot be tokenized: "):
        Tokenizer(folder).encode("a" * 1000)


def test_other_kinds_of_tokenizer_are_refused(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = _copy(tokenizer_folder, tmp_path)
    data = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    data["decoder"] = {"type": "Fuse"}
    (folder / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(BadCheckpoint, match="no byte-level tokenizer"):
        Tokenizer(folder)


def _copy(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target / "copy"))


def _edit_config(folder: Path, token_id: str, token: str) -> None:
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    config["added_tokens_decoder"][token_id] = {"content": token}
    path.write_text(json.dumps(config), "utf-8")
