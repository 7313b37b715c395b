"""One image in the terminal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog
from tests.cli.runner import call
from tests.dataset.example import example_records, record, write_dataset, write_images


@pytest.fixture
def data(tmp_path: Path) -> str:
    records = example_records()
    records[4] = replace(records[4], caption="\x1b[31mred\x07 [bold]\nline")
    write_images(tmp_path / "images", records)
    return write_dataset(tmp_path / "data", records)


def test_regions_are_a_table(capfd, data: str) -> None:
    done = call(capfd, "show", data, example_records()[0].image_id)
    assert done.code == 0, done.err
    for text in ("40×30", "ok", "picture number 0", "apple", "0.90", "sail boat", "4, 3, 20, 17"):
        assert text in done.out
    assert "▀" not in done.out  # no terminal


def test_a_caption_cannot_steer_the_terminal(capfd, data: str) -> None:
    done = call(capfd, "show", data, example_records()[4].image_id)
    assert "\x1b" not in done.out
    assert "\x07" not in done.out
    assert "[bold]" in done.out


def test_a_terminal_with_colours_gets_a_picture(
    capfd, data: str, tmp_path: Path, monkeypatch
) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("COLORTERM", "truecolor"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    image_id = example_records()[0].image_id
    found = call(capfd, "show", data, image_id, "--images", tmp_path / "images", "--width", 20)
    assert found.code == 0, found.err
    assert sum("▀" * 20 in line for line in stripped(found.out)) == 8  # 40×30 pixels to 20×15
    without = call(capfd, "show", data, image_id, "--images", tmp_path / "images", "--width", 0)
    assert "▀" not in without.out
    gone = call(capfd, "show", data, image_id)
    assert gone.code == 0
    assert "shown without its picture" in gone.err


def stripped(text: str) -> list[str]:
    import re

    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in text.splitlines()]


def test_failed_and_unknown_images_are_explained(capfd, data: str) -> None:
    done = call(capfd, "show", data, example_records()[2].image_id)
    assert "failed: decode: ImageError: the file is empty (0 bytes)" in done.out
    assert "has no image called 'x.png'" in call(capfd, "show", data, "x.png").sentence
    assert "at least 0 columns" in call(capfd, "show", data, "x", "--width", -1).sentence


def test_the_end_of_an_id_is_enough_where_it_is_the_only_one(capfd, tmp_path: Path) -> None:
    ids = ("a/bus.jpg", "a/car.jpg", "b/car.jpg", "car.jpeg", "minibus.jpg")
    data = write_dataset(
        tmp_path / "data", [record(number, image_id=name) for number, name in enumerate(ids)]
    )
    shown = call(capfd, "show", data, "bus.jpg")
    assert shown.code == 0
    assert shown.out.startswith("a/bus.jpg")
    assert call(capfd, "show", data, "b/car.jpg").out.startswith("b/car.jpg")
    several = call(capfd, "show", data, "car.jpg").sentence
    assert "several images called 'car.jpg': a/car.jpg, b/car.jpg" in several
    assert "no image called 'us.jpg'" in call(capfd, "show", data, "us.jpg").sentence


def test_marks_are_shown_and_leave_out_what_is_asked_for(capfd, data: str) -> None:
    first, second = example_records()[0], example_records()[3]
    digests = [region_digest(region) for region in first.labels]
    log = ReviewLog(f"{data}/_review.jsonl")
    for kind, values in (
        ("verdict", {"image": first.image_id, "value": "flagged"}),
        ("verdict", {"image": first.image_id, "region": 0, "digest": digests[0]}),
        ("tag", {"image": first.image_id, "region": 1, "digest": digests[1], "value": "yacht"}),
        ("verdict", {"image": second.image_id, "value": "rejected"}),
    ):
        log.write(new_event(kind, "anna", **{"value": "rejected", **values}))
    shown = call(capfd, "show", data, first.image_id)
    for text in ("flagged by anna", "rejected by anna", "apple", "yacht (was sail boat)"):
        assert text in shown.out
    left = call(capfd, "show", data, first.image_id, "--without-rejected")
    assert "yacht" in left.out
    assert "0.90" not in left.out
    gone = call(capfd, "show", data, second.image_id, "--without-rejected")
    assert gone.code == 1
    assert "is rejected or not accepted in" in gone.err
    assert "show it without --only-accepted and --without-rejected" in gone.err
    assert "rejected by anna" in call(capfd, "show", data, second.image_id).out
    assert call(capfd, "show", data, second.image_id, "--review", "no.jsonl").code == 1
