"""The export to CVAT: one XML file in the form "CVAT for images 1.1", with masks."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree as ET

import numpy as np

from pad_pipeline.export.chosen import Chosen
from pad_pipeline.export.region_polygons import NO_MASK
from pad_pipeline.records import PadRecord, Region
from pad_pipeline.region_masks import region_mask
from pad_pipeline.storage.atomic import new_file


def write_cvat(chosen: Chosen, dest: str) -> Counter[str]:
    """Annotations to upload to a task that has the images under their ids as names.

    A mask is CVAT's own form: its box, and row by row the lengths of runs inside it, zeros first.
    """
    counts: Counter[str] = Counter()
    with new_file(dest) as file:
        file.write(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
        file.write(b"<version>1.1</version>\n" + _bytes(_meta(chosen)))
        for entry in chosen.entries(counts):
            record = entry.record
            size = {"width": str(record.width), "height": str(record.height)}
            name = _printable(record.image_id)
            image = ET.Element("image", {"id": str(entry.number - 1), "name": name, **size})
            for region in record.labels:
                attributes = _mask(record, region)
                if attributes is None:
                    counts[NO_MASK] += 1
                    counts["regions"] -= 1
                else:
                    ET.SubElement(image, "mask", attributes)
            file.write(_bytes(image))
        file.write(b"</annotations>\n")
    return counts


def _meta(chosen: Chosen) -> ET.Element:
    meta = ET.Element("meta")
    labels = ET.SubElement(ET.SubElement(meta, "task"), "labels")
    for name in chosen.categories():
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = _printable(name)
        ET.SubElement(label, "type").text = "mask"
    return meta


def _bytes(element: ET.Element) -> bytes:
    return ET.tostring(element, encoding="utf-8", xml_declaration=False) + b"\n"


def _mask(record: PadRecord, region: Region) -> dict[str, str] | None:
    mask = region_mask(record, region)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    top, left = int(rows[0]), int(columns[0])
    inside = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    flat = np.concatenate([[False], inside.ravel()])
    lengths = np.diff(np.flatnonzero(flat[1:] != flat[:-1]), prepend=0, append=inside.size)
    return {
        "label": _printable(region.tag),
        "source": "auto",
        "occluded": "0",
        "z_order": "0",
        "rle": ", ".join(map(str, lengths.tolist())),
        "left": str(left),
        "top": str(top),
        "width": str(inside.shape[1]),
        "height": str(inside.shape[0]),
    }


def _printable(text: str) -> str:
    """Without control characters and lone surrogates, which XML cannot hold."""
    kept = "".join(char if char.isprintable() else "\ufffd" for char in text)
    return kept.encode("utf-8", "replace").decode("utf-8")
