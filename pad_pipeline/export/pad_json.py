"""The export to PAD JSON: the paper's Table 9."""

from __future__ import annotations

from collections import Counter

from pad_pipeline.dataset.reader import Dataset
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.export.json_writing import iter_annotated, write_array
from pad_pipeline.records import to_pad_json
from pad_pipeline.storage.atomic import new_file


def write_pad_json(
    dataset: Dataset, dest: str, select: Selection, images: str | None = None
) -> Counter[str]:
    """An array of records with exactly the keys of the paper's Table 9, one per line."""
    del images  # no picture is read
    counts: Counter[str] = Counter()
    with new_file(dest) as file:
        write_array(file, map(to_pad_json, iter_annotated(dataset, select, counts)))
        file.write(b"\n")
    return counts
