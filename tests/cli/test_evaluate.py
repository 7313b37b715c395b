"""The command `analyze`."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog
from pad_pipeline.train.data.sampler import make_sampler
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.folder import open_run
from tests.cli.runner import call
from tests.train.scenes import write_annotations
from tests.train.test_loop import PRETRAIN


def test_a_run_is_measured_and_its_pictures_drawn(
    capfd, scenes: Path, trained_run: Path, tmp_path: Path
) -> None:
    done = call(
        capfd,
        *("analyze", trained_run, "--annotations", scenes / "annotations"),
        *("--output", tmp_path / "analysis", "--num-images", "4", "--num-pictures", "1"),
    )
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "analysis" / "analysis.json").read_text())
    assert found["num_images"] == 4
    assert found["held_out"] is False
    assert "seen in training   all: the run held no image of these out" in done.out
    assert found["delta_entropy"] == pytest.approx(found["entropy_before"] - found["entropy_after"])
    assert 0 <= found["align"] <= found["align_by_threshold"]["oracle"] <= 1
    pictures = sorted(path.name for path in (tmp_path / "analysis").glob("*.png"))
    assert pictures == ["0000.png-align.png", "0000.png-tokenmap.png"]


def test_the_spectrum_says_what_lies_behind_the_entropies(
    capfd, scenes: Path, trained_run: Path, tmp_path: Path
) -> None:
    done = call(
        capfd,
        *("evaluate", "alignment", trained_run, "--annotations", scenes / "annotations"),
        *("--output", tmp_path / "out", "--num-images", "4", "--num-pictures", "0", "--spectrum"),
    )
    assert done.code == 0, done.err
    found = json.loads((tmp_path / "out" / "analysis.json").read_text())
    spectra = found["spectrum"]
    assert spectra["patches"]["entropy"] == pytest.approx(found["entropy_before"])
    assert spectra["tokens"]["entropy"] == pytest.approx(found["entropy_after"])
    assert spectra["label_targets"]["num_tokens"] == found["num_regions"]
    together = sum(spectra[name]["num_tokens"] for name in ("masked_tokens", "unmasked_tokens"))
    assert together == spectra["tokens"]["num_tokens"]
    assert "label targets" in done.out


def test_a_projector_names_as_many_patches_however_many_pictures_are_drawn(
    capfd, scenes: Path, trained_run: Path, tmp_path: Path
) -> None:
    found = []
    for number in ("1", "3"):
        output = tmp_path / number
        done = call(
            capfd,
            *("analyze", trained_run, "--annotations", scenes / "annotations", "--output", output),
            *("--num-images", "3", "--num-pictures", number, "--iterations", "2"),
        )
        assert done.code == 0, done.err
        maps = [json.loads(path.read_text()) for path in sorted((output / "maps").glob("*.json"))]
        assert [len(each["images"]) for each in maps] == [int(number)] * 2
        found.append([(each["images"][0]["words"], each["images"][0]["colours"]) for each in maps])
    assert found[0] == found[1]
    assert any(colours for _, colours in found[0])


def test_images_that_were_held_out_are_measured_beside_a_random_projector(
    capfd, scenes: Path, tmp_path: Path
) -> None:
    """Of the data set that a run was trained on; of another one the first, and that is said."""
    data = tmp_path / "more"
    write_annotations(data, 24)
    config = dataclasses.replace(PRETRAIN, max_steps=1, num_validation=5)
    url = str(tmp_path / "run")
    train(
        open_run(url, "pretrain", config, str(data / "annotations"), None, None),
        config,
        OneWorker(),
    )

    def analyze(annotations: Path, *options: str) -> tuple[dict, str]:
        output = tmp_path / f"{annotations.parent.name}{len(options)}"
        done = call(
            capfd,
            *("analyze", url, "--annotations", annotations, "--output", output),
            *("--num-pictures", "2", "--iterations", "1", *options),
        )
        assert done.code == 0, done.err
        return json.loads((output / "analysis.json").read_text()), done.out

    found, text = analyze(data / "annotations")
    assert (found["num_images"], found["held_out"]) == (2, True)  # a tenth of 24
    assert "seen in training   none: 2 images that the training held out" in text
    assert f"(random projector: {found['random']['align']:.4f}; threshold" in text
    validation = make_sampler(config, np.ones(24, np.int64)).validation
    pictures = {path.name[:4] for path in (tmp_path / "more0").glob("*-align.png")}
    assert pictures == {f"{place:04d}" for place in validation}
    found, text = analyze(data / "annotations", "--no-held-out", "--num-images", "4")
    assert (found["num_images"], found["held_out"]) == (4, None)
    found, text = analyze(scenes / "annotations")
    assert found["held_out"] is None
    assert "seen in training   not known: the run was trained on other data" in text


def test_pursuit_is_measured_on_a_run_and_annotations_of_ones_own(
    capfd, scenes: Path, trained_run: Path, tmp_path: Path
) -> None:
    output = tmp_path / "pursuit"
    words = ("experiment", "pursuit", "--run", trained_run, "--output", output)
    done = call(capfd, *words, "--annotations", scenes / "annotations", "--num-images", "3")
    assert done.code == 0, done.err
    found = json.loads((output / "results.json").read_text())
    assert list(found["arms"]) == ["random", trained_run.name]
    values = found["arms"][trained_run.name]
    recalls = [values[f"recall_{k}"]["mean"] for k in range(1, 6)]
    assert recalls == sorted(recalls)
    assert 0 <= values["precision_1"]["mean"] <= 1
    for name, failures in found["signatures"].items():
        assert ("Align below 0.15" in failures) == (found["arms"][name]["align"]["mean"] < 0.15)
    page = (output / "report.html").read_text()
    assert "beside a random projector, on 3 images" in page
    assert "the run held no image of these out" in page
    accepted = tmp_path / "accepted"
    shutil.copytree(scenes / "annotations", accepted)
    [record, *_] = iter_records(open_dataset(str(accepted)))
    largest = max(range(len(record.labels)), key=lambda place: record.labels[place].area)
    mark = {"region": largest, "digest": region_digest(record.labels[largest])}
    event = new_event("verdict", "a", image=record.image_id, value="accepted", **mark)
    ReviewLog(f"{accepted}/_review.jsonl").write(event)
    done = call(capfd, *words, "--annotations", accepted, "--num-images", "3", "--only-accepted")
    assert done.code == 0, done.err
    of_one = json.loads((output / "results.json").read_text())
    assert of_one["review"]["only_accepted"]
    assert of_one["arms"] != found["arms"]
    marks = (*words[:2], "--only-accepted")
    for wrong in (words, marks, ("experiment", "beta", *words[2:]), (*words, "--quick")):
        done = call(capfd, *wrong)
        assert done.code == 1
        assert "--run and --annotations go together, with `experiment pursuit` alone" in done.err
    done = call(capfd, *words, "--annotations", accepted, "--workers", "2")
    assert done.code == 1
    assert "a run is measured by one process; leave out --workers 2" in done.err
