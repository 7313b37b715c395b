"""The commands `analyze` (also `evaluate alignment`), `reproduce` and `experiment`."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from pad_pipeline.cli.options import Run, TrainingImages, WorkerOptions
from pad_pipeline.cli.reports.output import say
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.review.choice import ReviewChoice

if TYPE_CHECKING:
    from pad_pipeline.reproduce.plan import WorkOnRay

_MOST_WORKERS = 8
"""By default: each holds scenes and models of its own, 1.3 GB."""


def analyze(
    run: Run,
    annotations: str,
    output: str,
    review: Annotated[ReviewChoice, arg(name="")],
    images: TrainingImages = None,
    num_images: int = 100,
    threshold: Literal["otsu", "mean-sigma", "quantile", "oracle"] = "otsu",
    iterations: int = 5,
    num_pictures: int = 8,
    spectrum: bool = False,
    held_out: bool = True,
) -> None:
    """Measure how well a projector's tokens match words.

    Entropy before and after, Align(V, W), cosine, matching pursuit.

    Args:
        annotations: Data set that `annotate` wrote.
        output: Folder for analysis.json and the pictures.
        num_images: Images to measure; of more the first ones.
        threshold: How the similarity from which a patch counts as found is chosen.
        iterations: Words that matching pursuit picks per patch.
        num_pictures: Images of which pictures are drawn.
        spectrum: Print what lies behind the entropies: tokens under masks and outside, labels,
            centred and with unit length, the mean's share, the largest eigenvalues.
        held_out: Of the data set that the run was trained on, only images that it held out.
    """
    from pad_pipeline.evaluate.analysis import analyze_run

    report = analyze_run(
        run,
        annotations,
        images,
        output,
        num_images=num_images,
        threshold=threshold,
        iterations=iterations,
        num_pictures=num_pictures,
        spectrum=spectrum,
        held_out=held_out,
        review=review,
    )
    for line in report.lines():
        say(line)


def experiment(
    name: Positional[
        Annotated[
            Literal["beta", "patch-only", "projectors", "llms", "pursuit"],
            arg(metavar="{beta,patch-only,projectors,llms,pursuit}"),
        ]
    ],
    workers: Annotated[WorkerOptions, arg(name="")],
    review: Annotated[ReviewChoice, arg(name="")],
    output: str = "experiment",
    quick: bool = False,
    run: str | None = None,
    annotations: str | None = None,
    images: TrainingImages = None,
    num_images: int = 100,
) -> None:
    """Run an experiment that the paper leaves open.

    Args:
        name: `beta` varies the weight of the patch loss, `patch-only` leaves the caption loss out,
            `projectors` compares their kinds, `llms` does so on two language models with tokenizers
            of different kinds, `pursuit` asks whether matching pursuit names what a patch shows.
        output: Folder for results.json and report.html.
        quick: One seed and fewer steps.
        run: Of `pursuit`, a finished run of training to measure in place of drawn scenes.
        annotations: The data set that it is measured on; tags of masks are the labels of patches.
        num_images: Images of it to measure.
    """
    if run is not None or annotations is not None or review.is_wanted:
        if name != "pursuit" or run is None or annotations is None or quick:
            raise UserError(
                Setting("run"),
                " and ",
                Setting("annotations"),
                " go together, with `experiment pursuit` alone and without ",
                Setting("quick", True),
            )
        if workers.workers is not None:
            raise UserError(
                "a run is measured by one process; leave out ", Setting("workers", workers.workers)
            )
        from pad_pipeline.reproduce.pursuit_on_run import run_pursuit

        for line in run_pursuit(
            run, annotations, output, images=images, num_images=num_images, review=review
        ):
            say(line)
        return
    from pad_pipeline.reproduce.experiments import run_experiment

    for line in run_experiment(name, output, quick=quick, work_on_ray=_on_ray(workers)):
        say(line)


def reproduce(
    workers: Annotated[WorkerOptions, arg(name="")],
    output: str = "reproduction",
    quick: bool = False,
) -> None:
    """Run the paper's Tables 1 to 5 and 8 in miniature.

    On the embedded small models: projectors, captions, and stage 2 on questions about scenes.

    Args:
        output: Folder for results.json and the loss curves.
        quick: One seed and fewer steps.
    """
    from pad_pipeline.reproduce.miniature import reproduce as run

    console = Console(stderr=True)
    for line in run(output, quick=quick, console=console, work_on_ray=_on_ray(workers)):
        say(line)


def _on_ray(options: WorkerOptions) -> WorkOnRay | None:
    """What trains with several workers; None for one, which needs no Ray."""
    workers = options.workers or min(os.cpu_count() or 1, _MOST_WORKERS)
    if workers == 1:
        return None
    from pad_pipeline.reproduce.on_ray import work_on_ray

    return partial(
        work_on_ray,
        workers=workers,
        ray_address=options.ray_address,
        ray_logs=options.ray_logs,
    )
