"""The three stages: what each trains and at which rate, where it begins, and that it goes on."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from pad_pipeline.errors import UserError
from pad_pipeline.train.choices import VlsaStage
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.checkpoint import Checkpoints
from pad_pipeline.train.run.config import identity
from pad_pipeline.train.run.dry_run import dry_run
from pad_pipeline.train.run.folder import Run, config_of, open_run, read_run
from pad_pipeline.train.run.launch import launch
from pad_pipeline.train.run.metrics_file import read_metrics
from pad_pipeline.train.run.models import load_finished_model, load_run_model, load_skeleton
from pad_pipeline.train.trainer import make_optimizer
from pad_pipeline.train.vlsa.config import PRESETS, VlsaConfig
from pad_pipeline.train.vlsa.model import VlsaModel
from tests.train.scenes import write_annotations, write_conversations
from tests.train.test_loop import spawn
from tests.train.vlsa.toy_denoiser import write_denoiser

STAGES: tuple[VlsaStage, ...] = ("vlsa-1", "vlsa-2", "vlsa-3")

RATES = {
    "vlsa-1": {"projector": 1e-3, "epigone": 1e-3},
    "vlsa-2": {"projector": 1e-3, "epigone": 1e-3, "denoiser": 1e-3, "vision": 2e-6},
    "vlsa-3": {
        **{"projector": 1e-5, "epigone": 1e-5, "denoiser": 1e-5},
        **{"vision": 2e-6, "llm": 1e-5},
    },
}
"""VLSA, Table 7."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlsa")
    write_annotations(folder, 12)
    write_conversations(folder, 12)
    write_denoiser(folder / "denoiser")
    return folder


def small(folder: Path, stage: VlsaStage, **changes: object) -> VlsaConfig:
    config = replace(
        PRESETS[stage]["demo"](),
        denoiser=str(folder / "denoiser"),
        global_batch=4,
        micro_batch=4,
        epochs=1,
        num_validation=3,
        validate_every=10,
        checkpoint_every=1,
        num_pictures=2,
        loggers=(),
        device="cpu",
    )
    return replace(config, **changes)  # pyright: ignore[reportArgumentType]


def begin(
    folder: Path, output: Path, stage: VlsaStage, init_from: Path | None = None, **changes: object
) -> tuple[Run, VlsaConfig]:
    config = small(folder, stage, **changes)
    conversations = stage != "vlsa-1"
    source = folder / ("conversations.json" if conversations else "annotations")
    images = folder if conversations else folder / "images"
    before = str(init_from) if init_from else None
    run = open_run(str(output), stage, config, str(source), str(images), None, None, before)
    return run, config


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, Path]:
    """The three stages, one after another, from the command's front door but for Ray."""
    outputs: dict[str, Path] = {}
    before = None
    for stage in STAGES:
        outputs[stage] = folder / stage
        run, config = begin(folder, outputs[stage], stage, before)
        train(run, config, OneWorker())
        before = outputs[stage]
    return outputs


@pytest.mark.parametrize("stage", STAGES)
def test_paper_preset_is_table_7(stage: VlsaStage) -> None:
    config = PRESETS[stage]["paper"]()
    assert config.global_batch == {"vlsa-1": 256, "vlsa-2": 64, "vlsa-3": 32}[stage]
    assert (config.warmup_share, config.weight_decay, config.epochs) == (0.03, 0.0, 1)
    assert config.reconstruction_weight == 1  # a plain sum
    assert config.patch_weight == 0


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_trained_and_at_which_rate(folder: Path, tmp_path: Path, stage: VlsaStage) -> None:
    rates = {
        name: value
        for name, value in dataclasses.asdict(PRESETS[stage]["paper"]()).items()
        if name.endswith("learning_rate") and value is not None
    }
    config = small(folder, stage, **rates)
    model = load_skeleton(config)
    model.freeze(stage)
    trained = {name.split(".", 1)[0] for name, _ in model.named_trained_parameters()}
    assert trained == set(RATES[stage])
    groups = make_optimizer(model, config).param_groups
    rate_of = {id(p): group["peak_lr"] for group in groups for p in group["params"]}
    for name, parameter in model.named_trained_parameters():
        assert rate_of[id(parameter)] == RATES[stage][name.split(".", 1)[0]], name
    names = {name for name, _ in model.named_trained_parameters()}
    assert not any(name.startswith("denoiser.autoencoder") for name in names)


def test_every_trained_weight_of_the_tower_is_used(folder: Path) -> None:
    """Layer -2 is projected: what lies behind it would never get a gradient."""
    config = small(folder, "vlsa-3")
    model = load_skeleton(config)
    model.freeze("vlsa-3")
    names = [name for name, _ in model.named_trained_parameters() if name.startswith("vision.")]
    layers = {name.split("layers.")[1].split(".")[0] for name in names if "layers." in name}
    assert layers == {"0", "1", "2", "3"}  # of five
    assert not any("post_layernorm" in name for name in names)


def test_frozen_parts_stay_bit_by_bit_and_trained_ones_move(
    folder: Path, runs: dict[str, Path]
) -> None:
    before: dict[str, torch.Tensor] | None = None
    for stage in STAGES:
        run = read_run(str(runs[stage]))
        config = config_of(run)
        assert isinstance(config, VlsaConfig)
        start, _ = load_run_model(run, config)  # as the stage began
        state = Checkpoints(run.url).load_last()
        assert state is not None
        names = {name.split(".", 1)[0] for name in state["weights"]}
        assert names == set(RATES[stage])
        moved = {
            name.split(".", 1)[0]
            for name, weight in start.trained_state().items()
            if not torch.equal(weight, state["weights"][name])
        }
        assert moved == set(RATES[stage])
        if before is not None:  # the stage began with the last one's weights
            for name, weight in before.items():
                assert torch.equal(dict(start.named_parameters())[name], weight), name
        before = state["weights"]
        finished, _, _ = load_finished_model(run, device="cpu")
        whole = dict(start.named_parameters())
        for name, weight in finished.named_parameters():
            if name not in state["weights"]:
                assert torch.equal(weight, whole[name]), name
            else:
                torch.testing.assert_close(weight, state["weights"][name], rtol=0, atol=2e-3)


def test_a_run_leaves_pictures_and_losses(runs: dict[str, Path]) -> None:
    for output in runs.values():
        with Image.open(output / "reconstructions.png") as picture:
            assert picture.height == 2 * 32 + 4
            assert (picture.width + 4) % (32 + 4) == 0
        facts = json.loads((output / "run.json").read_text())
        assert 0 < facts["reconstruction_psnr"] < 60
        last = read_metrics(str(output))[-1]
        assert last["reconstruction_loss"] > 0
        assert last["loss"] == pytest.approx(last["caption_loss"] + last["reconstruction_loss"])
        assert "validation/reconstruction_loss" in last


def test_an_interrupted_stage_gives_the_same_curve(folder: Path, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, _number: int, _values: dict[str, float]) -> None:
        if done == 2:
            raise Stopped

    whole, config = begin(folder, tmp_path / "whole", "vlsa-1", epochs=2)
    train(whole, config, OneWorker())
    other, config = begin(folder, tmp_path / "other", "vlsa-1", epochs=2)
    with pytest.raises(Stopped):
        train(other, config, OneWorker(), stop)
    train(other, config, OneWorker())
    figures = ("caption_loss", "reconstruction_loss", "gradient_norm")
    lines = [read_metrics(str(tmp_path / name)) for name in ("whole", "other")]
    assert len(lines[0]) == 6
    for one, two in zip(*lines, strict=True):
        assert [one[name] for name in figures] == [two[name] for name in figures]


def test_stage_3_sharded_over_two_workers_equals_one(
    folder: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    """In each step one worker has a micro-batch less than the other, and takes an empty one; some
    have text alone."""
    urls = tmp_path / "alone", tmp_path / "sharded"
    changes = {"global_batch": 3, "micro_batch": 1, "max_steps": 3}
    for url in urls:
        run, config = begin(folder, url, "vlsa-3", runs["vlsa-2"], **changes)
        if url == urls[0]:
            train(run, config, OneWorker())
    spawn(replace(config, workers=2), str(urls[1]))
    figures = ("caption_loss", "reconstruction_loss", "gradient_norm")
    held_out = ("validation/caption_loss", "validation/reconstruction_loss")
    alone, sharded = (read_metrics(str(url)) for url in urls)
    assert len(alone) == 3
    for one, two in zip(alone, sharded, strict=True):
        assert [two[name] for name in figures] == pytest.approx(
            [one[name] for name in figures], rel=1e-4
        )
    assert [sharded[-1][name] for name in held_out] == pytest.approx(
        [alone[-1][name] for name in held_out], rel=1e-4
    )
    ours, theirs = (load_finished_model(read_run(str(url)), device="cpu")[0] for url in urls)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-2, atol=2e-4, msg=name)
    assert (urls[1] / "reconstructions.png").exists()


def test_micro_batches_do_not_change_the_loss(folder: Path, tmp_path: Path) -> None:
    values = []
    for size in (4, 1):
        run, config = begin(folder, tmp_path / str(size), "vlsa-1", micro_batch=size, max_steps=1)
        values.append(train(run, config, OneWorker()))
    assert values[0]["reconstruction_loss"] == pytest.approx(
        values[1]["reconstruction_loss"], rel=1e-5
    )
    assert values[0]["gradient_norm"] == pytest.approx(values[1]["gradient_norm"], rel=1e-3)


def test_weight_zero_leaves_reconstruction_out(folder: Path, tmp_path: Path) -> None:
    run, config = begin(
        folder, tmp_path / "without", "vlsa-1", reconstruction_weight=0.0, max_steps=1
    )
    values = train(run, config, OneWorker())
    assert "reconstruction_loss" not in values
    assert values["loss"] == values["caption_loss"]


def test_stages_begin_with_the_stage_before(folder: Path, runs: dict[str, Path]) -> None:
    def start(stage: VlsaStage, init_from: Path | None) -> None:
        launch(
            stage,
            small(folder, stage),
            source=str(folder / "conversations.json"),
            images=str(folder),
            output=str(folder / "refused"),
            init_from=str(init_from) if init_from else None,
        )

    with pytest.raises(UserError, match="stage 2 starts from the weights of stage 1; give its run"):
        start("vlsa-2", None)
    with pytest.raises(UserError, match="run of vlsa-1; a run of stage 3 after VLSA begins with"):
        start("vlsa-3", runs["vlsa-1"])
    assert not (folder / "refused").exists()


def test_the_config_comes_back_from_the_run(folder: Path, runs: dict[str, Path]) -> None:
    config = config_of(read_run(str(runs["vlsa-2"])))
    assert identity(config) == identity(small(folder, "vlsa-2"))


def test_paper_size_is_counted_without_weights(folder: Path, tmp_path: Path) -> None:
    """Configs alone, as the released models have them; counts are those of the models' cards."""
    for part, values in PAPER_SIZES.items():
        place = tmp_path / part
        place.mkdir(parents=True)
        name = "scheduler_config.json" if part.endswith("scheduler") else "config.json"
        (place / name).write_text(json.dumps(values))
    config = replace(
        PRESETS["vlsa-3"]["paper"](),
        vision=str(tmp_path / "vision"),
        llm=str(tmp_path / "llm"),
        denoiser=str(tmp_path / "denoiser"),
    )
    model = load_skeleton(config)
    assert isinstance(model, VlsaModel)
    model.freeze("vlsa-3")
    counts = model.parameter_counts()
    assert counts["llm"] == (6_738_415_616, 0)
    assert sum(counts["vision"]) == 303_507_456
    trained, frozen = counts["denoiser"]
    assert (trained, frozen) == (610_856_096, 83_653_863)
    assert counts["projector"][0] + counts["epigone"][0] < 0.05e9


def test_dry_run_names_every_part(folder: Path) -> None:
    lines = "\n".join(
        dry_run(
            "vlsa-1",
            small(folder, "vlsa-1"),
            str(folder / "annotations"),
            str(folder / "images"),
            None,
        )
    )
    assert "epigone (MLP of width 256)" in lines
    assert "PixArtTransformer2DModel for images of 32 pixels): 0 parameters trained" in lines
    assert "denoiser and tower not counted" in lines


PAPER_SIZES: dict[str, dict[str, object]] = {
    "vision": {
        **{"model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096},
        **{"num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336},
        **{"patch_size": 14, "projection_dim": 768, "hidden_act": "quick_gelu"},
    },
    "llm": {
        **{"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32000},
        **{"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32},
        **{"num_attention_heads": 32, "num_key_value_heads": 32},
    },
    "denoiser/transformer": {
        **{"_class_name": "PixArtTransformer2DModel", "sample_size": 64, "in_channels": 4},
        **{"out_channels": 8, "caption_channels": 4096, "cross_attention_dim": 1152},
        **{"num_layers": 28, "num_attention_heads": 16, "attention_head_dim": 72},
        **{"use_additional_conditions": False},
    },
    "denoiser/vae": {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [128, 256, 512, 512],
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
    },
    "denoiser/scheduler": {
        **{"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "linear"},
        **{"num_train_timesteps": 1000, "prediction_type": "epsilon"},
    },
}
