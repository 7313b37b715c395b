"""The images of a request: raw body or multipart form, bounded while they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from pad_pipeline.serve.api_error import ApiError

READ_TIMEOUT_S = 60.0
MAX_FIELDS = 200
MAX_FIELD_BYTES = 64 * 1024

_FORM = "multipart/form-data"
_IMAGE_FIELDS = ("image", "images")


@dataclass(frozen=True, slots=True)
class Upload:
    """One encoded image as it was sent; `name` is the file name of a form's part."""

    data: bytes
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """The images of a request, and the text fields of its form in their order."""

    uploads: Sequence[Upload]
    fields: Sequence[tuple[str, str]] = ()


def check_headers(request: Request, max_bytes: int, *, form_only: bool = False) -> None:
    """Raise `ApiError` by the headers: 415 for a body that cannot be read, 413 past the limit.

    Nothing of the body is read. A body that is no form is an image whatever type it is sent as, as
    curl names every body of --data-binary a form's fields; its content decides.
    """
    kind = _media_type(request)
    if form_only and kind != _FORM:
        raise ApiError(
            415, "unsupported_type", f"expected a body of type {_FORM}, found {kind or 'none'}"
        )
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise ApiError(415, "unsupported_type", f"expected no content encoding, found {encoding}")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)


async def read_body(
    request: Request, max_bytes: int, *, max_images: int = 1, timeout_s: float = READ_TIMEOUT_S
) -> Body:
    """The images and fields of a request whose headers have been checked.

    Raises `ApiError`: 413 as soon as more than `max_bytes` have come, or where there are more than
    `max_images`; 408 where the body takes longer than `timeout_s`; 400 where it is no form that can
    be read, or holds no image.
    """
    stream = _bounded(request, max_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            if _media_type(request) != _FORM:
                return Body([Upload(b"".join([chunk async for chunk in stream]))])
            return await _read_form(request, stream, max_images)
    except TimeoutError:
        raise ApiError(
            408, "slow_body", f"the body was not complete after {timeout_s:g} s", _CLOSE
        ) from None
    except ClientDisconnect:
        raise ApiError(400, "incomplete_body", "the connection ended within the body") from None


_CLOSE = {"Connection": "close"}


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes, _CLOSE)
        yield chunk


async def _read_form(request: Request, stream: AsyncGenerator[bytes], max_images: int) -> Body:
    parser = MultiPartParser(
        request.headers,
        stream,
        max_files=max_images + 1,
        max_fields=MAX_FIELDS,
        max_part_size=MAX_FIELD_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "Too many files" in error.message:
            raise _too_many(max_images) from None
        raise ApiError(400, "bad_form", f"the form cannot be read: {error.message}") from None
    try:
        return await _split(form, max_images)
    finally:
        await form.close()


async def _split(form: FormData, max_images: int) -> Body:
    """The parts named image are images, with a file name or without; all others are fields."""
    uploads: list[Upload] = []
    fields: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name not in _IMAGE_FIELDS:
                raise ApiError(
                    422, "bad_parameter", f"expected files named image only, found {name!r}"
                )
            uploads.append(Upload(await value.read(), value.filename or None))
        elif name in _IMAGE_FIELDS:
            raise ApiError(
                400, "no_image", f"the part {name!r} has no file name, so it was read as text"
            )
        else:
            fields.append((name, value))
    if not uploads:
        raise ApiError(400, "no_image", "expected a file named image in the form, found none")
    if len(uploads) > max_images:
        raise _too_many(max_images)
    return Body(uploads, fields)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _too_large(max_bytes: int, headers: dict[str, str] | None = None) -> ApiError:
    message = f"the body is larger than the limit of {max_bytes:,} bytes (max_body_bytes)"
    return ApiError(413, "too_large", message, headers)


def _too_many(max_images: int) -> ApiError:
    where = "; /annotate/batch takes several" if max_images == 1 else ""
    return ApiError(413, "too_many_images", f"expected at most {max_images} images{where}")
