"""The page that sends one image to a service."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

from starlette.testclient import TestClient

from tests.view.conftest import open_client
from tests.view.html import page


class Service(BaseHTTPRequestHandler):
    """Stands in for `serve`."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        status, kind, answer = 200, "application/json", b'{"labels": [{"tag": "apple"}]}'
        if body == b"no image":
            status, answer = 400, b'{"error": "not an image"}'
        elif self.path.endswith("render=1"):
            kind, answer = "image/png", b"\x89PNG"
        elif body == b"page":
            kind, answer = "text/html", b"<script>alert(1)</script>"
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def test_an_image_goes_to_the_service_and_its_answer_comes_back(data: Path) -> None:
    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        client = open_client(data, service=f"http://127.0.0.1:{server.server_port}")
        assert "Try an image" in page(client, "/try").text
        answer = client.post("/try/annotate", content=b"an image")
        assert answer.json()["labels"] == [{"tag": "apple"}]
        assert client.post("/try/annotate?render=1", content=b"x").content == b"\x89PNG"
        refused = client.post("/try/annotate", content=b"no image")
        assert (refused.status_code, refused.json()) == (400, {"error": "not an image"})
        assert client.post("/try/annotate", content=b"page").status_code == 502
        elsewhere = {"sec-fetch-site": "cross-site"}
        assert client.post("/try/annotate", content=b"x", headers=elsewhere).status_code == 403
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
    gone = client.post("/try/annotate", content=b"an image")
    assert gone.status_code == 502
    assert "no service answers" in gone.json()["error"]


def test_without_a_service_there_is_no_page_for_it(client: TestClient) -> None:
    assert "--service" in page(client, "/try", 404).text
    assert "Try an image" not in page(client, "/").text
