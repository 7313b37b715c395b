"""The options of every command, frozen: people's scripts hold them, renaming one breaks them."""

from __future__ import annotations

import dataclasses
import re

import pytest

from pad_pipeline import __version__
from pad_pipeline.cli.commands import build_commands
from pad_pipeline.cli.parsing import Commands, Group
from pad_pipeline.engine.config import PRESETS
from pad_pipeline.train.run.config import TrainConfig
from tests.cli.runner import call

EVERYWHERE = {"-h", "--help", "-V", "--version", "--debug"}
RAY = {"--ray-address", "--ray-logs", "--no-ray-logs"}
SOURCE = {"--captions", "--images"}
POOL = ("min-workers", "max-workers", "gpus", "cpus")

CONFIG = {
    "--preset",
    "--device",
    "--dtype",
    "--compile",
    "--no-compile",
    "--threads",
    "--layout",
    "--chunk-size",
    "--max-chunk-bytes",
    "--in-flight",
    "--rows-per-shard",
    "--max-pixels",
    "--max-bytes",
    "--max-failed-share",
    "--hang-after-s",
    "--costs",
    "--classes",
    "--min-predicted-iou",
    "--min-stability",
    "--min-area",
    "--max-area",
    "--tag.from",
    "--tag.model",
    "--tag.column",
    "--tag.parser",
    "--tag.batch-size",
    "--detect.from",
    "--detect.boxes",
    "--detect.box-format",
    "--detect.model",
    "--detect.batch-size",
    "--detect.second",
    "--detect.second-iou",
    "--detect.negative",
    "--detect.box-threshold",
    "--detect.thresholds",
    "--detect.text-threshold",
    "--detect.label-mode",
    "--detect.pad-to",
    "--detect.group-by-size",
    "--detect.no-group-by-size",
    "--suppress.iou-threshold",
    "--suppress.per-class",
    "--suppress.no-per-class",
    "--suppress.given-boxes",
    "--suppress.no-given-boxes",
    "--segment.from",
    "--segment.model",
    "--segment.batch-size",
    "--segment.box-batch-size",
    "--segment.quantize",
    *(f"--fused.{name}" for name in POOL),
    *(
        f"--{stage}.pool.{name}"
        for stage in ("tag", "detect", "suppress", "segment")
        for name in POOL
    ),
}
"""What a run of the annotation chain can be given."""

SELECTION = {
    "--min-score",
    "--min-area",
    "--max-area",
    "--min-predicted-iou",
    "--tags",
    "--exclude-tags",
    "--status",
    "--ids",
}

REVIEW = {
    *("--only-accepted", "--no-only-accepted", "--without-rejected", "--no-without-rejected"),
    "--review",
}

TRAINING = {
    "--preset",
    "--weights",
    "--pack-tokens",
    "--kept-layers",
    "--select-layer",
    "--compile",
    "--no-compile",
    "--vision",
    "--llm",
    "--projector-kind",
    "--image-tokens",
    "--geometry",
    "--image-grid-pinpoints",
    "--ema-decay",
    "--template",
    "--max-length",
    "--global-batch",
    "--micro-batch",
    "--epochs",
    "--max-bad-share",
    "--max-steps",
    "--learning-rate",
    "--projector-learning-rate",
    "--warmup-share",
    "--weight-decay",
    "--clip",
    "--patch-weight",
    "--patch-loss",
    "--best-patch",
    "--no-best-patch",
    "--sampler",
    "--lora-rank",
    "--lora-alpha",
    "--quantize-llm",
    "--no-quantize-llm",
    "--seed",
    "--device",
    "--dtype",
    "--activation-checkpointing",
    "--no-activation-checkpointing",
    "--num-validation",
    "--validate-every",
    "--checkpoint-every",
    "--workers",
    "--threads",
    "--loader-threads",
    "--max-failures",
    "--loggers",
}
"""What a run of training can be given."""

TRAINING_RUN = {"--init-from", "--output", "--images", "--dry-run", "--no-dry-run"} | RAY

ALIGNMENT = (
    REVIEW
    | {"--annotations", "--output", "--images", "--num-images", "--threshold"}
    | {
        *("--iterations", "--num-pictures", "--spectrum", "--no-spectrum"),
        *("--held-out", "--no-held-out"),
    }
)

EVALUATION = RAY | {
    *("--answers", "--output", "--against", "--questions", "--images", "--split", "--workers"),
    *("--batch-size", "--max-new-tokens", "--prompt", "--template", "--device", "--dtype"),
    "--engine",
}

CONVERSATIONS = RAY | {
    *("--images", "--region-dataset", "--codes", "--size", "--geometry", "--regions", "--seed"),
    *("--region-codes", "--same-region", "--no-same-region", "--rgb-grid", "--rgb-sampling"),
    *("--max-answer-tokens", "--batch-size", "--rows-per-shard", "--device", "--dtype"),
    *("--threads", "--max-pixels", "--max-bytes", "--max-failed-share"),
    *(f"--pool.{name}" for name in POOL),
}

OPTIONS = {
    "annotate": CONFIG | SOURCE | RAY | {"--limit", "--sample", "--ids"},
    "plan": CONFIG | SOURCE | {"--gpus", "--num-images", "--json"},
    "serve": CONFIG - {"--detect.boxes"}
    | RAY
    | {"--host", "--port", "--max-queued", "--max-body-bytes"}
    | {"--batch-wait-s", "--timeout-s", "--api-key-file"},
    "status": {"--json", "--no-json", "--failed", "--no-failed"},
    "retry-failed": {"--layout", "--hang-after-s"} | RAY,
    "demo": {"--output", "--num-images", "--seed", "--photos", "--no-photos"},
    "export": SELECTION
    | REVIEW
    | {"--format", "--images", "--split", "--seed", "--clip", "--no-clip", "--polygon-tolerance"},
    "import": {"--format", "--images", "--captions", "--fill-boxes", "--no-fill-boxes"},
    "validate": set(),
    "stats": SELECTION | REVIEW | {"--json", "--png"},
    "render": SELECTION | REVIEW | {"--images", "--limit"},
    "embed": {"--images", "--device", "--dtype", "--embed.model", "--embed.batch-size"}
    | {"--embed.regions", "--embed.no-regions", "--embed.duplicates-from", "--embed.map"},
    "duplicates": {"--min-similarity", "--json"},
    "models": set(),
    "models list": set(),
    "models fetch": {"--from"},
    "models check": {"--device", "--facts"},
    "models convert": {"--output", "--tags", "--thresholds", "--tokenizer"},
    "models verify": {"--tolerance", "--device"},
    "models compare-precision": CONFIG | SOURCE | {"--num-images", "--json"},
    "train": set(),
    "train pretrain": TRAINING | TRAINING_RUN | REVIEW,
    "train finetune": TRAINING | TRAINING_RUN | REVIEW | {"--projector", "--regions"},
    "train vlsa": TRAINING
    | TRAINING_RUN
    | REVIEW
    | {"--stage", "--denoiser", "--epigone-width", "--reconstruction-weight", "--num-pictures"}
    | {"--denoiser-learning-rate", "--vision-learning-rate", "--llm-learning-rate"},
    "train inspect": TRAINING | REVIEW | {"--output", "--images", "--sample"},
    "train export": {"--format", "--dtype"},
    "train compare": set(),
    "train push": {"--dtype", "--private", "--no-private", "--dry-run", "--no-dry-run"},
    "conversations": CONVERSATIONS,
    "view": {
        *("--images", "--run", "--codes", "--ground-truth", "--match", "--service", "--review"),
        *("--token-file", "--host", "--port"),
    },
    "show": REVIEW | {"--images", "--width"},
    "analyze": ALIGNMENT,
    "evaluate": set(),
    "evaluate alignment": ALIGNMENT,
    "evaluate captions": EVALUATION | {"--spice-home"},
    "evaluate referring": EVALUATION | {"--split-by"},
    "evaluate vqa": EVALUATION | {"--benchmark"},
    "evaluate detections": REVIEW | {"--output", "--match", "--against"},
    "evaluate harness": {"--tasks", "--output", "--python", "--include-path", "--batch-size"}
    | {"--limit", "--device"},
    "evaluate score": {"--against"},
    "reproduce": RAY | {"--output", "--quick", "--no-quick", "--workers"},
    "experiment": RAY
    | REVIEW
    | {"--output", "--quick", "--no-quick", "--run", "--annotations", "--images"}
    | {"--num-images", "--workers"},
    "completion": set(),
}


def entries(text: str) -> list[str]:
    """What a help lists, in its order: each option with its description."""
    listed: list[str] = []
    for line in text.splitlines():
        inside = line.strip().strip("│").strip()
        if re.match(r"│ -\w?-?", line.strip()):
            listed.append(inside)
        elif line.strip().startswith("│") and listed:
            listed[-1] += f"  {inside}"
    return listed


def help_of(capfd: pytest.CaptureFixture[str], monkeypatch, *arguments: str) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    outcome = call(capfd, *arguments, "--help-all")
    assert outcome.code == 0, outcome.err
    return outcome.out


def names_of(commands: Commands, prefix: str = "") -> set[str]:
    names = set()
    for name, command in commands.items():
        names.add(prefix + name)
        if isinstance(command, Group):
            names |= names_of(command.commands, f"{prefix}{name} ")
    return names


def test_there_are_these_commands() -> None:
    assert names_of(build_commands("paper")) == set(OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_the_options_stay_what_they_are(capfd, monkeypatch, command: str) -> None:
    listed = entries(help_of(capfd, monkeypatch, *command.split()))
    heads = [entry.split("  ")[0] for entry in listed]
    found = [
        name for head in heads for name in re.findall(r"(?<![\w-])-{1,2}[a-zA-Z][\w.-]*", head)
    ]
    assert sorted(found) == sorted(OPTIONS[command] | EVERYWHERE)


@pytest.mark.parametrize("command", OPTIONS)
def test_every_option_says_what_it_does(capfd, monkeypatch, command: str) -> None:
    listed = entries(help_of(capfd, monkeypatch, *command.split()))
    assert len(listed) >= 3
    for entry in listed:
        description = entry.partition("  ")[2].partition("(default")[0]
        assert len(description.split()) >= 3, entry


def test_every_field_of_training_is_an_option() -> None:
    fields = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(TrainConfig)}
    assert fields == {option for option in TRAINING if not option.startswith("--no-")} - {
        "--preset"
    }


def test_the_preset_sets_the_defaults(capfd, monkeypatch) -> None:
    both = {
        name: help_of(capfd, monkeypatch, "annotate", f"--preset={name}")
        for name in sorted(PRESETS)
    }
    assert "(default: embedded)" in both["demo"]
    assert "(default: embedded)" not in both["paper"]
    assert "facebook/sam-vit-huge" in both["paper"]


@pytest.mark.parametrize("place", [0, 2, 3])
@pytest.mark.parametrize("words", [["--preset", "demo"], ["--preset=demo"]])
def test_the_preset_may_stand_anywhere_among_the_options(
    capfd, monkeypatch, words: list[str], place: int
) -> None:
    others = ["--chunk-size", "4", "--ray-logs"]
    arguments = ["annotate", *others[:place], *words, *others[place:]]
    assert "(default: embedded)" in help_of(capfd, monkeypatch, *arguments)


@pytest.mark.parametrize("command", ["", *OPTIONS])
def test_the_version_is_printed_wherever_there_is_help(capfd, command: str) -> None:
    outcome = call(capfd, *command.split(), "--version")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"pad-pipeline {__version__}\n", "")
