"""The pages of trained runs and of evaluations in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pad_pipeline.evaluate.evaluation import score_answers
from pad_pipeline.evaluate.maps import ImageMaps, write_maps
from tests.browser.conftest import CONTRAST, DESKTOP, PHONE, open_tab, running_viewer
from tests.dataset.example import example_records, write_dataset, write_images
from tests.view.routes.test_evaluations import write_answers

WORDS = ["w" * number for number in (1, 3, 9, 24)] + ["mm", "ill", "the", "ww", "m" * 60]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("runs")
    maps = ImageMaps(
        image_id=example_records()[0].image_id,
        frame=np.full((42, 42, 3), 90, np.uint8),
        grid=3,
        regions=[],
        words=[WORDS, WORDS[::-1]],
        cosines_KP=np.full((2, 9), 0.9, np.float32),
    )
    for number, name in enumerate(("random", "caption-only", "patch-aligned")):
        write_maps(folder / "runs", number, name, [maps], threshold="otsu", measures={})
    before, after = write_answers(folder)
    options = {"benchmark": "exact"}
    score_answers(before, str(folder / "before"), "vqa", options)
    score_answers(after, str(folder / "after"), "vqa", options, against=str(folder / "before"))
    data = write_dataset(folder / "data", example_records())
    write_images(folder / "images", example_records())
    runs = (
        "--images",
        str(folder / "images"),
        "--run",
        str(folder / "runs"),
        str(folder / "after"),
    )
    with running_viewer(data, *runs, cache=folder / "cache") as viewer:
        yield viewer


def test_projectors_stand_side_by_side_and_words_keep_to_their_patches(browser, address) -> None:
    with open_tab(browser, address) as tab:
        tab.goto("/runs")
        left = [each.bounding_box()["x"] for each in tab.locator(".variant").all()]
        assert len(left) == 3
        assert left == sorted(set(left))
        for iteration in ("1", "2"):
            tab.locator(".iteration").first.fill(iteration)
            cell = tab.locator(".words:visible").first.bounding_box()["width"] / 3
            boxes = [each.bounding_box() for each in tab.locator(".words:visible text").all()]
            assert len(boxes) == 27
            assert all(box["width"] <= cell for box in boxes)
        tab.click("text=caption-only")
        assert tab.locator(".variant:visible").count() == 1
        assert "variant=caption-only" in tab.url
        tab.click("text=Side by side")
        assert tab.locator(".variant:visible").count() == 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_pages_fit_and_can_be_read(browser, address, scheme: str, size) -> None:
    with open_tab(browser, address) as tab:
        tab.set_viewport_size(size)
        tab.emulate_media(color_scheme=scheme)
        for path in ("/runs", "/evaluations"):
            tab.goto(path)
            assert tab.evaluate(CONTRAST) == [], path
            assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"], path
