"""How many launches a pass of the released size takes."""

from __future__ import annotations

from collections import Counter

import pytest

from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from tests.models.grounding_dino.meta_pass import count_launches, meta_detector


@pytest.fixture(scope="module")
def detector() -> GroundingDinoDetector:
    return meta_detector()


def test_a_pass_takes_at_most_700_launches(detector: GroundingDinoDetector) -> None:
    """None waits for the device either: these tensors have no numbers to wait for."""
    for size in ((800, 1066), (800, 1199)):
        first, again = (count_launches(detector, size) for _ in range(2))
        counts = sum((part.counts for part in again.values()), Counter())
        assert counts.total() <= 700, counts
        # nothing of the texts is computed again, and of a new size only what it changes
        assert again["texts"].counts.keys() == {"cat", "index_select", "_to_copy"}
        assert first["pairs"].total == again["pairs"].total
        assert first["images"].total - again["images"].total <= 80


def test_padding_adds_what_is_computed_of_it(detector: GroundingDinoDetector) -> None:
    sizes = [(800 - image, 1000 + image) for image in range(16)]
    _, again = (count_launches(detector, (800, 1066), sizes) for _ in range(2))
    assert sum(part.total for part in again.values()) <= 760
