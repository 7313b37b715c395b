"""Every command and Python block of the README and the pages of `docs/` runs where a user would.

Those that annotate or serve are processes that start a Ray, as they do for a reader. All others of
`pad-pipeline` are calls in this process, which has imported torch already and has a Ray to join.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.stats import compute_stats
from pad_pipeline.models.convert import convert
from pad_pipeline.models.references import EMBEDDED_WEIGHTS
from pad_pipeline.records import PadRecord, Region, records_to_table
from pad_pipeline.reproduce import bench, miniature
from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog, review_url
from pad_pipeline.scenes.writer import write_scenes
from tests.cli.runner import call
from tests.golden_data import golden_dir
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTENTS = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
PAGES = {"README.md": README} | {
    f"docs/{page}": (ROOT / "docs" / page).read_text(encoding="utf-8")
    for entry in CONTENTS
    for page in entry.values()
}
TEXT = "\n".join(PAGES.values())

# Released weights cannot be had in a test: small models stand at the places where they would be.
README_URL = "http://127.0.0.1:8000"

HUB = {"IDEA-Research/grounding-dino-tiny": "detector", "facebook/sam-vit-huge": "segmenter"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def commands() -> Iterator[str]:
    for block in blocks("bash"):
        for line in block.splitlines():
            command = line.split("  #")[0].strip()
            if command:
                yield command


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README presupposes: photos, the downloaded files, the hub's models."""
    folder = tmp_path_factory.mktemp("readme")
    write_scenes(folder / "demo", num_images=12, seed=0)
    annotate_exactly(folder / "demo")
    shutil.copytree(folder / "demo/images", folder / "photos")
    shutil.copy(folder / "demo/ground_truth.json", folder / "boxes.json")
    ram = golden_dir("ram_tiny")
    config = json.loads((ram / "config.json").read_text())
    state = load_file(ram / "checkpoint.safetensors")
    torch.save({"model": state}, folder / "ram_swin_large_14m.pth")
    convert("ram", ram / "checkpoint.safetensors", folder / "models" / "ram")
    (folder / "ram_tag_list.txt").write_text("\n".join(config["tags"]) + "\n")
    (folder / "ram_tag_list_threshold.txt").write_text("\n".join(map(str, config["thresholds"])))
    for hub_id, role in HUB.items():
        cached = folder / "hub" / f"models--{hub_id.replace('/', '--')}"
        shutil.copytree(EMBEDDED_WEIGHTS / role, cached / "snapshots" / ("0" * 40))
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("0" * 40)
    shutil.copy(next((folder / "photos").iterdir()), folder / "dog.jpg")
    (folder / "tests").symlink_to(ROOT / "tests")
    return folder


def annotate_exactly(folder: Path) -> None:
    """What `make demo` leaves: here with the scenes' own regions, which takes no time."""
    truth = json.loads((folder / "ground_truth.json").read_text())
    captions = {
        entry["image"]: entry["conversations"][-1]["value"]
        for entry in json.loads((folder / "captions.json").read_text())
    }
    kinds = {kind["id"]: kind["name"] for kind in truth["categories"]}
    records = []
    for image in truth["images"]:
        regions = tuple(
            Region(
                kinds[thing["category_id"]],
                0.9,
                (x, y, x + width, y + height),
                thing["segmentation"]["counts"],
                int(thing["area"]),
                0.9,
            )
            for thing in truth["annotations"]
            for x, y, width, height in [thing["bbox"]]
            if thing["image_id"] == image["id"]
        )
        records.append(
            PadRecord(
                image_id=image["file_name"],
                uri=str(folder / "images" / image["file_name"]),
                width=image["width"],
                height=image["height"],
                caption=captions[image["file_name"]],
                status="ok" if regions else "empty",
                error=None,
                tags=(),
                labels=regions,
            )
        )
    (folder / "annotations").mkdir()
    pq.write_table(records_to_table(records), folder / "annotations" / "pad-00000.parquet")


def environment(place: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_CACHE": str(place / "hub"),
        "PAD_MODELS": str(place / "models"),
        "HF_HUB_OFFLINE": "1",
    }


def run(command: list[str] | str, place: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=place,
        env={**environment(place), "RAY_ADDRESS": "local"},
        shell=isinstance(command, str),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def check(command: str, place: Path) -> None:
    done = run(command, place)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr, f"{command}\n{done.stderr}"
    assert '{"error"' not in done.stdout, f"{command}\n{done.stdout}"


def check_here(command: str, capfd: pytest.CaptureFixture[str]) -> None:
    _, *words = shlex.split(command)
    done = call(capfd, *words)
    assert done.code == 0, f"{command}\n{done.out}\n{done.err}"
    assert "Traceback" not in done.err, f"{command}\n{done.err}"


def reject_three(annotations: Path) -> None:
    """What a person does in the viewer: the first region of each of three images is rejected."""
    log = ReviewLog(review_url(str(annotations), None))
    records = iter_records(open_dataset(str(annotations)))
    for record in islice((record for record in records if record.labels), 3):
        place = {"image": record.image_id, "region": 0}
        digest = region_digest(record.labels[0])
        log.write(new_event("verdict", "a reader", **place, digest=digest, value="rejected"))


@contextmanager
def served(command: str, place: Path) -> Iterator[str]:
    """The service of a command at a free port, ended by Ctrl-C."""
    port = free_port()
    words = [*shlex.split(command), "--port", str(port), "--ray-address", "local"]
    process = subprocess.Popen(
        words, cwd=place, env=environment(place), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("ready at ")
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()


def test_the_first_screen_shows_the_two_commands() -> None:
    first_screen = README[:2200]
    assert "make demo" in first_screen
    assert "make test" in first_screen
    assert (ROOT / "docs/pictures/overview.png").stat().st_size > 100_000


def test_the_make_targets_are_the_commands_that_the_tests_run(place: Path) -> None:
    for target, expected in (("demo", "pad-pipeline demo --output demo"), ("test", "-m pytest")):
        done = run(["make", "--directory", str(ROOT), "--dry-run", target], place)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_every_command_runs(place: Path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "hub"))
    monkeypatch.setenv("PAD_MODELS", str(place / "models"))
    # what `reproduce --quick` finds with all its steps, which take minutes, stands in benchmarks/
    few = replace(bench.QUICK, num_scenes=64, num_held_out=24, num_steps=3)
    monkeypatch.setattr(miniature, "QUICK", few)
    second = replace(miniature.QUICK_SECOND, num_scenes=16, num_steps=2)
    monkeypatch.setattr(miniature, "QUICK_SECOND", second)
    found = list(commands())
    assert sum(command.startswith("pad-pipeline") for command in found) >= 9
    requests = [command for command in found if README_URL in command]
    assert len(requests) >= 2
    installs = [command for command in found if command.startswith("pip install")]
    assert len(installs) >= 3
    # without what they depend on, they are one and the same
    check(f"{sys.executable} -m pip install --dry-run --no-deps {ROOT}", place)
    for command in found:
        if command.startswith("make ") or command in (*installs, *requests):
            continue  # checked above or below; `make test` here would run this test again
        if command.startswith("pad-pipeline serve"):
            with served(command, place) as url:
                for request in requests:
                    check(request.replace(README_URL, url), place)
        elif command.startswith(("pad-pipeline annotate", "pad-pipeline retry-failed")):
            check(command, place)
        elif command.startswith("pad-pipeline"):
            if "--without-rejected" in command:
                reject_three(place / "annotations")
            check_here(command, capfd)
        else:
            check(command, place)
    num_regions = compute_stats(str(place / "annotations")).num_regions
    assert compute_stats(str(place / "reviewed-again")).num_regions == num_regions - 3
    for made in (
        "stats.png",
        "pictures",
        "pad.json",
        "strict.json",
        "annotations",
        "llava-hf",
        "sample.png",
        "annotated.png",
        "analysis/analysis.json",
        "reproduction/results.json",
        "reproduction/loss_curves.png",
        "reproduction/maps",
    ):
        assert (place / made).exists(), made


@pytest.mark.ray
def test_every_python_block_runs(place: Path) -> None:
    for block in blocks("python"):
        done = run([sys.executable, "-c", block], place)
        assert done.returncode == 0, f"{block}\n{done.stderr}"


def test_every_link_into_the_repository_leads_somewhere() -> None:
    for page, text in PAGES.items():
        targets = re.findall(r"\]\((?!http)([^)#]+)\)", text)
        assert len(targets) >= 3 or page != "README.md"
        for target in targets:
            assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_every_option_that_it_names_exists(capfd) -> None:
    helps = ""
    commands = ("annotate", "serve", "export", "demo", "stats", "render", "view", "analyze")
    commands += tuple(
        f"evaluate {name}"
        for name in ("alignment", "captions", "referring", "vqa", "detections", "harness", "score")
    )
    commands += ("reproduce", "train pretrain", "train finetune", "train inspect", "models verify")
    commands += ("models fetch", "models check", "embed", "import", "conversations", "experiment")
    commands += ("train export", "train vlsa", "train compare")
    for command in commands:
        done = call(capfd, *command.split(), "--help-all")
        assert done.code == 0, done.err
        helps += done.out
    # of `models convert`, of every command, of a benchmark
    known = {"--thresholds", "--debug", "--help-all", "--size"}
    for option in set(re.findall(r"(?<![\w-])--[a-z][\w.-]*[a-z]", TEXT)):
        assert option in helps or option in known, option
