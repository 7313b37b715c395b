"""Static files and the state of the server."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/static/style.css", "text/css"),
        ("/static/tags.css", "text/css"),
        ("/static/page.js", "javascript"),
        ("/static/icon.svg", "image/svg+xml"),
        ("/favicon.ico", "image/svg+xml"),
    ],
)
def test_files_are_kept_by_browsers_for_a_minute(
    client: TestClient, path: str, media_type: str
) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert media_type in answer.headers["content-type"]
    assert answer.headers["cache-control"] == "public, max-age=60"
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_a_file_that_has_not_changed_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/static/style.css").headers["etag"]
    answer = client.get("/static/style.css", headers={"if-none-match": tag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["cache-control"] == "public, max-age=60"


def test_a_file_that_is_not_there_is_an_error_page(client: TestClient) -> None:
    answer = client.get("/static/nothing.css")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
