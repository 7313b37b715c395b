"""SPICE by its own program, where the files are that it needs and that cannot be distributed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.scoring.java import run_java

_JAR = "spice-1.0.jar"
_MODELS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
_OPENED = ("lang", "util", "util.concurrent", "math", "net", "text")
WITHOUT = (
    f"not measured: put {_JAR} and lib/ of pycocoevalcap/spice into a folder, "
    f"{' and '.join(_MODELS)} of Stanford CoreNLP 2015-12-09 into its lib/, and name it with "
    "`pad-pipeline evaluate captions --spice-home`"
)


def spice(
    candidates: Sequence[str], references: Sequence[Sequence[str]], home: str | None
) -> NDArray[np.float64] | str:
    """(N,) F-scores of tokenized captions, NaN where SPICE gives none; without `home` why not.

    Raises `UserError` where `home` lacks a file.
    """
    if home is None:
        return WITHOUT
    folder = Path(home).absolute()
    for name in (_JAR, *(f"lib/{model}" for model in _MODELS)):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} has no {name}; ",
                Setting("spice_home"),
                " should be a folder with SPICE's program and, below lib/, Stanford's parser",
            )
    pairs = [
        {"image_id": place, "test": candidate, "refs": list(several)}
        for place, (candidate, several) in enumerate(zip(candidates, references, strict=True))
    ]
    opened = [
        word for name in _OPENED for word in ("--add-opens", f"java.base/java.{name}=ALL-UNNAMED")
    ]
    printed = run_java([*opened, "-Xmx8G", "-jar", str(folder / _JAR)], json.dumps(pairs))
    scores = np.full(len(pairs), np.nan)
    for entry in json.loads(printed[printed.index("[") :]):
        value = entry["scores"]["All"]["f"]
        scores[entry["image_id"]] = np.nan if value is None else float(value)
    return scores
