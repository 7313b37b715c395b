"""The entries of a folder of conversations, shard by shard, as pages show them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pad_pipeline import storage
from pad_pipeline.cognition.folder import image_places, read_manifest
from pad_pipeline.errors import UserError
from pad_pipeline.sources import ManifestRow
from pad_pipeline.sources.conversations import ConversationError, image_paths, read_conversation
from pad_pipeline.sources.manifests import make_locator
from pad_pipeline.sources.rows import relative_id

_SHARDS_KEPT = 4
_LONGEST_TEXT = 400
_LONGEST_ANSWER = 60
"""Characters of an answer of indices or colours that are shown; the picture shows all of it."""


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """What one side says, as much as a page shows of it; `level` where it was added."""

    role: str
    text: str
    num_left_out: int
    level: str | None


class ConversationPages:
    """A finished folder of conversations; usable from any thread."""

    def __init__(self, url: str, images: str | None) -> None:
        """Read what the folder is; raises `UserError` where it is not finished or none."""
        self.url = url
        self.manifest = read_manifest(url)
        if self.manifest["state"] != "finished":
            raise UserError(
                f"{url} is not finished; run the same `pad-pipeline conversations` again to go on"
            )
        self.source, self.images = image_places(url, images)
        self.settings: Mapping[str, Any] = self.manifest["identity"]
        self.counts: Mapping[str, Any] = self.manifest["counts"]
        self.lines = lru_cache(maxsize=_SHARDS_KEPT)(self._lines)

    @property
    def num_shards(self) -> int:
        """Number of files."""
        return len(self.manifest["shards"])

    def entry(self, shard: int, row: int) -> dict[str, Any] | None:
        """One entry; None where there is none."""
        if not 0 <= shard < self.num_shards:
            return None
        lines = self.lines(shard)
        value = json.loads(lines[row]) if 0 <= row < len(lines) else None
        return value if isinstance(value, dict) else None

    def locate(self, path: str) -> ManifestRow:
        """Where an image lies; raises `UserError` where it is not there."""
        uri, offset, size = make_locator(self.source, self.images, [path])(path)
        return ManifestRow(relative_id(path), uri, None, offset, size)

    def _lines(self, shard: int) -> list[bytes]:
        name = self.manifest["shards"][shard]
        return storage.read_bytes(storage.join(self.url, name)).splitlines()


def image_path(entry: Mapping[str, Any]) -> str | None:
    """The path of an entry's one image; None for text alone, and where there is no such path."""
    try:
        paths = image_paths(entry)
    except ConversationError:
        return None
    return paths[0] if len(paths) == 1 else None


def notes_of(entry: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was added to an entry: its `cognition`; [] where nothing was."""
    notes = entry.get("cognition")
    return notes if isinstance(notes, list) else []


def answer_of(entry: Mapping[str, Any], level: str) -> tuple[str, Mapping[str, Any]] | None:
    """The answer of a level and its note; None where there is none."""
    for note in notes_of(entry):
        if note["level"] == level:
            return entry["conversations"][note["turn"] + 1]["value"], note
    return None


def shown_turns(entry: Mapping[str, Any]) -> Sequence[ShownTurn]:
    """The turns of an entry; none where it cannot be read."""
    try:
        turns = read_conversation(entry).turns
    except ConversationError:
        return ()
    added = {note["turn"] + n: note["level"] for note in notes_of(entry) for n in range(2)}
    shown = []
    for number, turn in enumerate(turns):
        level = added.get(number)
        is_values = level is not None and turn.role == "assistant"
        longest = _LONGEST_ANSWER if is_values else _LONGEST_TEXT
        left_out = max(0, len(turn.text) - longest)
        shown.append(ShownTurn(turn.role, turn.text[:longest], left_out, level))
    return shown
