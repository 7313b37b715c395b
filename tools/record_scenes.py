"""Write what `pad-pipeline models verify` compares with: scenes and the embedded models' records.

    python -m tools.record_scenes

To be run when the embedded weights or the chain's defaults change, with a `models verify` of every
folder of `tests/golden` that passes: what is recorded here is right because that code is.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

from PIL import Image

from pad_pipeline.models.base import Runtime
from pad_pipeline.scenes.generator import generate_scene
from pad_pipeline.verify.records import RECORDS_FILE, SHIPPED, annotate

SEEDS = (20_000_102, 20_000_103)
"""Scenes that training never saw, whose decisions are far from ties: no score within 0.03 of a
threshold or of another, no overlap within 0.1 of the one at which boxes are suppressed."""


def main() -> None:
    shutil.rmtree(SHIPPED, ignore_errors=True)
    SHIPPED.mkdir()
    names = []
    for index, seed in enumerate(SEEDS):
        names.append(f"scene_{index}.png")
        Image.fromarray(generate_scene(seed).image).save(SHIPPED / names[-1], optimize=True)
    records = [asdict(record) for record in annotate(SHIPPED, names, Runtime())]
    text = json.dumps(records, indent=1) + "\n"
    (SHIPPED / RECORDS_FILE).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
