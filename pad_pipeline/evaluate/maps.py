"""What a projector finds in one image: Align masks and the words of matching pursuit, as JSON.

FOLDER/maps/<number>-<name>.json    one variant of the projector, image by image
FOLDER/maps/<number>-<name>-<k>.png the images as the model sees them
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pad_pipeline import storage
from pad_pipeline.drawing.words import word_colours
from pad_pipeline.evaluate.english_words import english_words
from pad_pipeline.evaluate.measures.alignment import AlignmentMeter, Threshold
from pad_pipeline.evaluate.measures.pursuit import matching_pursuit
from pad_pipeline.evaluate.tokenmaps import shown_piece
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.examples import Example
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.regions import covered_tokens

MAPS = "maps"
_UNSAFE = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class RegionMap:
    """A region's patches: covered by its mask, and found by its label; (P,) bool each."""

    tag: str
    covered_P: NDArray[np.bool_]
    predicted_P: NDArray[np.bool_]
    iou: float


@dataclass(frozen=True, slots=True)
class ImageMaps:
    """The maps of one image of `frame`, HWC uint8 RGB as the model sees it, row by row of `grid`.

    `words` are K lists of P vocabulary pieces, `cosines_KP` theirs, −1 to 1. Regions that cover no
    patch are left out.
    """

    image_id: str
    frame: NDArray[np.uint8]
    grid: int
    regions: list[RegionMap]
    words: list[list[str]]
    cosines_KP: NDArray[np.float32]
    caption: str | None = None
    """What the image shows, for images that no data set has."""


@torch.no_grad()
def image_maps(
    model: VisionLanguageModel,
    tokenizer: Any,
    batch: Batch,
    example: Example,
    *,
    threshold: Threshold,
    num_iterations: int,
) -> ImageMaps:
    """The maps of an example, which is the only one of its `batch`."""
    assert example.frame is not None
    batch = batch.to(model.device)
    tokens_PD = model.project(model.encode(batch.pixels_ICHW))[0].float()
    labels = model.label_embeddings(batch.label_ids or [[0]]).float()
    covered_RP = covered_tokens(model.projector.token_coverage(batch.coverage_IRS))[0]
    regions = []
    if covered_RP.any():
        found = AlignmentMeter(threshold).add(
            tokens_PD, labels[batch.label_index_IR[0]], covered_RP
        )
        rule = found.by_threshold[threshold]
        regions = [
            RegionMap(
                example.tags[int(region)],
                covered_RP[region].cpu().numpy(),
                predicted_P.cpu().numpy(),
                float(iou),
            )
            for region, predicted_P, iou in zip(
                found.kept_R, rule.predicted_RP, rule.iou_R, strict=True
            )
        ]
    pursuit = matching_pursuit(tokens_PD, model.embedding, num_iterations=num_iterations)
    return ImageMaps(
        image_id=example.id,
        frame=example.frame,
        grid=model.projector.token_grid,
        regions=regions,
        words=[tokenizer.convert_ids_to_tokens(row) for row in pursuit.indices_NK.T.tolist()],
        cosines_KP=pursuit.similarities_NK.T.cpu().float().numpy(),
    )


def write_maps(
    folder: str | Path,
    number: int,
    name: str,
    maps: Sequence[ImageMaps],
    *,
    threshold: Threshold,
    measures: Mapping[str, float],
) -> None:
    """Write the maps of one variant, the `number`-th to be shown, where the viewer finds them.

    `measures` are the variant's measures by name. Nothing is written where there is no image.
    """
    if not maps:
        return
    stem = f"{number:02d}-{_UNSAFE.sub('_', name)[-80:]}"
    images = []
    for index, found in enumerate(maps):
        frame = f"{stem}-{index:03d}.png"
        buffer = io.BytesIO()
        Image.fromarray(found.frame).save(buffer, "PNG")
        storage.write_atomic(storage.join(str(folder), MAPS, frame), buffer.getvalue())
        images.append({"frame": frame, **_to_dict(found)})
    facts = {
        "name": name,
        "grid": [maps[0].grid, maps[0].grid],
        "threshold": threshold,
        "measures": dict(measures),
        "images": images,
    }
    data = (json.dumps(facts, ensure_ascii=False) + "\n").encode()
    storage.write_atomic(storage.join(str(folder), MAPS, f"{stem}.json"), data)


def _to_dict(found: ImageMaps) -> dict[str, Any]:
    words = [[shown_piece(piece) for piece in row] for row in found.words]
    return {
        "image_id": found.image_id,
        "caption": found.caption,
        "regions": [
            {
                "tag": region.tag,
                "covered": np.flatnonzero(region.covered_P).tolist(),
                "predicted": np.flatnonzero(region.predicted_P).tolist(),
                "iou": round(region.iou, 4),
            }
            for region in found.regions
        ],
        "words": words,
        "cosines": [[round(float(c), 4) for c in row] for row in found.cosines_KP],
        "colours": word_colours(words, english_words()),
    }
