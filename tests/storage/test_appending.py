"""Lines that several writers add to one file: none is lost, none is half."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.storage.appending import lines_file

WRITER = """
import sys
from pad_pipeline.storage.appending import lines_file
file = lines_file(sys.argv[1])
for number in range(int(sys.argv[3])):
    file.append(f"{sys.argv[2]} {number}\\n".encode())
"""


def test_what_is_added_is_read_once(tmp_path: Path) -> None:
    url = str(tmp_path / "folder" / "lines")
    file, other = lines_file(url), lines_file(url)
    assert file.read_new() == b""
    file.append(b"one\n")
    assert file.read_new() == b"one\n"
    other.append(b"two\nthree\n")
    assert file.read_new() == b"two\nthree\n"
    assert file.read_new() == b""
    assert other.read_new() == b"one\ntwo\nthree\n"


def test_processes_and_threads_lose_nothing(tmp_path: Path) -> None:
    url = str(tmp_path / "lines")
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, name, "40"]) for name in ("a", "b")
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: lines_file(url).append(b"c %d\n" % n), range(40)))
    assert [process.wait(60) for process in processes] == [0, 0]
    found = (tmp_path / "lines").read_text().splitlines()
    assert sorted(found) == sorted(f"{name} {n}" for name in "abc" for n in range(40))
    for name in "ab":
        assert [line for line in found if line[0] == name] == [f"{name} {n}" for n in range(40)]


def test_the_half_line_of_a_killed_writer_is_not_read_and_cut_off_by_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntw")
    file = lines_file(str(path))
    assert file.read_new() == b"one\n"
    caplog.set_level("WARNING", "pad_pipeline")
    file.append(b"three\n")
    assert path.read_bytes() == b"one\nthree\n"
    assert "cut off 2 bytes of an unfinished line" in caplog.text
    assert file.read_new() == b"three\n"


@pytest.mark.parametrize("change", ["shorter", "another", "gone", "edited"])
def test_a_file_that_was_written_anew_is_read_from_its_beginning(
    tmp_path: Path, change: str
) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"one\ntwo\n")
    file = lines_file(str(path))
    assert file.read_new() == b"one\ntwo\n"
    if change == "shorter":
        path.write_bytes(b"new\n")
    elif change == "another":
        (tmp_path / "other").write_bytes(b"new\nlines\nhere\n")
        (tmp_path / "other").replace(path)
    elif change == "edited":
        path.write_bytes(b"ONE\ntwo\n")
    else:
        path.unlink()
    assert file.read_new() is None
    expected = path.read_bytes() if path.exists() else b""
    assert file.read_new() == expected


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot write .*: a part of this path is a file"):
        lines_file(str(tmp_path / "file" / "lines")).append(b"one\n")


def test_a_file_elsewhere_is_read_and_not_written() -> None:
    url = "memory://appending/lines"
    file = lines_file(url)
    assert file.read_new() == b""
    storage.write_atomic(url, b"one\ntwo\nhalf")
    assert file.read_new() == b"one\ntwo\n"
    storage.write_atomic(url, b"new\n")
    assert file.read_new() is None
    assert file.read_new() == b"new\n"
    with pytest.raises(UserError, match="several people can write to a file on this machine or"):
        file.append(b"three\n")
    assert storage.read_bytes(url) == b"new\n"
