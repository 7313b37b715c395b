"""What a run of training can be given: the presets."""

from __future__ import annotations

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.train.model import lora
from pad_pipeline.train.run.config import PRESETS, TrainConfig
from pad_pipeline.train.run.models import check_models


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pack_tokens": 100}, "pack_tokens=100 is less than max_length=2048"),
        ({"pack_tokens": 4096, "patch_loss": "contrastive"}, "compares the samples of a forward"),
        ({"kept_layers": 3}, "kept_layers is for activation_checkpointing=True"),
        ({"quantize_llm": True}, "quantize_llm=True is for low-rank adapters"),
        ({"weights": (0.0, 0.0)}, "one of them more than 0"),
        ({"weights": (-1.0, 2.0)}, "must not be negative"),
        ({"select_layer": 0}, "select_layer must be at most -1, not 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message: str) -> None:
    with pytest.raises(UserError, match=message):
        TrainConfig(vision="v", llm="l", **settings)


def test_four_bits_without_their_package_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora, "find_spec", lambda name: None)
    config = TrainConfig(vision="embedded", llm="embedded", lora_rank=4, quantize_llm=True)
    with pytest.raises(UserError, match=r"needs bitsandbytes: pip install bitsandbytes, or train"):
        check_models(config)
