"""Bodies: nothing larger, slower or other than expected is read to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from pad_pipeline.serve import request_body
from tests.serve.service import MAX_BODY_BYTES, Service, cause, play, png

BOUNDARY = "simple"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


def part(name: str, value: bytes, file: str | None = None) -> bytes:
    named = f'; filename="{file}"' if file is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + value + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


async def endless(chunk: bytes, read: list[int]) -> AsyncIterator[bytes]:
    for _ in range(1000):
        read.append(len(chunk))
        yield chunk
    pytest.fail("the whole body was read")


def test_a_size_past_the_limit_is_refused_by_its_header() -> None:
    read: list[int] = []

    async def scenario(service: Service) -> httpx.Response:
        headers = {"content-length": str(MAX_BODY_BYTES + 1)}
        return await service.post(content=endless(b"x", read), headers=headers)

    assert cause(play(scenario)) == (413, "too_large")
    assert read == []


@pytest.mark.parametrize(
    ("headers", "start"), [({}, b""), (FORM, part("image", b"", "a.png").removesuffix(b"\r\n"))]
)
def test_a_size_without_a_header_is_bounded_while_it_is_read(
    headers: dict[str, str], start: bytes
) -> None:
    read: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        yield start
        async for chunk in endless(b"x" * 1000, read):
            yield chunk

    async def scenario(service: Service) -> httpx.Response:
        answer = await service.post(content=chunks(), headers=headers)
        assert service.admission.num_admitted == 0
        return answer

    answer = play(scenario)
    assert cause(answer) == (413, "too_large")
    assert answer.headers["connection"] == "close"
    assert sum(read) <= MAX_BODY_BYTES + 2000


def test_a_body_of_exactly_the_limit_is_read() -> None:
    data = png() + bytes(MAX_BODY_BYTES - len(png()))
    assert play(lambda service: service.post(content=data)).status_code == 200


def test_a_slow_body_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield png()[:10]
        await asyncio.sleep(30)

    async def scenario(service: Service) -> httpx.Response:
        answer = await service.post(content=slow())
        assert service.admission.num_admitted == 0
        return answer

    monkeypatch.setattr(
        request_body.read_body, "__kwdefaults__", {"max_images": 1, "timeout_s": 0.05}
    )
    assert cause(play(scenario)) == (408, "slow_body")


FORMS: dict[str, tuple[bytes, tuple[int, str]]] = {
    "no part at all": (END, (400, "no_image")),
    "no image": (part("caption", b"a dog") + END, (400, "no_image")),
    "image without a file name": (part("image", b"text") + END, (400, "no_image")),
    "file of another name": (part("file", png(), "a.png") + END, (422, "bad_parameter")),
    "unknown field": (part("image", png(), "a") + part("x", b"1") + END, (422, "bad_parameter")),
    "field that is too long": (part("caption", b"x" * 70_000) + END, (413, "too_large")),
    "no form": (b"certainly none", (400, "bad_form")),
    "nothing": (b"", (400, "no_image")),
    "part without a name": (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data\r\n\r\nx\r\n".encode() + END,
        (400, "bad_form"),
    ),
}


@pytest.mark.parametrize("case", FORMS)
def test_forms_that_are_not_as_expected(case: str) -> None:
    content, error = FORMS[case]
    answer = play(lambda service: service.post(content=content, headers=FORM))
    assert cause(answer) == error


def test_a_form_without_a_boundary_is_refused() -> None:
    headers = {"content-type": "multipart/form-data"}
    answer = play(lambda service: service.post(content=END, headers=headers))
    assert cause(answer) == (400, "bad_form")


def test_a_compressed_body_is_refused() -> None:
    headers = {"content-encoding": "gzip"}
    answer = play(lambda service: service.post(content=png(), headers=headers))
    assert cause(answer) == (415, "unsupported_type")


def test_several_images_come_as_a_form_only() -> None:
    answer = play(lambda service: service.post("/annotate/batch", content=png()))
    assert cause(answer) == (415, "unsupported_type")


def test_names_are_text_whatever_they_hold() -> None:
    name = "../<b>é 🐕.png"
    files = {"image": (name, png())}
    answer = play(lambda service: service.post(files=files))
    assert answer.json()["image_id"] == name
