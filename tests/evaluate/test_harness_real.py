"""lmms-eval itself on an export, offline, on a task made from drawn scenes."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline.evaluate.harness import run_harness
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.folder import open_run
from pad_pipeline.train.run.results import export_run
from tests.train.scenes import write_annotations
from tests.train.test_loop import PRETRAIN

PYTHON = os.environ.get("PAD_LMMS_EVAL_PYTHON")

TASK = """
task: scene_words
dataset_path: parquet
dataset_kwargs: {{data_files: {{test: {parquet}}}}}
test_split: test
output_type: generate_until
doc_to_visual: !function scene_words.doc_to_visual
doc_to_text: !function scene_words.doc_to_text
doc_to_target: answer
generation_kwargs: {{max_new_tokens: 8}}
process_results: !function scene_words.process_results
metric_list:
  - {{metric: answered, aggregation: mean, higher_is_better: true}}
metadata:
  - version: 0.0
"""
FUNCTIONS = """
import io
from PIL import Image

def doc_to_visual(doc):
    return [Image.open(io.BytesIO(doc["image"]["bytes"])).convert("RGB")]

def doc_to_text(doc, kwargs=None):
    return doc["question"]

def process_results(doc, results):
    return {"answered": float(bool(results[0].strip()))}
"""


@pytest.mark.skipif(
    PYTHON is None,
    reason="PAD_LMMS_EVAL_PYTHON names no Python of an environment with lmms-eval 0.7.3",
)
def test_lmms_eval_runs_on_our_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    annotations = str(write_annotations(tmp_path, 4))
    config = dataclasses.replace(PRETRAIN, max_steps=1, num_validation=0)
    run = open_run(str(tmp_path / "run"), "pretrain", config, annotations, None, None)
    train(run, config, OneWorker())
    export_run(str(tmp_path / "run"), str(tmp_path / "export"), "transformers")
    pictures = sorted((tmp_path / "images").iterdir())[:2]
    table = pa.table(
        {
            "image": [{"bytes": path.read_bytes(), "path": path.name} for path in pictures],
            "question": ["what is there ?", "name the things"],
            "answer": ["a snail", "a car"],
        }
    )
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    pq.write_table(table, tasks / "scenes.parquet")
    (tasks / "scene_words.yaml").write_text(TASK.format(parquet=tasks / "scenes.parquet"))
    (tasks / "scene_words.py").write_text(FUNCTIONS)
    report = run_harness(
        str(tmp_path / "export"),
        ["scene_words"],
        str(tmp_path / "out"),
        python=PYTHON,
        include_path=str(tasks),
        device="cpu",
    )
    assert report.summary["metrics"] == {"scene_words": {"answered": 1.0}}
    assert report.summary["not_measured"] == {}
