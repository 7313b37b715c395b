"""The main job on the embedded models: draw scenes, annotate them, measure and show the result."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from pad_pipeline.annotate.report import RunReport
from pad_pipeline.annotate.run import annotate
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.render import contact_sheet
from pad_pipeline.engine.config import AnnotateConfig, demo
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.scenes.quality import Quality, measure
from pad_pipeline.scenes.writer import write_scenes

SHEET_IMAGES = 12


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo made: the run's report, its quality against the ground truth, its files."""

    report: RunReport
    quality: Quality
    images: Path
    annotations: Path
    overview: Path


def run_demo(
    output: str | Path,
    *,
    num_images: int = 48,
    seed: int = 0,
    config: AnnotateConfig | None = None,
    console: Console | None = None,
) -> DemoResult:
    """Draw `num_images` scenes under `output`, annotate them and compare with the ground truth.

    Writes `images/`, `ground_truth.json` (COCO instances), `captions.json` (LLaVA's format),
    `annotations/` (the data set) and `overview.png`. The same call again reuses what is there.
    Raises `UserError` where `output` holds the scenes of another seed or number.
    """
    if num_images < 1:
        raise UserError(Setting("num_images"), f" must be at least 1, not {num_images}")
    if seed < 0:
        raise UserError(Setting("seed"), f" must not be negative, not {seed}")
    folder = Path(output)
    scenes = write_scenes(folder, num_images=num_images, seed=seed)
    annotations = folder / "annotations"
    report = annotate(
        str(folder / "images"),
        str(annotations),
        config or demo(),
        captions=str(folder / "captions.json"),
        console=console,
    )
    records = list(iter_records(open_dataset(str(annotations))))
    quality = measure(records, scenes)
    overview = folder / "overview.png"
    shown = list(zip(scenes, records, strict=True))[:SHEET_IMAGES]
    contact_sheet([(scene.image, record) for scene, record in shown]).save(overview)
    return DemoResult(report, quality, folder / "images", annotations, overview)
