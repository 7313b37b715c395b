"""The commands `pad-pipeline evaluate …`, `analyze` and `reproduce`."""

from __future__ import annotations

from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from pad_pipeline.cli.options import Run, TrainingImages
from pad_pipeline.cli.reports.output import say
from pad_pipeline.evaluate.choices import Benchmark


def analyze(
    run: Run,
    annotations: str,
    output: str,
    images: TrainingImages = None,
    num_images: int = 100,
    threshold: Literal["otsu", "mean-sigma", "quantile", "oracle"] = "otsu",
    iterations: int = 5,
    num_pictures: int = 8,
) -> None:
    """Measure how well a projector's tokens match words.

    Entropy before and after, Align(V, W), cosine, matching pursuit.

    Args:
        annotations: Data set that `annotate` wrote.
        output: Folder for analysis.json and the pictures.
        num_images: Images to measure, from the data set's beginning.
        threshold: How the similarity from which a patch counts as found is chosen.
        iterations: Words that matching pursuit picks per patch.
        num_pictures: Images of which pictures are drawn.
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
    )
    for line in report.lines():
        say(line)


Against = Annotated[
    str | None, arg(help="Folder of another evaluation of the same questions to compare with.")
]


def captions(
    output: str,
    answers: str,
    against: Against = None,
    spice_home: str | None = None,
) -> None:
    """Score captions: METEOR, ROUGE-L, CIDEr, BLEU as pycocoevalcap gives them; needs Java.

    Args:
        output: Folder for the answers, their scores and summary.json.
        answers: JSON Lines with question_id, answer and references, to be scored without a model.
        spice_home: Folder with SPICE's program and its models; without it SPICE is not measured.
    """
    from pad_pipeline.evaluate.evaluation import score_answers

    options = {"spice_home": spice_home}
    for line in score_answers(answers, output, "captions", options, against=against).lines():
        say(line)


def referring(output: str, answers: str, against: Against = None) -> None:
    """Score boxes for referring expressions: Acc@0.5 and mean IoU, in both frames.

    Args:
        output: Folder for the answers, their scores and summary.json.
        answers: JSON Lines with question_id, answer, width, height and references or bbox, to be
            scored without a model.
    """
    from pad_pipeline.evaluate.evaluation import score_answers

    for line in score_answers(answers, output, "referring", {}, against=against).lines():
        say(line)


def vqa(output: str, benchmark: Benchmark, answers: str, against: Against = None) -> None:
    """Score answers to questions about images by the official rule of a benchmark.

    Args:
        output: Folder for the answers, their scores and summary.json.
        benchmark: Whose rule; `exact` compares any short answers but for case and punctuation.
        answers: JSON Lines with question_id, answer and references, to be scored without a model.
    """
    from pad_pipeline.evaluate.evaluation import score_answers

    options = {"benchmark": benchmark}
    for line in score_answers(answers, output, "vqa", options, against=against).lines():
        say(line)


def score(
    evaluation: Positional[Annotated[str, arg(metavar="DIR", help="Folder of an evaluation.")]],
    against: Against = None,
) -> None:
    """Repeat the scoring of an evaluation from its answers, without a model."""
    from pad_pipeline.evaluate.evaluation import score_again

    for line in score_again(evaluation, against=against).lines():
        say(line)


def reproduce(output: str = "reproduction", quick: bool = False) -> None:
    """Run the paper's Tables 1 to 3 in miniature.

    On the embedded small models.

    Args:
        output: Folder for results.json and the loss curves.
        quick: One seed and fewer steps: under 3 minutes on 2 cores in place of 20.
    """
    from pad_pipeline.reproduce.miniature import reproduce as run

    for line in run(output, quick=quick, console=Console(stderr=True)):
        say(line)
