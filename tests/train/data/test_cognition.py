from __future__ import annotations

import json
from pathlib import Path

import pytest

from pad_pipeline.cognition.run import make_conversations
from pad_pipeline.errors import UserError
from pad_pipeline.train.data.left_out import LeftOutSamples
from pad_pipeline.train.data.sample_sources import read_samples, source_digest
from tests.cognition.samples import entry, read_lines, small_config, write_model, write_source


def test_training_reads_what_conversations_wrote(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in", [entry(n) for n in range(4)], range(4))
    output = str(tmp_path / "out")
    make_conversations(str(source), output, small_config(write_model(tmp_path)))
    found = list(read_samples(output, None, "finetune", LeftOutSamples()))
    assert [sample.id for sample in found] == [f"{n:05d}.png" for n in range(4)]
    # the images lie beside the list that the folder was made of
    assert [sample.image and Path(sample.image.uri).exists() for sample in found] == [True] * 4
    spoken = [line["conversations"] for line in read_lines(tmp_path / "out")]
    assert [[turn["value"] for turn in sample.turns or []] for sample in found] == [
        [turn["value"] for turn in turns] for turns in spoken
    ]
    before = source_digest(output, None)
    assert before == source_digest(output, None)
    manifest = tmp_path / "out/_conversations.json"
    values = {**json.loads(manifest.read_text()), "state": "running"}
    manifest.write_text(json.dumps(values))
    assert source_digest(output, None) != before
    with pytest.raises(UserError, match="is not finished; run the same `pad-pipeline conversat"):
        list(read_samples(output, None, "finetune", LeftOutSamples()))
    (tmp_path / "out/_conversations.json").write_text("{}")
    with pytest.raises(UserError, match="is damaged or of another version"):
        list(read_samples(output, None, "finetune", LeftOutSamples()))
