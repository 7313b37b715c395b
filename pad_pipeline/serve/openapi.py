"""The parts of the OpenAPI document that the routes' signatures do not show: bodies, pictures."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from pad_pipeline.records import PadRecord
from pad_pipeline.serve.parameters import AnnotateOptions, BatchOptions

_FILE = {"type": "string", "format": "binary"}


def _form(options: type[BaseModel], image: dict[str, Any]) -> dict[str, Any]:
    fields = options.model_json_schema()["properties"]
    return {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {"image": image, **fields},
            "additionalProperties": False,
        }
    }


def _body(content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}}


IMAGE_BODY = _body(
    {
        "application/octet-stream": {"schema": _FILE},
        "image/*": {"schema": _FILE},
        "application/x-www-form-urlencoded": {"schema": _FILE},
        "multipart/form-data": _form(AnnotateOptions, _FILE),
    }
)
BATCH_BODY = _body(
    {"multipart/form-data": _form(BatchOptions, {"type": "array", "items": _FILE, "minItems": 1})}
)
RECORD_OR_PICTURE: dict[str, Any] = {
    "model": PadRecord,
    "description": "The record, or with render=1 the picture.",
    "content": {"image/png": {"schema": _FILE}},
}
