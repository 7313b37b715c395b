"""Referring expressions in the refer API's files: pickles of references beside COCO's boxes."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.questions.listed import Row


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists, dicts, texts and numbers; refuses everything that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def read_plain_pickle(path: Path) -> Any:
    """The plain data of a pickle; `UserError` where it holds anything else or is damaged."""
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin-1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise UserError(
            f"{path} is not read: a pickle of references holds lists, texts and numbers alone "
            f"({error or 'it is cut off'}); fetch it again from where the benchmark is published"
        ) from error


def read_refer_folder(
    folder: Path, split: str | None, split_by: str | None
) -> tuple[list[Row], str]:
    """(a row per sentence, the split and its file) of a folder with refs(…).p and instances.json.

    `split_by` is `unc`, `google` or `umd`, where the folder has several. `bbox` is x, y, width,
    height in pixels of the image.
    """
    files = sorted(folder.glob("refs(*).p"))
    if split_by is not None:
        files = [file for file in files if file.name == f"refs({split_by}).p"]
    if len(files) != 1 or not (folder / "instances.json").is_file():
        there = ", ".join(sorted(file.name for file in folder.iterdir())[:8]) or "nothing"
        raise UserError(
            f"expected instances.json and one refs(…).p in {folder}, found {there}; choose among "
            "several with ",
            Setting("split_by"),
        )
    [path] = files
    references = read_plain_pickle(path)
    instances = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    boxes = {each["id"]: each["bbox"] for each in instances["annotations"]}
    sizes = {each["id"]: each for each in instances["images"]}
    chosen = [each for each in references if each["split"] == split]
    if not chosen:
        there = ", ".join(sorted({str(each["split"]) for each in references}))
        raise UserError(f"{path} has the splits {there}; choose one with ", Setting("split"))
    rows: list[Row] = []
    for reference in chosen:
        image = sizes[reference["image_id"]]
        entry = {"bbox": boxes[reference["ann_id"]]}
        entry |= {name: image[name] for name in ("width", "height")}
        for sentence in reference["sentences"]:
            text = str(sentence.get("raw") or sentence["sent"]).strip()
            rows.append((str(sentence["sent_id"]), text, str(image["file_name"]), entry))
    return rows, f"{split} of {path}"
