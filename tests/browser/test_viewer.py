"""The viewer in a real browser: pages open, filters, keys and switches work, nothing complains."""

from __future__ import annotations

import io
from collections.abc import Iterator
from urllib.parse import parse_qs, urlparse

import pytest
from PIL import Image

from tests.browser.conftest import (
    CONTRAST,
    DESKTOP,
    PHONE,
    SLOW_MS,
    open_tab,
    running_viewer,
    until,
)
from tests.dataset.example import (
    ellipse,
    example_records,
    record,
    region,
    write_dataset,
    write_images,
)
from tests.view.truth import write_truth

SERVICE = "http://127.0.0.1:9"
"""Nobody listens there: the tests answer in its place."""
OVERLAPPING = record(
    8,
    [
        # One in the other, two across each other, two of the same pixels, one around a hole.
        region("sea", ellipse(20, 15, 19, 14), 0.9),
        region("island", ellipse(18, 14, 11, 8), 0.8),
        region("house", ellipse(16, 14, 4, 3), 0.7),
        region("boat", ellipse(28, 16, 6, 4), 0.6),
        region("ship", ellipse(28, 16, 6, 4), 0.5),
        region("shore", ellipse(18, 14, 13, 10) & ~ellipse(18, 14, 11, 8), 0.4),
        region("bird", ellipse(33, 15, 2, 2), 0.3),
    ],
)
"""Every region has pixels that are also another's, or lie in another's box."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A viewer in a process of its own."""
    folder = tmp_path_factory.mktemp("browser")
    odd = record(
        7,
        [region("apple", ellipse(12, 10, 8, 7), 0.8)],
        image_id="a%2Fb/<i>\n🦊.png",
        caption='<img src=x onerror="alert(1)"> \u202eעברית',
    )
    records = [*example_records(), odd, OVERLAPPING]
    data = write_dataset(folder / "data", records)
    write_images(folder / "images", [*example_records(), OVERLAPPING])
    options = ["--images", str(folder / "images"), "--service", SERVICE]
    options += ["--ground-truth", write_truth(folder / "truth.json")]
    with running_viewer(data, *options, cache=folder / "cache") as found:
        yield found


@pytest.fixture
def tab(browser, address: str):
    """A page of that viewer."""
    with open_tab(browser, address) as made:
        yield made


def query(tab) -> dict[str, list[str]]:
    return parse_qs(urlparse(tab.url).query)


PAGES = (
    "/",
    "/image/00000%2F00000000.png",
    "/tags",
    "/tags?name=apple",
    "/crops",
    "/stats",
    "/failures",
    "/compare",
    "/review",
    "/try",
    "/truth",
    "/truth/images",
    "/truth/image/00000%2F00000000.png",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pages_fit_and_can_be_read(tab, scheme: str, size: dict[str, int]) -> None:
    tab.set_viewport_size(size)
    tab.emulate_media(color_scheme=scheme)
    for path in PAGES:
        tab.goto(path)
        assert tab.evaluate(CONTRAST) == [], path
        too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.evaluate(too_wide) <= 0, path
        unnamed = "[...document.images].filter((image) => !image.hasAttribute('alt')).length"
        assert tab.evaluate(unnamed) == 0, path


def test_filters_work_and_their_address_can_be_shared(tab) -> None:
    tab.goto("/")
    assert tab.locator(".card").count() == 9
    tab.fill("input[name=tag]", "apple")
    tab.click("text=More filters")
    tab.fill("input[name=min_score]", "0.8")
    tab.select_option("select[name=sort]", "score")
    tab.click("button.primary")
    tab.wait_for_url("**tag=apple**")
    assert query(tab) == {"tag": ["apple"], "min_score": ["0.8"], "sort": ["score"]}
    assert tab.locator(".card").count() == 2
    tab.click("a.chip >> text=score from 0.8")
    tab.wait_for_url(lambda url: "min_score" not in url)
    assert tab.locator(".card").count() == 3
    tab.keyboard.press("/")
    tab.keyboard.type("number 0")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**q=number**")
    assert tab.locator(".card").count() == 1


def test_bars_of_histograms_are_filters(tab) -> None:
    tab.goto("/")
    tab.click("text=Histograms")
    bars = tab.locator(".histogram[data-low=min_score] .column")
    until(tab, lambda: bars.count() == 20)
    bars.nth(18).click()
    tab.wait_for_url("**min_score**")
    assert query(tab) == {"min_score": ["0.9"], "max_score": ["0.95"]}
    until(tab, lambda: bars.count() == 20)  # it stays open
    first, last = bars.nth(14).bounding_box(), bars.nth(17).bounding_box()
    tab.mouse.move(first["x"] + 2, first["y"] + 40)
    tab.mouse.down()
    tab.mouse.move(last["x"] + 2, last["y"] + 40, steps=4)
    tab.mouse.up()
    tab.wait_for_url("**min_score=0.7&**")
    assert query(tab) == {"min_score": ["0.7"], "max_score": ["0.9"]}
    assert tab.locator(".card").count() == 3


def test_an_object_leads_to_its_region(tab) -> None:
    tab.goto("/crops?tag=apple&sort=area")
    tab.wait_for_load_state("networkidle")
    assert tab.evaluate("[...document.images].every((image) => image.naturalWidth > 20)")
    tab.locator(".crops .card").nth(1).click()
    tab.wait_for_url("**/image/**")
    assert tab.locator("tr.selected").inner_text().split()[0] == "apple"


def test_the_keyboard_leads_through_images_and_regions(tab) -> None:
    tab.goto("/?status=ok")
    tab.locator(".card").first.click()
    tab.wait_for_url("**/image/**")
    assert tab.inner_text("h1") == "00000/00000000.png"
    tab.keyboard.press("ArrowRight")
    tab.wait_for_url("**00000003.png**")
    assert query(tab) == {"status": ["ok"]}
    tab.keyboard.press("ArrowLeft")
    tab.wait_for_url("**00000000.png**")
    tab.keyboard.press("j")
    until(tab, lambda: query(tab).get("region") == ["0"])
    tab.keyboard.press("j")
    until(tab, lambda: query(tab).get("region") == ["1"])
    assert tab.locator("tr.selected").inner_text().split()[0] == "sail"
    assert tab.locator(".shape.selected").get_attribute("data-region") == "1"
    tab.reload()
    assert tab.locator(".shape.selected").get_attribute("data-region") == "1"
    tab.keyboard.press("x")
    assert tab.locator(".shape.off").count() == 1
    assert not tab.locator("tr[data-region='1'] input").is_checked()
    tab.keyboard.press("m")
    assert "no-masks" in tab.locator("#picture").get_attribute("class")
    tab.keyboard.press("Escape")
    assert "region" not in query(tab)


def test_regions_and_rows_light_up_together_and_are_switched_by_tag(tab) -> None:
    tab.goto("/image/00001%2F00000004.png")
    assert tab.locator(".legend button").count() == 1  # both regions are trees
    tab.locator("tr[data-region='0']").hover()
    assert tab.locator(".shape.hot").get_attribute("data-region") == "0"
    at_picture(tab, "move", 27, 20)
    until(tab, lambda: tab.locator("tr.hot[data-region='1']").count() == 1)
    tab.click(".legend button")
    assert tab.locator(".shape.off").count() == 2
    tab.click("#all")
    assert tab.locator(".shape.off").count() == 0
    tab.locator("#opacity").fill("80")
    opacity = "getComputedStyle(document.querySelector('.shape:not(.hot) .fill')).opacity"
    until(tab, lambda: abs(float(tab.evaluate(opacity)) - 0.8) < 0.01)
    tab.wait_for_load_state("networkidle")
    # The layers are pictures, and lie over the image.
    layer = tab.locator(".fill").first.bounding_box()
    image = tab.locator("#picture svg > image").bounding_box()
    assert layer == pytest.approx(image, abs=1)


def at_picture(tab, action: str, x: float, y: float) -> None:
    """Moves the pointer to a pixel of the image, or clicks there."""
    tab.wait_for_load_state("networkidle")
    place = tab.evaluate(
        """([x, y]) => {
          const svg = document.querySelector("#picture svg");
          const whole = svg.querySelector("image").width.baseVal.value;
          const scale = whole / Number(document.getElementById("picture").dataset.pixels);
          const { x: left, y: top } = new DOMPoint(x * scale, y * scale)
            .matrixTransform(svg.getScreenCTM());
          return [left, top];
        }""",
        [x, y],
    )
    getattr(tab.mouse, action)(*place)


def selected(tab) -> int | None:
    numbers = query(tab).get("region", [])
    return int(numbers[0]) if numbers else None


@pytest.mark.parametrize("zoomed", [False, True])
def test_every_region_of_overlapping_ones_can_be_clicked(tab, zoomed: bool) -> None:
    tab.goto("/image/00002%2F00000008.png")
    if zoomed:
        tab.keyboard.press("+")
    places = {
        (34, 5): [0],  # the sea alone
        (18, 20): [1, 0],  # the island, in the box of the shore
        (16, 14): [2, 1, 0],
        (32, 18): [3, 4, 0],  # the boat and the ship: one mask, one area
        (33, 15): [6, 3, 4, 0],
        (18, 4.5): [5, 0],
    }
    reached = set()
    if zoomed:  # by half: what is still on the page
        places = {(x, y): numbers for (x, y), numbers in places.items() if x < 33 and 6 < y < 24}
    for (x, y), expected in places.items():
        tab.keyboard.press("Escape")
        found: list[int] = []
        for _ in expected:
            at_picture(tab, "click", x, y)
            before = (None, *found)
            until(tab, lambda before=before: selected(tab) not in before)
            found.append(selected(tab))
        assert sorted(found) == sorted(expected)
        assert found[0] == expected[0] or {found[0], expected[0]} == {3, 4}
        reached.update(found)
    assert reached == ({0, 1, 2, 3, 4} if zoomed else set(range(7)))


def test_labels_can_be_read_on_a_phone_and_stay_in_the_picture(tab) -> None:
    tab.set_viewport_size(PHONE)
    tab.goto("/image/00002%2F00000008.png")
    tab.wait_for_load_state("networkidle")
    picture = tab.locator("#picture svg").bounding_box()
    labels = tab.locator(".shape-label").all()
    assert len(labels) == 7
    until(tab, lambda: all(label.get_attribute("transform") for label in labels))
    for label in labels:
        assert label.locator("text").bounding_box()["height"] >= 10
        place = label.bounding_box()
        assert place["x"] >= picture["x"] - 1
        assert place["x"] + place["width"] <= picture["x"] + picture["width"] + 1


def test_the_picture_zooms_and_moves(tab) -> None:
    def view() -> list[float]:
        box = tab.locator("#picture svg").get_attribute("viewBox")
        return [float(value) for value in box.split()]

    tab.goto("/image/00002%2F00000008.png")
    whole = view()
    letters = tab.locator(".shape-label text").first
    before = letters.bounding_box()["height"]
    at_picture(tab, "move", 33, 15)
    tab.mouse.wheel(0, -600)
    until(tab, lambda: tab.inner_text("#zoomed") != "")
    x, _, width, height = view()
    assert width < whole[2] / 2
    assert width / height == pytest.approx(whole[2] / whole[3], rel=1e-3)
    # The pixel under the pointer stays where it is.
    scale = whole[2] / 40
    assert x < 33 * scale < x + width
    assert letters.bounding_box()["height"] == pytest.approx(before, rel=0.05)
    box = tab.locator("#picture svg").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.move(*middle)
    tab.mouse.down()
    tab.mouse.move(middle[0] + 60, middle[1] + 40, steps=4)
    tab.mouse.up()
    moved = view()
    assert moved[0] < x
    assert moved[2:] == pytest.approx([width, height])
    assert "region" not in query(tab)  # dragging selects nothing
    tab.keyboard.press("1")
    assert view() == pytest.approx(whole)  # at 1:1 the image is smaller than the page has room
    tab.keyboard.press("+")
    assert view()[2] == pytest.approx(whole[2] / 1.5)
    tab.keyboard.press("0")
    assert view() == pytest.approx(whole)


def test_the_score_slider_leaves_out_regions_as_it_moves(tab) -> None:
    tab.goto("/image/00002%2F00000008.png")
    slider = tab.locator("#from-score")
    slider.fill("55")
    assert tab.locator(".regions tbody tr:visible").count() == 4
    assert tab.locator(".shape.below").count() == 3
    assert "0.55: 4 of 7" in tab.inner_text("output[for=from-score]")
    at_picture(tab, "click", 33, 15)  # the bird is not there any more
    until(tab, lambda: selected(tab) is not None)
    assert selected(tab) == 3
    tab.goto("/image/00000%2F00000000.png")  # it stays as it was set
    assert tab.locator(".regions tbody tr:visible").count() == 1


def test_from_a_mistake_of_a_tag_to_the_image_with_both(tab) -> None:
    tab.goto("/truth")
    tab.click("text=boat taken for apple")
    tab.wait_for_url("**named=apple**")
    tab.locator(".card").click()
    tab.wait_for_url("**/truth/image/**")
    assert tab.locator(".shape.truth.o-wrong").count() == 1
    assert tab.locator(".shape.found.o-wrong").count() == 1
    at_picture(tab, "click", 27, 20)
    until(tab, lambda: tab.locator("tr.selected").count() == 1)
    tab.click(".legend button >> text=truth")
    assert tab.locator(".shape.truth.off").count() == 1


def test_the_score_slider_of_the_ground_truth_takes_the_counts_along(tab) -> None:
    tab.goto("/truth")
    found = tab.locator("[data-live=figures] li:has-text('true positive') b")
    before = int(found.inner_text())
    slider = tab.locator(".cut input")
    slider.focus()
    for _ in range(95):  # the keyboard's focus stays while the page follows
        slider.press("ArrowRight")
    assert tab.locator(".cut output").inner_text() == "0.95"
    until(tab, lambda: int(found.inner_text()) < before)
    until(tab, lambda: "min_score=0.95" in tab.url)
    tab.click("[data-live=figures] >> text=Images with mistakes")
    assert "min_score=0.95" in tab.url
    assert tab.locator(".cut output").inner_text() == "0.95"
    tab.click("text=masks, IoU ≥ 0.75")
    tab.wait_for_url("**iou=0.75**")
    assert query(tab)["by"] == ["masks"]


def test_the_question_mark_shows_the_keys(tab) -> None:
    pages = {"/": 2, "/stats": 1, "/image/00002%2F00000008.png": 11, "/truth/images": 1}
    pages |= {"/truth/image/00000%2F00000000.png": 8}
    for page, rows in pages.items():
        tab.goto(page)
        tab.keyboard.press("?")
        assert tab.locator("dialog[open] tr:visible").count() == rows, page
        tab.keyboard.press("Escape")
        assert tab.locator("dialog[open]").count() == 0


def test_on_a_phone_filters_fold_and_the_page_shown_is_in_view(tab) -> None:
    tab.goto("/")
    assert tab.locator("input[name=q]").is_visible()
    assert not tab.locator(".fold > summary").is_visible()
    tab.set_viewport_size(PHONE)
    for path in ("/", "/crops", "/truth"):
        tab.goto(path)
        field = tab.locator(".fold .filters input:not([type=hidden])").first
        assert not field.is_visible()
        tab.click(".fold > summary")
        assert field.is_visible()
        current = tab.locator(".top nav [aria-current]").bounding_box()
        assert 0 <= current["x"] <= current["x"] + current["width"] <= PHONE["width"], path
    tab.set_viewport_size(DESKTOP)
    until(tab, lambda: tab.locator("input[name=q]").is_visible())


def test_the_focus_goes_through_the_page_in_its_order(tab) -> None:
    tab.goto("/")
    links = [text.strip() for text in tab.locator(".top nav a").all_inner_texts()]
    reached: list[str] = []
    for _ in range(len(links) + 5):
        tab.keyboard.press("Tab")
        text = tab.evaluate("document.activeElement.innerText || document.activeElement.name")
        reached.append(text.strip())
    assert reached[0] == "Skip to the content"
    assert links[:2] == ["Images", "Tags"]
    assert reached[2:] == [*links, "?", "q", "tag"]


def test_a_name_with_anything_in_it_opens_by_a_click(tab) -> None:
    tab.goto("/?q=onerror")
    tab.locator(".card").click()
    tab.wait_for_url("**/image/a%252Fb**")
    assert tab.inner_text("h1") == "a%2Fb/<i>\n🦊.png"
    assert "the image is not there" in tab.inner_text(".notice")
    tab.click("text=PAD JSON")
    assert '"image_id": "a%2Fb/<i>\\n🦊.png"' in tab.inner_text("#pad-json")


RECORD = {"labels": [{"tag": "apple", "score": 0.756, "bbox": [1.2, 2, 30, 20]}]}


def test_an_image_is_annotated_by_the_service(tab) -> None:
    def answer(route) -> None:
        if route.request.url.endswith("render=1"):
            route.fulfill(body=png(), content_type="image/png")
        else:
            route.fulfill(json=RECORD)

    tab.goto("/try")
    tab.route("**/try/annotate*", answer)
    tab.set_input_files(
        "input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": png()}
    )
    tab.click("button.primary")
    tab.wait_for_selector("#result:not([hidden])")
    assert tab.inner_text("#rows").split() == ["apple", "0.76", "1,", "2,", "30,", "20"]
    assert tab.inner_text("#status") == "1 region"


def test_the_error_of_the_service_is_shown_with_its_message(browser, address: str) -> None:
    error = {"error": {"cause": "not_an_image", "message": "the bytes are a web page"}}
    tab = browser.new_page(base_url=address)
    tab.set_default_timeout(SLOW_MS)
    tab.goto("/try")
    tab.route("**/try/annotate*", lambda route: route.fulfill(status=400, json=error))
    tab.set_input_files(
        "input[type=file]", {"name": "a.png", "mimeType": "image/png", "buffer": b"<html>"}
    )
    tab.click("button.primary")
    tab.wait_for_selector("#status:has-text('the bytes are a web page')")
    tab.close()


def choose_file(tab, data: bytes) -> None:
    file = {"name": "a.png", "mimeType": "image/png", "buffer": data}
    tab.set_input_files("input[type=file]", file)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(buffer, "PNG")
    return buffer.getvalue()
