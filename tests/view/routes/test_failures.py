"""The page of failures."""

from __future__ import annotations

from pathlib import Path

from starlette.testclient import TestClient

from tests.view.html import page


def test_failures_by_cause_with_the_command(client: TestClient, shared_data: Path) -> None:
    found = page(client, "/failures")
    assert "decode: ImageError" in found.text
    assert f"pad-pipeline retry-failed {shared_data}" in found.text
    [listed] = [link for link in found.all("a", "href") if "cause=" in link]
    assert "1–1 of 1" in page(client, listed).text
