"""The models of a run, from its config or from what it has trained."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.models.references import EMBEDDED, EMBEDDED_WEIGHTS
from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD
from pad_pipeline.train.data.loader import ImageFormat
from pad_pipeline.train.model.load import PROJECTOR_FILES, SETTINGS_FILE, add_lora, load_model
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.files import Run, config_of, read_run
from pad_pipeline.train.text.encode import load_tokenizer

LLM_FOLDER = "llm"


def locate(reference: str, part: str) -> str:
    """Where a model lies: `embedded` stands for the one of the package ("vision", "language")."""
    return str(EMBEDDED_WEIGHTS / part) if reference == EMBEDDED else reference


def device_and_dtype(config: TrainConfig) -> tuple[str, torch.dtype]:
    """Where and in which number format the passes run."""
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch sees no GPU; use --device cpu")
    if config.dtype == "auto":
        return device, torch.bfloat16 if device == "cuda" else torch.float32
    return device, getattr(torch, config.dtype)


def load_run_model(run: Run, config: TrainConfig) -> tuple[VisionLanguageModel, Any]:
    """(model, tokenizer) before the first step, what is trained chosen and in float32."""
    stage = run.facts["stage"]
    device, dtype = device_and_dtype(config)
    tokenizer = load_tokenizer(locate(config.llm, "language"))
    with ExitStack() as stack:
        projector = config.projector_kind
        if run.facts["projector"] is not None:
            projector = stack.enter_context(_projector_folder(run.facts["projector"]))
        model = load_model(
            locate(config.vision, "vision"),
            locate(config.llm, "language"),
            projector,
            dtype=dtype,
            llm_dtype=torch.float32 if stage == "finetune" and not config.lora_rank else dtype,
            device=device,
            num_tokens=config.image_tokens,
        )
    if config.lora_rank and stage == "finetune":
        add_lora(model, config.lora_rank, config.lora_alpha)
    model.freeze(stage)
    if config.activation_checkpointing:
        model.enable_activation_checkpointing()
    return model, tokenizer


def load_finished_model(
    run: Run, *, device: str = "auto"
) -> tuple[VisionLanguageModel, Any, TrainConfig]:
    """(model, tokenizer, config) as a run left them; `UserError` where it has not finished."""
    if not run.finished:
        raise UserError(f"{run.url} has not finished yet; run its command again to go on")
    config = config_of(run)
    place, dtype = device_and_dtype(TrainConfig(vision="", llm="", device=device))  # type: ignore[arg-type]
    llm = locate(config.llm, "language")
    with ExitStack() as stack:
        folder = stack.enter_context(_projector_folder(run.url))
        if run.facts["stage"] == "finetune":
            llm = str(_local_folder(storage.join(run.url, LLM_FOLDER)))
        model = load_model(
            locate(config.vision, "vision"),
            llm,
            folder,
            dtype=dtype,
            device=place,
            num_tokens=config.image_tokens,
        )
    return model.eval(), load_tokenizer(llm), config


def image_format(model: VisionLanguageModel, vision: str) -> ImageFormat:
    """What the model takes: the tower's own size, mean and deviation, the projector's tokens."""
    mean, std = CLIP_MEAN, CLIP_STD
    settings = Path(locate(vision, "vision"), "preprocessor_config.json")
    if settings.is_file():
        values = json.loads(settings.read_text(encoding="utf-8"))
        mean, std = tuple(values["image_mean"]), tuple(values["image_std"])
    return ImageFormat(
        size=int(model.vision.config.image_size),  # pyright: ignore[reportArgumentType]
        grid=model.projector.grid,
        num_tokens=model.projector.num_tokens,
        mean=mean,
        std=std,
    )


def projector_kind_of(url: str) -> str:
    """The kind of the projector that a run of stage 1 has trained."""
    run = read_run(url)
    if not run.finished:
        raise UserError(f"{url} has not finished yet; run its command again to go on")
    return run.facts["config"]["projector_kind"]


def _projector_folder(url: str) -> tempfile.TemporaryDirectory | _Here:
    """A local folder with the projector's files."""
    if not storage.exists(storage.join(url, SETTINGS_FILE)):
        raise UserError(
            f"{url} holds no trained projector; give the folder of a finished `train pretrain`"
        )
    path = storage.local_path(url)
    if path is not None:
        return _Here(str(path))
    folder = tempfile.TemporaryDirectory()
    for name in (PROJECTOR_FILES[0], SETTINGS_FILE):
        Path(folder.name, name).write_bytes(storage.read_bytes(storage.join(url, name)))
    return folder


class _Here:
    """A folder that stays, in the place of a temporary one."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> str:
        return self._path

    def __exit__(self, *error: object) -> None:
        pass


def _local_folder(url: str) -> Path:
    """The folder on this machine, fetched to the temporary folder where it is remote."""
    path = storage.local_path(url)
    if path is not None:
        return path
    folder = Path(tempfile.mkdtemp(prefix="pad-llm-"))
    for name in storage.list_files(url):
        storage.download(storage.join(url, name), folder / name)
    return folder
