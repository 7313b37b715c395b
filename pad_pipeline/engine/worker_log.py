"""What workers log, on its way to the person who began the run: repeats become a count.

`ForwardingHandler` stands on a worker, `WorkerLog` in one place for all workers of a command (see
`ray_worker_log`). Messages repeat each other where they come from the same line of the program.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from pad_pipeline.errors import Setting

PERIOD_S = 30.0
"""The least time between two messages of one line of the program that are shown."""
FORWARD_PERIOD_S = 1.0
"""The least time between two that one worker forwards."""
MAX_LINES = 1000
"""Lines of the program that are counted apart; messages of all further ones count together."""


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A log record without its process: what `logging` needs to write it again."""

    logger: str
    level: int
    line: str
    """The record's text before its arguments: what repeats share."""
    text: str
    args: tuple[object, ...] = ()
    count: int = 1
    """How many it stands for."""

    @classmethod
    def of(cls, record: logging.LogRecord) -> LogMessage:
        """The message of a record; settings among its arguments stay settings."""
        args = record.args if isinstance(record.args, tuple) else ()
        kept = any(isinstance(arg, Setting) for arg in args) and all(
            isinstance(arg, Setting | str | int | float | None) for arg in args
        )
        return cls(
            record.name,
            record.levelno,
            str(record.msg),
            str(record.msg) if kept else record.getMessage(),
            args if kept else (),
        )

    def write(self) -> None:
        """Log it in this process."""
        text = self.text
        if self.count > 1:
            text += f" (and {self.count - 1:,} more like it)"
        logging.getLogger(self.logger).log(self.level, text, *self.args)


class _Repeats:
    """Lets one message of each line through in `period_s`, and counts the others."""

    def __init__(self, period_s: float, clock: Callable[[], float]) -> None:
        self._period_s = period_s
        self._clock = clock
        self._shown_s: dict[tuple[str, str], float] = {}
        self._held: dict[tuple[str, str], LogMessage] = {}

    def pass_on(self, message: LogMessage) -> LogMessage | None:
        """The message, with those held back since the last one counted in; None to hold it back."""
        key = (message.logger, message.line)
        if key not in self._shown_s and len(self._shown_s) >= MAX_LINES:
            key = ("", "")
        if held := self._held.pop(key, None):
            message = replace(message, count=message.count + held.count)
        now_s = self._clock()
        if now_s - self._shown_s.get(key, now_s - self._period_s) < self._period_s:
            self._held[key] = message
            return None
        self._shown_s[key] = now_s
        return message

    def rest(self) -> list[LogMessage]:
        """All that is held back."""
        held, self._held = list(self._held.values()), {}
        return held


class WorkerLog:
    """Takes the messages of all workers; one instance for each command."""

    def __init__(
        self, period_s: float = PERIOD_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._repeats = _Repeats(period_s, clock)
        self._ready: list[LogMessage] = []

    def add(self, message: LogMessage) -> None:
        """Take a worker's message."""
        if passed := self._repeats.pass_on(message):
            self._ready.append(passed)

    def take(self, *, is_last: bool = False) -> list[LogMessage]:
        """What is to be shown since the last call; at the end with what was held back."""
        ready, self._ready = self._ready, []
        return ready + (self._repeats.rest() if is_last else [])


class ForwardingHandler(logging.Handler):
    """Sends a worker's messages on, with the first of each line at once.

    Those that a line repeats within a second travel with its next one, or at `flush`, as a count.
    """

    def __init__(
        self,
        send: Callable[[LogMessage], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._send = send
        self._repeats = _Repeats(FORWARD_PERIOD_S, clock)

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record's message, or hold it back."""
        if message := self._repeats.pass_on(LogMessage.of(record)):
            self._send(message)

    def flush(self) -> None:
        """Send what is held back."""
        self.acquire()
        try:
            for message in self._repeats.rest():
                self._send(message)
        finally:
            self.release()


def forward_to(send: Callable[[LogMessage], None]) -> ForwardingHandler:
    """From now on this process's log messages go to `send`, and to no one it had before.

    A process that works for one command after the other serves the last one alone.
    """
    logger = logging.getLogger("pad_pipeline")
    for handler in list(logger.handlers):
        if isinstance(handler, ForwardingHandler):
            logger.removeHandler(handler)
    handler = ForwardingHandler(send)
    logger.addHandler(handler)
    return handler
