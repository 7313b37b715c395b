"""What a review says now: of all its events those that count, by image and region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from pad_pipeline.records import PadRecord, Region
from pad_pipeline.review.events import Event, Verdict, region_digest


@dataclass(slots=True)
class RegionMarks:
    """The events that hold for one region: who judged and who renamed it last."""

    verdict: Event | None = None
    tag: Event | None = None


NewTags = tuple[tuple[int, str, str], ...]
"""Number, digest and new tag of each region that was renamed."""


@dataclass(slots=True)
class ImageMarks:
    """The events that hold for an image and its regions; those by their number and digest."""

    verdict: Event | None = None
    regions: dict[tuple[int, str], RegionMarks] = field(default_factory=dict)

    def of_regions(self, labels: Iterable[Region]) -> list[RegionMarks]:
        """The marks of each region of a record; empty where it has none, or has changed."""
        if not self.regions:
            return [RegionMarks() for _ in labels]
        return [
            self.regions.get((number, region_digest(region)), RegionMarks())
            for number, region in enumerate(labels)
        ]

    @property
    def new_tags(self) -> NewTags:
        """The tags that regions of this image were given."""
        return tuple(
            (*key, str(marks.tag.value))
            for key, marks in tuple(self.regions.items())
            if marks.tag is not None
        )

    def unmatched(self, record: PadRecord) -> list[str]:
        """The marked regions that the record does not have, or not as they were, in words."""
        there = {(number, region_digest(region)) for number, region in enumerate(record.labels)}
        return [
            f"region {number + 1} of {record.image_id}"
            for number, digest in self.regions
            if (number, digest) not in there
        ]


class Marks:
    """The state of a review after the events that it was given, in their order."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = []
        self.counts: Counter[str] = Counter()
        """How many verdicts hold, "accepted", "rejected" and "flagged", and "renamed" regions."""
        self._by_id: dict[str, Event] = {}
        self._undone: set[str] = set()
        self._histories: dict[tuple[object, ...], list[Event]] = {}
        self._images: dict[str, ImageMarks] = {}
        self._views: dict[str, str] = {}
        for event in events:
            self.add(event)

    @property
    def images(self) -> Mapping[str, ImageMarks]:
        """The images that have marks."""
        return self._images

    @property
    def views(self) -> Mapping[str, str]:
        """The filters of the saved views by name, as the query of an address."""
        return self._views

    def add(self, event: Event) -> None:
        """Takes the next event in; an id that came before is the same event and changes nothing."""
        if event.id in self._by_id:
            return
        self._by_id[event.id] = event
        self.events.append(event)
        if event.kind == "undo":
            self._undo(event)
        else:
            self._histories.setdefault(event.target, []).append(event)
            self._settle(event)

    def iter_kinds(self) -> Iterator[tuple[str, str]]:
        """(image id, kind) of the marked images: their verdicts, those of regions, and "renamed".

        An accepted region of a rejected image does not make it "accepted".
        """
        for image_id, image in tuple(self._images.items()):  # others may mark at the same time
            own = verdict_of(image.verdict)
            regions = tuple(image.regions.values())
            kinds = {own, *(verdict_of(region.verdict) for region in regions)}
            if own == "rejected":
                kinds.discard("accepted")
            for kind in kinds:
                if kind is not None:
                    yield image_id, kind
            if image.new_tags:
                yield image_id, "renamed"

    def renamed_images(self) -> dict[str, ImageMarks]:
        """The images with a region that was renamed."""
        return {name: image for name, image in tuple(self._images.items()) if image.new_tags}

    def is_undone(self, event: Event) -> bool:
        """Whether somebody has taken the event back."""
        return event.id in self._undone

    def find(self, event_id: str) -> Event | None:
        """The event of an id."""
        return self._by_id.get(event_id)

    def _undo(self, event: Event) -> None:
        found, takes_back = self._by_id.get(event.value or ""), True
        while found is not None:
            (self._undone.add if takes_back else self._undone.discard)(found.id)
            if found.kind != "undo":
                self._settle(found)
                return
            # Taking back what took something back brings that back.
            found, takes_back = self._by_id.get(found.value or ""), not takes_back

    def _settle(self, event: Event) -> None:
        """Sets what the target of an event is now."""
        history = self._histories[event.target]
        last = next((e for e in reversed(history) if e.id not in self._undone), None)
        last = last if last is not None and last.value is not None else None
        if event.kind == "view":
            if last is not None and last.value is not None:
                self._views[str(event.name)] = last.value
            else:
                self._views.pop(str(event.name), None)
            return
        image = self._images.setdefault(str(event.image), ImageMarks())
        if event.region is None:
            self._count(image.verdict, last)
            image.verdict = last
        else:
            key = (event.region, str(event.digest))
            marks = image.regions.setdefault(key, RegionMarks())
            self._count(getattr(marks, event.kind), last)
            setattr(marks, event.kind, last)
            if marks == RegionMarks():
                del image.regions[key]
        if image == ImageMarks():
            del self._images[str(event.image)]

    def _count(self, before: Event | None, now: Event | None) -> None:
        for event, step in ((before, -1), (now, 1)):
            if event is not None:
                self.counts["renamed" if event.kind == "tag" else str(event.value)] += step


def verdict_of(mark: Event | None) -> Verdict | None:
    """What the event of a verdict says; None without one."""
    return cast(Verdict, mark.value) if mark is not None else None
