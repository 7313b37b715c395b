"""The records that ship with the package: reproduced here, and every kind of difference is seen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.records import PadRecord
from pad_pipeline.verify import records
from pad_pipeline.verify.records import RECORDS_FILE, SHIPPED
from pad_pipeline.verify.rows import VerifyRow
from pad_pipeline.verify.run import verify


@pytest.fixture(scope="module")
def found() -> list[PadRecord]:
    """What the models find in the shipped scenes."""
    names = [entry["image_id"] for entry in json.loads((SHIPPED / RECORDS_FILE).read_text())]
    return records.annotate(SHIPPED, names, Runtime())


@pytest.fixture(autouse=True)
def annotated_once(found: list[PadRecord], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "annotate", lambda directory, names, runtime: found)


@pytest.fixture
def altered(tmp_path: Path) -> Callable[..., dict[str, VerifyRow]]:
    """A function that changes the records of a copy and returns the rows by name."""

    def run(change: Callable[[list[dict[str, Any]]], None]) -> dict[str, VerifyRow]:
        folder = tmp_path / "recorded"
        shutil.copytree(SHIPPED, folder)
        recorded = json.loads((folder / RECORDS_FILE).read_text())
        change(recorded)
        (folder / RECORDS_FILE).write_text(json.dumps(recorded))
        return {row.name: row for row in verify(folder)}

    return run


def failed(rows: dict[str, VerifyRow]) -> list[str]:
    return [name for name, row in rows.items() if not row.ok]


def test_the_shipped_records_are_reproduced() -> None:
    rows = verify(SHIPPED)
    assert [row for row in rows if not row.ok] == []
    recorded = json.loads((SHIPPED / RECORDS_FILE).read_text())
    assert len(rows) == 7 * len(recorded)
    assert all(row.max_abs_difference is not None for row in rows)
    for record in recorded:
        assert record["status"] == "ok"
        assert len(record["labels"]) >= 3


def test_numbers_beyond_the_tolerance_fail_their_rows_alone(altered: Any) -> None:
    def nudge(recorded: list[dict[str, Any]]) -> None:
        first, second = recorded
        first["tags"][0]["score"] -= 2e-4
        first["labels"][0]["bbox"][2] += 2e-4 * max(first["width"], first["height"])
        second["labels"][1]["score"] += 2e-4
        second["labels"][1]["predicted_iou"] += 2e-4

    assert failed(altered(nudge)) == [
        "scene_0.png tag scores",
        "scene_0.png boxes",
        "scene_1.png scores",
        "scene_1.png predicted IoU",
    ]


def test_another_tag_label_or_mask_fails(altered: Any) -> None:
    def change(recorded: list[dict[str, Any]]) -> None:
        first, second = recorded
        second["labels"].pop()
        region, size = first["labels"][0], (first["height"], first["width"])
        mask = masks.decode(region["rle_mask"], *size)
        mask[: size[0] // 20] ^= True
        region["rle_mask"] = masks.encode(mask)

    rows = altered(change)
    assert failed(rows) == ["scene_0.png masks", "scene_1.png labels"]
    assert "scene_1.png boxes" not in rows


def test_records_of_another_form_are_refused(altered: Any) -> None:
    with pytest.raises(UserError, match=r"does not have the form of recorded outputs: 'labels'"):
        altered(lambda recorded: recorded[0].pop("labels"))
