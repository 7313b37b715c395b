"""Looking for, reading, listing and removing files."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline import storage
from pad_pipeline.errors import UserError


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


def test_temporary_names_are_not_listed(root: str) -> None:
    for name in (".tmp-1", "_tmp-2", "_temporary", "_tmp", ".hidden", "x"):
        storage.write_atomic(storage.join(root, name), b"")
    assert storage.list_files(root) == ["_temporary", "x"]


def test_missing_files_are_named(root: str) -> None:
    for action in (storage.read_bytes, storage.open_read, storage.version):
        with pytest.raises(UserError, match=r"no-such-file: no such"):
            action(storage.join(root, "no-such-file"))


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


@given(
    st.text(min_size=1, max_size=40).filter(
        lambda n: not set(n) & set("/\0") and not n.startswith((".", "_tmp")) and n.isprintable()
    )
)
def test_any_name_is_listed_as_it_was_written(name: str) -> None:
    fsspec.filesystem("memory").store.clear()
    storage.write_atomic(f"memory://names/{name}", b"x")
    assert storage.list_files("memory://names") == [name]
