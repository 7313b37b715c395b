"""Images in tiles from training to answers: two stages, an export, and the same answers of both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.analysis import analyze_run
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.loop import answer_batches, make_batches
from pad_pipeline.evaluate.generation.model import open_answerer
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.dry_run import dry_run
from pad_pipeline.train.run.folder import open_run, read_run
from pad_pipeline.train.run.metrics_file import read_metrics
from pad_pipeline.train.run.models import check_models, load_finished_model, with_projector
from pad_pipeline.train.run.results import export_run
from tests.evaluate.generation.test_answers import questions_of
from tests.train.test_loop import FINETUNE, PRETRAIN

TILED = {"geometry": "anyres", "image_grid_pinpoints": ("1x2", "2x1"), "max_steps": 2}


@pytest.fixture(scope="module")
def tiled(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`stage1`, `stage2` and `export`, trained and written with images in tiles."""
    folder = tmp_path_factory.mktemp("tiled")
    config = replace(PRETRAIN, **TILED, num_validation=0)
    source = str(scenes / "annotations")
    train(
        open_run(str(folder / "stage1"), "pretrain", config, source, None, None),
        config,
        OneWorker(),
    )
    config = replace(FINETUNE, **TILED, num_validation=2)
    run = open_run(
        str(folder / "stage2"),
        "finetune",
        config,
        str(scenes / "conversations.json"),
        None,
        str(folder / "stage1"),
    )
    train(run, config, OneWorker())
    export_run(str(folder / "stage2"), str(folder / "export"), "transformers")
    return folder


def test_an_export_gives_the_answers_of_its_run(scenes: Path, tiled: Path) -> None:
    assert read_metrics(str(tiled / "stage1"))[-1]["regions_per_image"] > 0
    questions = questions_of(scenes)
    found = [
        dict(
            answer_batches(
                open_answerer(str(tiled / name), GenerationConfig(device="cpu")),
                questions,
                [*enumerate(make_batches(questions, size))],
                16,
            )
        )
        for name, size in (("stage2", 4), ("export", 4), ("stage2", 1))
    ]
    assert found[0] == found[1]
    batched, alone = (
        sorted(text for texts in each.values() for text in texts) for each in (found[0], found[2])
    )
    assert batched == alone
    assert any(len(text.split()) > 3 for text in alone)


def test_transformers_loads_the_newline_and_the_grids(tiled: Path) -> None:
    loaded = LlavaNextForConditionalGeneration.from_pretrained(tiled / "export")
    model, _, _ = load_finished_model(read_run(str(tiled / "stage2")), device="cpu")
    newline = model.projector.image_newline
    assert newline is not None
    np.testing.assert_allclose(
        loaded.model.image_newline.detach().numpy(), newline.detach().numpy(), atol=1e-7
    )
    first, _, _ = load_finished_model(read_run(str(tiled / "stage1")), device="cpu")
    before = first.projector.image_newline
    assert before is not None
    assert not np.allclose(before.detach(), newline.detach(), atol=1e-7)
    size = model.vision.config.image_size
    grids = [[size, 2 * size], [2 * size, size]]
    assert loaded.config.image_grid_pinpoints == grids
    processor = AutoProcessor.from_pretrained(tiled / "export")
    assert processor.image_processor.image_grid_pinpoints == grids


def test_packed_batches_of_tiles_train_the_same(scenes: Path, tiled: Path, tmp_path: Path) -> None:
    config = replace(PRETRAIN, **TILED, num_validation=0, pack_tokens=2048)
    source = str(scenes / "annotations")
    run = open_run(str(tmp_path / "run"), "pretrain", config, source, None, None)
    train(run, config, OneWorker())
    for ours, padded in zip(
        read_metrics(str(tmp_path / "run")), read_metrics(str(tiled / "stage1")), strict=True
    ):
        for name in ("caption_loss", "patch_loss", "gradient_norm"):
            assert ours[name] == pytest.approx(padded[name], abs=2e-5)


def test_alignment_counts_images_and_not_views(scenes: Path, tiled: Path, tmp_path: Path) -> None:
    report = analyze_run(
        str(tiled / "stage1"),
        str(scenes / "annotations"),
        None,
        str(tmp_path),
        num_images=3,
        num_pictures=1,
    )
    assert report.measures.num_images == 3
    assert report.measures.num_regions > 0


def test_a_dry_run_counts_the_tokens_of_tiles(scenes: Path) -> None:
    source = str(scenes / "annotations")
    plain, tiled = (
        dry_run("pretrain", replace(PRETRAIN, **changes), source, None, None)
        for changes in ({}, TILED)
    )

    def tokens(lines: list[str]) -> float:
        [line] = [line for line in lines if line.startswith("tokens per step")]
        return float(line.split()[3].replace(",", ""))

    assert tokens(tiled) > 1.5 * tokens(plain)
    assert any("per view of an image" in line for line in tiled)


def test_what_does_not_go_with_tiles_is_refused(tiled: Path) -> None:
    with pytest.raises(UserError, match=r"which the C-Abstractor does not give"):
        replace(PRETRAIN, geometry="anyres", projector_kind="c-abstractor")
    with pytest.raises(UserError, match=r"should be one or more ROWSxCOLUMNS.* not 336x672"):
        replace(PRETRAIN, image_grid_pinpoints=("336x672",))
    with pytest.raises(UserError, match=r"image_grid_pinpoints are for geometry='anyres'"):
        replace(PRETRAIN, image_grid_pinpoints=("2x2",))
    with pytest.raises(UserError, match=r"leaves no room for text in max_length=256"):
        check_models(replace(PRETRAIN, geometry="anyres", max_length=256))
    with pytest.raises(UserError, match=r"trained on images in tiles; give geometry='anyres'"):
        with_projector(FINETUNE, str(tiled / "stage1"))
