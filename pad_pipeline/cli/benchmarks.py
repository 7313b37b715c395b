"""The commands `pad-pipeline evaluate …` but for `alignment`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tyro.conf import Positional, arg

from pad_pipeline.cli.options import DataSet, RayOptions, TrainingImages
from pad_pipeline.cli.reports.output import say
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.choices import Benchmark, Kind
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.limits import AtLeastOne
from pad_pipeline.review.choice import ReviewChoice

Model = Positional[
    Annotated[
        str | None,
        arg(
            metavar="MODEL",
            help="Run of `train`, exported directory, or a LLaVA of transformers by hub id.",
        ),
    ]
]

Against = Annotated[
    str | None, arg(help="Folder of another evaluation of the same questions to compare with.")
]


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What every evaluation of answers takes."""

    output: str
    """Folder for the answers, their scores and summary.json."""
    questions: str | None = None
    """What the model is asked, with references: the benchmark's file, or a list as JSON Lines."""
    images: TrainingImages = None
    split: str | None = None
    """Split of a file or folder that has several."""
    answers: str | None = None
    """JSON Lines with question_id, answer and references to score without a model."""
    against: Against = None
    workers: AtLeastOne = 1
    """Models that answer at once, on Ray and with a GPU each where there are GPUs; 1 needs no
    Ray."""


def captions(
    options: Annotated[EvaluationOptions, arg(name="")],
    config: Annotated[GenerationConfig, arg(name="")],
    ray: Annotated[RayOptions, arg(name="")],
    model: Model = None,
    spice_home: str | None = None,
) -> None:
    """Caption images: METEOR, ROUGE-L, CIDEr, BLEU as pycocoevalcap gives them; needs Java.

    Args:
        spice_home: Folder with SPICE's program and its models; without it SPICE is not measured.
    """
    _evaluate("captions", model, options, config, ray, {"spice_home": spice_home})


def referring(
    options: Annotated[EvaluationOptions, arg(name="")],
    config: Annotated[GenerationConfig, arg(name="")],
    ray: Annotated[RayOptions, arg(name="")],
    model: Model = None,
    split_by: str | None = None,
) -> None:
    """Find what an expression refers to: Acc@0.5 and mean IoU of boxes, in both frames.

    Args:
        split_by: `unc`, `google` or `umd`, where a folder of the refer API has several pickles.
    """
    _evaluate("referring", model, options, config, ray, {}, split_by=split_by)


def vqa(
    options: Annotated[EvaluationOptions, arg(name="")],
    config: Annotated[GenerationConfig, arg(name="")],
    ray: Annotated[RayOptions, arg(name="")],
    benchmark: Benchmark,
    model: Model = None,
) -> None:
    """Answer questions about images, scored by the official rule of a benchmark.

    Args:
        benchmark: Whose rule; `exact` compares any short answers but for case and punctuation.
    """
    _evaluate("vqa", model, options, config, ray, {"benchmark": benchmark}, benchmark=benchmark)


def detections(
    dataset: DataSet,
    truth: Positional[Annotated[str, arg(metavar="TRUTH")]],
    output: str,
    review: Annotated[ReviewChoice, arg(name="")],
    match: str | None = None,
    against: str | None = None,
) -> None:
    """Compare boxes and masks of a data set with COCO's: AP, AP50, AR, per tag, with curves.

    Args:
        truth: COCO's instances JSON of the same images.
        output: Folder for summary.json and pr_curves.png.
        match: JSON object of tag -> category, for tags with another name than their category.
        against: Another data set of the same images to compare with, on the same draws of images
            and as it was annotated; it may be the same one.
    """
    from pad_pipeline.evaluate.detections import evaluate_detections

    for line in evaluate_detections(dataset, truth, output, match, against, review).lines():
        say(line)


def harness(
    export: Positional[Annotated[str, arg(metavar="EXPORT", help="What `train export` wrote.")]],
    tasks: str,
    output: str,
    python: str | None = None,
    include_path: str | None = None,
    batch_size: AtLeastOne = 1,
    limit: Annotated[int | None, Ge(1)] = None,
    device: Literal["cuda", "cpu"] = "cuda",
) -> None:
    """Run benchmarks of lmms-eval 0.7.3 on an export.

    Args:
        tasks: Names of lmms-eval's tasks, separated by commas.
        output: Folder for summary.json and, below lmms_eval/, all that the program writes.
        python: Python of the environment with lmms-eval; this one without it.
        include_path: Folder with task files of one's own.
        batch_size: Questions that pass through the model together; stands in the result.
        limit: Questions per task, the first ones; all without it.
        device: Where the model runs.
    """
    from pad_pipeline.evaluate.harness import run_harness

    report = run_harness(
        export,
        tasks.split(","),
        output,
        python=python,
        include_path=include_path,
        batch_size=batch_size,
        limit=limit,
        device=device,
    )
    for line in report.lines():
        say(line)


def score(
    evaluation: Positional[Annotated[str, arg(metavar="DIR", help="Folder of an evaluation.")]],
    against: Against = None,
) -> None:
    """Repeat the scoring of an evaluation from its answers, without a model."""
    from pad_pipeline.evaluate.evaluation import score_again

    for line in score_again(evaluation, against=against).lines():
        say(line)


def _evaluate(
    kind: Kind,
    model: str | None,
    options: EvaluationOptions,
    config: GenerationConfig,
    ray: RayOptions,
    scoring: dict[str, Any],
    **reading: Any,
) -> None:
    from pad_pipeline.evaluate.evaluation import score_answers

    if options.answers is not None:
        if model is not None or options.questions is not None:
            raise UserError(
                Setting("answers"), " are scored as they are; leave out the model and its questions"
            )
        report = score_answers(
            options.answers, options.output, kind, scoring, against=options.against
        )
    else:
        if model is None or options.questions is None:
            raise UserError(
                "expected a model and ",
                Setting("questions"),
                " to put to it, or ",
                Setting("answers"),
                " that are there already",
            )
        from pad_pipeline.evaluate.generation.run import evaluate_model
        from pad_pipeline.evaluate.questions.read import read_questions

        questions, split = read_questions(
            kind, options.questions, options.images, split=options.split, **reading
        )
        console = Console(stderr=True)
        columns = (TextColumn("answering"), BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task("", total=len(questions))
            report = evaluate_model(
                model,
                questions,
                options.output,
                kind,
                scoring,
                config,
                split=split,
                against=options.against,
                answer_on_ray=_on_ray(options.workers, ray),
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    for line in report.lines():
        say(line)


def _on_ray(workers: int, options: RayOptions) -> Any:
    """What answers with several models; None for one, which needs no Ray."""
    if workers == 1:
        return None
    from pad_pipeline.evaluate.generation.on_ray import answer_on_ray

    return partial(
        answer_on_ray,
        workers=workers,
        ray_address=options.ray_address,
        ray_logs=options.ray_logs,
    )
