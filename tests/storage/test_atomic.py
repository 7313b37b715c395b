"""Files appear whole or not at all, whatever fails."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.storage.atomic import remove_temporary_files, replacing


def test_overwriting_replaces_the_whole_file(root: str) -> None:
    url = storage.join(root, "x")
    storage.write_atomic(url, b"long content")
    before = storage.version(url)
    storage.write_atomic(url, b"short")
    assert storage.read_bytes(url) == b"short"
    assert storage.version(url) != before
    assert storage.list_files(root) == ["x"]


def test_check_writable(root: str) -> None:
    storage.check_writable(root)
    storage.check_writable(root)
    assert storage.list_files(root) == []
    storage.write_atomic(storage.join(root, "file"), b"x")
    with pytest.raises(UserError, match="should be a folder to write to, but it is a file"):
        storage.check_writable(storage.join(root, "file"))
    assert storage.read_bytes(storage.join(root, "file")) == b"x"


def test_a_file_in_the_middle_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for action in (storage.check_writable, lambda url: storage.write_atomic(url, b"")):
        with pytest.raises(UserError, match="a part of this path is a file"):
            action(f"{tmp_path}/file/below")
    assert not storage.exists(f"{tmp_path}/file/below")


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    name = "x" * 255
    storage.write_atomic(f"{tmp_path}/{name}", b"1")
    assert storage.list_files(str(tmp_path)) == [name]
    with pytest.raises(UserError, match="too long"):
        storage.write_atomic(f"{tmp_path}/{name}x", b"1")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "no space is left"),
        (errno.EDQUOT, "no space is left"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_failing_disk_leaves_nothing_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    storage.write_atomic(f"{tmp_path}/x", b"old")

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=message) as caught:
        storage.write_atomic(f"{tmp_path}/x", b"new")
    assert f"{tmp_path}/x" in str(caught.value)
    with pytest.raises(UserError, match=message):
        storage.check_writable(str(tmp_path))
    assert os.listdir(tmp_path) == ["x"]
    assert (tmp_path / "x").read_bytes() == b"old"


def test_kill_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys
        from pad_pipeline import storage
        n = 0
        while True:
            n += 1
            storage.write_atomic(sys.argv[1], (b"%08d" % n) * 200_000)
        """
    )
    url = f"{tmp_path}/x"
    for delay_s in (0.05, 0.11, 0.23):
        writer = subprocess.Popen([sys.executable, "-c", script, url])
        deadline = time.monotonic() + 60
        while not os.path.exists(url) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(delay_s)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        data = (tmp_path / "x").read_bytes()
        assert data == data[:8] * 200_000
        assert storage.list_files(str(tmp_path)) == ["x"]


def test_stale_temporary_files_are_cleaned(tmp_path: Path) -> None:
    for name, age_s in ((".tmp-old", 7200), (".tmp-new", 60), (".other", 7200), ("x", 7200)):
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    storage.check_writable(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [".other", ".tmp-new", "x"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_replacing_gives_the_name_only_at_the_end(tmp_path: Path, is_folder: bool) -> None:
    def make(path: Path) -> None:
        if is_folder:
            path.mkdir()
            (path / "x").write_bytes(b"new")
        else:
            path.write_bytes(b"new")

    target = tmp_path / "target"

    def fail() -> None:
        with replacing(target) as temporary:
            make(temporary)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
    with replacing(target) as temporary:
        make(temporary)
        assert not target.exists()
    assert list(tmp_path.iterdir()) == [target]
    assert (target / "x" if is_folder else target).read_bytes() == b"new"


def test_folders_of_killed_processes_are_removed_where_wanted(tmp_path: Path) -> None:
    for name in (".tmp-one", ".tmp-two", "folder"):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    remove_temporary_files(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    remove_temporary_files(tmp_path, 10_000.0, folders=True)
    assert len(list(tmp_path.iterdir())) == 3
    remove_temporary_files(tmp_path, folders=True)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
