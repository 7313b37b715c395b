"""Filters from an address and back; what is wrong with a parameter, as a sentence."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from pydantic import ValidationError
from starlette.testclient import TestClient

from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.filters import Filters, tag_address
from pad_pipeline.view.parameters import describe
from tests.dataset.example import example_records
from tests.view.html import page

FILTERS = (
    Filters(),
    Filters(tag=("apple", "sail boat"), min_score=0.25, sort="score"),
    Filters(tag=("a&b",), boxed="no", reverse=True),
    Filters(status="failed", cause="decode: ImageError", min_regions=0, max_regions=3),
    Filters(q="red car", image="0001/", min_area=60, min_iou=0.5),
)


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_an_address_holds_all_of_the_filters(filters: Filters) -> None:
    pairs = parse_qsl(filters.query(), keep_blank_values=True)
    values = {name: value for name, value in pairs if name != "tag"}
    tags = tuple(value for name, value in pairs if name == "tag")
    assert Filters.model_validate({**values, "tag": tags}) == filters


def test_changes_to_an_address() -> None:
    filters = Filters(tag=("apple",), min_score=0.5)
    assert filters.address("/", page=3) == "/?tag=apple&min_score=0.5&page=3"
    assert filters.address("/", min_score=None) == "/?tag=apple"
    assert filters.address("/", tag=(), min_score=None) == "/"
    assert filters.address("/", region=0) == "/?tag=apple&min_score=0.5&region=0"
    assert tag_address("apple", boxed="no") == "/?tag=apple&boxed=no"


def test_order_alone_leaves_nothing_out() -> None:
    assert not Filters(sort="score", reverse=True).any
    assert Filters(min_score=0.0).any


def test_tags_are_distinct_and_not_empty() -> None:
    assert Filters(tag=("apple", "", "boat", "apple")).tag == ("apple", "boat")


def test_the_empty_fields_of_a_form_count_as_absent(client: TestClient) -> None:
    names = ("tag", "boxed", "status", "cause", "q", "image", "min_score", "min_area", "min_iou")
    names += ("min_regions", "max_regions", "sort", "reverse", "page")
    assert "1–7 of 7" in page(client, "/?" + "&".join(f"{name}=" for name in names)).text
    assert client.get("/api/records?limit=&offset=&min_score=%20").json()["limit"] == 100


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"min_score": "nan"}, "expected min_score between 0 and 1, found 'nan'"),
        ({"min_iou": "-0.1"}, "expected min_iou between 0 and 1, found '-0.1'"),
        ({"min_area": "1e3"}, "expected min_area to be a whole number from 0, found '1e3'"),
        ({"max_regions": "9" * 5000}, "expected max_regions to be a whole number from 0, found"),
        ({"min_area": str(10**15)}, "expected min_area of at most 999,999,999,999,999, found 1,00"),
        ({"boxed": "yes"}, "expected boxed to be one of no, found 'yes'"),
        ({"reverse": "perhaps"}, "expected reverse to be 0 or 1, found 'perhaps'"),
    ],
)
def test_what_is_wrong_is_one_short_sentence(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Filters.model_validate(values)
    [error] = raised.value.errors()
    assert describe(error).startswith(sentence)
    assert len(describe(error)) < 160


def test_a_path_that_cannot_be_meant_is_an_error_page(client: TestClient) -> None:
    name = example_records()[0].image_id
    assert "there is no such page" in page(client, of_image(name, "layer/first/fill"), 404).text
