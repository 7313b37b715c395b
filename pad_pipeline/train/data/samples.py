"""One sample of a training run, before its image is read."""

from __future__ import annotations

from dataclasses import dataclass, field

from pad_pipeline.sources import ManifestRow


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSample:
    """One sample before it is read: a caption (stage 1) or turns (stage 2), image and regions.

    `image` is None for text alone. `width` and `height` are the annotated image's pixels, 0 where
    it has no annotation; `masks` are COCO counts of that size, one per tag.
    """

    id: str
    image: ManifestRow | None
    caption: str | None = None
    turns: list[dict[str, str]] | None = None
    width: int = 0
    height: int = 0
    tags: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)

    @property
    def length(self) -> int:
        """LLaVA's measure of length: words of the text, negative for text without an image."""
        texts = [turn["value"] for turn in self.turns or []] or [self.caption or ""]
        words = sum(len(text.split()) for text in texts)
        return words if self.image is not None else -words
