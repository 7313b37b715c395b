"""The pages made from embeddings in a real browser: the map selects, regions lead to others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pad_pipeline.similarity.config import EmbedConfig
from pad_pipeline.similarity.embed import embed
from tests.browser.conftest import CONTRAST, DESKTOP, PHONE, open_tab, running_viewer
from tests.similarity.scenes import write_scenes_with_copies


@pytest.fixture(scope="module")
def address(browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A viewer of scenes with copies; nothing is embedded where there is no browser."""
    folder: Path = tmp_path_factory.mktemp("browser")
    data = write_scenes_with_copies(folder)
    embed(data, config=EmbedConfig(map="pca"))
    with running_viewer(data, cache=folder / "cache") as found:
        yield found


PAGES = ("/map", "/duplicates", "/similar/scene_1.png", "/similar/scene_1.png?region=1")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "dark"), (PHONE, "light")])
def test_pages_fit_and_can_be_read(browser, address: str, size, scheme: str) -> None:
    with open_tab(browser, address, viewport=size, color_scheme=scheme) as tab:
        for path in PAGES:
            tab.goto(path)
            assert tab.evaluate(CONTRAST) == [], path
            too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert tab.evaluate(too_wide) <= 0, path


@pytest.mark.parametrize("shape", ["lasso", "rectangle"])
def test_drawing_on_the_map_selects_images(browser, address: str, shape: str) -> None:
    with open_tab(browser, address) as tab:
        tab.goto("/map")
        none = tab.locator("#map-count", has_text="8 images; none selected")
        none.wait_for()
        drawn = "document.querySelector('#map canvas').toDataURL().length"
        assert tab.evaluate(drawn) > 2000
        tab.check(f"input[value={shape}]")
        box = tab.locator("#map").bounding_box()
        corners = [(0.02, 0.01), (0.98, 0.5), (0.98, 0.98), (0.02, 0.98)]
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
        tab.mouse.move(*places[0])
        tab.mouse.down()
        for place in places[1 : 4 if shape == "lasso" else 3]:
            tab.mouse.move(*place, steps=4)
        tab.mouse.up()
        tab.wait_for_selector("#map-cards .card")
        selected = int(tab.inner_text("#map-count").split()[0])
        assert 1 <= selected <= 8
        assert tab.locator("#map-cards .card").count() == selected
        tab.click("#map-show")
        tab.wait_for_url("**/?lasso=**")
        assert tab.locator(".card").count() == selected
        tab.go_back()
        tab.wait_for_selector("#map-cards .card")
        tab.keyboard.press("Escape")
        none.wait_for()
        assert "lasso" not in tab.url


def test_more_like_this_leads_from_a_region_to_others(browser, address: str) -> None:
    with open_tab(browser, address) as tab:
        tab.goto("/image/scene_1.png")
        tab.locator(".regions .like").nth(1).click()
        tab.wait_for_url("**/similar/**region=1")
        tab.locator(".card").first.click()
        tab.wait_for_url("**/image/copy%2Fsmaller.jpg?region=1")
        tab.click("text=more like this")
        tab.wait_for_url("**/similar/**")
        assert tab.locator(".badge").count() == 7
