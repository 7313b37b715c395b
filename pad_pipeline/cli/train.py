"""The commands `pad-pipeline train …`, `analyze` and `reproduce`."""

from __future__ import annotations

from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from pad_pipeline.train.run.config import Stage, TrainConfig

Preset = Literal["paper", "demo"]


def pretrain(
    annotations: Positional[Annotated[str, arg(metavar="ANNOTATIONS")]],
    output: str,
    config: Annotated[TrainConfig, arg(name="")],
    preset: Preset = "paper",
    images: str | None = None,
    dry_run: bool = False,
    ray_address: str | None = None,
    ray_logs: bool = False,
) -> None:
    """Stage 1: train the projector with the caption loss and the patch loss, on Ray Train.

    The same command again goes on from the last checkpoint.

    Args:
        annotations: Data set that `annotate` wrote, or LLaVA's JSON for the baseline without.
        output: Folder of the run; a path or a URL.
        config: The run.
        preset: Defaults of all the options below: `paper` or `demo` (the embedded small models).
        images: Where the images are: folder or archive.
        dry_run: Print what would be done, and end.
        ray_address: Ray cluster to join; without it the one that runs here, else a local start.
        ray_logs: Show Ray's own messages.
    """
    del preset  # it has chosen the defaults already
    _train("pretrain", annotations, images, None, output, config, dry_run, ray_address, ray_logs)


def finetune(
    conversations: Positional[Annotated[str, arg(metavar="CONVERSATIONS")]],
    projector: str,
    output: str,
    config: Annotated[TrainConfig, arg(name="")],
    preset: Preset = "paper",
    images: str | None = None,
    dry_run: bool = False,
    ray_address: str | None = None,
    ray_logs: bool = False,
) -> None:
    """Stage 2: train projector and language model on conversations, on Ray Train.

    The same command again goes on from the last checkpoint.

    Args:
        conversations: LLaVA's JSON or JSONL; samples without an image are text alone.
        projector: Run of stage 1 whose projector is taken.
        output: Folder of the run; a path or a URL.
        config: The run.
        preset: Defaults of all the options below: `paper` or `demo` (the embedded small models).
        images: Where the images are: folder or archive.
        dry_run: Print what would be done, and end.
        ray_address: Ray cluster to join; without it the one that runs here, else a local start.
        ray_logs: Show Ray's own messages.
    """
    del preset
    _train(
        "finetune", conversations, images, projector, output, config, dry_run, ray_address, ray_logs
    )


def inspect(
    source: Positional[Annotated[str, arg(metavar="SOURCE")]],
    output: str,
    config: Annotated[TrainConfig, arg(name="")],
    preset: Preset = "paper",
    images: str | None = None,
    sample: str | None = None,
) -> None:
    """Draw one sample as the model sees it: frame, covered patches, tokens and which are learnt.

    Args:
        source: Data set that `annotate` wrote, or LLaVA's JSON.
        output: The PNG file to write.
        config: Geometry, tower, tokenizer and template.
        preset: Defaults of all the options below: `paper` or `demo`.
        images: Where the images are: folder or archive.
        sample: Id of the sample; the first one with regions without it.
    """
    from pad_pipeline.cli.reports import say
    from pad_pipeline.train.inspect.sample import inspect_sample

    del preset
    say(inspect_sample(source, images, config, sample, output))


def export(
    run: Positional[Annotated[str, arg(metavar="RUN")]],
    dest: Positional[Annotated[str, arg(metavar="DEST")]],
    format: Literal["transformers", "llava"] = "transformers",
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Write a finished run for other programs.

    Args:
        run: Folder of the run.
        dest: Folder to write.
        format: `transformers` for LlavaForConditionalGeneration; `llava` for mm_projector.bin.
        dtype: Number format of the written weights; bfloat16 is half the size.
    """
    from pad_pipeline.cli.reports import say
    from pad_pipeline.train.run.results import export_run

    for line in export_run(run, dest, format, dtype):
        say(line)


def analyze(
    run: Positional[Annotated[str, arg(metavar="RUN")]],
    annotations: str,
    output: str,
    images: str | None = None,
    num_images: int = 100,
    threshold: Literal["otsu", "mean-sigma", "quantile", "oracle"] = "otsu",
    iterations: int = 5,
    num_pictures: int = 8,
) -> None:
    """Measure a projector: entropy before and after, Align(V, W), cosine, matching pursuit.

    Args:
        run: Folder of a training run.
        annotations: Data set that `annotate` wrote.
        output: Folder for analysis.json and the pictures.
        images: Where the images are: folder or archive.
        num_images: Images to measure, from the data set's beginning.
        threshold: How the similarity from which a patch counts as found is chosen.
        iterations: Words that matching pursuit picks per patch.
        num_pictures: Images of which pictures are drawn.
    """
    from pad_pipeline.cli.reports import say
    from pad_pipeline.evaluate.analyze import analyze_run

    report = analyze_run(
        run,
        annotations,
        images,
        output,
        num_images=num_images,
        threshold=threshold,
        iterations=iterations,
        num_pictures=num_pictures,
    )
    for line in report.lines():
        say(line)


def reproduce(output: str = "reproduction", quick: bool = False) -> None:
    """The paper's Tables 1 to 3 in miniature, on the embedded small models.

    Args:
        output: Folder for results.json and the loss curves.
        quick: One seed and fewer steps: under 3 minutes on 2 cores in place of 20.
    """
    from pad_pipeline.cli.reports import say
    from pad_pipeline.reproduce.miniature import reproduce as run

    for line in run(output, quick=quick, console=Console(stderr=True)):
        say(line)


def _train(
    stage: Stage,
    source: str,
    images: str | None,
    projector: str | None,
    output: str,
    config: TrainConfig,
    dry_run: bool,
    ray_address: str | None,
    ray_logs: bool,
) -> None:
    from pad_pipeline.cli.reports import say
    from pad_pipeline.train.run.launch import dry_run as describe
    from pad_pipeline.train.run.launch import launch

    if dry_run:
        for line in describe(stage, config, source, images, projector):
            say(line)
        return
    for line in launch(
        stage,
        config,
        source=source,
        images=images,
        projector=projector,
        output=output,
        ray_address=ray_address,
        ray_logs=ray_logs,
        console=Console(stderr=True),
    ):
        say(line)
