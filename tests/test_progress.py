"""How far something long is: nothing at first, then a bar on a terminal and lines elsewhere."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from rich.console import Console

from pad_pipeline import progress
from pad_pipeline.progress import format_duration, track


class Clock:
    """A clock that each item moves on."""

    def __init__(self) -> None:
        self.now = 100.0

    def items(self, number: int, seconds: float) -> Iterator[int]:
        for item in range(number):
            self.now += seconds
            yield item


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    return clock


def shown(clock: Clock, seconds: float, *, terminal: bool, number: int = 40) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=80)
    items = track(clock.items(number, seconds), number, "counting images", console)
    assert list(items) == list(range(number))
    return out.getvalue()


def test_what_takes_a_moment_shows_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert shown(clock, 0.01, terminal=True) == ""
        assert shown(clock, 0.01, terminal=False) == ""
    assert caplog.messages == []


def test_lines_say_how_much_is_left(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert shown(clock, 5, terminal=False) == ""
    assert caplog.messages[0] == "counting images: 2 of 40 · 3 min 10 s left"
    assert caplog.messages[-1] == "counting images: 40 of 40 · 0 s left"
    assert len(caplog.messages) == 20


def test_a_terminal_has_a_bar(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        text = shown(clock, 1, terminal=True)
    assert "counting images" in text
    assert "/40" in text
    assert caplog.messages == []


def test_what_stops_early_takes_its_bar_along(clock: Clock) -> None:
    out = io.StringIO()
    items = track(clock.items(9, 3), 9, "drawing", Console(file=out, force_terminal=True))
    assert [next(items), next(items)] == [0, 1]
    del items
    written = out.getvalue()
    assert "drawing" in written
    clock.now += 60
    assert out.getvalue() == written


def test_durations() -> None:
    assert [format_duration(s) for s in (7.6, 200, 36300)] == ["8 s", "3 min 20 s", "10 h 5 min"]
