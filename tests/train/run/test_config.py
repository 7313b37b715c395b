"""What a run of training can be given: the presets."""

from __future__ import annotations

import pytest

from pad_pipeline.train.run.config import PRESETS


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_paper_preset_is_the_papers(stage) -> None:
    config = PRESETS[stage]["paper"]()
    expected = {
        "pretrain": (256, 1e-3, 5.0, "crop", "random"),
        "finetune": (128, 2e-5, 0.0, "pad", "grouped"),
    }[stage]
    found = (
        config.global_batch,
        config.learning_rate,
        config.patch_weight,
        config.geometry,
        config.sampler,
    )
    assert found == expected
    assert (config.warmup_share, config.weight_decay, config.clip) == (0.03, 0.0, 1.0)
    assert (config.max_length, config.epochs) == (2048, 1)
