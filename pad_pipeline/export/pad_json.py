"""The export to PAD JSON: the paper's Table 9."""

from __future__ import annotations

from collections import Counter

from pad_pipeline.export.chosen import Chosen
from pad_pipeline.export.json_writing import write_array
from pad_pipeline.record_json import to_pad_json
from pad_pipeline.storage.atomic import new_file


def write_pad_json(chosen: Chosen, dest: str) -> Counter[str]:
    """An array of records with exactly the keys of the paper's Table 9, one per line."""
    counts: Counter[str] = Counter()
    with new_file(dest) as file:
        write_array(file, (to_pad_json(entry.record) for entry in chosen.entries(counts)))
        file.write(b"\n")
    return counts
