"""`pad-pipeline plan` measures on the GPU that it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pad_pipeline.engine.costs import MODELS
from pad_pipeline.scenes.generator import generate_scene
from tests.cli.runner import call


def test_every_stage_is_measured_at_several_batch_sizes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "images").mkdir()
    for seed in range(32):
        Image.fromarray(generate_scene(seed).image).save(tmp_path / "images" / f"{seed}.png")
    report = tmp_path / "plan.json"
    command = ("plan", str(tmp_path / "images"), "--gpus", "4", "--preset", "demo")
    outcome = call(capfd, *command, "--num-images", "32", "--json", str(report))
    assert outcome.code == 0, outcome.err
    assert "Measured without a GPU" not in outcome.out
    plan = json.loads(report.read_text())
    assert "NVIDIA" in plan["costs"]["source"]
    assert plan["costs"]["fits_together"] is True
    trials = plan["probe"]["trials"]
    for name in MODELS:
        of_stage = [trial for trial in trials if trial["stage"] == name]
        assert len({trial["batch_size"] for trial in of_stage}) >= 2
        assert all(0 < trial["peak_gib"] < 20 for trial in of_stage)
