"""Facts about photographs: the shipped ones, a user's own, and what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pad_pipeline.errors import UserError
from pad_pipeline.models.ram.config import RELEASED_TAGS, read_tags
from pad_pipeline.photos import facts
from pad_pipeline.photos.facts import SHIPPED, Photograph, read_photographs


@pytest.fixture
def shipped() -> list[Photograph]:
    pytest.importorskip("skimage", reason="the photographs come with scikit-image (extra photos)")
    return read_photographs()


def test_the_shipped_facts_fit_their_photographs(shipped: list[Photograph]) -> None:
    assert len(shipped) == 10
    released = set(read_tags(RELEASED_TAGS))
    for photo in shipped:
        height, width = photo.read().shape[:2]
        assert all(released.intersection(group) for group in photo.tags), photo.path
        for thing in photo.things:
            x0, y0, x1, y1 = thing.box
            assert 0 <= x0 < x1 <= width, photo.path
            assert 0 <= y0 < y1 <= height, photo.path
            assert thing.inside
            assert thing.outside
            assert all(x0 <= x < x1 and y0 <= y < y1 for x, y in thing.inside)
            assert all(0 <= x < width and 0 <= y < height for x, y in thing.outside)


def test_every_tag_that_is_expected_is_one_that_ram_can_give() -> None:
    released = set(read_tags(RELEASED_TAGS))
    groups = [group for entry in json.loads(SHIPPED.read_text()) for group in entry["tags"]]
    assert [group for group in groups if released.isdisjoint(group)] == []


def test_a_users_photographs_lie_beside_their_facts(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "dog.png")
    entry = {"file": "dog.png", "tags": [["dog"]], "things": [{"tag": "dog", "box": [0, 0, 8, 4]}]}
    (tmp_path / "facts.json").write_text(json.dumps([entry]))
    (photo,) = read_photographs(tmp_path / "facts.json")
    assert photo.read().shape == (4, 8, 3)
    assert photo.things[0].box == (0, 0, 8, 4)


@pytest.mark.parametrize(
    "content", ["{", "{}x", '["a"]', '[{"tags": []}]', '[{"file": "a", "things": [{"tag": "a"}]}]']
)
def test_what_is_no_list_of_facts_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "facts.json").write_text(content)
    with pytest.raises(UserError, match=r"facts.json is no list of photographs with facts"):
        read_photographs(tmp_path / "facts.json")


def test_a_missing_photograph_and_a_missing_package_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "facts.json").write_text('[{"file": "gone.png"}]')
    (photo,) = read_photographs(tmp_path / "facts.json")
    with pytest.raises(UserError, match=r"the photograph .*gone.png cannot be read"):
        photo.read()
    monkeypatch.setattr(facts, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"come with scikit-image, which is not installed: `pip"):
        read_photographs()
