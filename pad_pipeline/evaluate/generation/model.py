"""What answers questions: opened from a run of training or from a model of transformers."""

from __future__ import annotations

from pathlib import Path

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.generation.config import Answerer, GenerationConfig
from pad_pipeline.evaluate.generation.run_model import RunAnswerer
from pad_pipeline.evaluate.generation.transformers_model import TransformersAnswerer
from pad_pipeline.train.choices import reads_conversations
from pad_pipeline.train.run.folder import RUN_FILE, read_run


def is_captioner(reference: str) -> bool:
    """Whether the model is a run on captions alone (stage 1), which has learnt no questions."""
    if not storage.exists(storage.join(reference, RUN_FILE)):
        return False
    return not reads_conversations(read_run(storage.absolute(reference)).facts["stage"])


def open_answerer(reference: str, config: GenerationConfig) -> Answerer:
    """The model at `reference`: a finished run of `train`, or a LLaVA of transformers (a directory
    or a hub id).

    Raises `UserError` where it cannot be loaded or its template is not known.
    """
    if storage.exists(storage.join(reference, RUN_FILE)):
        if config.engine != "transformers":
            raise UserError(
                f"{reference} is a run of training, which has a model of its own; write it with "
                "`train export` for ",
                Setting("engine", config.engine),
            )
        return RunAnswerer(storage.absolute(reference), config)
    folder = storage.local_path(reference)
    looks_like_path = reference.startswith((".", "/", "~")) or reference.count("/") != 1
    if folder is not None and not folder.exists() and looks_like_path:
        raise UserError(f"there is no run and no model at {reference}")
    if folder is not None and folder.is_dir() and not Path(folder, "config.json").is_file():
        raise UserError(
            f"{reference} is neither a run of `train` (it has no {RUN_FILE}) nor a model of "
            "transformers (it has no config.json)"
        )
    if config.engine == "vllm":
        from pad_pipeline.evaluate.generation.vllm_model import VllmAnswerer

        return VllmAnswerer(reference, config)
    return TransformersAnswerer(reference, config)
