"""Messages of workers on their way: the first at once, repeats as a count, settings as settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from pad_pipeline.engine import worker_log
from pad_pipeline.engine.guard import run_guarded
from pad_pipeline.engine.worker_log import ForwardingHandler, LogMessage, WorkerLog, forward_to
from pad_pipeline.errors import Setting


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def message(text: str, line: str = "lost %s", logger: str = "pad_pipeline.a") -> LogMessage:
    return LogMessage(logger, logging.WARNING, line, text)


def texts(messages: list[LogMessage]) -> list[tuple[str, int]]:
    return [(each.text, each.count) for each in messages]


def test_the_first_of_a_line_is_shown_and_the_others_counted() -> None:
    clock = Clock()
    log = WorkerLog(30.0, clock)
    for name in ("one", "two", "three"):
        log.add(message(name))
    log.add(message("other", line="no %s"))
    log.add(message("elsewhere", logger="pad_pipeline.b"))
    assert texts(log.take()) == [("one", 1), ("other", 1), ("elsewhere", 1)]
    assert log.take() == []
    clock.now_s += 30.0
    log.add(message("four"))
    assert texts(log.take()) == [("four", 3)]
    log.add(message("five"))
    assert texts(log.take(is_last=True)) == [("five", 1)]
    assert log.take(is_last=True) == []


def test_lines_without_number_are_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_log, "MAX_LINES", 3)
    log = WorkerLog(30.0, Clock())
    for number in range(100):
        log.add(message(f"{number}", line=f"{number}"))
    assert texts(log.take(is_last=True)) == [("0", 1), ("1", 1), ("2", 1), ("3", 1), ("99", 96)]


@pytest.fixture
def sent() -> Iterator[list[LogMessage]]:
    sent: list[LogMessage] = []
    handler = forward_to(sent.append)
    yield sent
    logging.getLogger("pad_pipeline").removeHandler(handler)


def test_a_worker_sends_warnings_and_counts_what_repeats_within_a_second(
    sent: list[LogMessage],
) -> None:
    logger = logging.getLogger("pad_pipeline.somewhere")
    for number in range(5):
        logger.warning("lost %d", number)
    logging.getLogger("another.library").warning("not ours")
    [handler] = [
        each
        for each in logging.getLogger("pad_pipeline").handlers
        if isinstance(each, ForwardingHandler)
    ]
    assert texts(sent) == [("lost 0", 1)]
    handler.flush()
    assert texts(sent) == [("lost 0", 1), ("lost 4", 4)]


def test_memory_that_runs_out_on_a_worker_is_one_message(sent: list[LogMessage]) -> None:
    def work(items: list[int]) -> list[int]:
        if len(items) > 1:
            raise MemoryError("too many")
        return items

    assert run_guarded(work, list(range(8)), "tag") == list(range(8))  # type: ignore[arg-type]
    [first] = sent
    assert "tag: out of memory with a batch of 8 images, trying halves" in first.text


def test_a_process_serves_the_last_command_alone(sent: list[LogMessage]) -> None:
    later: list[LogMessage] = []
    handler = forward_to(later.append)
    logging.getLogger("pad_pipeline.x").warning("hello")
    logging.getLogger("pad_pipeline").removeHandler(handler)
    assert (texts(sent), texts(later)) == ([], [("hello", 1)])


def test_a_message_is_written_as_it_was(
    sent: list[LogMessage], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("pad_pipeline.y")
    logger.warning("%s is low: 100%% of %d", Setting("chunk_size", 4), 7)
    logger.error("%s", ValueError("100% lost"))
    forwarded = list(sent)
    logging.getLogger("pad_pipeline").removeHandler(logging.getLogger("pad_pipeline").handlers[-1])
    caplog.clear()
    for each in forwarded:
        each.write()
    LogMessage("pad_pipeline.y", logging.WARNING, "", "50% gone", count=3).write()
    assert [record.getMessage() for record in caplog.records] == [
        "chunk_size=4 is low: 100% of 7",
        "100% lost",
        "50% gone (and 2 more like it)",
    ]
    assert caplog.records[0].args == (Setting("chunk_size", 4), 7)
    assert [record.levelno for record in caplog.records[:2]] == [logging.WARNING, logging.ERROR]
