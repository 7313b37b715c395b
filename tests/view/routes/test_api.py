"""Records as JSON."""

from __future__ import annotations

from starlette.testclient import TestClient

from tests.dataset.example import example_records


def test_the_records_as_json(client: TestClient) -> None:
    found = client.get("/api/records?tag=apple&limit=1&offset=1").json()
    assert (found["total"], found["limit"], found["offset"]) == (2, 1, 1)
    [one] = found["records"]
    expected = example_records()[3]
    assert one["image_id"] == expected.image_id
    assert one["labels"][0]["bbox"] == list(expected.labels[0].bbox)
    assert one["labels"][0]["area"] == expected.labels[0].area
    assert one["caption"] is None
    assert client.get("/api/records?limit=1001").status_code == 400
    failed = client.get("/api/records?status=failed").json()["records"][0]
    assert failed["error"]["type"] == "ImageError"
