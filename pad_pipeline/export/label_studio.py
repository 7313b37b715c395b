"""The export to Label Studio: tasks whose predictions are boxes and brush masks or polygons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from pad_pipeline.export.chosen import Chosen, Entry, captions_of
from pad_pipeline.export.json_writing import write_array
from pad_pipeline.export.region_polygons import NO_MASK, region_loops
from pad_pipeline.polygons import join
from pad_pipeline.storage.atomic import new_file

LOCAL_FILES = "/data/local-files/?d="
"""The address of Label Studio's local storage; the image's id follows."""


def write_label_studio(chosen: Chosen, dest: str) -> Counter[str]:
    """A list of tasks to import, the regions as predictions to correct.

    For a labelling interface with `<Image name="image" value="$image"/>` and
    `<PolygonLabels name="label" toName="image">`. `$image` is below Label Studio's local storage,
    the image's id as its path. A mask is one polygon, its parts joined by bridges of no width;
    points are percentages of the image.
    """
    counts: Counter[str] = Counter()

    def tasks() -> Iterator[dict[str, Any]]:
        for entry in chosen.entries(counts):
            yield _task(chosen, entry, counts)

    with new_file(dest) as file:
        write_array(file, tasks())
        file.write(b"\n")
    return counts


def _task(chosen: Chosen, entry: Entry, counts: Counter[str]) -> dict[str, Any]:
    record = entry.record
    results = []
    for number, region in zip(entry.region_numbers, record.labels, strict=True):
        loops = region_loops(record, region, chosen.options.polygon_tolerance)
        if not loops:
            counts[NO_MASK] += 1
            counts["regions"] -= 1
            continue
        points = join(loops) * (100 / record.width, 100 / record.height)
        results.append(
            {
                "id": f"region-{number}",
                "from_name": "label",
                "to_name": "image",
                "type": "polygonlabels",
                "original_width": record.width,
                "original_height": record.height,
                "image_rotation": 0,
                "score": region.score,
                "value": {
                    "points": [[round(x, 5), round(y, 5)] for x, y in points.tolist()],
                    "closed": True,
                    "polygonlabels": [region.tag],
                },
            }
        )
    score = max((region.score for region in record.labels), default=0.0)
    image = LOCAL_FILES + quote(record.image_id, errors="surrogatepass")
    return {
        "id": entry.number,
        "data": {
            "image": image,
            "image_id": record.image_id,
            "width": record.width,
            "height": record.height,
            "caption": "",
            **captions_of(record),
        },
        "predictions": [{"model_version": "pad-pipeline", "score": score, "result": results}],
    }
