"""Two runs side by side, from their files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.train.run.compare import compare_runs


def write(folder: Path, losses: list[float | None], **changes: Any) -> str:
    """A run whose caption loss is `losses`, measured on held-out samples at every other step."""
    folder.mkdir()
    facts = {
        "format": "pad-train",
        "stage": "pretrain",
        "state": "finished",
        "source": "data",
        "images": None,
        "projector": None,
        "num_samples": 90,
        "source_digest": "0",
        "config": {"patch_weight": 5.0, "seed": 0},
    }
    config = changes.pop("config", {})
    facts |= changes
    facts["config"] |= config
    (folder / "run.json").write_text(json.dumps(facts))
    lines = []
    for step, loss in enumerate(losses):
        line: dict[str, Any] = {"step": step, "caption_loss": loss, "patch_loss": 0.0}
        line |= {"tokens_per_s": 1500.0}
        if step % 2 and loss is not None:
            line |= {"validation/caption_loss": loss + 1, "validation/align": 0.25}
        lines.append(json.dumps(line))
    (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
    return str(folder)


def test_settings_curves_and_held_out_figures_stand_side_by_side(tmp_path: Path) -> None:
    first = write(tmp_path / "a", [4.0, 3.0, 2.0, 1.0, 1.0, 0.5])
    second = write(tmp_path / "b", [4.0, 2.5, 1.5, 0.5], config={"patch_weight": 0.0})
    text = "\n".join(compare_runs(first, second))
    assert "patch_weight: A 5.0, B 0.0" in text
    assert "seed" not in text
    assert "the first 4 steps" in text
    assert "caption loss   A █▆▄▂ " in text
    assert " B █▅▃▁ " in text
    assert "(B - A -0.5000)" in text
    assert "patch loss     A" not in text, "a curve of zeros says nothing"
    assert "1,500" in text
    assert "held-out samples after step 4\n" in text
    assert "caption loss       2.0000     1.5000    -0.5000" in text
    assert "Align              0.2500     0.2500    +0.0000" in text


def test_the_same_run_twice_says_so(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", [2.0, None]), write(tmp_path / "b", [2.0, None])
    lines = compare_runs(first, second)
    assert "all settings and samples are the same" in lines
    assert any("no number" in line for line in lines)
    assert "held-out samples: no step at which both were measured" in lines


def test_other_samples_are_said_to_differ(tmp_path: Path) -> None:
    first = write(tmp_path / "a", [2.0])
    second = write(tmp_path / "b", [2.0], source_digest="1")
    assert any("the samples differ" in line for line in compare_runs(first, second))


def test_what_does_not_compare_is_refused(tmp_path: Path) -> None:
    run = write(tmp_path / "a", [2.0])
    other = write(tmp_path / "b", [2.0], stage="finetune")
    with pytest.raises(UserError, match=r"a run of pretrain and .* one of finetune; their figures"):
        compare_runs(run, other)
    with pytest.raises(UserError, match="has taken no step yet"):
        compare_runs(run, write(tmp_path / "c", []))
    with pytest.raises(UserError, match="is not a training run"):
        compare_runs(run, str(tmp_path))
