"""What is left of records by the marks on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.records import Tag
from pad_pipeline.review.choice import ReviewChoice, Reviewed
from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog
from tests.dataset.example import ellipse, record, region

ONE = record(
    0,
    [
        region("dog", ellipse(8, 8, 6, 6)),
        region("cat", ellipse(20, 15, 6, 6)),
        region("dog", ellipse(30, 20, 6, 6)),
    ],
    image_id="a",
    tags=(Tag("dog", 0.9), Tag("cat", 0.8), Tag("sky", 0.7)),
)


def reviewed(tmp_path: Path, of_image: str | None, *of_regions: str | None, **choice) -> Reviewed:
    """A review of `ONE`: verdicts of the image and of its regions; "=x" renames one."""
    log = ReviewLog(str(tmp_path / "_review.jsonl"))
    log.write(new_event("verdict", "anna", image="other", value="accepted"))
    if of_image:
        log.write(new_event("verdict", "anna", image="a", value=of_image))
    for number, value in enumerate(of_regions):
        place = {"image": "a", "region": number, "digest": region_digest(ONE.labels[number])}
        if value and value.startswith("="):
            log.write(new_event("tag", "anna", **place, value=value[1:]))
        elif value:
            log.write(new_event("verdict", "anna", **place, value=value))
    return Reviewed(str(tmp_path), ReviewChoice(**choice))


@pytest.mark.parametrize(
    ("of_image", "of_regions", "without_rejected", "only_accepted"),
    [
        (None, (None, None, None), [0, 1, 2], None),
        (None, ("accepted", "rejected", "flagged"), [0, 2], [0]),
        ("accepted", (None, "rejected", "flagged"), [0, 2], [0]),
        ("accepted", ("rejected", "rejected", "rejected"), [], []),
        ("rejected", ("accepted", None, None), None, None),
        ("flagged", ("accepted", None, None), [0, 1, 2], [0]),
        ("flagged", (None, None, None), [0, 1, 2], None),
    ],
)
def test_verdicts_of_regions_and_images(
    tmp_path: Path, of_image, of_regions, without_rejected, only_accepted
) -> None:
    for option, expected in (
        ("without_rejected", without_rejected),
        ("only_accepted", only_accepted),
    ):
        folder = tmp_path / option
        found = reviewed(folder, of_image, *of_regions, **{option: True}).apply(ONE)
        assert (found and list(found[1])) == expected
        if found is not None:
            assert found[0].labels == tuple(ONE.labels[number] for number in expected)
            assert found[0].status == ("ok" if expected else "empty")


def test_new_tags_take_the_place_of_those_that_no_region_has_any_more(tmp_path: Path) -> None:
    some = reviewed(tmp_path / "some", None, "=wolf", "=lynx", review=None, without_rejected=True)
    found, _ = some.apply(ONE) or (None, None)
    assert [label.tag for label in found.labels] == ["wolf", "lynx", "dog"]
    assert [(tag.tag, tag.score) for tag in found.tags] == [
        *(("wolf", 0.9), ("dog", 0.9), ("lynx", 0.8), ("sky", 0.7))
    ]
    assert some.new_tags == {"wolf", "lynx"}
    phrase = dataclasses.replace(ONE.tags[0], caption_index=0, caption_start=2, caption_end=5)
    with_phrase = dataclasses.replace(ONE, tags=(phrase, *ONE.tags[1:]))
    every = reviewed(tmp_path / "every", None, "=wolf", "=wolf", "=wolf", without_rejected=True)
    found, _ = every.apply(with_phrase) or (None, None)
    assert [tag.tag for tag in found.tags] == ["wolf", "dog", "sky"]
    assert found.tags[1] == phrase


def test_marks_of_a_region_that_has_changed_are_not_applied(tmp_path: Path) -> None:
    found = reviewed(tmp_path, None, None, "rejected", None, without_rejected=True)
    moved = dataclasses.replace(ONE, labels=(ONE.labels[1], ONE.labels[0], ONE.labels[2]))
    kept = found.apply(moved)
    assert kept is not None
    assert list(kept[1]) == [0, 1, 2]
    assert found.marks.images["a"].unmatched(moved) == ["region 2 of a"]
    assert found.marks.images["a"].unmatched(ONE) == []


def test_nothing_accepted_and_no_review_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no review at .*_review\.jsonl"):
        Reviewed(str(tmp_path), ReviewChoice(without_rejected=True))
    (tmp_path / "_review.jsonl").write_bytes(b"")
    with pytest.raises(UserError, match=r"nothing is accepted in"):
        Reviewed(str(tmp_path), ReviewChoice(only_accepted=True))
    assert Reviewed(str(tmp_path), ReviewChoice(without_rejected=True)).marks.images == {}
