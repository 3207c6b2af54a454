"""The inputs of a command that takes several, and where the result of each goes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ming_core.cli.common import check_stdin, read_media
from ming_core.errors import BadConfig, BadMedia, MingError
from ming_core.media import Audio, Image, Media, Video, kind_of_name
from ming_core.output import check_target, make_folder, names_no_format


@dataclass(frozen=True)
class Item:
    """One input. name: below the folder that was given, for the name of its result.

    listed: it was found in a folder. target: where its result goes; None is stdout. part: what was
    opened already, as the bytes of a pipe come only once. error: why there is nothing to work on.
    """

    source: str
    name: Path
    listed: bool = False
    target: Path | None = None
    part: Image | Audio | Video | None = None
    error: MingError | None = None

    @property
    def kind(self) -> type[Media] | None:
        """Picture, sound or video; of a file in a folder by its name."""
        return kind_of_name(self.source) if self.part is None else type(self.part)

    def opened(self) -> Media:
        """The medium. Raises BadMedia."""
        return self.part or read_media(self.source)


def find_items(
    arguments: Sequence[str],
    kinds: tuple[type[Media], ...],
    wanted: str,
    *,
    frames: bool = False,
    look: Callable[[str], Image | Audio | Video] = read_media,
) -> list[Item]:
    """What arguments name; of a folder, and those below it, every file of the kinds by its suffix.

    wanted: the kinds in words, for errors. frames: a folder of nothing but pictures is one video.
    look: gives the medium of an argument; what it raises becomes the error of an item. Raises
    BadConfig for `-` given twice.
    """
    check_stdin(*arguments)
    items: list[Item] = []
    for argument in arguments:
        try:
            part = look(argument)
        except MingError as error:
            items.append(Item(argument, Path(argument), error=error))
            continue
        folder = part.path if isinstance(part, Video) and part.path and part.path.is_dir() else None
        if folder is None:
            name = part.path.name if part.path else "stdin" if argument == "-" else argument
            items.append(Item(argument, Path(Path(name).name), part=part))
            continue
        found = [path for path in _visible(folder) if kind_of_name(path) in kinds]
        if frames and all(kind_of_name(path) is Image for path in found):
            items.append(Item(argument, Path(folder.resolve().name), part=part))
        elif found:
            items += [Item(str(path), path.relative_to(folder), True) for path in found]
        else:
            empty = BadMedia(f"the folder {argument!r} has no {wanted}; check the path")
            items.append(Item(argument, Path(argument), True, error=empty))
    return items


def _visible(folder: Path) -> Iterator[Path]:
    """The files of a folder and those below it, in name order, without hidden ones."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            yield path


def without_doubles(items: Iterable[Item]) -> list[Item]:
    """Each file once, where it came first."""
    found: dict[str, Item] = {}
    for item in items:
        found.setdefault(os.path.abspath(item.source), item)
    return list(found.values())


def check_format(out: str | None, known: Sequence[str]) -> None:
    """Raises BadConfig for the name of a file whose suffix is none of those known (".txt", …)."""
    suffix = Path(out or "").suffix.lower()
    if out is not None and suffix and suffix not in known and not names_no_format(out):
        raise BadConfig(
            f"cannot write {out!r}: {suffix} is no known format; end the name in "
            f"{', '.join(known[:-1])} or {known[-1]}"
        )


def with_targets(items: Sequence[Item], out: str | None, suffix: str) -> list[Item]:
    """Where each result goes. A folder is made for several, or for what lies in a folder.

    `a.wav` and `a.mp3` keep their suffixes, as `a.wav.txt`. The names do not depend on what is
    there, so that another run finds them. Raises BadConfig, and CannotWrite for a place that takes
    no file.
    """
    if out is None or out == "-":
        return list(items)
    if not out.strip():
        raise BadConfig("the name behind --out is empty; name a file or a folder, . for this one")
    folder = Path(out)
    if len(items) == 1 and not items[0].listed and not folder.is_dir() and not out.endswith("/"):
        check_target(out)
        _check_other(items[0].source, out)
        return [replace(items[0], target=Path(out))]
    if not folder.is_dir() and (folder.suffix or folder.exists()):
        raise BadConfig(f"{out!r} is one file, and there may be several texts; give a folder")
    items = without_doubles(items)
    stems = Counter(item.name.with_suffix("") for item in items)
    targets: dict[Path, Item] = {}
    for item in items:
        shared = stems[item.name.with_suffix("")] > 1
        name = item.name.name if shared else item.name.stem
        target = folder / item.name.with_name(f"{name}{suffix}")
        if target in targets:
            raise BadConfig(
                f"the texts of {targets[target].source!r} and {item.source!r} would have one name, "
                f"{str(target)!r}; give the folder that holds both, or write them to two folders"
            )
        _check_other(item.source, target)
        targets[target] = replace(item, target=target)
    make_folder(out)
    check_target(folder / next(iter(targets)).name)
    return list(targets.values())


def _check_other(source: str, out: str | Path) -> None:
    """Raises BadConfig for a result that would replace what it is made of."""
    if os.path.isfile(out) and os.path.exists(source) and os.path.samefile(source, out):
        raise BadConfig(f"{str(out)!r} is the input itself; choose another name for the result")
