"""How labels are imported."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What an import knows besides the labels themselves."""

    images: str | None = None
    """Folder or archive of the images; without it they lie where the labels say."""
    captions: str | None = None
    """LLaVA JSON, COCO's captions or JSONL that gives the images their captions."""
    fill_boxes: bool = False
    """Give a box without a mask all of its pixels as a mask, in place of leaving it out."""
