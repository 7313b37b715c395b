"""Marks in a real browser: by keys, by touch, in two browsers at once, and taken back."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pad_pipeline.dataset.stats import compute_stats
from pad_pipeline.review.log import read_marks
from pad_pipeline.review.marks import verdict_of
from tests.browser.conftest import CONTRAST, DESKTOP, PHONE, open_tab, running_viewer, until
from tests.cli.runner import call
from tests.dataset.example import example_records, write_dataset, write_images

PAGE = "/image/00000%2F00000000.png"
IMAGE = "00000/00000000.png"


@dataclass(frozen=True)
class Shown:
    """A viewer with nothing marked yet: its address, and its file of marks."""

    address: str
    review: Path

    def state(self) -> list[str | None]:
        """Verdicts of the image, the apple and the sail boat, and the boat's new tag."""
        marks = read_marks(str(self.review))
        if IMAGE not in marks.images:
            return [None] * 4
        image = marks.images[IMAGE]
        apple, boat = image.of_regions(example_records()[0].labels)
        found = [verdict_of(mark.verdict) for mark in (image, apple, boat)]
        return [*found, boat.tag.value if boat.tag is not None else None]


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("review")
    data = write_dataset(folder / "data", example_records())
    write_images(folder / "images", example_records())
    with running_viewer(
        data, "--images", str(folder / "images"), cache=folder / "cache"
    ) as address:
        yield Shown(address, folder / "data/_review.jsonl")


@pytest.fixture
def shown(viewer: Shown) -> Shown:
    viewer.review.write_bytes(b"")
    return viewer


def press(tab, keys: str, status: str) -> None:
    """Presses keys one after another, then waits for what the page says."""
    for key in keys.split():
        tab.keyboard.press(key)
    until(tab, lambda: tab.inner_text("#review-status") == status)


def signs(tab) -> list[str]:
    """The marks in the table of regions, as letters."""
    return [text.strip()[:1] for text in tab.locator("#regions .marks").all_inner_texts()]


def test_keys_accept_reject_flag_and_take_back(browser, shown: Shown) -> None:
    with open_tab(browser, shown.address) as tab:
        tab.goto(PAGE)
        press(tab, "j a", "accepted region 1")
        press(tab, "j r", "rejected region 2")
        assert signs(tab) == ["✓", "✗"]
        assert tab.locator(".shape.rejected").get_attribute("data-region") == "1"
        press(tab, "Shift+F", "flagged the image")
        assert shown.state() == ["flagged", "accepted", "rejected", None]
        press(tab, "r", "took the mark of region 2 away")
        press(tab, "Escape a", "accepted the image")
        assert shown.state() == ["accepted", "accepted", None, None]
        tab.reload()
        assert signs(tab) == ["✓", ""]
        press(tab, "u", "taken back: accepted the image")
        press(tab, "u", "taken back: took the mark of region 2 away")
        assert shown.state() == ["flagged", "accepted", "rejected", None]
        press(tab, "u", "taken back: flagged the image")
        tab.keyboard.press("ArrowRight")
        tab.wait_for_url("**00000001.png")
        press(tab, "u", f"taken back: rejected region 2 in {IMAGE}")
        press(tab, "u", f"taken back: accepted region 1 in {IMAGE}")
        tab.keyboard.press("u")
        until(tab, lambda: "has marked nothing" in tab.inner_text("#review-status"))
    assert shown.state() == [None] * 4
    assert len(shown.review.read_text().splitlines()) == 10


def test_a_tag_is_renamed_and_gets_its_own_again(browser, shown: Shown) -> None:
    with open_tab(browser, shown.address) as tab:
        tab.goto(f"{PAGE}?region=1")
        tab.fill("#by", "Zoë")
        tab.keyboard.press("Tab")
        tab.locator("#target").click()
        tab.keyboard.press("t")
        assert tab.input_value("#new-tag") == "sail boat"
        tab.keyboard.type("a r f u")  # letters, not keys
        with tab.expect_navigation():
            tab.keyboard.press("Enter")
        assert tab.locator("tr.selected bdi").all_inner_texts() == ["a r f u", "sail boat"]
        assert "a r f u" in tab.text_content(".shape-label[data-region='1']")
        assert tab.input_value("#by") == "Zoë"
        assert shown.state() == [None, None, None, "a r f u"]
        tab.keyboard.press("t")
        tab.keyboard.press("Escape")
        assert tab.locator("#rename-form").is_hidden()
        with tab.expect_navigation():
            tab.keyboard.press("u")
        assert tab.locator("tr.selected bdi").all_inner_texts() == ["sail boat"]
    assert {event.by for event in read_marks(str(shown.review)).events} == {"Zoë"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_touch_marks_too_and_all_can_be_read(browser, shown: Shown, scheme: str, size) -> None:
    options = {"viewport": size, "has_touch": True, "color_scheme": scheme}
    with open_tab(browser, shown.address, **options) as tab:
        tab.goto(PAGE)
        tab.locator("tr[data-region='0'] .row-link").tap()
        tab.locator("[data-verdict=rejected]").tap()
        until(tab, lambda: signs(tab) == ["✗", ""])
        tab.locator("tr[data-region='1'] .row-link").tap()
        tab.locator("[data-verdict=flagged]").tap()
        until(tab, lambda: signs(tab) == ["✗", "⚑"])
        assert tab.locator("[data-verdict=flagged]").get_attribute("aria-pressed") == "true"
        tab.locator("#rename").tap()
        tab.fill("#new-tag", "yacht")
        assert tab.evaluate(CONTRAST) == []
        with tab.expect_navigation():
            tab.locator("#rename-form .primary").tap()
        assert shown.state() == [None, "rejected", "flagged", "yacht"]
        assert tab.evaluate(CONTRAST) == []
        too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert tab.evaluate(too_wide) <= 0
        with tab.expect_navigation():
            tab.locator("#undo").tap()
    assert shown.state() == [None, "rejected", "flagged", None]


def test_two_browsers_mark_at_once_and_see_each_other(browser, shown: Shown) -> None:
    with open_tab(browser, shown.address) as one, open_tab(browser, shown.address) as two:
        for tab, name in ((one, "anna"), (two, "ben")):
            tab.goto(PAGE)
            tab.fill("#by", name)
            tab.locator("#target").click()
        for _ in range(5):  # keys of both, before either is answered
            for tab, key in ((one, "a"), (two, "r")):
                tab.keyboard.press("j")
                tab.keyboard.press(key)
        until(one, lambda: len(read_marks(str(shown.review)).events) == 10)
        events = read_marks(str(shown.review)).events
        assert [event.by for event in events].count("anna") == 5
        two.evaluate("dispatchEvent(new Event('focus'))")
        one.evaluate("dispatchEvent(new Event('focus'))")
        until(one, lambda: signs(one) == signs(two))
        letters = {"accepted": "✓", "rejected": "✗", None: ""}
        assert signs(one) == [letters[value] for value in shown.state()[1:3]]


def test_what_cannot_be_kept_is_said_and_not_shown(browser, shown: Shown) -> None:
    with open_tab(browser, shown.address) as tab:
        tab.goto(PAGE)
        tab.route("**/api/review", lambda route: route.fulfill(status=200, body="half a"))
        tab.keyboard.press("j")
        tab.keyboard.press("r")
        until(tab, lambda: "Nothing was marked: " in tab.inner_text("#review-status"))
        assert signs(tab) == ["", ""]
        tab.unroute("**/api/review")
        press(tab, "r", "rejected region 1")
    assert shown.state() == [None, "rejected", None, None]


def test_three_masks_are_rejected_and_the_rest_is_exported_and_opened(
    browser, viewer: Shown, capfd, monkeypatch
) -> None:
    """By the command that the page shows, in the format that the reader wants."""
    viewer.review.write_bytes(b"")
    folder = viewer.review.parents[1]
    monkeypatch.chdir(folder)
    with open_tab(browser, viewer.address) as tab:
        for image, number in (("00000%2F00000000.png", 1), ("00001%2F00000004.png", 1)):
            tab.goto(f"/image/{image}")
            press(tab, "j r", f"rejected region {number}")
        press(tab, "j r", "rejected region 2")
        tab.goto("/")
        badges = tab.locator(".badge.marks").all_inner_texts()
        assert [text.split() for text in badges] == [["✗1", "rejected"], ["✗2", "rejected"]]
        tab.click("text=Export these images")
        command = tab.inner_text("#export-command")
    words = shlex.split(command.replace("export.json --format coco", "reviewed --format yolo-seg"))
    assert words[0] == "pad-pipeline"
    assert call(capfd, *words[1:], "--images", "images").code == 0
    assert call(capfd, "import", "reviewed", "again", "--format", "yolo-seg").code == 0
    before, after = compute_stats("data"), compute_stats("again")
    assert before.num_regions - after.num_regions == 3
    assert dict(after.top_tags) == {"sail boat": 1, "apple": 1, "çay — bardağı": 1}


def test_views_are_saved_and_marks_taken_back_from_the_list(browser, shown: Shown) -> None:
    with open_tab(browser, shown.address) as tab:
        tab.goto(PAGE)
        press(tab, "j f", "flagged region 1")
        tab.goto("/?review=flagged")
        assert tab.locator(".card").count() == 1
        tab.fill("#save-view input", "to look at")
        with tab.expect_navigation():
            tab.keyboard.press("Enter")
        assert tab.inner_text("#views .chip[aria-current=true] a") == "to look at"
        tab.goto("/review")
        assert tab.evaluate(CONTRAST) == []
        assert tab.locator(".events tbody tr").count() == 2
        with tab.expect_navigation():
            tab.locator(".events tr:has-text('flagged region 1') button").click()
        assert tab.locator(".events tr.undone").count() == 1
        with tab.expect_navigation():
            tab.click("[data-remove='to look at']")
        assert tab.locator("#views .chip").count() == 0
    assert shown.state() == [None] * 4
