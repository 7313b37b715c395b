"""How embeddings are made; the docstrings of fields are the help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pad_pipeline.limits import AtLeastOne, Fraction, check_limits

DUPLICATES_FROM = 0.9
"""The cosine similarity from which two images may be near-duplicates unless asked otherwise."""


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Whose features the embeddings are."""

    model: str | None = None
    """A tagger (RAM or RAM++: directory, name in the models folder, or `embedded`), or a CLIP (hub
    id or directory); without it the tagger that the data set was annotated with."""
    batch_size: AtLeastOne = 32
    """Images per forward pass."""
    regions: bool = True
    """Embed regions too: the patches of the image that a mask covers, at no further pass."""
    duplicates_from: Fraction = DUPLICATES_FROM
    """Cosine similarity from which two images are near-duplicates (0–1), if their light and dark
    parts lie alike too."""
    map: Literal["auto", "umap", "pca"] = "auto"
    """How images get their place on the map; `auto` takes UMAP where umap-learn is installed, else
    the two principal axes."""

    def __post_init__(self) -> None:
        check_limits(self)
