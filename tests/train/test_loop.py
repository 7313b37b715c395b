"""Whole runs in this process: they learn, go on after any end, and do not depend on the split."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.multiprocessing

from pad_pipeline.errors import UserError
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.checkpoint import Checkpoints
from pad_pipeline.train.run.config import PRESETS, TrainConfig
from pad_pipeline.train.run.folder import Run, config_of, open_run, read_run, write_run
from pad_pipeline.train.run.launch import launch
from pad_pipeline.train.run.metrics_file import read_metrics
from pad_pipeline.train.run.models import check_init, load_finished_model, load_run_model
from tests.ports import free_port
from tests.train.scenes import write_annotations, write_conversations

PRETRAIN = replace(
    PRESETS["pretrain"]["demo"](),
    global_batch=6,
    micro_batch=4,
    epochs=2,
    validate_every=4,
    checkpoint_every=3,
    num_validation=3,
    loggers=(),
    device="cpu",
)
FINETUNE = replace(
    PRESETS["finetune"]["demo"](),
    global_batch=6,
    micro_batch=4,
    epochs=1,
    max_steps=4,
    validate_every=2,
    checkpoint_every=3,
    num_validation=3,
    loggers=(),
    device="cpu",
)
FIGURES = ("caption_loss", "patch_loss", "cosine", "gradient_norm", "learning_rate", "beta")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_annotations(folder, 33)
    write_conversations(folder, 33)
    return folder


def pretrain(folder: Path, url: Path, config: TrainConfig = PRETRAIN, on_step=None) -> Run:
    run = open_run(str(url), "pretrain", config, str(folder / "annotations"), None, None)
    train(run, config, OneWorker(), on_step)
    return read_run(str(url))


def curves(url: Path | str) -> list[list[float]]:
    return [[line[name] for name in FIGURES] for line in read_metrics(str(url))]


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    url = tmp_path_factory.mktemp("reference") / "run"
    pretrain(folder, url)
    return url


def test_a_run_learns_and_ends_with_its_projector(reference: Path) -> None:
    run = read_run(str(reference))
    assert run.finished
    lines = read_metrics(str(reference))
    assert [line["step"] for line in lines] == list(range(10))
    assert lines[-1]["cosine"] > lines[0]["cosine"] + 0.05
    assert lines[0]["beta"] == 0
    assert lines[-1]["beta"] == 5
    assert {"validation/align", "validation/cosine", "validation/caption_loss"} <= lines[-1].keys()
    assert {"tokens_per_s", "waiting_share", "memory_gb", "regions_per_image", "dropped_share"} <= (
        lines[-1].keys()
    )
    assert not (reference / "_samples.arrow").exists()
    assert len(Checkpoints(str(reference)).steps()) in (1, 2)
    model, _, config = load_finished_model(run, device="cpu")
    assert (model.projector.kind, config.global_batch) == ("mlp", 6)


class Killed(BaseException):
    """Ends the process's loop at once, as kill -9 does: nothing else runs."""


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_resumed_run_equals_one_that_was_never_killed(
    folder: Path, reference: Path, tmp_path: Path, after: int
) -> None:
    def kill(done: int, num_steps: int, values: dict) -> None:
        if done == after:
            raise Killed

    with pytest.raises(Killed):
        pretrain(folder, tmp_path / "run", on_step=kill)
    torch.rand(5)  # another process would have other random states
    pretrain(folder, tmp_path / "run")
    np.testing.assert_allclose(curves(tmp_path / "run"), curves(reference), atol=1e-6, rtol=0)


def test_the_micro_batch_changes_nothing(folder: Path, reference: Path, tmp_path: Path) -> None:
    pretrain(folder, tmp_path / "run", replace(PRETRAIN, micro_batch=2))
    np.testing.assert_allclose(curves(tmp_path / "run"), curves(reference), rtol=1e-5, atol=1e-6)


def test_a_finished_run_is_known_and_another_config_refused(folder: Path, reference: Path) -> None:
    source = str(folder / "annotations")
    assert open_run(str(reference), "pretrain", PRETRAIN, source, None, None).finished
    with pytest.raises(UserError, match=r"another config: seed was 0 and is 1"):
        open_run(str(reference), "pretrain", replace(PRETRAIN, seed=1), source, None, None)


def test_stage_two_trains_the_language_model(folder: Path, reference: Path, tmp_path: Path) -> None:
    def finetune(url: Path, config: TrainConfig = FINETUNE) -> Run:
        source = str(folder / "conversations.json")
        run = open_run(str(url), "finetune", config, source, None, str(reference))
        train(run, config, OneWorker())
        return read_run(str(url))

    run = finetune(tmp_path / "run")
    lines = read_metrics(str(tmp_path / "run"))
    assert lines[-1]["caption_loss"] < lines[0]["caption_loss"]
    model, _, _ = load_finished_model(run, device="cpu")
    before, _, _ = load_finished_model(read_run(str(reference)), device="cpu")
    moved = {
        name.split(".")[0]
        for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(new, old)
    }
    assert moved == {"projector", "llm"}
    lora = finetune(tmp_path / "lora", replace(FINETUNE, lora_rank=4, lora_alpha=8.0, max_steps=2))
    load_finished_model(lora, device="cpu")


def test_adapters_over_weights_in_four_bits_end_in_whole_weights(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    pytest.importorskip(
        "bitsandbytes", reason="bitsandbytes, an optional package, is not installed"
    )
    config = replace(FINETUNE, lora_rank=4, lora_alpha=8.0, quantize_llm=True, max_steps=2)
    source, url = str(folder / "conversations.json"), str(tmp_path / "run")
    run = open_run(url, "finetune", config, source, None, str(reference))
    train(run, config, OneWorker())
    ours, _, _ = load_finished_model(read_run(url), device="cpu")
    before, _, _ = load_finished_model(read_run(str(reference)), device="cpu")
    name = "model.layers.0.mlp.up_proj.weight"
    moved = ours.llm.state_dict()[name] - before.llm.state_dict()[name]
    assert 0 < moved.abs().max() < 0.01  # the adapters' part alone: no rounding to 4 bits
    assert torch.linalg.matrix_rank(moved) <= 4


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(
    folder: Path, tmp_path: Path
) -> None:
    config = replace(PRETRAIN, learning_rate=1e30, clip=0.0, checkpoint_every=1)
    with pytest.raises(UserError, match=r"step \d+: the loss is not a number \(samples 00"):
        pretrain(folder, tmp_path / "run", config)
    steps = Checkpoints(str(tmp_path / "run")).steps()
    assert steps
    state = Checkpoints(str(tmp_path / "run")).load(steps[0])
    assert all(torch.isfinite(weight).all() for weight in state["weights"].values())


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    write_annotations(tmp_path, 8)
    (tmp_path / "images" / "0003.png").unlink()
    with pytest.raises(UserError, match=r"the image of 0003\.png cannot be read"):
        pretrain(tmp_path, tmp_path / "run")


def test_a_batch_without_a_supervised_token_is_refused(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    config = replace(PRETRAIN, max_length=65)  # one token and the image: no room for the caption
    with pytest.raises(UserError, match=r"step 0: no token of the batch is supervised \(samples"):
        pretrain(folder, tmp_path / "run", config)


def _work(
    rank: int, size: int, port: int, url: str, config: TrainConfig, kill_after: int | None
) -> None:
    import torch.distributed as dist

    from pad_pipeline.train.distributed import workers

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size
    )

    def kill(done: int, num_steps: int, values: dict) -> None:
        if done == kill_after and rank == 0:  # which has written its checkpoint
            os.kill(os.getpid(), signal.SIGKILL)

    train(read_run(url), config, workers(), kill)
    dist.destroy_process_group()


def spawn(config: TrainConfig, url: str, kill_after: int | None = None) -> None:
    """Train with two processes, forked from a server that has imported torch once for all."""
    multiprocessing.set_forkserver_preload([__name__])
    arguments = (2, free_port(), url, config, kill_after)
    torch.multiprocessing.start_processes(_work, arguments, nprocs=2, start_method="forkserver")


def test_two_workers_give_the_curve_of_one(folder: Path, reference: Path, tmp_path: Path) -> None:
    config = replace(PRETRAIN, workers=2)
    url = str(tmp_path / "run")
    open_run(url, "pretrain", config, str(folder / "annotations"), None, None)
    spawn(config, url)
    # Sums in another order: a few units in the last place of the gradient's norm, which is about 3.
    np.testing.assert_allclose(curves(tmp_path / "run"), curves(reference), rtol=1e-6, atol=1e-6)


def test_stage_two_packed_and_sharded_gives_the_curve_of_one_padded_worker(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    source = str(folder / "conversations.json")
    config = replace(FINETUNE, micro_batch=2, global_batch=7, max_length=200)  # 4 samples and 3
    alone = str(tmp_path / "alone")
    run = open_run(alone, "finetune", config, source, None, str(reference))
    train(run, config, OneWorker())
    config = replace(config, pack_tokens=200)  # packs of one to three samples
    sharded = str(tmp_path / "sharded")
    open_run(sharded, "finetune", config, source, None, str(reference))
    with pytest.raises(torch.multiprocessing.ProcessExitedException):
        spawn(replace(config, workers=2), sharded, kill_after=3)
    assert [line["step"] for line in read_metrics(sharded)] == [0, 1, 2]
    spawn(replace(config, workers=2), sharded)
    np.testing.assert_allclose(
        curves(tmp_path / "sharded"), curves(tmp_path / "alone"), rtol=1e-4, atol=1e-5
    )
    ours, _, _ = load_finished_model(read_run(sharded), device="cpu")
    theirs, _, _ = load_finished_model(read_run(alone), device="cpu")
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-2, atol=2e-4, msg=name)


def test_stage_two_keeps_the_patch_loss_where_images_have_regions(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    """Of one worker and of two that shard the model, of which one may have no region or no image
    in a step; the images are in tiles, for which the projector of stage 1 has no newline yet."""
    sources = str(folder / "conversations.json"), str(folder / "annotations")
    config = replace(FINETUNE, patch_weight=2.0, micro_batch=1, max_steps=3, geometry="anyres")
    urls = str(tmp_path / "alone"), str(tmp_path / "sharded")
    for url in urls:
        # conversations name their images below the folder, the data set below images/
        source, regions = sources[0], join_ids(folder, tmp_path)
        run = open_run(url, "finetune", config, source, None, str(reference), regions)
        if url == urls[0]:
            train(run, config, OneWorker())
    spawn(replace(config, workers=2), urls[1])
    lines = read_metrics(urls[0])
    assert lines[0]["regions_per_image"] > 0
    assert 0 < lines[-1]["patch_loss"] < 2
    assert lines[-1]["beta"] == 2
    assert "validation/align" in lines[-1]
    np.testing.assert_allclose(curves(urls[1]), curves(urls[0]), rtol=1e-4, atol=1e-5)
    other = str(tmp_path / "other")
    with pytest.raises(UserError, match=r"no image .* has regions in .*: its ids are like '0000"):
        open_run(other, "finetune", config, sources[0], None, str(reference), sources[1])


def join_ids(folder: Path, place: Path) -> str:
    """The annotations of `folder` under the ids that its conversations have for the images."""
    output = place / "regions"
    if not output.exists():
        output.mkdir()
        table = pq.read_table(folder / "annotations" / "pad-00000.parquet")
        column = table.schema.get_field_index("image_id")
        ids = [f"images/{name}" for name in table["image_id"].to_pylist()]
        table = table.set_column(column, table.schema.field(column), pa.array(ids))
        pq.write_table(table, output / "pad-00000.parquet")
    return str(output)


def write_captions_some_too_long(folder: Path, number: int) -> str:
    """A list of captions for the images of `folder`; those of every fifth are too long."""
    entries = [
        {"image": f"images/{n:04d}.png", "caption": "a word " * (2000 if n % 5 == 0 else 2)}
        for n in range(number)
    ]
    path = folder / "captions.json"
    path.write_text(json.dumps([*entries, {"image": "images/0000.png", "caption": ""}]))
    return str(path)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_samples_with_problems_are_counted_once_over_workers_and_ends(
    folder: Path, tmp_path: Path, num_workers: int
) -> None:
    source = write_captions_some_too_long(folder, 33)
    config = replace(PRETRAIN, workers=num_workers, max_length=200, num_validation=0)
    url = str(tmp_path / "run")
    run = open_run(url, "pretrain", config, source, None, None)
    if num_workers == 1:

        def kill(done: int, num_steps: int, values: dict) -> None:
            if done == 4:
                raise Killed

        with pytest.raises(Killed):
            train(run, config, OneWorker(), kill)
        train(run, config, OneWorker())
    else:
        spawn(config, url)
    facts = read_run(url).facts
    assert facts["left_out"] == {"without a caption": 1}
    assert facts["problems"] == {"cut": 7}
    lines = read_metrics(url)
    assert sum(line["problem_samples"] for line in lines) == 14  # two epochs
    assert sum(line.get("problems/cut", 0) for line in lines) == 14
    report = launch("pretrain", config, source=source, output=url)
    assert "left out               1 without a caption" in report
    assert any("7 samples cut, as the text is longer than" in line for line in report)


def test_a_packed_run_gives_the_curve_of_a_padded_one_after_any_end(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    config = replace(PRETRAIN, max_length=100, pack_tokens=170)  # two samples a pack
    wanted = tmp_path / "padded"
    pretrain(folder, wanted, replace(config, pack_tokens=0))

    def kill(done: int, num_steps: int, values: dict) -> None:
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        pretrain(folder, tmp_path / "run", config, on_step=kill)
    pretrain(folder, tmp_path / "run", config)
    np.testing.assert_allclose(curves(tmp_path / "run"), curves(wanted), rtol=1e-5, atol=1e-5)
    assert [line["validation/loss"] for line in read_metrics(str(tmp_path / "run"))[3::4]] == (
        pytest.approx(
            [line["validation/loss"] for line in read_metrics(str(wanted))[3::4]], rel=1e-5
        )
    )


def test_several_sources_with_weights_resume_where_they_were(folder: Path, tmp_path: Path) -> None:
    sources = (str(folder / "annotations"), str(folder / "conversations.json"))
    config = replace(PRETRAIN, weights=(0.25, 0.75), max_steps=4, checkpoint_every=2)

    def run(url: str, on_step=None) -> None:
        opened = open_run(url, "pretrain", config, sources, None, None)
        train(opened, config, OneWorker(), on_step)

    def kill(done: int, num_steps: int, values: dict) -> None:
        if done == 3:
            raise Killed

    run(str(tmp_path / "whole"))
    with pytest.raises(Killed):
        run(str(tmp_path / "ended"), kill)
    run(str(tmp_path / "ended"))
    np.testing.assert_allclose(curves(tmp_path / "ended"), curves(tmp_path / "whole"), atol=1e-6)
    facts = read_run(str(tmp_path / "ended")).facts
    assert facts["source"] == list(sources)
    assert config_of(read_run(str(tmp_path / "ended"))).weights == (0.25, 0.75)
    with pytest.raises(UserError, match="has 2 numbers for 1 sources"):
        open_run(str(tmp_path / "x"), "pretrain", config, sources[0], None, None)


def test_a_run_may_begin_with_the_weights_of_another(
    folder: Path, reference: Path, tmp_path: Path
) -> None:
    config, source = replace(PRETRAIN, max_steps=1, num_validation=0), str(folder / "annotations")
    url = str(tmp_path / "run")
    run = open_run(url, "pretrain", config, source, None, None, init_from=str(reference))
    trained = Checkpoints(str(reference)).load_last()
    assert trained is not None
    model, _ = load_run_model(run, config)
    for name, tensor in model.trained_state().items():
        assert torch.equal(tensor, trained["weights"][name])
    train(run, config, OneWorker())
    assert [line["step"] for line in read_metrics(url)] == [0]
    assert read_metrics(url)[0]["cosine"] > read_metrics(str(reference))[0]["cosine"] + 0.05
    with pytest.raises(UserError, match=r"init_from was '.*' and is None"):
        open_run(url, "pretrain", config, source, None, None)
    with pytest.raises(UserError, match="resumes it"):
        check_init(url, url, "pretrain")
    with pytest.raises(UserError, match="a projector for stage 2 is given by projector"):
        check_init(url, str(tmp_path / "other"), "finetune")


def test_a_run_of_an_older_release_goes_on(folder: Path, tmp_path: Path) -> None:
    config, source = replace(PRETRAIN, max_steps=1), str(folder / "annotations")
    url = str(tmp_path / "run")
    run = open_run(url, "pretrain", config, source, None, None)
    for later in ("weights", "select_layer"):
        run.facts["config"].pop(later, None)
    write_run(run)
    train(open_run(url, "pretrain", config, source, None, None), config, OneWorker())
    with pytest.raises(UserError, match=r"weights was \[\] and is \[1\.0\]"):
        open_run(url, "pretrain", replace(config, weights=(1.0,)), source, None, None)
