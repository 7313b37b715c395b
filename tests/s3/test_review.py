"""Marks in a bucket: several writers lose nothing, and a server that would lose them is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.review.events import new_event
from pad_pipeline.review.log import ReviewLog, read_marks
from pad_pipeline.storage import appending
from pad_pipeline.storage.appending import lines_file
from tests.s3.conftest import Bucket
from tests.s3.faults import Fault, first


@pytest.fixture
def checking(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A bucket whose server checks conditions."""
    monkeypatch.setattr(appending, "_checked_buckets", set())
    bucket.faults.checks_conditions = True
    return bucket


def test_several_viewers_of_one_bucket_lose_nothing(checking: Bucket) -> None:
    url = f"{checking.url}/data/_review.jsonl"
    logs = [ReviewLog(url) for _ in range(4)]

    def write(number: int) -> None:
        logs[number % 4].write(new_event("verdict", "anna", image=str(number), value="accepted"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(24)))
    assert set(read_marks(url).images) == {str(number) for number in range(24)}
    assert storage.list_files(f"{checking.url}/data") == ["_review.jsonl"]


def test_one_writer_sends_the_file_once_for_a_mark(checking: Bucket) -> None:
    file = lines_file(f"{checking.url}/lines")
    file.append(b"one\n")
    checking.faults.requests.clear()
    file.append(b"two\n")
    assert [method for method, _ in checking.faults.requests] == ["PUT"]
    assert file.read_new() == b"one\ntwo\n"
    assert file.read_new() == b""


def test_a_line_whose_answer_is_lost_is_written_once(checking: Bucket) -> None:
    file = lines_file(f"{checking.url}/lines")
    file.append(b"one\n")
    checking.faults.plan = first(1, Fault("lost"), "PUT")
    file.append(b"two\n")
    assert storage.read_bytes(f"{checking.url}/lines") == b"one\ntwo\n"


def test_what_others_have_added_or_taken_away_is_seen(checking: Bucket) -> None:
    url = f"{checking.url}/lines"
    file, other = lines_file(url), lines_file(url)
    assert file.read_new() == b""
    other.append(b"one\n")
    assert file.read_new() == b"one\n"
    storage.write_atomic(url, b"new\nhalf")
    assert file.read_new() is None
    assert file.read_new() == b"new\n"
    file.append(b"three\n")
    assert storage.read_bytes(url) == b"new\nthree\n"
    storage.remove(url)
    assert file.read_new() is None
    file.append(b"first\n")
    assert storage.read_bytes(url) == b"first\n"


def test_a_server_that_does_not_check_conditions_is_refused(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "_checked_buckets", set())
    with pytest.raises(UserError, match=r"writes without checking conditions .* use a local file"):
        lines_file(f"{bucket.url}/lines").append(b"one\n")
    assert storage.list_files(bucket.url) == []


def test_a_missing_bucket_is_one_sentence(checking: Bucket) -> None:
    log = ReviewLog("s3://no-such-bucket/_review.jsonl")
    with pytest.raises(UserError, match="there is no bucket 'no-such-bucket'"):
        log.write(new_event("verdict", "anna", image="a", value="accepted"))
