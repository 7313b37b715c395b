"""The grid of images and its filters."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.view.html import page


def test_the_grid_shows_what_passes(client: TestClient) -> None:
    found = page(client, "/")
    assert "1–7 of 7" in found.text
    assert len([link for link in found.all("a", "href") if link.startswith("/image/")]) == 7
    assert "1–2 of 2" in page(client, "/?tag=apple").text
    assert "1–1 of 1" in page(client, "/?tag=apple&min_score=0.9").text
    assert "No image passes the filters." in page(client, "/?q=elephant").text
    assert "failed" in page(client, "/?status=failed").text


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("min_score=2", "expected min_score between 0 and 1, found '2'"),
        ("min_score=much", "expected min_score between 0 and 1, found 'much'"),
        ("min_area=-1", "expected min_area to be a whole number from 0, found '-1'"),
        ("sort=beauty", "expected sort to be one of order, score"),
        ("status=good", "expected status to be one of ok, empty, failed, found 'good'"),
        ("page=two", "expected page to be a whole number"),
    ],
)
def test_a_value_that_cannot_be_meant_is_one_sentence(client, query: str, sentence: str) -> None:
    assert sentence in page(client, f"/?{query}", 400).text
    if "page" not in query:
        answer = client.get(f"/api/records?{query}")
        assert answer.status_code == 400
        assert sentence in answer.json()["error"]
