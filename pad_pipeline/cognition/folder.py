"""The folder that `conversations` writes: shards of JSON Lines, and what they are.

    OUTPUT/_conversations.json          what is written, with which settings; "state" at the end
    OUTPUT/conversations-00012.jsonl    shard 12: the entries 12 · rows_per_shard and following
    OUTPUT/_run/00012.json              what became of shard 12's entries, until the end

Every file appears whole or not at all, the counts before the shard. So a run that is killed leaves
only shards that the next one can trust, and a shard depends on nothing but its entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pad_pipeline import storage
from pad_pipeline.cognition.counts import Counts
from pad_pipeline.errors import UserError
from pad_pipeline.sources.entries import read_entries
from pad_pipeline.storage.atomic import remove_temporary_files

MANIFEST = "_conversations.json"
_RUN = "_run"
_VERSION = 1


def is_conversations(url: str) -> bool:
    """Whether `url` is a folder that `conversations` wrote, or is writing."""
    return storage.exists(storage.join(url, MANIFEST))


def read_manifest(url: str) -> dict[str, Any]:
    """What a folder of conversations is; raises `UserError` where it is none."""
    if not is_conversations(url):
        raise UserError(
            f"{url} is no folder of conversations: it has no {MANIFEST}; give the one that "
            "`pad-pipeline conversations` wrote"
        )
    try:
        manifest = json.loads(storage.read_bytes(storage.join(url, MANIFEST)))
        if manifest["version"] != _VERSION or manifest["state"] not in ("running", "finished"):
            raise ValueError(f"version {manifest['version']}, state {manifest['state']}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{storage.join(url, MANIFEST)} is damaged or of another version of this program; "
            "write the conversations again"
        ) from error
    return manifest


def read_finished(url: str) -> Iterator[Any]:
    """The entries of a folder of conversations, in their order.

    Raises `UserError` where the folder is none, is not finished, or lacks a shard.
    """
    manifest = read_manifest(url)
    if manifest["state"] != "finished":
        raise UserError(
            f"{url} is not finished; run the same `pad-pipeline conversations` again to go on"
        )
    for name in manifest["shards"]:
        yield from read_entries(storage.join(url, name))


def image_places(url: str, images: str | None) -> tuple[str, str | None]:
    """The list that a folder was made of, beside which its images may lie, and where they are.

    `images` is where they are now, if not where they were.
    """
    manifest = read_manifest(url)
    return manifest["source"], images or manifest["images"]


def shard_name(number: int) -> str:
    """The file name of a shard."""
    return f"conversations-{number:05d}.jsonl"


class ConversationFolder:
    """The folder of one run. Made by `open_or_resume`, used by one process at a time."""

    def __init__(self, url: str, manifest: dict[str, Any]) -> None:
        self.url, self.manifest = url, manifest
        counted = set(storage.list_files(storage.join(url, _RUN), ".json"))
        self._done = {
            number
            for number in (int(name.removesuffix(".json")) for name in counted)
            if shard_name(number) in set(storage.list_files(url, ".jsonl"))
        }

    @property
    def finished(self) -> bool:
        """Whether all is written."""
        return self.manifest["state"] == "finished"

    def has(self, number: int) -> bool:
        """Whether a shard is written."""
        return number in self._done

    def commit(self, number: int, lines: bytes, counts: Counts) -> None:
        """Write a shard."""
        storage.write_json(self._counts_url(number), counts.to_dict())
        storage.write_atomic(storage.join(self.url, shard_name(number)), lines)
        self._done.add(number)

    def finish(self, num_shards: int, provenance: dict[str, Any]) -> Counts:
        """Declare the folder complete; returns what became of all its entries."""
        assert self._done >= set(range(num_shards)), "finish() before the last shard"
        total = Counts()
        for number in range(num_shards):
            total.update(Counts.from_dict(json.loads(storage.read_bytes(self._counts_url(number)))))
        self.manifest = {
            **self.manifest,
            **provenance,
            "state": "finished",
            "counts": total.to_dict(),
            "shards": [shard_name(number) for number in range(num_shards)],
        }
        storage.write_json(storage.join(self.url, MANIFEST), self.manifest)
        storage.remove_tree(storage.join(self.url, _RUN))
        folder = storage.local_path(self.url)
        if folder is not None:
            remove_temporary_files(folder, older_than_s=0)
        return total

    def _counts_url(self, number: int) -> str:
        return storage.join(self.url, _RUN, f"{number:05d}.json")


def open_or_resume(url: str, identity: dict[str, Any]) -> ConversationFolder:
    """The folder of a new run, or of the one that was interrupted.

    Raises `UserError` where `url` holds something else, or what other settings gave.
    """
    if is_conversations(url):
        manifest = read_manifest(url)
        differing = [
            name
            for name in sorted({*identity, *manifest["identity"]})
            if identity.get(name) != manifest["identity"].get(name)
        ]
        if differing:
            changes = _differences(manifest, identity, differing)
            raise UserError(
                f"{url} was begun with other settings ({changes}); take the same ones, or another "
                "output"
            )
        return ConversationFolder(url, manifest)
    if storage.exists(url) and [name for name in storage.list_files(url) if name != "_lock"]:
        raise UserError(f"{url} already holds other files; choose another output")
    manifest = {"version": _VERSION, "state": "running", "identity": identity}
    storage.write_json(storage.join(url, MANIFEST), manifest)
    return ConversationFolder(url, manifest)


def _differences(manifest: dict[str, Any], identity: dict[str, Any], names: list[str]) -> str:
    return ", ".join(
        f"{name} was {manifest['identity'].get(name)!r} and is {identity.get(name)!r}"
        for name in names
    )
