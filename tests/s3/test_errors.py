"""What ends in an error ends soon, and in one sentence with the URL and the cause."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import tenacity

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import list_source
from pad_pipeline.storage import s3 as store
from tests.s3.conftest import Bucket, use
from tests.s3.faults import Fault, every

ACTIONS: list[Callable[[str], object]] = [
    storage.exists,
    storage.is_folder,
    storage.read_bytes,
    storage.open_read,
    storage.list_files,
    storage.version,
    storage.check_writable,
    lambda url: storage.write_atomic(url, b"x"),
    lambda url: list(list_source(url)),
]


def refused(url: str) -> list[str]:
    """The message of every action's error."""
    messages = []
    for action in ACTIONS:
        with pytest.raises(UserError) as caught:
            action(url)
        messages.append(str(caught.value))
        assert url in messages[-1]
        assert "\n" not in messages[-1]
    return messages


def test_wrong_secret_and_wrong_key(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    use(monkeypatch, AWS_SECRET_ACCESS_KEY="nonsense")
    for text in refused(f"{bucket.url}/run"):
        assert "wrong credentials, the secret key does not fit the access key" in text
    use(monkeypatch, AWS_ACCESS_KEY_ID="nobody")
    for text in refused(f"{bucket.url}/run"):
        assert "wrong credentials, the server knows no such access key" in text
    assert len(bucket.faults.requests) <= 2 * 2 * len(ACTIONS), "they were tried again"
    assert time.monotonic() - began < 20


def test_no_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    use(monkeypatch)
    for text in refused(f"{bucket.url}/run"):
        assert "no valid credentials" in text
    assert not bucket.faults.requests


def test_missing_bucket(bucket: Bucket) -> None:
    for text in refused("s3://no-such-bucket/run"):
        assert "there is no bucket 'no-such-bucket' there" in text
    for url in ("s3://no-such-bucket", "s3://no-such-bucket/"):
        with pytest.raises(UserError, match="there is no bucket 'no-such-bucket' there"):
            storage.exists(url)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("busy", "answers 503"),
        ("reset", "no connection to|breaks off"),
        ("lost", "no connection to|breaks off"),
    ],
)
def test_a_server_that_stays_away(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setattr(store, "RETRY_TIMEOUT_S", 1.0)
    monkeypatch.setattr(store, "FIRST_DELAY_S", 0.05)
    bucket.faults.plan = every(1, Fault(fault))
    for action in (storage.exists, storage.list_files, storage.check_writable):
        before = len(bucket.faults.requests)
        with pytest.raises(
            UserError, match=rf"{bucket.url}/run.*({message}).*gave up after"
        ) as caught:
            action(f"{bucket.url}/run")
        assert bucket.faults.endpoint in str(caught.value)
        assert len(bucket.faults.requests) - before >= 3


def test_nobody_listens(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RETRY_TIMEOUT_S", 0.4)
    use(monkeypatch, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    for text in refused(f"{bucket.url}/run"):
        assert "no connection to http://127.0.0.1:1 (is AWS_ENDPOINT_URL right?)" in text


def test_a_server_that_never_answers(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "RETRY_TIMEOUT_S", 0.4)
    monkeypatch.setattr(store, "READ_TIMEOUT_S", 0.3)
    bucket.faults.plan = every(1, Fault("slow", 2.0))
    with pytest.raises(UserError, match=r"cannot read .*does not answer within"):
        storage.read_bytes(f"{bucket.url}/x")


def test_retries_take_a_minute_at_most(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of its own: every pause and every unanswered request passes at once."""
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(tenacity, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(store, "sleep", sleep)
    bucket.faults.plan = every(1, Fault("busy"))
    fs = store.open_s3()
    with pytest.raises(storage.RetriesExhausted):
        fs.cat_file(f"{bucket.url[5:]}/x")
    assert 30 < now[0] <= store.RETRY_TIMEOUT_S
    assert 8 <= len(bucket.faults.requests) <= 20
    assert store.RETRY_TIMEOUT_S + store.READ_TIMEOUT_S < 120


def test_the_standard_limit_of_attempts(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, AWS_MAX_ATTEMPTS="2")
    bucket.faults.plan = every(1, Fault("busy"))
    with pytest.raises(UserError, match="gave up after 2 attempts"):
        storage.read_bytes(f"{bucket.url}/x")
    assert len(bucket.faults.requests) == 2


def test_permanent_failures_are_not_retried(bucket: Bucket) -> None:
    with pytest.raises(UserError, match="no such bucket or file"):
        storage.read_bytes(f"{bucket.url}/x")
    assert len(bucket.faults.requests) == 1


def test_failing_storage_is_not_taken_for_an_empty_one(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that took "I cannot see it" for "nothing is there" would begin anew over its own."""
    monkeypatch.setattr(store, "RETRY_TIMEOUT_S", 0.2)
    storage.write_atomic(f"{bucket.url}/run/_manifest.json", b"{}")
    bucket.faults.plan = every(1, Fault("busy"))
    for action in (storage.exists, storage.is_folder, storage.list_files):
        for url in (bucket.url, f"{bucket.url}/run", f"{bucket.url}/run/_manifest.json"):
            with pytest.raises(UserError, match="503"):
                action(url)
