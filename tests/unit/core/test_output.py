"""Results are written whole or not at all, into whatever a path leads to."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Thread

import pytest

from ming_core.errors import CannotWrite
from ming_core.output import check_target, write_file

OLD, NEW = "old", "new 新\n"


def refusal(path: str | Path) -> str:
    """The sentence of both functions, which say the same."""
    sentences = []
    for attempt in (lambda: check_target(path), lambda: write_file(path, NEW)):
        with pytest.raises(CannotWrite) as caught:
            attempt()
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    assert "\n" not in sentences[0]
    return sentences[0]


def test_a_new_file_has_the_usual_mode_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    check_target(path)
    assert list(tmp_path.iterdir()) == []
    assert write_file(path, NEW) == path
    assert path.read_bytes() == NEW.encode()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert list(tmp_path.iterdir()) == [path]
    assert write_file(path, b"\x00\xff").read_bytes() == b"\x00\xff"


def test_an_old_file_keeps_its_mode_and_a_link_its_place(tmp_path: Path) -> None:
    real, link = tmp_path / "folder" / "real.txt", tmp_path / "link.txt"
    real.parent.mkdir()
    real.write_text(OLD)
    real.chmod(0o600)
    link.symlink_to(real)
    check_target(link)
    assert real.read_text() == OLD
    write_file(link, NEW)
    assert link.is_symlink()
    assert real.read_text("utf-8") == NEW
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    dangling = tmp_path / "dangling.txt"
    dangling.symlink_to(tmp_path / "folder" / "later.txt")
    write_file(dangling, NEW)
    assert (tmp_path / "folder" / "later.txt").read_text("utf-8") == NEW


def test_devices_and_pipes_are_written_into(tmp_path: Path) -> None:
    check_target("/dev/null")
    write_file("/dev/null", NEW)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    check_target(pipe)  # does not wait for a reader
    reader = Thread(target=lambda: got.append(pipe.read_text("utf-8")), daemon=True)
    reader.start()
    write_file(pipe, NEW)
    reader.join(5)
    assert got == [NEW]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_open_descriptor_is_written_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    print("before")
    check_target("/dev/stdout")
    write_file("/dev/stdout", NEW)
    assert capfd.readouterr().out == f"before\n{NEW}"
    with (tmp_path / "log").open("a") as handle:
        handle.write(OLD)
        handle.flush()
        write_file(f"/dev/fd/{handle.fileno()}", NEW)
        (tmp_path / "link").symlink_to(f"/dev/fd/{handle.fileno()}")
        write_file(tmp_path / "link", NEW)
    assert (tmp_path / "log").read_text("utf-8") == OLD + NEW + NEW
    assert (tmp_path / "link").is_symlink()


def test_what_is_private_is_so_from_its_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text(OLD)
    path.chmod(0o600)
    modes = []

    def replace(new: Path, old: Path) -> None:
        modes.append(stat.S_IMODE(os.stat(new).st_mode))
        raise OSError(28, "No space left on device")

    real = os.chmod

    def chmod(new: Path, mode: int) -> None:
        modes.append(os.stat(new).st_size)
        real(new, mode)

    monkeypatch.setattr("ming_core.output.os.replace", replace)
    monkeypatch.setattr("ming_core.output.os.chmod", chmod)
    with pytest.raises(CannotWrite):
        write_file(path, NEW)
    assert modes == [0, 0o600]


def test_a_planted_link_is_not_followed_and_two_writers_end_whole(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text(OLD)
    (tmp_path / ".a.txt.partial").symlink_to(victim)
    texts = [letter * 200_000 for letter in "abcdefgh"]
    path = tmp_path / "a.txt"
    threads = [Thread(target=write_file, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert victim.read_text() == OLD
    assert len(list(tmp_path.iterdir())) == 3


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    missing = tmp_path / "no" / "a.txt"
    assert refusal(missing) == (
        f"cannot write {str(missing)!r}: there is no folder {str(missing.parent)!r}; make it or "
        "choose another place"
    )
    assert refusal(loop).endswith("Too many levels of symbolic links; choose another place")
    assert loop.is_symlink()
    (tmp_path / "later").symlink_to(missing)
    assert f"there is no folder {str(missing.parent)!r}" in refusal(tmp_path / "later")
    assert "Bad file descriptor" in refusal("/dev/fd/987")
    assert "it is a folder; name a file in it" in refusal(tmp_path)
    assert "choose another place" in refusal(tmp_path / "file" / "a.txt")
    assert "choose another place" in refusal("a\0b")
    assert "choose another place" in refusal("x" * 5000)
    assert "choose another place" in refusal("/proc/self/a.txt")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    path.write_text(OLD)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ming_core.output.os.replace", full)
    with pytest.raises(CannotWrite, match="No space left on device; choose another place"):
        write_file(path, NEW)
    assert path.read_text() == OLD
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CannotWrite, match="No space left on device"):
        write_file("/dev/full", NEW)


def test_text_that_is_no_unicode_is_mended(tmp_path: Path) -> None:
    write_file(tmp_path / "a.txt", "caf\udce9 \ud83d")
    assert (tmp_path / "a.txt").read_text("utf-8") == "caf\ufffd \ufffd"
