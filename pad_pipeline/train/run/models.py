"""The models of a run, from its config or from what it has trained."""

from __future__ import annotations

import dataclasses
import json
import logging
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models.references import EMBEDDED, EMBEDDED_WEIGHTS
from pad_pipeline.train.choices import TrainingStage, is_vlsa, trains_llm
from pad_pipeline.train.data.vision_input import VisionInput
from pad_pipeline.train.model.load import load_model
from pad_pipeline.train.model.lora import add_lora, four_bits
from pad_pipeline.train.model.packed_attention import check_packable
from pad_pipeline.train.model.projector_files import PROJECTOR_FILES, SETTINGS_FILE
from pad_pipeline.train.model.towers import tower_of
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.checkpoint import Checkpoints
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.folder import Run, config_of, read_run
from pad_pipeline.train.text.encode import load_tokenizer
from pad_pipeline.train.vlsa.config import VlsaConfig
from pad_pipeline.train.vlsa.load import VISION_FOLDER, check_predecessor, with_denoiser

logger = logging.getLogger(__name__)

LLM_FOLDER = "llm"


def locate(reference: str, part: str) -> str:
    """Where a model lies: `embedded` stands for the one of the package ("vision", "language")."""
    return str(EMBEDDED_WEIGHTS / part) if reference == EMBEDDED else reference


def device_and_dtype(config: TrainConfig) -> tuple[str, torch.dtype]:
    """Where and in which data type the passes run."""
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "torch sees no GPU for ",
            Setting("device", "cuda"),
            "; use ",
            Setting("device", "cpu"),
        )
    if config.dtype == "auto":
        return device, torch.bfloat16 if device == "cuda" else torch.float32
    return device, getattr(torch, config.dtype)


def load_run_model(run: Run, config: TrainConfig) -> tuple[VisionLanguageModel, Any]:
    """(model, tokenizer) before the first step, what is trained chosen and in float32."""
    stage = run.facts["stage"]
    llm_trained = trains_llm(stage)
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
            llm_dtype=torch.float32 if llm_trained and not config.lora_rank else dtype,
            device=device,
            num_tokens=config.image_tokens,
            select_layer=config.select_layer,
            image_newline=config.geometry == "anyres",
            quantization=four_bits(dtype) if config.quantize_llm and llm_trained else None,
        )
    if config.lora_rank and llm_trained:
        add_lora(model, config.lora_rank, config.lora_alpha)
    if isinstance(config, VlsaConfig):
        model = with_denoiser(model, config, vision_input(model, config.vision), dtype=dtype)
    model.freeze(stage)
    if run.facts.get("init_from") is not None:
        begin_with(model, run.facts["init_from"])
    if config.activation_checkpointing:
        model.enable_activation_checkpointing(config.kept_layers)
    if config.pack_tokens:
        way = model.enable_packing(config.max_length)
        logger.info("packs of up to %s tokens: %s", f"{config.pack_tokens:,}", way)
    if config.compile:
        model.compile_layers()
    return model, tokenizer


def check_init(init_from: str, output: str, stage: TrainingStage) -> None:
    """Raise `UserError` where a run of `stage` at `output` cannot begin with that one's weights."""
    if init_from == output:
        raise UserError(
            f"{output} cannot begin with its own weights; the same command without ",
            Setting("init_from"),
            " resumes it",
        )
    other = read_run(init_from)
    if is_vlsa(stage):
        check_predecessor(stage, init_from, other.facts["stage"])
    elif other.facts["stage"] != stage:
        raise UserError(
            f"{init_from} is a run of {other.facts['stage']}, whose trained weights are not those "
            f"of {stage}; a projector for stage 2 is given by ",
            Setting("projector"),
        )
    if not Checkpoints(init_from).steps():
        raise UserError(f"{init_from} has no checkpoint yet, so there are no weights to begin with")


def begin_with(model: VisionLanguageModel, url: str) -> None:
    """Give the model the trained weights (the averaged ones if it averages) of the last checkpoint
    of the run at `url`.

    A later stage after VLSA trains more parts than the one before; those stay as they are.
    """
    state = Checkpoints(url).load_last()
    assert state is not None, url
    weights = state.get("averaged", state["weights"])
    there = {name.split(".", 1)[0] for name in weights}
    own = {n: t for n, t in model.trained_state().items() if n.split(".", 1)[0] not in there}
    model.load_trained_state({**own, **weights}, source=url)
    logger.info("beginning with the weights of %s after step %d", url, state["step"])


def in_whole_weights(
    run: Run,
    config: TrainConfig,
    model: VisionLanguageModel,
    weights: Mapping[str, torch.Tensor] | None,
) -> VisionLanguageModel:
    """The model with what it has trained on the language model's own weights, not those of 4 bits.

    Adapters are merged into weights; into rounded ones they would be rounded too. A sharded model
    that draws pictures at the end is put together from `weights`, which are whole.
    """
    quantized = config.quantize_llm and trains_llm(run.facts["stage"])
    put_together = weights is not None and model.reconstructs
    if not quantized and not put_together:
        return model
    whole, _ = load_run_model(run, dataclasses.replace(config, quantize_llm=False, device="cpu"))
    state = model.trained_state() if weights is None else weights
    trained = [name for name, _ in whole.named_trained_parameters()]
    whole.load_trained_state({n: state[n] for n in trained}, source="the trained model")
    return whole


def load_finished_model(
    run: Run, *, device: str = "auto"
) -> tuple[VisionLanguageModel, Any, TrainConfig]:
    """(model, tokenizer, config) as a run left them; `UserError` where it has not finished."""
    if not run.finished:
        raise UserError(f"{run.url} has not finished yet; run its command again to resume")
    config = config_of(run)
    place, dtype = device_and_dtype(TrainConfig(vision="", llm="", device=device))  # type: ignore[arg-type]
    llm = locate(config.llm, "language")
    with ExitStack() as stack:
        folder = stack.enter_context(_projector_folder(run.url))
        if trains_llm(run.facts["stage"]):
            llm = str(_local_folder(storage.join(run.url, LLM_FOLDER)))
        vision = locate(config.vision, "vision")
        if isinstance(config, VlsaConfig):
            vision = str(_local_folder(storage.join(run.url, VISION_FOLDER)))
        model = load_model(
            vision,
            llm,
            folder,
            dtype=dtype,
            device=place,
            num_tokens=config.image_tokens,
            select_layer=config.select_layer,
        )
    return model.eval(), load_tokenizer(llm), config


def check_models(config: TrainConfig) -> None:
    """Raise `UserError` where tower, projector, language model or tokenizer do not fit together."""
    model = load_skeleton(config)
    if config.quantize_llm:
        four_bits(torch.bfloat16)
    if config.pack_tokens:
        check_packable(model.llm.config, config.max_length)
    _check_room_for_tiles(model, config)
    load_tokenizer(locate(config.llm, "language"))


def _check_room_for_tiles(model: VisionLanguageModel, config: TrainConfig) -> None:
    """Raise `UserError` where an image in tiles may fill the whole sequence."""
    if config.geometry != "anyres":
        return
    grid = model.projector.grid
    most = max(grid**2 * (1 + rows * columns) + rows * grid for rows, columns in config.tile_grids)
    if most >= config.max_length:
        raise UserError(
            f"an image may take {most:,} tokens in tiles, which leaves no room for text in ",
            Setting("max_length", config.max_length),
            "; give more, or smaller ",
            Setting("image_grid_pinpoints"),
        )


def load_skeleton(config: TrainConfig) -> VisionLanguageModel:
    """The model of a config on the meta device: sizes without weights."""
    model = load_model(
        locate(config.vision, "vision"),
        locate(config.llm, "language"),
        config.projector_kind,
        device="meta",
        dtype=torch.float32,
        num_tokens=config.image_tokens,
        select_layer=config.select_layer,
        image_newline=config.geometry == "anyres",
    )
    if isinstance(config, VlsaConfig):
        return with_denoiser(model, config, vision_input(model, config.vision))
    return model


def with_projector(
    config: TrainConfig, projector: str | None, regions: str | None = None
) -> TrainConfig:
    """The config with kind and tokens of the projector that the run at `projector` has trained.

    Raises `UserError` where that projector does not go with the config, or the weight of the
    patch loss not with `regions`, the data set that gives conversations theirs.
    """
    if projector is None:
        return config
    if config.patch_weight and regions is None:
        raise UserError(
            Setting("patch_weight"),
            " needs regions, which conversations have not; give the data set of their images by ",
            Setting("regions"),
        )
    if regions is not None and not config.patch_weight:
        raise UserError(
            Setting("regions"),
            " is for the patch loss; give ",
            Setting("patch_weight", 5.0),
            " too",
        )
    kind = projector_kind_of(projector)
    trained = read_run(projector).facts["config"]
    if trained["vision"] != config.vision:
        raise UserError(
            f"the projector of {projector} was trained with the tower {trained['vision']}, not "
            f"{config.vision}; give ",
            Setting("vision", trained["vision"]),
        )
    layer = trained.get("select_layer", -2)
    if layer != config.select_layer:
        raise UserError(
            f"the projector of {projector} was trained on layer {layer} of the tower, not "
            f"{config.select_layer}; give ",
            Setting("select_layer", layer),
        )
    if trained["geometry"] == "anyres" and config.geometry != "anyres":
        raise UserError(
            f"the projector of {projector} was trained on images in tiles; give ",
            Setting("geometry", "anyres"),
        )
    return dataclasses.replace(
        config,
        projector_kind=kind,
        image_tokens=trained["image_tokens"],  # type: ignore[arg-type]
    )


def vision_input(model: VisionLanguageModel, vision: str) -> VisionInput:
    """What the model takes: the tower's own size, mean and deviation, the projector's tokens."""
    vision_config: Any = model.vision.config
    mean, std = tower_of(vision_config).mean, tower_of(vision_config).std
    settings = Path(locate(vision, "vision"), "preprocessor_config.json")
    if settings.is_file():
        values = json.loads(settings.read_text(encoding="utf-8"))
        mean, std = tuple(values["image_mean"]), tuple(values["image_std"])
    return VisionInput(
        size=int(vision_config.image_size),
        covered=model.projector.grid * int(vision_config.patch_size),
        grid=model.projector.grid,
        num_tokens=model.projector.num_tokens,
        mean=mean,
        std=std,
    )


def projector_kind_of(url: str) -> str:
    """The kind of the projector that a run of stage 1 has trained."""
    run = read_run(url)
    if not run.finished:
        raise UserError(f"{url} has not finished yet; run its command again to resume")
    return run.facts["config"]["projector_kind"]


def _projector_folder(url: str) -> AbstractContextManager[str]:
    """A local folder with the projector's files."""
    if not storage.exists(storage.join(url, SETTINGS_FILE)):
        raise UserError(
            f"{url} holds no trained projector; give the folder of a finished `train pretrain`"
        )
    path = storage.local_path(url)
    if path is not None:
        return nullcontext(str(path))
    folder = tempfile.TemporaryDirectory()
    for name in (PROJECTOR_FILES[0], SETTINGS_FILE):
        Path(folder.name, name).write_bytes(storage.read_bytes(storage.join(url, name)))
    return folder


def _local_folder(url: str) -> Path:
    """The folder on this machine, fetched to the temporary folder where it is remote."""
    path = storage.local_path(url)
    if path is not None:
        return path
    folder = Path(tempfile.mkdtemp(prefix="pad-llm-"))
    for name in storage.list_files(url):
        storage.download(storage.join(url, name), folder / name)
    return folder
