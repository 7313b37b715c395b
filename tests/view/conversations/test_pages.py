from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from pad_pipeline.cognition.decoding import load_decoder
from pad_pipeline.cognition.run import make_conversations
from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.vq.load import load_image_coder
from pad_pipeline.view.conversations.app import make_app
from pad_pipeline.view.conversations.entries import ConversationPages, answer_of
from pad_pipeline.view.reconstructions import read_vlsa_run
from tests.cli.runner import call
from tests.cognition.samples import entry, read_lines, small_config, write_model, write_source
from tests.view.html import page
from tests.view.vlsa_run import write_vlsa_run

TEXT = {"id": "text", "conversations": [{"from": "human", "value": "<b>Hi</b>"}]}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("conversations")
    entries = [entry(0), TEXT, *(entry(n) for n in range(1, 9)), "no entry"]
    source = write_source(folder / "in", entries, range(9))
    config = small_config(write_model(folder), rows_per_shard=9, max_failed_share=1)
    make_conversations(str(source), str(folder / "out"), config)
    return folder / "out"


@pytest.fixture(scope="module")
def client(output: Path) -> TestClient:
    return TestClient(
        make_app(ConversationPages(str(output), None)), base_url="http://127.0.0.1:8500"
    )


def picture(client: TestClient, address: str) -> np.ndarray:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))


def test_a_page_has_each_image_its_indices_and_colours_and_all_turns(client: TestClient) -> None:
    first = page(client, "/")
    assert "11 conversations, 9 with a question for indices" in first.text
    assert "File 1 of 2, 1–6 of 9" in first.text
    pictures = [src for src in first.all("img", "src") if "/static/" not in src]
    assert pictures[:3] == ["/frame/0/0", "/indices/0/0", "/colours/0/0"]
    assert len(pictures) == 15
    assert "so you should generate 4 indices" in first.text
    assert "No questions were added." in first.text
    assert "<b>Hi</b>" in first.text
    assert "more characters" in first.text
    addresses = first.all("a", "href")
    assert "/?shard=0&start=6" in addresses
    last = page(client, "/?shard=1&start=0")
    assert "File 2 of 2, 1–2 of 2" in last.text


def test_the_pictures_are_those_of_the_answers(client: TestClient, output: Path) -> None:
    line = read_lines(output)[0]
    for level, address in (("high", "/indices/0/0"), ("low", "/colours/0/0")):
        found = answer_of(line, level)
        assert found is not None
        rows, columns = found[1]["grid"]
        drawn = picture(client, address)
        cells = drawn[:: drawn.shape[0] // rows, :: drawn.shape[1] // columns]
        values = values_of(found[0]).reshape(rows, columns, -1)
        if level == "low":
            assert np.array_equal(cells, values)
        same_value = (values[:, :, None, None] == values[None, None]).all(-1)
        same_colour = (cells[:, :, None, None] == cells[None, None]).all(-1)
        assert np.array_equal(same_value, same_colour)
    frame = picture(client, "/frame/0/0")
    x0, y0, x1, _ = (side * 336 // 32 for side in line["cognition"][0]["box"])
    assert (frame[y0, x0:x1] == 255).all()
    assert frame.shape == (336, 336, 3)


def test_indices_are_decoded_by_the_model_that_gave_them(output: Path) -> None:
    pages = ConversationPages(str(output), None)
    decoder = load_decoder(pages.manifest)
    client = TestClient(make_app(pages, decoder=decoder), base_url="http://127.0.0.1:8500")
    assert "/decoded/0/0" in page(client, "/").all("img", "src")
    found = answer_of(read_lines(output)[0], "high")
    assert found is not None
    drawn = picture(client, "/decoded/0/0")
    indices = values_of(found[0]).reshape(found[1]["grid"])
    coder = load_image_coder(output.parent / "vq8", Runtime())
    assert np.array_equal(drawn[::21, ::21], coder.decode([indices])[0])  # 336 for 16 pixels


def test_a_page_says_why_indices_are_not_decoded(output: Path, tmp_path: Path, capfd) -> None:
    pages = ConversationPages(str(output), None)
    hub = {"codes": {"model": "owner/name", "checksum": "hub:owner/name@1"}}
    with pytest.raises(UserError, match="is a model of the hub; give it by codes='owner/name'"):
        load_decoder(hub)
    with pytest.raises(UserError, match="its checksum is another; give that one by codes"):
        load_decoder(pages.manifest, "embedded")
    client = TestClient(make_app(pages, decoder="it is gone"), base_url="http://127.0.0.1:8500")
    assert "not decoded to pictures: it is gone." in page(client, "/").text
    assert not any("decoded" in address for address in page(client, "/").all("img", "src"))
    assert "it is gone" in page(client, "/decoded/0/0", 404).text
    for flag, value, sentence in (
        ("--codes", "nowhere.ckpt", "there is no model 'nowhere.ckpt'"),
        ("--codes", "embedded", "its checksum is another; give that one by --codes"),
        ("--run", tmp_path, "is no run of `train vlsa`, which alone can be shown beside"),
        ("--review", "marks", "--review is for data sets"),
    ):
        assert sentence in call(capfd, "view", output, flag, value, "--port", 0).sentence


def test_reconstructions_of_a_run_stand_above(output: Path, tmp_path: Path) -> None:
    run = read_vlsa_run(str(write_vlsa_run(tmp_path / "stage3", "vlsa-3")))
    pages = ConversationPages(str(output), None)
    client = TestClient(make_app(pages, vlsa_runs=[run]), base_url="http://127.0.0.1:8500")
    assert "stage 3 after VLSA" in page(client, "/").text
    assert picture(client, "/runs/reconstructions/0").shape == (12, 20, 3)
    assert "there is no such picture" in page(client, "/runs/reconstructions/1", 404).text


def values_of(answer: str) -> np.ndarray:
    return np.array(json.loads(answer[answer.index("[") : answer.rindex("]") + 1]))


@pytest.mark.parametrize(
    ("address", "status", "sentence"),
    [
        ("/?shard=2", 404, "there are 2 files, numbered from 0"),
        ("/?shard=x", 400, "expected shard to be a whole number from 0, found 'x'"),
        ("/frame/0/1", 404, "this conversation has no image"),
        ("/indices/0/1", 404, "this conversation has no indices"),
        ("/colours/0/99", 404, "there is no such conversation"),
        ("/frame/7/0", 404, "there is no such conversation"),
        ("/nothing", 404, "Not Found"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    client: TestClient, address: str, status: int, sentence: str
) -> None:
    assert sentence in page(client, address, status).text


def test_an_image_that_is_gone_is_one_sentence(client: TestClient, output: Path) -> None:
    (output.parent / "in/00008.png").unlink()
    assert "the image cannot be read" in page(client, "/frame/1/0", 404).text
    assert "00008.png" in page(client, "/?shard=1").text
