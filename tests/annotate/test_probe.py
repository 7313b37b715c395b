"""`pad-pipeline plan`: which images it takes, what it measures and prints."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

from pad_pipeline.annotate import probe
from pad_pipeline.engine.config import AnnotateConfig, demo
from pad_pipeline.engine.metrics import PassCount
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import ModelStage, Seconds, tag_stage
from pad_pipeline.errors import UserError
from pad_pipeline.scenes.generator import generate_scene
from pad_pipeline.sources import list_source
from tests import fakes
from tests.cli.command_lines import parse
from tests.cli.runner import call

GIVEN = "tag=0.01,detect=0.04,segment=0.07"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    fakes.write_images(tmp_path / "images", 21)
    return tmp_path / "images"


@dataclass
class TimedStage:
    """A stage that books a fixed time per image."""

    stage: ModelStage
    name: str
    seconds_per_image: float
    seconds: Seconds

    def __call__(self, samples: list[Sample]) -> list[Sample]:
        spent = self.seconds.get(self.name, 0.0)
        self.seconds[self.name] = spent + self.seconds_per_image * len(samples)
        return self.stage(samples)

    @property
    def batch_size_in_use(self) -> int:
        return self.stage.batch_size_in_use

    @property
    def passes(self) -> PassCount:
        return self.stage.passes


@pytest.fixture
def fake_models(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages around fakes that take 1, 2 and 4 ms per image by their own account."""
    built: list[str] = []
    costs = {"tag": 0.001, "detect": 0.002, "suppress": 0.0001, "segment": 0.004}

    def build(config: AnnotateConfig, name: str, seconds: Seconds) -> TimedStage:
        built.append(name)
        return TimedStage(fakes.build(name, {}), name, costs[name], seconds)

    monkeypatch.setattr(probe, "build_stage", build)
    monkeypatch.setattr(probe, "locate_models", lambda config: config)
    return built


def test_the_sample_is_the_same_every_time_and_from_everywhere(images: Path) -> None:
    first, again = (probe.sample_rows(list_source(str(images)), 5) for _ in range(2))
    assert first == again
    names = [row.image_id for row in first.rows]
    assert (first.num_images, len(names)) == (21, 5)
    assert names == sorted(names) != [f"{k:03d}.png" for k in range(5)]
    more = [row.image_id for row in probe.sample_rows(list_source(str(images)), 8).rows]
    assert set(names) < set(more)
    assert len(probe.sample_rows(list_source(str(images)), 100).rows) == 21


def test_every_stage_is_measured_after_a_warm_up(images: Path, fake_models: list[str]) -> None:
    config = fakes.config(device="cpu")
    found = probe.measure(config, probe.sample_rows(list_source(str(images)), 21).rows)
    assert fake_models == ["tag", "detect", "suppress", "segment"]
    assert found.costs.models == pytest.approx({"tag": 0.001, "detect": 0.002, "segment": 0.004})
    assert found.costs.suppress == pytest.approx(0.0001)
    assert found.costs.decode > 0
    assert (found.num_images, found.num_failed, found.costs.fits_together) == (21, 0, None)
    assert found.trials[0].images_per_pass == pytest.approx(21 / 6)
    sizes = [path.stat().st_size for path in images.iterdir()]
    assert found.bytes_per_image == pytest.approx(sum(sizes) / 21)


def test_bad_images_are_counted_and_the_rest_measured(images: Path, fake_models) -> None:
    (images / "bad.png").write_bytes(b"no image")
    found = probe.measure(fakes.config(), probe.sample_rows(list_source(str(images)), 100).rows)
    assert (found.num_images, found.num_failed) == (22, 1)


def test_images_that_nothing_can_be_measured_on_are_refused(tmp_path: Path, fake_models) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"none of the 1 sampled images can be read.*bad\.png"):
        probe.measure(fakes.config(), probe.sample_rows(list_source(str(tmp_path)), 5).rows)


def test_batch_sizes_are_tried_on_a_gpu_only_and_within_the_chunk() -> None:
    config = demo()
    on_gpu = AnnotateConfig(**{**vars(config), "device": "cuda", "chunk_size": 16})
    tried = [one.tag.batch_size for one in probe._variants(on_gpu, "tag")]
    assert tried == [16, 8]
    assert [one.segment.batch_size for one in probe._variants(on_gpu, "segment")] == [8, 4, 16]
    on_cpu = AnnotateConfig(**{**vars(config), "device": "cpu"})
    assert probe._variants(on_cpu, "tag") == [on_cpu]
    above = replace(on_gpu, tag=replace(on_gpu.tag, batch_size=64))
    assert [one.tag.batch_size for one in probe._variants(above, "tag")] == [16, 8]


def test_a_trial_records_the_batch_size_that_memory_allowed(
    images: Path, fake_models, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagger = fakes.FakeTagger(most_at_once=2)
    build = probe.build_stage

    def build_small(config: AnnotateConfig, name: str, seconds: Seconds) -> TimedStage:
        timed = build(config, name, seconds)
        if name != "tag":
            return timed  # pyright: ignore[reportReturnType]
        stage = tag_stage(tagger, batch_size=16, seconds={})
        return TimedStage(stage, name, 0.001, seconds)

    monkeypatch.setattr(probe, "build_stage", build_small)
    config = fakes.config(chunk_size=8)
    found = probe.measure(config, probe.sample_rows(list_source(str(images)), 21).rows)
    assert max(tagger.calls) == 8
    assert found.batch_sizes == {"tag": 2, "detect": 4, "segment": 4}
    assert [trial.batch_size for trial in found.trials] == [2, 4, 64, 4]


def test_the_embedded_models_are_measured(tmp_path: Path, capfd) -> None:
    for seed in range(3):
        Image.fromarray(generate_scene(seed).image).save(tmp_path / f"{seed}.png")
    outcome = call(capfd, "plan", str(tmp_path), "--gpus", "4", "--preset", "demo")
    assert outcome.code == 0, outcome.err
    assert "measured here on a CPU" in outcome.out
    assert "Measured without a GPU" in outcome.out
    assert "Chunks of 16 images, 2 in hand at once in every worker.\n" in outcome.out
    assert parse(command_of(outcome.out)) == "annotate"


def command_of(out: str) -> list[str]:
    [line] = [line for line in out.splitlines() if line.startswith("pad-pipeline annotate")]
    return shlex.split(line)[1:]


def test_given_costs_plan_without_a_model(images: Path, capfd, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(probe, "measure", lambda *_: pytest.fail("measured"))
    words = ["plan", str(images), "--gpus", "8", "--costs", GIVEN, "--layout", "pools"]
    outcome = call(capfd, *words, "--json", str(tmp_path / "plan.json"))
    assert outcome.code == 0, outcome.err
    assert "21 images on 8 GPUs" in outcome.out
    assert "Chunks of 128 images, 2 in hand at once in every worker: up to 1 GiB of" in outcome.out
    command = command_of(outcome.out)
    assert "--detect.pool.max-workers" in command
    assert parse(command) == "annotate"
    written = json.loads((tmp_path / "plan.json").read_text())
    assert written["pools"]["shares"]["segment"] == {"workers": 4, "gpus": 1.0}
    assert written["layout"] == "pools"
    assert written["command"] == shlex.join(["pad-pipeline", *command])


def test_models_that_are_not_needed_are_not_planned(images: Path, capfd) -> None:
    words = ["plan", str(images), "--gpus", "2", "--layout", "pools", "--classes", "dog, cat"]
    outcome = call(capfd, *words, "--costs", "detect=0.04,segment=0.07")
    assert outcome.code == 0, outcome.err
    command = command_of(outcome.out)
    assert command[command.index("--classes") + 1] == "dog, cat"
    assert parse(command) == "annotate"
    tag = next(line for line in outcome.out.splitlines() if line.split()[:1] == ["tag"])
    assert tag.split()[-2] == "0", tag  # no GPU for it


def test_on_gpus_of_one_kind_fused_is_proposed(images: Path, capfd) -> None:
    outcome = call(capfd, "plan", str(images), "--gpus", "8", "--costs", GIVEN)
    assert "Proposed: fused" in outcome.out
    command = command_of(outcome.out)
    assert command[-2:] == ["--layout", "fused"]
    assert parse(command) == "annotate"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gpus", "0"], "--gpus must be at least 1"),
        (["--gpus", "8", "--num-images", "0"], "--num-images must be at least 1"),
        (["--gpus", "8", "--costs", "tag=1"], "--costs must give"),
        (["--gpus", "8"], "there is no model 'ram'"),
    ],
)
def test_what_cannot_be_planned(images: Path, capfd, monkeypatch, words, message: str) -> None:
    monkeypatch.setenv("PAD_MODELS", str(images / "no models"))
    outcome = call(capfd, "plan", str(images), *words)
    assert outcome.code == 1
    assert message in outcome.err
