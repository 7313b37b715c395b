"""The recorded scenes are those of the script, made anew."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.verify.records import RECORDS_FILE, SHIPPED
from tools import record_scenes


def test_the_script_writes_what_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "recorded"
    monkeypatch.setattr(record_scenes, "SHIPPED", made)
    record_scenes.main()
    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in SHIPPED.iterdir())
    for name in names:
        if name.endswith(".png"):
            ours, shipped = (np.asarray(Image.open(folder / name)) for folder in (made, SHIPPED))
            np.testing.assert_array_equal(ours, shipped)
    ours, shipped = (json.loads((folder / RECORDS_FILE).read_text()) for folder in (made, SHIPPED))
    assert [labels(record) for record in ours] == [labels(record) for record in shipped]


def labels(record: dict) -> list[str]:
    return [region["tag"] for region in record["labels"]]
