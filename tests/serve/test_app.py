"""The routes: what a good request gets, and the cause of the error of a bad one."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import asdict

import httpx
import pytest
from PIL import Image

from pad_pipeline.engine.config import AnnotateConfig, DetectConfig
from pad_pipeline.engine.sample import Sample, to_record
from pad_pipeline.records import RecordError
from pad_pipeline.serve.routes import MAX_IMAGES
from tests import fakes
from tests.serve.service import Service, cause, chain, play, png

KEY = "s3cret-key"


def expected(name: str, data: bytes, caption: str | None = None) -> dict:
    """The record's JSON as the stages in this process make it."""
    sample = Sample(image_id=name, uri="", caption=caption, data=data)
    [done] = fakes.build_all({})([sample])
    record = asdict(to_record(done))
    for field in ("tags", "labels"):
        record[field] = [dict(item) for item in record[field]]
    for region in record["labels"]:
        region["bbox"] = list(region["bbox"])
        del region["size"]  # that of the image
    return record


def test_a_body_is_answered_with_its_record() -> None:
    answer = play(lambda service: service.post(content=png()))
    assert answer.status_code == 200
    assert answer.json() == expected("image", png())
    assert len(answer.json()["labels"]) == 2


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/jpeg", "IMAGE/PNG; q=1"])
def test_the_content_decides_about_the_format(kind: str) -> None:
    answer = play(lambda service: service.post(content=png(), headers={"content-type": kind}))
    assert answer.status_code == 200


def test_a_form_gives_the_file_its_name_and_caption() -> None:
    text = 'a "dog" <b>\nکتاب 🐕'
    files, fields = {"image": ("a b.png", png())}, {"caption": text}
    answer = play(lambda service: service.post(files=files, data=fields))
    assert answer.json() == expected("a b.png", png(), text)


def test_an_image_without_regions_is_empty() -> None:
    answer = play(lambda service: service.post(content=png(shade=0)))
    assert (answer.status_code, answer.json()["status"]) == (200, "empty")


def test_a_picture_is_drawn_where_one_is_asked_for() -> None:
    answer = play(lambda service: service.post("/annotate?render=1", content=png()))
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.content)).convert("RGB")
    assert len(picture.getcolors(10**6) or []) > 10  # the image itself has one colour


async def ask_about_regions(service: Service, query: str) -> list[str]:
    answer = await service.post(f"/annotate?{query}", content=png())
    assert answer.status_code == 200, answer.text
    return [region["tag"] for region in answer.json()["labels"]]


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        ("", ["sky", "sun hat"]),
        ("min_score=0.9", ["sky"]),
        ("box_threshold=0.9", []),  # strictly above, as the detector itself
        ("box_threshold=0.5", ["sky"]),
        ("box_threshold=0.49", ["sky", "sun hat"]),
        ("tags=sun+hat", ["sun hat"]),
        ("exclude_tags=sky&exclude_tags=sea", ["sun hat"]),
        ("min_area=301", []),
        ("min_predicted_iou=0.8", []),
    ],
)
def test_thresholds_choose_the_regions_of_one_answer(query: str, tags: list[str]) -> None:
    assert play(lambda service: ask_about_regions(service, query)) == tags


def test_a_form_overrides_the_query() -> None:
    files, fields = {"image": ("a.png", png())}, {"tags": ["sun hat", "sea"], "min_score": "0.1"}
    path = "/annotate?tags=sky&min_score=0.99"
    answer = play(lambda service: service.post(path, files=files, data=fields))
    assert [region["tag"] for region in answer.json()["labels"]] == ["sun hat"]


BAD_PARAMETERS = {
    "min_scor=1": "there is no parameter 'min_scor'",
    "min_score=2": "min_score: Input should be less than or equal to 1",
    "min_score=nan": "min_score",
    "min_area=a": "min_area",
    "box_threshold=0.1": "below the service's own of 0.2 (detect.box_threshold)",
    "min_area=9&max_area=1": "no region can pass",
    "tags=a&exclude_tags=a": "both selected and excluded",
}


@pytest.mark.parametrize("query", BAD_PARAMETERS)
def test_wrong_parameters_are_named(query: str) -> None:
    answer = play(lambda service: service.post(f"/annotate?{query}", content=png()))
    assert cause(answer) == (422, "bad_parameter")
    assert BAD_PARAMETERS[query] in answer.json()["error"]["message"]
    fields: dict[str, list[str]] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        fields.setdefault(name, []).append(value)
    files = {"image": ("a.png", png())}
    answer = play(lambda service: service.post(files=files, data=fields))
    assert cause(answer) == (422, "bad_parameter")
    assert BAD_PARAMETERS[query] in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (b"<html></html>", "a web page"),
        (png()[:60], "damaged"),
    ],
)
def test_what_is_no_image_is_an_error(data: bytes, message: str) -> None:
    answer = play(lambda service: service.post(content=data))
    assert cause(answer) == (400, "not_an_image")
    assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_an_image_is_one_whatever_type_it_is_sent_as(kind: str) -> None:
    headers = {"content-type": kind}
    answer = play(lambda service: service.post(content=png(), headers=headers))
    assert answer.status_code == 200
    assert answer.json() == expected("image", png())
    answer = play(lambda service: service.post(content=b"name=dog", headers=headers))
    assert cause(answer) == (400, "not_an_image")


def test_several_images_are_answered_in_order_each_with_its_status() -> None:
    sent = {"b.png": png(), "a.txt": b"text", "c.png": png(0)}
    files = [("image", (name, data)) for name, data in sent.items()]
    fields = {"caption": ["one", "two", "three"]}
    answer = play(lambda service: service.post("/annotate/batch", files=files, data=fields))
    assert answer.status_code == 200
    records = answer.json()
    assert records[0] == expected("b.png", png(), "one")
    assert [record["status"] for record in records] == ["ok", "failed", "empty"]
    assert [record["caption"] for record in records] == ["one", "two", "three"]
    assert records[1]["error"]["stage"] == "decode"


def test_captions_must_be_as_many_as_images() -> None:
    files = [("image", ("a.png", png())), ("image", ("b.png", png()))]
    fields = {"caption": ["one"]}
    answer = play(lambda service: service.post("/annotate/batch", files=files, data=fields))
    assert cause(answer) == (422, "bad_parameter")


def given_boxes() -> AnnotateConfig:
    return fakes.config(detect=DetectConfig(model="fake", from_="boxes"))


def test_classes_of_a_request_take_the_taggers_place() -> None:
    async def scenario(service: Service) -> list[list[tuple[str, str]]]:
        url = "/annotate?classes=red car&classes=dog, sky"
        answers = [
            await service.post(url, content=png()),
            await service.post(files={"image": png()}, data={"classes": "red car, dog,sky"}),
        ]
        return [[(t["tag"], t["origin"]) for t in one.json()["tags"]] for one in answers]

    words = [("red car", "classes"), ("dog", "classes"), ("sky", "classes")]
    assert play(scenario) == [words, words]


def test_boxes_of_a_request_take_the_detectors_place() -> None:
    boxes = json.dumps([[1, 2, 5, 6], {"bbox": [0, 0, 9, 9], "label": "cat", "score": 0.75}])
    answer = play(lambda service: service.post(files={"image": png()}, data={"boxes": boxes}))
    assert [(one["tag"], one["bbox"], one["score"]) for one in answer.json()["labels"]] == [
        ("object", [1, 2, 5, 6], 1.0),
        ("cat", [0, 0, 9, 9], 0.75),
    ]
    files = [("image", ("a.png", png())), ("image", ("b.png", png()))]
    fields = {"boxes": f"[{boxes}, null]"}
    answer = play(lambda service: service.post("/annotate/batch", files=files, data=fields))
    first, second = answer.json()
    assert [one["origin"] for one in first["labels"]] == ["boxes", "boxes"]
    assert [one["origin"] for one in second["labels"]] == ["model", "model"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"boxes": "[1, 2"}, "boxes: not valid JSON"),
        ({"boxes": "[" * 3_000}, "boxes: not valid JSON"),
        ({"boxes": "[[1, 2, 3]]"}, "boxes: box 1 should be four numbers (xyxy)"),
        ({"boxes": "[[1, 2, 1, 4]]"}, "image image: box 1 has no area"),
        ({"boxes": "[[NaN, 2, 1, 4]]"}, "image image: box 1 is not finite"),
        ({"classes": " , "}, "classes holds no words"),
    ],
)
def test_wrong_classes_and_boxes_are_named(fields: dict[str, str], message: str) -> None:
    files = {"image": ("image", png())}
    answer = play(lambda service: service.post(files=files, data=fields))
    assert cause(answer) == (422, "bad_parameter")
    assert message in answer.json()["error"]["message"]


def test_a_file_of_the_server_is_no_list_of_classes(tmp_path) -> None:
    (tmp_path / "secret.txt").write_text("password")
    query = {"classes": str(tmp_path / "secret.txt")}
    answer = play(lambda service: service.post(content=png(), params=query))
    assert "password" not in answer.text


def test_what_no_model_finds_must_be_given() -> None:
    answer = play(lambda service: service.post(content=png()), config=given_boxes())
    assert cause(answer) == (422, "bad_parameter")
    assert "no boxes are given for image, and no detector is loaded" in answer.text
    files = [("image", ("a.png", png())), ("image", ("b.png", png()))]
    fields = {"boxes": "[[]]"}
    answer = play(lambda service: service.post("/annotate/batch", files=files, data=fields))
    assert "a list of boxes, or null, for each of the 2 images" in answer.text


def test_too_many_images_are_refused_before_they_are_kept() -> None:
    def scenario(path: str, number: int, **changes: int):
        files = [("image", (f"{index}.png", b"x")) for index in range(number)]
        return cause(play(lambda service: service.post(path, files=files), **changes))

    assert scenario("/annotate", 2) == (413, "too_many_images")
    assert scenario("/annotate/batch", 5, max_queued=4) == (413, "too_many_images")
    assert scenario("/annotate/batch", MAX_IMAGES + 1, max_queued=999) == (413, "too_many_images")


def test_a_stage_that_fails_on_one_image_says_so() -> None:
    async def annotate(sample: Sample) -> Sample:
        sample.error = RecordError("detect", "ValueError", "no such thing")
        return sample

    answer = play(lambda service: service.post(content=png()), annotate)
    assert cause(answer) == (500, "stage_failed")
    assert "detect failed on this image: ValueError: no such thing" in answer.text


def test_a_fault_of_the_service_is_json_too() -> None:
    async def annotate(sample: Sample) -> Sample:
        raise ZeroDivisionError("private matters")

    answer = play(lambda service: service.post(content=png()), annotate)
    assert cause(answer) == (500, "internal")
    assert "private" not in answer.text


def test_an_image_without_an_end_is_answered() -> None:
    async def annotate(sample: Sample) -> Sample:
        await asyncio.sleep(60)
        return sample

    async def scenario(service: Service) -> httpx.Response:
        answer = await service.post(content=png())
        assert service.admission.num_admitted == 0
        return answer

    assert cause(play(scenario, annotate, timeout_s=0.05)) == (504, "timeout")


@pytest.mark.parametrize(
    ("method", "path", "error"),
    [("GET", "/annotat", (404, "not_found")), ("GET", "/annotate", (405, "method_not_allowed"))],
)
def test_other_paths_and_methods_are_json_errors(method: str, path: str, error: tuple) -> None:
    answer = play(lambda service: service.client.request(method, path))
    assert cause(answer) == error


def test_probes_distinguish_alive_from_ready() -> None:
    async def scenario(service: Service) -> None:
        for state, ready in (("loading", 503), ("ready", 200), ("draining", 503)):
            service.admission.state = state  # pyright: ignore[reportAttributeAccessIssue]
            assert (await service.client.get("/healthz")).status_code == 200
            answer = await service.client.get("/readyz")
            assert answer.status_code == ready
            if ready == 503:
                assert cause(answer) == (503, state)
                answer = await service.post(content=png())
                assert cause(answer) == (503, state)
                assert int(answer.headers["retry-after"]) > 0

    play(scenario)


def test_without_a_key_none_is_required() -> None:
    headers = {"authorization": "Bearer anything"}
    answer = play(lambda service: service.post(content=png(), headers=headers))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({}, (401, "no_api_key")),
        ({"authorization": f"Basic {KEY}"}, (401, "no_api_key")),
        ({"authorization": "Bearer other"}, (403, "wrong_api_key")),
        ({"x-api-key": KEY + "x"}, (403, "wrong_api_key")),
        ({"x-api-key": "ключ".encode()}, (403, "wrong_api_key")),
    ],
)
def test_a_wrong_key_opens_nothing_but_the_probes(headers: dict, error: tuple) -> None:
    async def metrics() -> str:
        return "pad_images 1\n"

    async def scenario(service: Service) -> None:
        assert cause(await service.post(content=png(), headers=headers)) == error
        batch = await service.post("/annotate/batch", files={"image": b"x"}, headers=headers)
        assert cause(batch) == error
        assert cause(await service.client.get("/metrics", headers=headers)) == error
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert (await service.client.get(path, headers=headers)).status_code == 200

    play(scenario, api_key=KEY, metrics=metrics)


@pytest.mark.parametrize("headers", [{"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}])
def test_the_key_opens_in_either_header(headers: dict[str, str]) -> None:
    answer = play(lambda service: service.post(content=png(), headers=headers), api_key=KEY)
    assert answer.status_code == 200


def test_metrics_are_passed_on() -> None:
    async def metrics() -> str:
        return "pad_images 1\n"

    answer = play(lambda service: service.client.get("/metrics"), metrics=metrics)
    assert (answer.status_code, answer.text) == (200, "pad_images 1\n")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_the_page_needs_nothing_from_outside() -> None:
    headers = {"host": "127.0.0.1:8123"}
    answer = play(lambda service: service.client.get("/docs", headers=headers))
    assert "POST /annotate/batch" in answer.text
    assert "min_predicted_iou" in answer.text
    assert "http://127.0.0.1:8123/annotate" in answer.text
    for loaded in ("<script", "<link", "<img", "src=", "@import", "url("):
        assert loaded not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_the_front_page_leads_to_the_documentation() -> None:
    answer = play(lambda service: service.client.get("/"))
    assert (answer.status_code, answer.headers["location"]) == (307, "docs")


def test_neighbours_do_not_share_thresholds() -> None:
    async def scenario(service: Service) -> list[list[str]]:
        queries = ["min_score=0.9", "", "tags=sun+hat", ""]
        return await asyncio.gather(*(ask_about_regions(service, query) for query in queries))

    both = ["sky", "sun hat"]
    assert play(scenario, chain()) == [["sky"], both, ["sun hat"], both]
