"""Storage on the local disk and in memory: atomic writes, listing, and errors for people."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline import storage
from pad_pipeline.errors import UserError


@pytest.fixture(params=["path", "file", "memory", "renaming"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh folder as a path, a file:// URL, in memory, and on a server that can rename."""
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        fsspec.filesystem("memory").pseudo_dirs[:] = [""]
        return "memory://bucket/run"
    if request.param == "renaming":
        fsspec.register_implementation("renaming", Renaming, clobber=True)
        return f"renaming://{tmp_path}/run"
    return f"file://{tmp_path}/run" if request.param == "file" else f"{tmp_path}/run"


class Renaming(LocalFileSystem):
    """Stands for a remote file server whose put is not atomic (SFTP, SMB, HDFS)."""

    protocol = "renaming"  # type: ignore[assignment]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:  # type: ignore[override]
        return path.removeprefix("renaming://")


def test_write_read_list_remove(root: str) -> None:
    assert storage.list_files(root) == []
    assert not storage.exists(root)
    for name in ("b.parquet", "a.parquet", "_manifest.json", "ä ö.txt"):
        storage.write_atomic(storage.join(root, name), name.encode())
    storage.write_atomic(storage.join(root, "below", "c.parquet"), b"c")
    assert storage.exists(root)
    assert storage.is_folder(root)
    assert storage.list_files(root) == sorted(
        ["_manifest.json", "a.parquet", "b.parquet", "ä ö.txt"]
    )
    assert storage.list_files(root, ".parquet") == ["a.parquet", "b.parquet"]
    assert storage.read_bytes(storage.join(root, "a.parquet")) == b"a.parquet"
    with storage.open_read(storage.join(root, "a.parquet")) as file:
        file.seek(2)
        assert file.read() == b"parquet"
    storage.remove(storage.join(root, "a.parquet"))
    storage.remove(storage.join(root, "a.parquet"))
    assert not storage.exists(storage.join(root, "a.parquet"))
    assert storage.list_files(root, ".parquet") == ["b.parquet"]
    storage.remove_tree(root)
    storage.remove_tree(root)
    assert not storage.exists(root)


def test_overwriting_replaces_the_whole_file(root: str) -> None:
    url = storage.join(root, "x")
    storage.write_atomic(url, b"long content")
    before = storage.version(url)
    storage.write_atomic(url, b"short")
    assert storage.read_bytes(url) == b"short"
    assert storage.version(url) != before
    assert storage.list_files(root) == ["x"]


def test_temporary_names_are_not_listed(root: str) -> None:
    for name in (".tmp-1", "_tmp-2", "_temporary", "_tmp", ".hidden", "x"):
        storage.write_atomic(storage.join(root, name), b"")
    assert storage.list_files(root) == ["_temporary", "x"]


def test_missing_files_are_named(root: str) -> None:
    for action in (storage.read_bytes, storage.open_read, storage.version):
        with pytest.raises(UserError, match=r"no-such-file: no such"):
            action(storage.join(root, "no-such-file"))


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


def test_no_permission(tmp_path: Path) -> None:
    """As another user, because the tests may run as root, who may write anywhere."""
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "secret").write_bytes(b"x")
    if os.geteuid() != 0:
        folder.chmod(0o500)
        with pytest.raises(UserError, match="permission denied"):
            storage.check_writable(str(folder))
        folder.chmod(0o700)
        return
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.chmod(tmp_path, 0o755)
            folder.chmod(0o700)
            os.setuid(65534)
            refused = 0
            for action in (
                storage.check_writable,
                storage.list_files,
                lambda url: storage.read_bytes(f"{url}/secret"),
                lambda url: storage.exists(f"{url}/secret"),
            ):
                try:
                    action(str(folder))
                except UserError as error:
                    refused += "permission denied" in str(error)
            code = 0 if refused == 4 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


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


def test_unknown_protocol_and_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"expected a local path or an fsspec URL.*nonsense"):
        storage.read_bytes("nonsense://a/b")
    monkeypatch.delitem(sys.modules, "pad_pipeline.storage.s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"pip install 'pad-pipeline\[s3\]'"):
        storage.read_bytes("s3://bucket/x")
    with pytest.raises(UserError, match=r"pip install 'pad-pipeline\[gcs\]'"):
        storage.check_writable("gs://bucket/x")


def test_backend_errors_become_user_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class ClientError(Exception):
        pass

    backend: Any = ModuleType("botocore.exceptions")
    backend.BotoCoreError = type("NoCredentialsError", (Exception,), {})
    backend.ClientError = ClientError
    monkeypatch.setitem(sys.modules, "botocore.exceptions", backend)
    with pytest.raises(UserError, match="cannot read s3://b/x: no valid credentials"):  # noqa: SIM117
        with storage.user_errors("s3://b/x", "read"):
            raise backend.BotoCoreError("Unable to locate credentials")
    with pytest.raises(UserError, match="cannot read s3://b/x: SlowDown"):  # noqa: SIM117
        with storage.user_errors("s3://b/x", "read"):
            raise ClientError("SlowDown")
    with pytest.raises(ZeroDivisionError), storage.user_errors("s3://b/x", "read"):
        raise ZeroDivisionError  # a bug of ours stays one
    with pytest.raises(UserError, match="no such bucket"), storage.user_errors("s3://b/x", "read"):
        raise FileNotFoundError("The specified bucket does not exist")


def test_join() -> None:
    assert storage.join("/a/b/", "/c/", "", "d.txt") == "/a/b/c/d.txt"
    assert storage.join("s3://bucket", "x", "y z") == "s3://bucket/x/y z"
    assert storage.join("memory://", "x") == "memory://x"
    assert storage.join("/", "x") == "/x"
    assert storage.join("", "x") == "x"
    assert storage.join("a") == "a"


def test_local_path() -> None:
    assert storage.local_path("a/b c") == Path("a/b c")
    assert storage.local_path("file:///a/b") == Path("/a/b")
    assert storage.local_path("~/x") == Path.home() / "x"
    assert storage.local_path("a::b") == Path("a::b")
    assert storage.local_path("s3://a/b") is None
    assert storage.protocol("s3://a/b") == "s3"
    assert storage.protocol("/a/b") == "file"


@given(
    st.text(min_size=1, max_size=40).filter(
        lambda n: not set(n) & set("/\0") and not n.startswith((".", "_tmp")) and n.isprintable()
    )
)
def test_any_name_is_listed_as_it_was_written(name: str) -> None:
    fsspec.filesystem("memory").store.clear()
    storage.write_atomic(f"memory://names/{name}", b"x")
    assert storage.list_files("memory://names") == [name]
