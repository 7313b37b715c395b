"""The export to Pascal VOC: an XML file of boxes for each image, and lists of images."""

from __future__ import annotations

from collections import Counter, defaultdict
from xml.etree import ElementTree as ET

from pad_pipeline.drawing.colours import tag_colour
from pad_pipeline.export.chosen import Chosen, Entry, clipped
from pad_pipeline.export.coco import OUTSIDE
from pad_pipeline.export.image_files import FileNames, iter_images, write_file
from pad_pipeline.storage.atomic import new_folder


def write_voc(chosen: Chosen, dest: str) -> Counter[str]:
    """`JPEGImages/`, `Annotations/….xml`, `ImageSets/Main/PART.txt` and `labelmap.txt`.

    VOC's pixels count from 1 and both ends of a box belong to it, so a box x0, y0, x1, y1 becomes
    x0 + 1, y0 + 1, x1, y1, rounded. Masks are not in it: `coco` has them.
    """
    counts: Counter[str] = Counter()
    names = FileNames()
    lists: dict[str, list[str]] = defaultdict(list)
    with new_folder(dest) as folder:
        for image in iter_images(chosen, counts):
            name = names(image.entry.record, image.data)
            stem = name.rpartition(".")[0]
            write_file(folder, f"JPEGImages/{name}", image.data)
            tree = _annotation(image.entry, name, chosen.options.clip, counts)
            write_file(folder, f"Annotations/{stem}.xml", ET.tostring(tree, encoding="utf-8"))
            lists[image.entry.part].append(stem)
        for part in chosen.parts:
            lines = "".join(f"{stem}\n" for stem in lists[part])
            write_file(folder, f"ImageSets/Main/{part}.txt", lines.encode("utf-8"))
        write_file(folder, "labelmap.txt", _label_map(chosen).encode("utf-8"))
    return counts


def _label_map(chosen: Chosen) -> str:
    """The names of the labels in the form of CVAT and Datumaro, with the colours of pictures."""
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::"]
    for name in chosen.categories():
        rgb = ",".join(map(str, tag_colour(name)))
        lines.append(f"{name.replace(':', ' ')}:{rgb}::")
    return "\n".join(lines) + "\n"


def _annotation(entry: Entry, name: str, clip: bool, counts: Counter[str]) -> ET.Element:
    record = entry.record
    root = ET.Element("annotation")
    _text(root, "folder", "JPEGImages")
    _text(root, "filename", name)
    source = ET.SubElement(root, "source")
    _text(source, "image_id", record.image_id)
    size = ET.SubElement(root, "size")
    for key, value in (("width", record.width), ("height", record.height), ("depth", 3)):
        _text(size, key, value)
    _text(root, "segmented", 0)
    for region in record.labels:
        box = clipped(region.bbox, record.width, record.height, clip)
        if box is None:
            counts[OUTSIDE] += 1
            counts["regions"] -= 1
            continue
        thing = ET.SubElement(root, "object")
        _text(thing, "name", region.tag)
        for key, value in (("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)):
            _text(thing, key, value)
        bounds = ET.SubElement(thing, "bndbox")
        x0, y0, x1, y1 = (round(value) for value in box)
        corners = (x0 + 1, y0 + 1, max(x1, x0 + 1), max(y1, y0 + 1))
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            _text(bounds, key, value)
    ET.indent(root)
    return root


def _text(parent: ET.Element, name: str, value: object) -> None:
    # XML has no control characters.
    text = "".join(char if char.isprintable() else "\ufffd" for char in str(value))
    ET.SubElement(parent, name).text = text.encode("utf-8", "replace").decode("utf-8")
