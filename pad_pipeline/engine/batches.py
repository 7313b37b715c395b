"""How many images a stage's model gets in one call: the config's batch size, within the chunk."""

from __future__ import annotations

import logging

from pad_pipeline.engine import costs
from pad_pipeline.engine.config import AnnotateConfig

logger = logging.getLogger(__name__)


def batch_size(config: AnnotateConfig, name: str) -> int:
    """Images in one call of a stage's model: the config's, at most those of one chunk."""
    return min(getattr(config.stages[name], "batch_size", config.chunk_size), config.chunk_size)


def warn_of_batches_above_chunk(config: AnnotateConfig) -> None:
    """Log which of the config's batch sizes the chunk size limits."""
    sizes = {name: getattr(config, name).batch_size for name in costs.MODELS}
    above = [f"{name}.batch_size {n}" for name, n in sizes.items() if n > config.chunk_size]
    if above:
        logger.warning(
            "%s above chunk_size %d: batches of %d images instead, as a batch never spans two "
            "chunks",
            " and ".join(above) + (" are" if len(above) > 1 else " is"),
            config.chunk_size,
            config.chunk_size,
        )
