"""The ground-truth pages, on a truth with one mistake of each kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pad_pipeline.errors import UserError
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.server import open_viewer
from tests.dataset.example import example_records
from tests.view.conftest import open_client
from tests.view.html import Page, page
from tests.view.truth import write_truth


@pytest.fixture(scope="module")
def truth_client(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    folder = tmp_path_factory.mktemp("truth")
    (folder / "match.json").write_text('{"sail boat": "boat"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAD_CACHE", str(folder / "cache"))
        return open_client(
            shared_data,
            images=str(shared_data.parent / "images"),
            ground_truth=write_truth(folder / "truth.json"),
            match=str(folder / "match.json"),
        )


def links(found: Page, kind: str) -> list[str]:
    return [link for link in found.all("a", "href") if link.startswith(kind)]


def test_tags_have_their_figures_and_lead_to_images(truth_client: TestClient) -> None:
    found = page(truth_client, "/truth")
    text = " ".join(found.text.split())
    assert re.search(r"5 objects in 6 images", text)
    assert re.search(r"2 true positives 2 missed objects 1 with the wrong tag 2 no object", text)
    assert "1 image failed, so all objects there are missed." in text
    assert "Not counted, since no category has their name: çay — bardağı" not in text  # not paired
    assert "boat taken for apple" in text
    assert sum(tag == "polyline" for tag, _ in found.elements) == 3
    for link in set(links(found, "/truth/images")):
        shown = page(truth_client, link)
        assert "There is no such image" not in shown.text, link


def test_every_number_is_that_of_its_images(truth_client: TestClient) -> None:
    wrong = page(truth_client, "/truth/images?show=wrong&tag=boat&named=apple")
    [card] = links(wrong, "/truth/image/")
    assert card.startswith("/truth/image/00001%2F00000003.png")
    missed = page(truth_client, "/truth/images?show=missed")
    assert len(links(missed, "/truth/image/")) == 2
    assert "failed" in missed.text
    assert len(links(page(truth_client, "/truth/images"), "/truth/image/")) == 4
    again = page(truth_client, "/truth/images?show=again")
    assert "There is no such image" in again.text


def test_from_a_score_on_only_better_regions_count(truth_client: TestClient) -> None:
    def counts(address: str) -> str:
        text = " ".join(page(truth_client, address).text.split())
        return text[text.index(" precision") - 6 : text.index(" found already")]

    assert counts("/truth").startswith(" 0.400 precision 0.400 recall")
    # of the apples in images 0 (score 0.9) and 3 (0.5) and the trees (0.7, 0.6), the first is left
    best = counts("/truth?min_score=0.9")
    assert best.startswith(" 1.000 precision 0.200 recall")
    assert "1 regions that count 1 true positives 4 missed objects 0 with the wrong tag" in best
    assert counts("/truth?min_score=0.7") == counts("/truth?min_score=0.61")
    missed = page(truth_client, "/truth/images?show=missed&min_score=0.9")
    cards = links(missed, "/truth/image/")
    assert len(cards) == 4
    assert all("min_score=0.9" in card for card in cards)
    name = example_records()[3].image_id
    found = page(truth_client, of_image(name, "truth/image", "min_score=0.6"))
    shapes = [a["class"] for tag, a in found.elements if tag == "g" and "shape " in a["class"]]
    assert shapes == ["shape o-missed truth"]
    assert "min_score" in page(truth_client, "/truth?min_score=2", 400).text


def test_an_image_shows_truth_and_findings(truth_client: TestClient) -> None:
    name = example_records()[0].image_id
    found = page(truth_client, of_image(name, "truth/image", "by=masks&show=missed"))
    shapes = [a for tag, a in found.elements if tag == "g" and "data-region" in a]
    classes = sorted((a["class"] or "").split()[1:] for a in shapes if "shape " in a["class"])
    assert classes == [
        *(["o-found", "found"], ["o-found", "truth"]),
        *(["o-missed", "truth"], ["o-nothing", "found"]),
    ]
    assert "boat" in found.text
    assert "1 of 2" in found.text
    for layer in [link for link in found.all("image", "href") if "/truth/layer/" in link]:
        assert truth_client.get(layer).content.startswith(b"\x89PNG")
    following = [a["href"] for tag, a in found.elements if tag == "a" and a.get("rel") == "next"]
    failed = page(truth_client, str(following[0]))
    assert "all its objects are missed" in " ".join(failed.text.split())
    assert "no image called" in page(truth_client, of_image("none", "truth/image"), 404).text
    without = example_records()[6].image_id
    assert (
        "ground truth has no image"
        in page(truth_client, of_image(without, "truth/image"), 404).text
    )


def test_wrong_addresses_say_what_was_expected(
    truth_client: TestClient, client: TestClient
) -> None:
    assert "expected by to be one of boxes, masks" in page(truth_client, "/truth?by=x", 400).text
    assert "show=wrong" in page(truth_client, "/truth/images?named=apple", 400).text
    assert "--ground-truth" in page(client, "/truth", 404).text


def test_a_truth_without_masks_is_compared_by_boxes(shared_data: Path, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.json", masks=False)
    client = open_client(shared_data, ground_truth=truth)
    assert "masks, IoU" not in page(client, "/truth").text
    assert "has no masks: compare by boxes" in page(client, "/truth?by=masks", 404).text
    name = example_records()[0].image_id
    found = page(client, of_image(name, "truth/image"))
    assert not [link for link in found.all("image", "href") if "/truth/layer/truth/" in link]


def test_what_cannot_be_compared_is_refused_at_the_start(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="match says which tag is which category of a ground_truth"):
        open_viewer(str(shared_data), match="match.json")
    image = {"id": 1, "file_name": "elsewhere.png", "width": 1, "height": 1}
    truth = write_truth(tmp_path / "truth.json", images=[image], annotations=[])
    with pytest.raises(UserError, match=r"1 image of 1 in .* not in .*, such as elsewhere\.png"):
        open_viewer(str(shared_data), ground_truth=truth)
    (tmp_path / "odd.json").write_text("{}")
    with pytest.raises(UserError, match="should be COCO's instances JSON"):
        open_viewer(str(shared_data), ground_truth=str(tmp_path / "odd.json"))


def test_the_matches_are_kept_in_the_cache(
    shared_data: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = write_truth(tmp_path / "truth.json")
    first = open_viewer(str(shared_data), ground_truth=truth).truth
    monkeypatch.setattr("pad_pipeline.view.truth.build._make", None)  # not made again
    second = open_viewer(str(shared_data), ground_truth=truth).truth
    assert first is not None
    assert second is not None
    assert first.path == second.path
    assert first.path.is_relative_to(cache)
