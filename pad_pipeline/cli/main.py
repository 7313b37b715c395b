"""The command `pad-pipeline`: arguments in, calls of the library, reports out."""

from __future__ import annotations

import functools
import logging
import signal
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Literal, TypeVar

import tyro
from rich.console import Console
from tyro.conf import Positional, arg

from pad_pipeline import __version__
from pad_pipeline.cli import runs, serve, train, view
from pad_pipeline.cli.stderr import native_ray_lines_hidden
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.engine.config import PRESETS, AnnotateConfig
from pad_pipeline.errors import UserError
from pad_pipeline.serve.config import ServiceConfig
from pad_pipeline.train.run.config import PRESETS as TRAIN_PRESETS

PROGRAM = "pad-pipeline"

Preset = Literal["paper", "demo"]

_Config = TypeVar("_Config")


def annotate(
    source: Positional[Annotated[str, arg(metavar="SOURCE")]],
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    config: Annotated[AnnotateConfig, arg(name="")],
    preset: Preset = "paper",
    captions: str | None = None,
    images: str | None = None,
    ray_address: str | None = None,
    ray_logs: bool = False,
) -> None:
    """Images in, Patch-Aligned Dataset out: tags, boxes and masks of every image, on Ray.

    The same command again continues where it stopped.

    Args:
        source: Folder, LLaVA JSON, zip, WebDataset tars, Parquet or JSONL; a path or a URL.
        output: Folder of the data set; a path or a URL.
        config: The run.
        preset: Defaults of all the options below: `paper` or `demo` (the embedded small models).
        captions: LLaVA JSON or JSONL that gives the images of a folder their captions.
        images: Where the image files of a JSON, JSONL or Parquet source are.
        ray_address: Ray cluster to join; without it the one that runs here, else a local start.
        ray_logs: Show Ray's own messages.
    """
    from pad_pipeline.annotate.run import TooManyFailed
    from pad_pipeline.annotate.run import annotate as run
    from pad_pipeline.cli.reports import print_run

    del preset  # it has chosen the defaults already, see main()
    try:
        report = run(
            source,
            output,
            config,
            captions=captions,
            images=images,
            ray_address=ray_address,
            ray_logs=ray_logs,
            console=Console(stderr=True),
        )
    except TooManyFailed as error:
        print_run(error.report)
        raise
    print_run(report)


def demo(output: str = "demo", num_images: int = 48, seed: int = 0) -> None:
    """Draw illustrated scenes, annotate them with the embedded small models, measure the result.

    Args:
        output: Folder for the scenes, the data set and the contact sheet.
        num_images: How many scenes to draw.
        seed: Which scenes to draw.
    """
    from pad_pipeline.cli.reports import print_demo
    from pad_pipeline.scenes.demo import run_demo

    print_demo(run_demo(output, num_images=num_images, seed=seed, console=Console(stderr=True)))


def export(
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    dest: Positional[Annotated[str, arg(metavar="DEST")]],
    format: Literal["pad-json", "coco", "webdataset", "llava"],
    select: Annotated[Selection, arg(name="")],
    images: str | None = None,
) -> None:
    """Write a data set in another format, all of it or a selection.

    Args:
        output: The data set, as `annotate` wrote it.
        dest: File (pad-json, coco, llava) or folder (webdataset) to write.
        format: pad-json has exactly the paper's keys; coco loads in pycocotools.
        select: Which regions to take.
        images: Where the images are now, if not where they were annotated (webdataset).
    """
    from pad_pipeline.cli.reports import print_export
    from pad_pipeline.export.formats import export as run

    print_export(run(output, dest, format, select=select, images=images))


def validate(output: Positional[Annotated[str, arg(metavar="OUTPUT")]]) -> None:
    """Check every record, mask and count of a data set; the exit code is 1 if anything is wrong.

    Args:
        output: The data set, as `annotate` wrote it.
    """
    from pad_pipeline.cli.reports import print_validation
    from pad_pipeline.dataset.validate import validate as run

    report = run(output)
    print_validation(report)
    if not report.ok:
        raise SystemExit(1)


def stats(
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    select: Annotated[Selection, arg(name="")],
    json: str | None = None,
    png: str | None = None,
) -> None:
    """Count images, regions and tags of a data set.

    Args:
        output: The data set, as `annotate` wrote it.
        select: Which regions to count.
        json: Also write the figures to this file.
        png: Also draw the histograms into this file.
    """
    from pad_pipeline.cli.reports import print_stats
    from pad_pipeline.dataset.stats import compute_stats

    print_stats(compute_stats(output, select), json=json, png=png)


def render(
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    dest: Positional[Annotated[str, arg(metavar="DEST")]],
    select: Annotated[Selection, arg(name="")],
    images: str | None = None,
    limit: int | None = None,
) -> None:
    """Draw masks, boxes and tags on the images.

    Args:
        output: The data set, as `annotate` wrote it.
        dest: Folder for the pictures.
        select: Which regions to draw.
        images: Where the images are now, if not where they were annotated.
        limit: Draw at most this many images.
    """
    from pad_pipeline.cli.reports import print_render
    from pad_pipeline.dataset.render import render as run

    print_render(run(output, dest, images=images, limit=limit, select=select))


def models_list() -> None:
    """Say which models are known, where their weights live, their licence, what is on disk."""
    from pad_pipeline.cli.reports import print_models

    print_models()


def models_convert(
    kind: Positional[Literal["ram", "ram-plus", "grounding-dino", "sam"]],
    checkpoint: Positional[Annotated[str, arg(metavar="CHECKPOINT")]],
    output: str,
    tags: str | None = None,
    thresholds: str | None = None,
    tokenizer: str | None = None,
) -> None:
    """Turn an original checkpoint into a self-contained model directory.

    Args:
        kind: Which model the checkpoint is of.
        checkpoint: The released .pth (or .safetensors) file.
        output: Directory to write.
        tags: RAM: file with one tag per line, in the order of the checkpoint.
        thresholds: RAM: file with one threshold per line; 0.68 for all without it.
        tokenizer: Grounding DINO: directory or hub id of its BERT tokenizer.
    """
    from pad_pipeline.cli.reports import say
    from pad_pipeline.models.convert import convert

    convert(kind, checkpoint, output, tags=tags, thresholds=thresholds, tokenizer=tokenizer)
    say(f"wrote {output}")


def models_verify(
    directory: Positional[Annotated[str, arg(metavar="DIR")]],
    tolerance: float = 1e-4,
    device: Literal["cpu", "cuda"] = "cpu",
) -> None:
    """Compare a model with the recorded outputs of the original; exit code 1 on a difference.

    Args:
        directory: Folder with config.json, checkpoint, inputs and expected outputs.
        tolerance: Largest absolute difference that passes.
        device: Where the models run, in float32.
    """
    from pad_pipeline.cli.reports import print_verification
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.verify.run import verify

    rows = verify(directory, tolerance, Runtime(device))
    print_verification(rows)
    if not all(row.ok for row in rows):
        raise SystemExit(1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; `arguments` without the program's name, by default the process's."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    if argv == ["--version"]:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        return
    # `ray job stop` and batch systems send SIGTERM: leave as on Ctrl-C, with everything on disk.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hidden = nullcontext() if debug or "--ray-logs" in argv else native_ray_lines_hidden()
    try:
        with hidden:
            _log_to_stderr(debug)
            _commands(argv).cli(
                prog=PROGRAM,
                args=argv,
                description=(
                    "Annotate images with tags, boxes and masks (RAM, Grounding DINO, SAM on Ray), "
                    "and train patch-aligned projectors on the result. "
                    "Add --debug to any command for tracebacks and all log lines."
                ),
            )
    except BrokenPipeError:
        raise SystemExit(1) from None
    except (UserError, OSError) as error:
        if debug:
            raise
        told = error if isinstance(error, UserError) else f"{error} (--debug says where)"
        sys.stderr.write(f"{PROGRAM}: error: {told}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        sys.stderr.write(
            f"{PROGRAM}: interrupted; what was finished is kept, the same command continues\n"
        )
        raise SystemExit(130) from None


def _commands(argv: Sequence[str]) -> tyro.extras.SubcommandApp:
    """The commands; those with presets start from the one that the arguments name."""
    models = tyro.extras.SubcommandApp()
    models.command(name="list")(models_list)
    models.command(name="convert")(models_convert)
    models.command(name="verify")(models_verify)
    app = tyro.extras.SubcommandApp()
    app.command(name="annotate")(functools.partial(annotate, config=_preset(argv, PRESETS)()))
    app.command(name="plan")(functools.partial(runs.plan, config=_preset(argv, PRESETS)()))
    app.command(name="serve")(
        functools.partial(serve.serve, config=_preset(argv, PRESETS)(), service=ServiceConfig())
    )
    app.command(runs.status)
    app.command(runs.retry_failed)
    for command in (demo, export, validate, stats, render):
        app.command(command)
    app.command(models, name="models", help="List, convert and verify models.")
    training = tyro.extras.SubcommandApp()
    stage1, stage2 = (_preset(argv, TRAIN_PRESETS[name])() for name in ("pretrain", "finetune"))
    training.command(name="pretrain")(functools.partial(train.pretrain, config=stage1))
    training.command(name="finetune")(functools.partial(train.finetune, config=stage2))
    training.command(name="inspect")(functools.partial(train.inspect, config=stage1))
    training.command(name="export")(train.export)
    app.command(
        training, name="train", help="Train projectors and language models; inspect and export."
    )
    for command in (view.view, view.show, train.analyze, train.reproduce):
        app.command(command)
    return app


def _preset(
    argv: Sequence[str], presets: Mapping[str, Callable[[], _Config]]
) -> Callable[[], _Config]:
    """The preset that the arguments name: it sets the defaults that they are parsed with."""
    name = "paper"
    for index, word in enumerate(argv):
        if word == "--preset" and index + 1 < len(argv):
            name = argv[index + 1]
        elif word.startswith("--preset="):
            name = word.removeprefix("--preset=")
    if name not in presets:
        raise UserError(f"no preset is called {name!r}; there are {', '.join(presets)}")
    return presets[name]


def _log_to_stderr(debug: bool) -> None:
    """Our log lines as plain sentences on stderr; other libraries' and warnings with --debug."""
    handler = logging.StreamHandler(sys.stderr)
    pattern = "%(asctime)s %(name)s: %(message)s" if debug else "%(message)s"
    handler.setFormatter(logging.Formatter(pattern))
    logger = logging.getLogger("pad_pipeline")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    if debug:
        logging.basicConfig(level=logging.INFO)
    else:
        warnings.simplefilter("ignore")
