"""What a review says after its events: the last word counts, and what was taken back does not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline.review.events import Event, new_event
from pad_pipeline.review.marks import Marks, verdict_of


def verdict(value: str | None, image: str = "a", region: int | None = None) -> Event:
    digest = "d" if region is not None else None
    return new_event("verdict", "anna", image=image, region=region, digest=digest, value=value)


def undo(event: Event) -> Event:
    return new_event("undo", "ben", value=event.id)


def of_image(marks: Marks, image: str = "a") -> str | None:
    found = marks.images.get(image)
    return verdict_of(found.verdict) if found is not None else None


def test_the_last_verdict_counts_until_it_is_taken_back() -> None:
    accepted, rejected = verdict("accepted"), verdict("rejected")
    marks = Marks([accepted, rejected])
    assert of_image(marks) == "rejected"
    back = undo(rejected)
    marks.add(back)
    assert of_image(marks) == "accepted"
    assert marks.is_undone(rejected)
    marks.add(undo(back))
    assert of_image(marks) == "rejected"
    marks.add(verdict(None))
    assert of_image(marks) is None
    assert marks.images == {}
    assert +marks.counts == {}


def test_an_event_before_the_last_can_be_taken_back_by_somebody_else() -> None:
    first, second = verdict("accepted"), verdict("flagged")
    marks = Marks([first, second, undo(first)])
    assert of_image(marks) == "flagged"
    marks.add(undo(second))
    assert of_image(marks) is None


def test_regions_tags_and_views_are_apart() -> None:
    tag = new_event("tag", "anna", image="a", region=1, digest="d", value="wolf")
    marks = Marks(
        [
            verdict("accepted"),
            verdict("rejected", region=1),
            verdict("flagged", region=2),
            tag,
            new_event("view", "anna", name="mine", value="q=dog"),
        ]
    )
    assert marks.counts == {"accepted": 1, "rejected": 1, "flagged": 1, "renamed": 1}
    assert marks.views == {"mine": "q=dog"}
    assert marks.images["a"].regions[1, "d"].tag == tag
    marks.add(new_event("view", "ben", name="mine", value=None))
    assert marks.views == {}


def test_an_event_that_comes_twice_counts_once() -> None:
    event = verdict("accepted")
    marks = Marks([event, event])
    assert len(marks.events) == 1
    assert marks.counts == {"accepted": 1}


def slow_state(events: list[Event]) -> dict[tuple, str]:
    """The same by going through the events from the last one back."""
    undone, state = set(), {}
    for event in reversed(events):
        if event.id in undone:
            continue
        if event.kind == "undo":
            undone.add(event.value)
        elif event.target not in state:
            state[event.target] = event.value
    return {target: value for target, value in state.items() if value is not None}


@given(st.data())
def test_many_events_give_what_reading_them_backwards_gives(data: st.DataObject) -> None:
    events: list[Event] = []
    open_to_undo: list[Event] = []
    for _ in range(data.draw(st.integers(0, 12))):
        if open_to_undo and data.draw(st.booleans()):
            taken = data.draw(st.sampled_from(open_to_undo))
            open_to_undo.remove(taken)
            event = undo(taken)
        else:
            event = verdict(
                data.draw(st.sampled_from(["accepted", "rejected", None])),
                data.draw(st.sampled_from("ab")),
                data.draw(st.sampled_from([None, 0, 1])),
            )
        events.append(event)
        open_to_undo.append(event)
    marks = Marks(events)
    found = {}
    for image, of in marks.images.items():
        if of.verdict is not None:
            found["verdict", image, None, None, None] = of.verdict.value
        for (region, digest), of_region in of.regions.items():
            assert of_region.verdict is not None
            found["verdict", image, region, digest, None] = of_region.verdict.value
    assert found == slow_state(events)
    assert +marks.counts == {
        value: list(found.values()).count(value) for value in set(found.values())
    }
