"""The entries of a list of conversations, each with where its image lies."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from pad_pipeline import masks
from pad_pipeline.cognition.insertion import NoInsertion, insertion_places
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord
from pad_pipeline.sources import ManifestRow
from pad_pipeline.sources.conversations import (
    CONVERSATION_KEYS,
    IMAGE_KEYS,
    Conversation,
    ConversationError,
    Turn,
    has_conversation,
    read_conversation,
)
from pad_pipeline.sources.entries import ID_KEYS, describe, first_of, read_entries
from pad_pipeline.sources.manifests import make_locator
from pad_pipeline.sources.rows import relative_id

logger = logging.getLogger(__name__)

_SAMPLED = 20
"""Entries from whose paths the place of the images is found."""

_SPEAKERS = {"system": "system", "user": "human", "assistant": "gpt"}

TEXT_ALONE = "without an image, which are left as they are"


@dataclass(frozen=True, slots=True)
class TaggedBox:
    """A tag and the box of its mask, x0, y0, x1, y1 in pixels of the original image."""

    tag: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: as it was written, and read where it can take questions.

    Without a `conversation` it stays as it is, and `problem` says why; `is_failed` where it has an
    image all the same. `boxes` are None where no data set has the image.
    """

    value: Any
    sample_id: str
    conversation: Conversation | None = None
    places: tuple[int, ...] = ()
    image: ManifestRow | None = None
    boxes: tuple[TaggedBox, ...] | None = None
    problem: str = ""
    is_failed: bool = False


class RegionLookup:
    """The boxes of an annotated data set's masks, by image id; holds them all."""

    def __init__(self, dataset: str) -> None:
        """Read the regions of `dataset`, as `annotate` wrote it."""
        self._dataset = dataset
        self._boxes = {
            record.image_id: _boxes(record) for record in iter_records(open_dataset(dataset))
        }
        self._num_images = self._num_found = 0
        self._first: str | None = None

    def find(self, image_id: str) -> tuple[TaggedBox, ...] | None:
        """The boxes of an image; None where the data set does not have it."""
        found = self._boxes.get(image_id)
        self._num_images += 1
        self._num_found += found is not None
        self._first = self._first or image_id
        return found

    def report(self) -> None:
        """Log how many of the images that were looked for are in the data set."""
        if self._num_images and not self._num_found:
            logger.warning(
                "no image of the conversations is in %s: its ids are like %r, theirs like %r; "
                "annotate the same folder of images",
                self._dataset,
                next(iter(self._boxes), None),
                self._first,
            )
            return
        logger.info(
            "%s of %s images are in %s",
            f"{self._num_found:,}",
            f"{self._num_images:,}",
            self._dataset,
        )


def read(source: str, images: str | None, regions: RegionLookup | None) -> Iterator[Entry]:
    """The entries of `source` in order; `images` is where the images are.

    Raises `UserError` for a source that is no list of conversations.
    """
    if not source.lower().endswith((".json", ".jsonl", ".ndjson")):
        raise UserError(f"expected conversations as .json or .jsonl, found {source}")
    entries = enumerate(read_entries(source), 1)
    first = list(islice(entries, _SAMPLED))
    locate = make_locator(source, images, [path for _, entry in first for path in _paths(entry)])
    for number, value in chain(first, entries):
        name = _name(value, number)
        try:
            conversation = _conversation(value)
            if not conversation.images:
                yield Entry(value, name, problem=TEXT_ALONE)
                continue
            places = tuple(insertion_places(conversation))
            [path] = conversation.images
            if path.startswith("data:"):
                raise NoInsertion("whose image stands in the entry itself and not in a file")
        except NoInsertion as error:
            yield Entry(value, name, problem=str(error), is_failed=True)
            continue
        except ConversationError as error:
            yield Entry(value, name, problem=f"that cannot be read: {error}", is_failed=True)
            continue
        image_id = relative_id(path)
        uri, offset, size = locate(path)
        yield Entry(
            value,
            name,
            conversation,
            places,
            ManifestRow(image_id, uri, None, offset, size),
            regions.find(image_id) if regions is not None else None,
        )


def with_turns(entry: Entry, turns: list[Turn], notes: list[dict[str, Any]]) -> dict[str, Any]:
    """The entry in LLaVA's form with these turns, and `notes` under "cognition"."""
    assert entry.conversation is not None
    dropped = {*CONVERSATION_KEYS, *IMAGE_KEYS, "cognition"}
    return {
        **{key: value for key, value in entry.value.items() if key not in dropped},
        "image": entry.conversation.images[0],
        "conversations": [{"from": _SPEAKERS[t.role], "value": t.text} for t in turns],
        "cognition": notes,
    }


def _conversation(value: Any) -> Conversation:
    if not isinstance(value, Mapping):
        raise ConversationError(f"it is {describe(value)}; expected an object")
    return read_conversation(value)


def _boxes(record: PadRecord) -> tuple[TaggedBox, ...]:
    height, width = record.height, record.width
    return tuple(
        TaggedBox(region.tag, masks.bounding_box(region.rle_mask, height, width))
        for region in record.labels
        if region.area
    )


def _paths(value: Any) -> tuple[str, ...]:
    """The paths of an entry's images, () where it cannot be read."""
    try:
        if isinstance(value, Mapping) and has_conversation(value):
            return read_conversation(value).images
    except ConversationError:
        pass
    return ()


def _name(value: Any, number: int) -> str:
    """The id by which draws are made: the entry's own, else its image's path, else its number."""
    name = first_of(value, ID_KEYS) if isinstance(value, Mapping) else None
    if isinstance(name, str | int | float):
        return str(name)
    return next(iter(_paths(value)), f"entry {number}")
