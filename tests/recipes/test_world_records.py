"""Examples and records of the shapes world: the same again, fingerprints, files, speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ming_core.errors import BadConfig
from ming_recipes.nano.world.batch import Mix, training_example
from ming_recipes.nano.world.records import fingerprint, make_record, read_jsonl, write_jsonl
from ming_recipes.nano.world.scene import SPLITS, scene_of

FINGERPRINTS = {
    "train": "58fed3d951b5ba576eb6a0208eafee1fbac7e765450420f6c5fcebf49b84a6f0",
    "val": "674afc5c1c02d408eb5d67e98fa812de2516ecf062a9fbde3ca94e8216e6363d",
    "test": "677aac7e29a1e24fd1a433604199f4e2687e742b812a62e5a75900ea5462d513",
    "compositional": "3cc3ec776bbeb7e8a5f2caa009eac3d5e35efddb02f676c82c1d200d2a6c9571",
}


def test_the_same_index_gives_the_same_record_and_neighbours_differ() -> None:
    for mix in (Mix(dialogue=0.5), Mix(video=1.0), Mix(think=1.0)):
        first, again, other = (training_example(index, mix) for index in (7, 7, 8))
        assert (first.scenes, first.motions) == (again.scenes, again.motions)
        assert (first.dialogues, first.think) == (again.dialogues, again.think)
        np.testing.assert_array_equal(first.pictures, again.pictures)
        assert other.scenes != first.scenes
        assert (other.pictures[0] != first.pictures[0]).mean() > 0.5


@pytest.mark.parametrize("split", SPLITS)
def test_fingerprint_of_the_world_version(split: str) -> None:
    """A failure means that pixels or sentences changed: then the world needs a new version."""
    assert fingerprint(split) == FINGERPRINTS[split]


def test_records_round_trip_and_errors(tmp_path: Path) -> None:
    records = [make_record("test", index) for index in range(20)]
    assert write_jsonl(tmp_path / "a.jsonl", records) == 20
    assert list(read_jsonl(tmp_path / "a.jsonl")) == records
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]

    record = make_record("test", 13, "relation", "en")
    assert record["id"] == "test-000013-relation"
    assert record["world"] == "shapes-world/2"
    assert record["messages"][0]["content"][0] == {"type": "image", "source": "scene"}
    assert record["messages"][1]["content"][0]["text"] in ("yes", "no")
    assert make_record("test", 12, "locate", "zh")["task"] == "ground"
    moving = make_record("test", 12, "video_count", "en")
    assert moving["task"] == "video_qa"
    assert moving["messages"][0]["content"][0]["type"] == "video"
    still = [step == [0.0, 0.0] for step in moving["video"]["steps"]]
    assert moving["messages"][1]["content"][0]["text"] == str(still.count(False))

    silent = next(i for i in range(20) if scene_of("test", i).text is None)
    with pytest.raises(BadConfig, match="allows no question of kind 'text'"):
        make_record("test", silent, "text")

    (tmp_path / "bad.jsonl").write_text('{"a": 1}\nnonsense\n')
    with pytest.raises(BadConfig, match="line 2 of"):
        list(read_jsonl(tmp_path / "bad.jsonl"))
    (tmp_path / "list.jsonl").write_text("[1]\n")
    with pytest.raises(BadConfig, match="holds a list"):
        list(read_jsonl(tmp_path / "list.jsonl"))

    def broken():
        yield {"a": 1}
        raise RuntimeError("generator failed")

    with pytest.raises(RuntimeError):
        write_jsonl(tmp_path / "half.jsonl", broken())
    assert not (tmp_path / "half.jsonl").exists()
    assert not list(tmp_path.glob("*.part*"))


def test_generator_is_fast_enough_to_feed_training() -> None:
    """About 0.5 ms an example on one core; the bound is loose because the machine is shared."""
    from time import process_time

    for index in range(20):
        training_example(index, Mix())
    start = process_time()
    for index in range(100):
        training_example(index, Mix())
    assert (process_time() - start) / 100 < 0.004
