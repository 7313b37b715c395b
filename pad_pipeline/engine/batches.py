"""How many images a stage's model gets in one call: the config's batch size, within the chunk."""

from __future__ import annotations

import logging

from pad_pipeline.engine import costs
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.errors import Setting

logger = logging.getLogger(__name__)


def batch_size(config: AnnotateConfig, name: str) -> int:
    """Images in one call of a stage's model: the config's, at most those of one chunk."""
    return min(getattr(config.stages[name], "batch_size", config.chunk_size), config.chunk_size)


def warn_about_batches_above_chunk(config: AnnotateConfig) -> None:
    """Log which of the config's batch sizes the chunk size limits."""
    for name in costs.MODELS:
        size = getattr(config, name).batch_size
        if size > config.chunk_size:
            logger.warning(
                "%s is above %s: batches of %d images instead, as a batch never spans two chunks",
                Setting(f"{name}.batch_size", size),
                Setting("chunk_size", config.chunk_size),
                config.chunk_size,
            )
