"""The commands `pad-pipeline train …`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from pad_pipeline.cli.options import RayOptions, Run, TrainingImages, TrainingPreset
from pad_pipeline.cli.reports.output import say
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.train.choices import TrainingStage
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.vlsa.config import VlsaConfig

More = Positional[Annotated[tuple[str, ...], arg(metavar="[MORE ...]")]]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What both stages take beside their config."""

    output: str
    """Folder of the run; a path or a URL."""
    images: TrainingImages = None
    init_from: str | None = None
    """Another run of the same stage: begin with the weights that it has trained, at step 0. Of
    `vlsa`, a run of the stage before."""
    dry_run: bool = False
    """Print what would be done, and end."""


def pretrain(
    annotations: Positional[Annotated[str, arg(metavar="ANNOTATIONS")]],
    options: Annotated[RunOptions, arg(name="")],
    config: Annotated[TrainConfig, arg(name="")],
    ray: Annotated[RayOptions, arg(name="")],
    review: Annotated[ReviewChoice, arg(name="")],
    preset: TrainingPreset = "paper",
    more: More = (),
) -> None:
    """Stage 1: train the projector with the caption loss and the patch loss, on Ray Train.

    The same command again goes on from the last checkpoint.

    Args:
        annotations: Data set that `annotate` wrote, or LLaVA's JSON for the baseline without.
        more: Further ones, trained on together with the first.
    """
    del preset
    _train("pretrain", (annotations, *more), None, config, options, ray, review)


def finetune(
    conversations: Positional[Annotated[str, arg(metavar="CONVERSATIONS")]],
    projector: str,
    options: Annotated[RunOptions, arg(name="")],
    config: Annotated[TrainConfig, arg(name="")],
    ray: Annotated[RayOptions, arg(name="")],
    review: Annotated[ReviewChoice, arg(name="")],
    preset: TrainingPreset = "paper",
    more: More = (),
    regions: str | None = None,
) -> None:
    """Stage 2: train projector and language model on conversations, on Ray Train.

    The same command again goes on from the last checkpoint.

    Args:
        conversations: LLaVA's JSON or JSONL; samples without an image are text alone.
        more: Further ones, trained on together with the first.
        projector: Run of stage 1 whose projector is taken.
        regions: Data set that `annotate` wrote of the same images, for the patch loss in stage 2.
    """
    del preset
    sources = (conversations, *more)
    _train("finetune", sources, projector, config, options, ray, review, regions)


def vlsa(
    source: Positional[Annotated[str, arg(metavar="SOURCE")]],
    stage: Literal[1, 2, 3],
    options: Annotated[RunOptions, arg(name="")],
    config: Annotated[VlsaConfig, arg(name="")],
    ray: Annotated[RayOptions, arg(name="")],
    review: Annotated[ReviewChoice, arg(name="")],
    preset: TrainingPreset = "paper",
    more: More = (),
) -> None:
    """Train with image reconstruction beside the language model's loss, in three stages.

    After VLSA: image tokens are also the condition of a denoising transformer. Stage 2 and 3 begin
    with the weights of the stage before (`--init-from RUN`).

    Args:
        source: Stage 1 takes captions (LLaVA's JSON, or a data set of `annotate`), the others
            conversations, also those that `conversations` wrote.
        more: Further ones, trained on together with the first.
        stage: Which stage; it sets the defaults of the rates and of the batch.
    """
    del preset
    name: dict[int, TrainingStage] = {1: "vlsa-1", 2: "vlsa-2", 3: "vlsa-3"}
    _train(name[stage], (source, *more), None, config, options, ray, review)


def inspect(
    source: Positional[Annotated[str, arg(metavar="SOURCE")]],
    output: str,
    config: Annotated[TrainConfig, arg(name="")],
    review: Annotated[ReviewChoice, arg(name="")],
    preset: TrainingPreset = "paper",
    images: TrainingImages = None,
    sample: str | None = None,
) -> None:
    """Draw one sample as the model sees it: frame, covered patches, tokens and which are learnt.

    Args:
        source: Data set that `annotate` wrote, or LLaVA's JSON.
        output: The PNG file to write.
        sample: Id of the sample; the first one with regions without it.
    """
    from pad_pipeline.train.inspect.sample import inspect_sample

    del preset
    say(inspect_sample(source, images, config, sample, output, review))


def export(
    run: Run,
    dest: Positional[Annotated[str, arg(metavar="DEST")]],
    format: Literal["transformers", "llava"] = "transformers",
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> None:
    """Write a finished run for other programs.

    Args:
        dest: Folder to write.
        format: `transformers` for LlavaForConditionalGeneration; `llava` for mm_projector.bin.
        dtype: dtype of the written weights; bfloat16 is half the size.
    """
    from pad_pipeline.train.run.results import export_run

    for line in export_run(run, dest, format, dtype):
        say(line)


def push(
    run: Run,
    repository: Positional[Annotated[str, arg(metavar="OWNER/NAME")]],
    dtype: Literal["float32", "bfloat16"] = "bfloat16",
    private: bool = False,
    dry_run: bool = False,
) -> None:
    """Upload an export for transformers to the Hugging Face Hub, with a model card.

    Args:
        repository: Where to; it is made where it is not there.
        dtype: dtype of the written weights; bfloat16 is half the size.
        private: Make a private repository.
        dry_run: Print the files and the model card, and upload nothing.
    """
    from pad_pipeline.train.run.hub import push_run

    for line in push_run(run, repository, dtype, private=private, dry_run=dry_run):
        say(line)


def compare(
    first: Positional[Annotated[str, arg(metavar="RUN1")]],
    second: Positional[Annotated[str, arg(metavar="RUN2")]],
) -> None:
    """Show two runs side by side: settings that differ, curves, held-out figures.

    Args:
        first: Folder of a training run.
        second: Folder of another one of the same stage; it may still train.
    """
    from pad_pipeline.train.run.compare import compare_runs

    for line in compare_runs(first, second):
        say(line)


def _train(
    stage: TrainingStage,
    sources: tuple[str, ...],
    projector: str | None,
    config: TrainConfig,
    options: RunOptions,
    ray: RayOptions,
    review: ReviewChoice,
    regions: str | None = None,
) -> None:
    from pad_pipeline.train.run.dry_run import dry_run as describe
    from pad_pipeline.train.run.launch import launch

    first, *others = sources
    source = sources if others else first
    if options.dry_run:
        for line in describe(stage, config, source, options.images, projector, regions, review):
            say(line)
        return
    for line in launch(
        stage,
        config,
        source=source,
        images=options.images,
        projector=projector,
        regions=regions,
        init_from=options.init_from,
        review=review,
        output=options.output,
        ray_address=ray.ray_address,
        ray_logs=ray.ray_logs,
        console=Console(stderr=True),
    ):
        say(line)
