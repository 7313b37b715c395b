"""Two runs of a few steps on drawn scenes, an export, and questions about the scenes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.folder import open_run
from pad_pipeline.train.run.results import export_run
from tests.train.scenes import write_annotations, write_conversations
from tests.train.test_loop import FINETUNE, PRETRAIN


@pytest.fixture(scope="package")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `stage1`, `stage2`, `export`, images and questions.jsonl."""
    folder = tmp_path_factory.mktemp("answered")
    annotations = str(write_annotations(folder, 9))
    conversations = str(write_conversations(folder, 9))
    config = dataclasses.replace(PRETRAIN, max_steps=2, num_validation=0)
    first = open_run(str(folder / "stage1"), "pretrain", config, annotations, None, None)
    train(first, config, OneWorker())
    config = dataclasses.replace(FINETUNE, max_steps=2, num_validation=0)
    second = open_run(
        str(folder / "stage2"), "finetune", config, conversations, None, str(folder / "stage1")
    )
    train(second, config, OneWorker())
    export_run(str(folder / "stage2"), str(folder / "export"), "transformers")
    asked = ("what is there ?", "name the things", "is there a red car ?")
    rows = [
        {
            "question_id": number,
            "image": f"images/{number:04d}.png",
            "question": asked[number % 3],
            "references": ["snail"],
        }
        for number in range(8)
    ]
    rows.append({"question_id": "text", "question": "what is a snail ?", "references": ["pink"]})
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
