"""The commands of training at the command line: plans, pictures, exports, and what they refuse."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog
from pad_pipeline.train.run.folder import read_run
from pad_pipeline.train.run.hub import model_card
from tests.cli.runner import call
from tests.train.scenes import write_annotations

DEMO = ("--preset", "demo", "--device", "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--global-batch", "0"), "--global-batch must be at least 1, not 0"),
        (("--warmup-share", "2"), "--warmup-share must lie between 0 and 1"),
        (("--workers", "99"), "every worker needs a sample per step"),
        (("--image-tokens", "10"), "--image-tokens must be a square number"),
        (("--patch-weight", "-1"), "--patch-weight must not be negative"),
        (("--threads", "-1"), "--threads must not be negative"),
        (("--vision", "nowhere/at/all"), "nowhere/at/all is not a directory"),
    ],
)
def test_values_that_cannot_work_are_refused_in_a_sentence(
    capfd, scenes: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    command = ("train", "pretrain", scenes / "annotations", "--output", tmp_path / "run", *DEMO)
    assert message in call(capfd, *command, *arguments).sentence
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    capfd, scenes: Path, tmp_path: Path
) -> None:
    done = call(
        capfd,
        *("train", "pretrain", scenes / "annotations", "--output", tmp_path / "run", *DEMO),
        *("--dry-run", "--global-batch", "4", "--epochs", "3"),
    )
    assert done.code == 0, done.err
    assert "samples           12 (11 to train on, 1 held out)" in done.out
    assert "steps             9 of 4 samples (3 epochs of 3)" in done.out
    assert re.search(r"tokens per step   \d+ \(64 per image\)", done.out)
    assert re.search(r"projector \(mlp, .*: [\d,]+ parameters trained, 0 frozen", done.out)
    assert re.search(r"memory per worker \d+\.\d GB", done.out)
    assert not (tmp_path / "run").exists()


def test_one_sample_is_drawn_as_the_model_sees_it(capfd, scenes: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sample.png"
    command = ("train", "inspect", scenes / "annotations", "--output", picture, *DEMO)
    done = call(capfd, *command, "--sample", "0003.png")
    assert done.code == 0, done.err
    assert re.search(r"0003\.png, \d+ regions of which \d+ cover a patch, \d+ tokens", done.out)
    assert picture.stat().st_size > 10_000
    assert "has no sample 'x.png'" in call(capfd, *command, "--sample", "x.png").sentence


def test_a_sample_is_drawn_without_what_was_rejected(capfd, tmp_path: Path) -> None:
    data = str(write_annotations(tmp_path, 3))
    first = next(iter_records(open_dataset(data)))
    for number, region in enumerate(first.labels[1:], 1):
        mark = {"image": first.image_id, "region": number, "digest": region_digest(region)}
        event = new_event("verdict", "anna", value="rejected", **mark)
        ReviewLog(f"{data}/_review.jsonl").write(event)
    command = ("train", "inspect", data, "--output", tmp_path / "sample.png", *DEMO)
    done = call(capfd, *command, "--sample", first.image_id)
    assert f"{len(first.labels)} regions of which" in done.out
    assert "are not applied" in done.err
    done = call(capfd, *command, "--sample", first.image_id, "--without-rejected")
    assert "1 region of which" in done.out


def test_an_export_loads_in_transformers_and_llava_names_fit(
    capfd, trained_run: Path, tmp_path: Path
) -> None:
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    done = call(capfd, "train", "export", trained_run, tmp_path / "hf")
    assert done.code == 0, done.err
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path / "hf")
    assert AutoProcessor.from_pretrained(tmp_path / "hf").patch_size == 14
    done = call(capfd, "train", "export", trained_run, tmp_path / "llava", "--format", "llava")
    assert done.code == 0, done.err
    weights = torch.load(tmp_path / "llava" / "mm_projector.bin", weights_only=True)
    assert sorted(weights) == [
        f"model.mm_projector.{layer}.{part}" for layer in (0, 2) for part in ("bias", "weight")
    ]
    theirs = model.model.multi_modal_projector.linear_2.weight
    assert torch.equal(weights["model.mm_projector.2.weight"].float(), theirs.float())
    assert "already exists" in call(capfd, "train", "export", trained_run, tmp_path / "hf").sentence


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("train", "export", "{folder}/annotations", "{tmp}/x"), "is not a training run"),
        (
            ("analyze", "{folder}/gone", "--annotations", "{folder}", "--output", "{tmp}/x"),
            "is not a training run",
        ),
        (
            ("train", "finetune", "{folder}/conversations.json", "--projector", "{folder}"),
            "is not a training run",
        ),
        (
            ("train", "finetune", "{folder}/annotations", "--projector", "{run}"),
            "stage 2 trains on conversations",
        ),
        (("train", "pretrain", "{folder}/nothing"), "expected a data set of PAD records"),
    ],
)
def test_what_is_not_there_is_reported_in_a_sentence(
    capfd, scenes: Path, trained_run: Path, tmp_path: Path, command: tuple[str, ...], message: str
) -> None:
    places = {"folder": str(scenes), "tmp": str(tmp_path), "run": str(trained_run)}
    filled = [word.format(**places) for word in command]
    if command[0] == "train" and command[1] != "export":
        filled += ["--output", str(tmp_path / "out"), *DEMO]
    assert message in call(capfd, *filled).sentence


def test_annotations_without_captions_are_refused(capfd, tmp_path: Path) -> None:
    write_annotations(tmp_path, 3, captions=False)
    command = ("train", "pretrain", tmp_path / "annotations", "--output", tmp_path / "run", *DEMO)
    assert "3 without a caption" in call(capfd, *command).sentence


def test_a_run_compares_with_itself(capfd, trained_run: Path) -> None:
    done = call(capfd, "train", "compare", trained_run, trained_run)
    assert done.code == 0, done.err
    assert "all settings and samples are the same" in done.out
    assert re.search(r"caption loss   A \S+", done.out)


def test_a_push_shows_its_files_and_its_card_before_it_uploads(
    capfd, trained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", "push", trained_run, "someone/model")
    done = call(capfd, *command, "--dry-run")
    assert done.code == 0, done.err
    assert re.search(r"would upload \d+ files to someone/model\n", done.out)
    assert "model.safetensors" in done.out
    assert "chat_template.jinja" in done.out
    assert "library_name: transformers" in done.out
    assert "| patch_weight | 5.0 |" in done.out
    assert "LlavaForConditionalGeneration.from_pretrained" in done.out
    facts = read_run(str(trained_run)).facts
    measured = replace(
        read_run(str(trained_run)), facts=facts | {"last": {"validation/align": 0.3}}
    )
    assert "| Align | 0.3000 |" in model_card(measured, "someone/model")
    assert str(trained_run.parent) not in done.out, "a path of this machine stands in the card"
    assert "OWNER/NAME" in call(capfd, "train", "push", trained_run, "model").sentence
    refused = SimpleNamespace(create_repo=lambda *_, **__: _raise(OSError("no network")))
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: refused)
    assert "does not take someone/model (no network)" in call(capfd, *command).sentence


def _raise(error: Exception) -> None:
    raise error
