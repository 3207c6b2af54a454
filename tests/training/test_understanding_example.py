"""The example of the guide, and the rehearsal of nano's world."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ming_recipes.nano.rehearsal import rehearsal
from ming_recipes.nano.world.vocabulary import COLORS as KNOWN_COLORS
from ming_recipes.training.data import DataSet
from ming_recipes.training.files import open_rows
from ming_recipes.training.finetune import rehearsed
from ming_recipes.understanding.example import COLORS, SHAPES, picture, write


def test_the_example_has_words_that_nano_lacks_and_the_same_pictures_every_time(
    tmp_path: Path,
) -> None:
    assert not set(COLORS) & set(KNOWN_COLORS)
    for folder in ("a", "b"):
        write(tmp_path / folder, range(6))
    rows = open_rows(tmp_path / "a" / "rows.jsonl")
    assert len(rows) == 18
    assert {row.messages[-1].text for row in rows} >= {picture(0)[1], picture(0)[2]}
    files = [(tmp_path / folder / "3.png").read_bytes() for folder in ("a", "b")]
    assert files[0] == files[1]
    drawn = {picture(seed)[1:] for seed in range(200)}
    assert drawn == {(color, shape) for color in COLORS for shape in SHAPES}


def test_rehearsed_rows_are_made_once_and_take_their_share(tmp_path: Path) -> None:
    data = rehearsal(tmp_path / "known", 3, share=0.4)
    rows = open_rows(data.path)
    assert len({row.id for row in rows}) == len(rows) > 6
    with Image.open(tmp_path / "known" / "00000.png") as first:
        assert first.size == (64, 64)
    before = Path(data.path).stat().st_mtime_ns
    assert rehearsal(tmp_path / "known", 3, share=0.4) == data
    assert Path(data.path).stat().st_mtime_ns == before
    mixed = rehearsed([DataSet("mine"), DataSet("other")], [data])
    assert [round(one.share or 0, 3) for one in mixed] == [0.3, 0.3, 0.4]
    mixed = rehearsed([DataSet("mine", share=3), DataSet("other", share=1)], [data])
    assert [round(one.share or 0, 3) for one in mixed] == [0.45, 0.15, 0.4]
    assert rehearsed([DataSet("mine")], []) == [DataSet("mine")]
