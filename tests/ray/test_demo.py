"""`pad-pipeline demo`: what it writes, and that the same command again changes nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.validate import validate
from tests.cli import place as cli_place
from tests.cli.runner import call

pytestmark = pytest.mark.ray

NUM_IMAGES = 6
SEED = 2


OPTIONS = ("--num-images", str(NUM_IMAGES), "--seed", str(SEED))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, ray_address: str) -> tuple[Path, str]:
    """The demo's folder, as a process on a Ray that it joins has made it, and its output."""
    folder = tmp_path_factory.mktemp("demo") / "D"
    done = subprocess.run(
        [sys.executable, "-m", "pad_pipeline", "demo", "--output", folder, *OPTIONS],
        env={**os.environ, "RAY_ADDRESS": ray_address},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder, done.stdout


def test_it_prints_the_quality_and_where_to_look(made: tuple[Path, str]) -> None:
    folder, output = made
    for title in ("tags, micro-F1", "boxes, AP at IoU 0.5", "masks, mean IoU"):
        [value] = re.findall(rf"{title} +(\d\.\d+)", output)
        assert 0.5 < float(value) <= 1
    assert f"Quality on {NUM_IMAGES} scenes that training never saw" in output
    for name in ("overview.png", "images", "annotations"):
        assert str(folder / name) in output


def test_it_writes_the_scenes_the_data_set_and_the_contact_sheet(made: tuple[Path, str]) -> None:
    folder, _ = made
    assert {path.name for path in folder.iterdir()} == {
        *("images", "annotations", "ground_truth.json", "captions.json", "overview.png"),
        "scenes.json",
    }
    with Image.open(folder / "overview.png") as sheet:
        assert sheet.width >= 800
        assert np.asarray(sheet.convert("RGB")).std() > 20
    dataset = open_dataset(str(folder / "annotations"))
    report = validate(str(folder / "annotations"))
    assert report.ok
    assert (report.num_images, report.state) == (NUM_IMAGES, "finished")
    captions = json.loads((folder / "captions.json").read_text())
    records = list(iter_records(dataset))
    assert [record.image_id for record in records] == [entry["image"] for entry in captions]
    assert [record.caption for record in records] == [
        entry["conversations"][1]["value"] for entry in captions
    ]


def test_the_same_command_again_changes_nothing(made: tuple[Path, str], capfd) -> None:
    folder, output = made
    before = cli_place.files(folder)
    done = call(capfd, "demo", "--output", folder, *OPTIONS)
    assert done.code == 0, done.err
    assert "nothing to do" in done.err
    assert output.partition("Quality")[2] == done.out.partition("Quality")[2]
    assert cli_place.files(folder) == before


@pytest.mark.parametrize(
    "options", [("--num-images", "6", "--seed", "3"), ("--num-images", "7", "--seed", "2")]
)
def test_other_scenes_in_the_same_folder_are_refused(
    made: tuple[Path, str], options: tuple[str, ...], capfd
) -> None:
    folder, _ = made
    before = cli_place.files(folder)
    done = call(capfd, "demo", "--output", folder, *options)
    assert done.code == 1
    assert done.err == (
        f"pad-pipeline: error: {folder} holds scenes of another number or seed; choose another "
        "--output or delete the folder\n"
    )
    assert cli_place.files(folder) == before
