"""The lines of a review: what somebody did, when, and to which region."""

from __future__ import annotations

import getpass
import hashlib
import json
import secrets
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pad_pipeline.errors import UserError
from pad_pipeline.records import Region

Verdict = Literal["accepted", "rejected", "flagged"]
"""What somebody thinks of a region or an image; flagged is for another look."""
Kind = Literal["verdict", "tag", "view", "undo"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_KINDS: tuple[str, ...] = get_args(Kind)
_TEXTS = ("id", "at", "by", "kind")
_OPTIONAL_TEXTS = ("image", "digest", "name", "value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a review.

    `kind` says what `value` is: a `Verdict` or a new tag, of the `image` or of its region number
    `region` (from 0) with that `digest`; the filters of the saved view `name`; or, for "undo", the
    `id` of the event that is taken back. None takes verdict, tag or view away. `at` is the time in
    UTC, as ISO 8601 writes it, and `by` who did it.
    """

    id: str
    at: str
    by: str
    kind: Kind
    image: str | None = None
    region: int | None = None
    digest: str | None = None
    name: str | None = None
    value: str | None = None

    @property
    def target(self) -> tuple[Any, ...]:
        """What the event sets: a later one of the same target takes its place."""
        return self.kind, self.image, self.region, self.digest, self.name

    def to_line(self) -> bytes:
        """The event as a line of JSON; what has no value is left out."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps(values, ensure_ascii=True).encode() + b"\n"


def new_event(kind: Kind, by: str, **values: Any) -> Event:
    """An event of now."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Event(id=secrets.token_hex(8), at=at, by=by, kind=kind, **values)


def parse_events(lines: bytes, url: str, number: int = 0) -> Iterator[Event]:
    """The events of whole lines, of which `number` come before in the file at `url`.

    Empty lines are nothing. Raises `UserError` with the number of a line that is no event.
    """
    for place, line in enumerate(lines.splitlines(), number + 1):
        if line.strip():
            yield _parse(line, f"line {place} of {url}")


def _parse(line: bytes, where: str) -> Event:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _no_event(where, "is not JSON") from error
    if not isinstance(values, dict):
        raise _no_event(where, "is not an object of JSON")
    for name in _TEXTS:
        if not isinstance(values.get(name), str):
            raise _no_event(where, f"has no {name}")
    region = values.get("region")
    if region is not None and (type(region) is not int or region < 0):
        raise _no_event(where, "has a region that is no number")
    if any(not isinstance(values.get(name), str | None) for name in _OPTIONAL_TEXTS):
        raise _no_event(where, "has something else than a text")
    known = {name: values[name] for name in Event.__slots__ if name in values}
    event = Event(**known)
    if event.kind not in _KINDS or (
        event.kind == "verdict" and event.value not in (None, *VERDICTS)
    ):
        raise UserError(
            f"{where} says {event.kind} {event.value!r}, which this version does not know: "
            "use the version of pad-pipeline that wrote it"
        )
    needed = {"verdict": "image", "tag": "digest", "view": "name", "undo": "value"}[event.kind]
    if getattr(event, needed) is None or (event.region is None) != (event.digest is None):
        raise _no_event(where, "does not say of what")
    return event


def _no_event(where: str, problem: str) -> UserError:
    return UserError(f"{where} {problem}: expected a mark of a review; remove the line")


def region_digest(region: Region) -> str:
    """What a region was when it was marked: its tag, box, area and predicted IoU, not its mask.

    So marks can be matched where masks are not read. A mask that is computed anew has another box,
    area or predicted IoU.
    """
    numbers = struct.pack("<4fqf", *region.bbox, region.area, region.predicted_iou)
    tag = region.tag.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(numbers + tag, digest_size=8).hexdigest()


def user_name() -> str:
    """The name of this machine's user; "unknown" where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
