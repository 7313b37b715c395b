"""Lines of a review: written and read back, and refused where they are none."""

from __future__ import annotations

import dataclasses
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline.errors import UserError
from pad_pipeline.records import records_to_table, table_to_records
from pad_pipeline.review.events import VERDICTS, Event, new_event, parse_events, region_digest
from tests.dataset.example import ellipse, record, region

texts = st.text(max_size=20)
EVENTS = st.one_of(
    st.builds(
        lambda by, image, value: new_event("verdict", by, image=image, value=value),
        *(texts, texts, st.sampled_from([*VERDICTS, None])),
    ),
    st.builds(
        lambda by, image, number, value: new_event(
            "tag", by, image=image, region=number, digest="00", value=value
        ),
        *(texts, texts, st.integers(0, 10**6), st.one_of(st.none(), texts)),
    ),
    st.builds(lambda by, name, value: new_event("view", by, name=name, value=value), *[texts] * 3),
)


@given(st.lists(EVENTS, max_size=5))
def test_an_event_is_a_line_of_ascii_and_reads_back(events: list[Event]) -> None:
    lines = b"".join(event.to_line() for event in events)
    assert lines.count(b"\n") == len(events)
    assert set(lines.decode("ascii")) <= {*string.printable}
    assert list(parse_events(lines, "there")) == events


GOOD = json.loads(new_event("verdict", "anna", image="a.jpg", value="accepted").to_line())


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("no json", "line 8 of there is not JSON"),
        ("[1]", "is not an object of JSON"),
        ("[" * 5000, "is not JSON"),
        ({**GOOD, "by": 3}, "has no by"),
        ({k: v for k, v in GOOD.items() if k != "at"}, "has no at"),
        ({**GOOD, "region": "2", "digest": ""}, "has a region that is no number"),
        ({**GOOD, "region": True, "digest": ""}, "has a region that is no number"),
        ({**GOOD, "region": 1}, "does not say of what"),
        ({**GOOD, "image": None}, "does not say of what"),
        ({**GOOD, "image": 5}, "has something else than a text"),
        ({**GOOD, "value": "splendid"}, "which this version does not know"),
        ({**GOOD, "kind": "poem"}, "which this version does not know"),
        ({**GOOD, "kind": "undo", "value": None}, "does not say of what"),
    ],
)
def test_a_line_that_is_no_event_is_named(line, sentence: str) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    with pytest.raises(UserError) as error:
        list(parse_events(f"\n{text}\n".encode(), "there", 6))
    assert sentence in str(error.value)
    assert "line 8 of there" in str(error.value)


def test_a_digest_tells_regions_apart_and_needs_no_mask() -> None:
    one = region("apple", ellipse(12, 10, 8, 7), 0.3, 0.7)
    [stored] = table_to_records(records_to_table([record(0, [one])]))[0].labels
    assert region_digest(stored) == region_digest(one)
    assert region_digest(dataclasses.replace(one, rle_mask="")) == region_digest(one)
    changes = {"tag": "pear", "bbox": (1, 2, 3, 4), "area": 5, "predicted_iou": 0.5}
    for name, value in changes.items():
        assert region_digest(dataclasses.replace(one, **{name: value})) != region_digest(one), name
