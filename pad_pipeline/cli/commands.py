"""The tree of commands."""

from __future__ import annotations

from functools import partial
from typing import Literal

from tyro.conf import Positional

from pad_pipeline.cli import (
    annotate,
    benchmarks,
    conversations,
    dataset,
    evaluate,
    models,
    serve,
    similarity,
    train,
    view,
)
from pad_pipeline.cli.options import choose_preset
from pad_pipeline.cli.parsing import Commands, Group, parse
from pad_pipeline.cognition.config import CognitionConfig
from pad_pipeline.engine.config import PRESETS
from pad_pipeline.serve.config import ServiceConfig
from pad_pipeline.similarity.config import EmbedConfig
from pad_pipeline.train.run.config import PRESETS as TRAIN_PRESETS
from pad_pipeline.train.vlsa.config import PRESETS as VLSA_PRESETS


def build_commands(preset: str, stage: str = "1") -> Commands:
    """All commands; a preset sets the defaults of those that have a config, for `train vlsa`
    together with its stage.

    Raises `UserError` for a preset that does not exist.
    """
    config = choose_preset(preset, PRESETS)
    # a preset that training does not have is refused by the type of its option
    for_training = preset if preset in TRAIN_PRESETS["pretrain"] else "paper"
    stage1, stage2 = (TRAIN_PRESETS[name][for_training]() for name in ("pretrain", "finetune"))
    # a stage that there is not is refused by the type of its option
    vlsa = VLSA_PRESETS.get(f"vlsa-{stage}", VLSA_PRESETS["vlsa-1"])[for_training]()  # type: ignore[call-overload]
    return {
        "annotate": partial(annotate.annotate, config=config),
        "plan": partial(annotate.plan, config=config),
        "serve": partial(serve.serve, config=config, service=ServiceConfig()),
        "status": annotate.status,
        "retry-failed": annotate.retry_failed,
        "demo": annotate.demo,
        "export": dataset.export,
        "import": dataset.import_labels,
        "validate": dataset.validate,
        "stats": dataset.stats,
        "render": dataset.render,
        "embed": partial(similarity.embed, embed=EmbedConfig()),
        "duplicates": similarity.duplicates,
        "models": Group(
            "List, fetch, convert, check, verify and compare models.",
            {
                "list": models.list_models,
                "fetch": models.fetch,
                "convert": models.convert,
                "check": models.check,
                "verify": models.verify,
                "compare-precision": partial(models.compare_precision, config=config),
            },
        ),
        "train": Group(
            "Train projectors and language models; inspect and export.",
            {
                "pretrain": partial(train.pretrain, config=stage1),
                "finetune": partial(train.finetune, config=stage2),
                "vlsa": partial(train.vlsa, config=vlsa),
                "inspect": partial(train.inspect, config=stage1),
                "export": train.export,
                "compare": train.compare,
                "push": train.push,
            },
        ),
        "conversations": partial(conversations.conversations, config=CognitionConfig()),
        "view": view.view,
        "show": dataset.show,
        "analyze": evaluate.analyze,
        "evaluate": Group(
            "Score alignment, captions, boxes and answers of models.",
            {
                "alignment": evaluate.analyze,
                "captions": benchmarks.captions,
                "referring": benchmarks.referring,
                "vqa": benchmarks.vqa,
                "detections": benchmarks.detections,
                "harness": benchmarks.harness,
                "score": benchmarks.score,
            },
        ),
        "reproduce": evaluate.reproduce,
        "experiment": evaluate.experiment,
        "completion": print_completion,
    }


def print_completion(shell: Positional[Literal["bash", "zsh", "fish"]]) -> None:
    """Print the script with which a shell completes commands.

    For bash, save it as ~/.local/share/bash-completion/completions/pad-pipeline; for fish, as
    ~/.config/fish/completions/pad-pipeline.fish; for zsh, as _pad-pipeline in a folder of $fpath.

    Args:
        shell: Which shell.
    """
    parse(build_commands("paper"), ["--tyro-print-completion", shell])
