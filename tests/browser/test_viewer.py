"""The viewer in a real browser: pages open, filters, keys and switches work, nothing complains."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, urlparse

import pytest
from PIL import Image

from tests.dataset.example import (
    ellipse,
    example_records,
    record,
    region,
    write_dataset,
    write_images,
)

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome")
                 if (path := shutil.which(name))), None)  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")

QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1440, "height": 900}
SERVICE = "http://127.0.0.1:9"
"""Nobody listens there: the tests answer in its place."""
SLOW_MS = 30_000
"""How long a page may take where other programs use the machine."""

CONTRAST = """
() => {  // WCAG 2: relative luminance, and 4.5 : 1 for text
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb
      .map((v) => v / 255)
      .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const left_out = "svg, .visually-hidden, .skip, .off, [aria-hidden]";
    if (!own || !element.checkVisibility() || element.closest(left_out)) continue;
    let back = null;
    for (let up = element; up && !back; up = up.parentElement) {
      const colour = parse(getComputedStyle(up).backgroundColor);
      if (colour.length === 3 || colour[3] > .7) back = colour.slice(0, 3);
    }
    const fore = parse(getComputedStyle(element).color).slice(0, 3);
    const [a, b] = [light(fore), light(back || [255, 255, 255])].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) bad.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return bad;
}
"""


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
    records = [*example_records(), odd]
    data = write_dataset(folder / "data", records)
    write_images(folder / "images", example_records())
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "pad_pipeline", "view", data),
            *("--images", str(folder / "images"), "--port", "0"),
            *("--service", SERVICE),
        ],
        env={**os.environ, "PAD_CACHE": str(folder / "cache")},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[2]
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET), timeout=90_000)
        yield made
        made.close()


@pytest.fixture
def tab(browser, address: str):
    """A page on which every complaint of the browser fails the test."""
    context = browser.new_context(viewport=DESKTOP, base_url=address)
    context.set_default_timeout(SLOW_MS)
    made = context.new_page()
    complaints: list[str] = []
    made.on(
        "console",
        lambda message: (
            complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
    yield made
    context.close()
    assert complaints == []


def query(tab) -> dict[str, list[str]]:
    return parse_qs(urlparse(tab.url).query)


PAGES = (
    "/",
    "/image/00000%2F00000000.png",
    "/tags",
    "/tags?name=apple",
    "/stats",
    "/failures",
    "/compare",
    "/try",
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
    assert tab.locator(".card").count() == 8
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
    assert query(tab)["region"] == ["0"]
    tab.keyboard.press("j")
    assert query(tab)["region"] == ["1"]
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
    tab.locator(".shape[data-region='1'] .box").hover()
    assert tab.locator("tr.hot").get_attribute("data-region") == "1"
    tab.click(".legend button")
    assert tab.locator(".shape.off").count() == 2
    tab.click("#all")
    assert tab.locator(".shape.off").count() == 0
    tab.locator("#opacity").fill("80")
    opacity = "getComputedStyle(document.querySelector('.shape:not(.hot) .fill')).opacity"
    deadline = time.monotonic() + SLOW_MS / 1000  # not by Playwright, which would need `eval`
    while abs(float(tab.evaluate(opacity)) - 0.8) > 0.01:
        assert time.monotonic() < deadline
        tab.wait_for_timeout(50)
    tab.wait_for_load_state("networkidle")
    # The layers are pictures, and lie over the image.
    layer = tab.locator(".fill").first.bounding_box()
    image = tab.locator("#picture svg > image").bounding_box()
    assert layer == pytest.approx(image, abs=1)


def test_the_focus_goes_through_the_page_in_its_order(tab) -> None:
    tab.goto("/")
    reached = []
    for _ in range(10):
        tab.keyboard.press("Tab")
        reached.append(
            tab.evaluate("document.activeElement.innerText || document.activeElement.name")
        )
    assert reached[0] == "Skip to the content"
    assert [text.strip() for text in reached[2:5]] == ["Images", "Tags", "Statistics"]
    assert reached[-2:] == ["q", "tag"]


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
