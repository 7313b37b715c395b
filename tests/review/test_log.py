"""The file of a review: read while others write, and one sentence where it is damaged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.review.events import new_event
from pad_pipeline.review.log import ReviewLog, read_marks, review_url


def accept(image: str):
    return new_event("verdict", "anna", image=image, value="accepted")


def test_it_lies_among_the_shards_unless_it_is_named() -> None:
    assert review_url("data/annotations", None) == "data/annotations/_review.jsonl"
    assert review_url("s3://bucket", None) == "s3://bucket/_review.jsonl"
    assert review_url("data/annotations", "mine.jsonl") == "mine.jsonl"


def test_two_logs_of_one_file_see_each_other(tmp_path: Path) -> None:
    one, two = (ReviewLog(str(tmp_path / "review")) for _ in range(2))
    assert one.marks().images == {}
    one.write(accept("a"))
    assert set(two.write(accept("b")).images) == {"a", "b"}
    assert set(one.marks().images) == {"a", "b"}
    (tmp_path / "review").write_bytes(b"")
    assert one.marks().images == {}
    assert set(one.write(accept("c")).images) == {"c"}


def test_threads_lose_nothing(tmp_path: Path) -> None:
    log = ReviewLog(str(tmp_path / "review"))
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: log.write(accept(str(n))), range(100)))
    assert set(read_marks(log.url).images) == {str(n) for n in range(100)}


def test_what_is_damaged_is_one_sentence_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "review"
    with pytest.raises(UserError, match=r"there is no review at .*: mark regions in"):
        read_marks(str(path))
    path.write_bytes(b"")
    assert read_marks(str(path)).images == {}
    good = accept("a").to_line()
    path.write_bytes(good + b'{"half": ')
    assert set(read_marks(str(path)).images) == {"a"}
    path.write_bytes(good + b"\x00\xff\n" + good)
    log = ReviewLog(str(path))
    for _ in range(2):
        with pytest.raises(UserError, match=r"line 2 of .* is not JSON"):
            log.marks()
        with pytest.raises(UserError, match=r"line 2 of .* is not JSON"):
            log.write(accept("b"))
    assert path.read_bytes() == good + b"\x00\xff\n" + good
    path.write_bytes(good)
    assert set(log.marks().images) == {"a"}
