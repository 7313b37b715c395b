"""What is printed of a run: no figures that it does not have."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from rich.console import Console

from pad_pipeline.train.run.folder import Run, write_run
from pad_pipeline.train.run.launch import _report
from pad_pipeline.train.run.progress import progress_display

LAST = {
    "step": 0,
    "caption_loss": 2.5,
    "patch_loss": 0.0,
    "cosine": 0.0,
    "regions_per_image": 0.0,
    "tokens_per_s": 900.0,
    "waiting_share": 0.0,
}
WITH_REGIONS = {**LAST, "patch_loss": 0.75, "cosine": 0.25, "regions_per_image": 3.0}


@pytest.mark.parametrize("last", [LAST, WITH_REGIONS])
def test_losses_of_regions_are_printed_only_where_there_are_some(
    last: dict[str, float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(Run(str(tmp_path), {"format": "pad-train", "last": last}))
    report = "\n".join(_report(str(tmp_path)))
    console = Console(file=io.StringIO(), force_terminal=False)
    with caplog.at_level(logging.INFO, "pad_pipeline"), progress_display(console, 1) as progress:
        progress(last)
    assert "caption loss           2.5000" in report
    assert "caption 2.500" in caplog.text
    has_regions = last is WITH_REGIONS
    assert ("patch loss             0.7500" in report) == ("cosine" in report) == has_regions
    assert ("patch 0.750, cosine 0.250" in caplog.text) == ("patch" in caplog.text) == has_regions
