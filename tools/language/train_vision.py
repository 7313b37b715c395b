"""Training of the embedded vision tower: CLIP's contrast with captions, and what patches show.

What a patch shows is more than CLIP is taught: the kind and the colour of the thing in it, the box
of that thing, and where the patch itself stands.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, PreTrainedTokenizerBase

from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD
from pad_pipeline.scenes.generator import KINDS
from tools.annotators.training_loop import Schedule, fit
from tools.language.frames import (
    COLOURS,
    GRID,
    IMAGE_SIZE,
    NOTHING,
    PATCH_SIZE,
    FramePack,
    SceneFrames,
)

logger = logging.getLogger(__name__)

BATCH = 32
SCHEDULE = Schedule(steps=2000, learning_rate=1e-3, warm_up_steps=100, weight_decay=0.01)
WEIGHTS = {"kinds": 2.0, "colours": 0.5, "boxes": 4.0, "places": 2.0}
"""Of the losses on patches, beside the contrast's 1."""
CONFIG = CLIPVisionConfig(
    hidden_size=128,
    intermediate_size=384,
    projection_dim=128,
    num_hidden_layers=5,
    num_attention_heads=4,
    image_size=IMAGE_SIZE,
    patch_size=PATCH_SIZE,
    hidden_act="quick_gelu",
)
USED_LAYER = -2
"""The hidden layer that projectors read, as LLaVA reads CLIP's."""
PARTS = {"kinds": len(KINDS) + 1, "colours": len(COLOURS), "boxes": 4, "places": 2}
"""What a straight line reads from each patch, and how many numbers that is."""


class TowerWithText(nn.Module):
    """The tower, and for training alone a text encoder and a classifier of its patches."""

    def __init__(self, config: CLIPVisionConfig, num_pieces: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.tower = CLIPVisionModel(config)
        for module in self.tower.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.words = nn.Embedding(num_pieces, width, padding_idx=0)
        self.positions = nn.Parameter(0.1 * torch.randn(96, width))
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True
        )
        self.text = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.text_norm = nn.LayerNorm(width)
        self.image_projection = nn.Linear(width, config.projection_dim, bias=False)
        self.text_projection = nn.Linear(width, config.projection_dim, bias=False)
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.patch_norm = nn.LayerNorm(width)
        self.patches = nn.Linear(width, sum(PARTS.values()))

    def forward(self, pixels_BCHW: Tensor, ids_BT: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Similarity logits (B images, B captions), and what is read from the patches: a tensor
        (B, S, numbers) for each of `PARTS`."""
        seen = self.tower(pixels_BCHW, output_hidden_states=True)
        padding_BT = ids_BT == 0
        read_BTD = self.words(ids_BT) + self.positions[: ids_BT.shape[1]]
        read_BTD = self.text_norm(self.text(read_BTD, src_key_padding_mask=padding_BT))
        present_BT1 = (~padding_BT).float().unsqueeze(-1)
        mean_BD = (read_BTD * present_BT1).sum(1) / present_BT1.sum(1)
        image_BE = F.normalize(self.image_projection(seen.pooler_output), dim=-1)
        text_BE = F.normalize(self.text_projection(mean_BD), dim=-1)
        logits_BB = self.scale.exp().clamp(max=50) * image_BE @ text_BE.T
        read_BSN = self.patches(self.patch_norm(seen.hidden_states[USED_LAYER][:, 1:]))
        parts = read_BSN.split(list(PARTS.values()), dim=-1)
        return logits_BB, dict(zip(PARTS, parts, strict=True))


def to_pixels(frames: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, normalised by CLIP's mean and deviation."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)


def mirrored(caption: str) -> str:
    """The caption of the mirrored scene: left and right change places."""
    return caption.replace("left", "\0").replace("right", "left").replace("\0", "right")


def mirrored_patches(parts_FSN: np.ndarray) -> np.ndarray:
    """(S, …) values of patches in the places that they have in the mirrored frame."""
    return parts_FSN.reshape(GRID, GRID, -1)[:, ::-1].reshape(parts_FSN.shape)


def draw_frames(pack: FramePack, size: int, seed: int, step: int) -> tuple[SceneFrames, list[str]]:
    """Frames of a step, one a scene in the place of the two: arrays with B first, and captions.

    Cropped or padded, half of them mirrored, all of slightly other brightness and colours.
    """
    rng = np.random.default_rng((seed, step))
    drawn, captions = [], []
    for row in rng.choice(len(pack), size, replace=len(pack) < size):
        kind, caption = int(rng.integers(pack.pixels.shape[1])), pack.captions[row]
        arrays = (pack.pixels, pack.shares, pack.colours, pack.boxes)
        frame, *patches = (array[row, kind] for array in arrays)
        if rng.random() < 0.5:
            frame, caption = frame[:, ::-1], mirrored(caption)
            shares, colours, boxes = map(mirrored_patches, patches)
            x0, y0, x1, y1 = boxes.T
            patches = [shares, colours, np.stack([255 - x1, y0, 255 - x0, y1], axis=1)]
        gain, shift = rng.uniform(0.9, 1.1) * rng.uniform(0.96, 1.04, 3), rng.uniform(-10, 10)
        drawn.append((np.clip(frame * gain + shift, 0, 255).astype(np.uint8), *patches))
        captions.append(caption)
    return SceneFrames(*map(np.stack, zip(*drawn, strict=True))), captions


def encode(tokenizer: PreTrainedTokenizerBase, captions: list[str]) -> Tensor:
    """(B, T) ids, padded with 0."""
    ids = [torch.tensor(tokenizer(caption)["input_ids"]) for caption in captions]
    return nn.utils.rnn.pad_sequence(ids, batch_first=True)


def tower_losses(
    model: TowerWithText,
    tokenizer: PreTrainedTokenizerBase,
    pack: FramePack,
    batch: int,
    seed: int,
    step: int,
) -> dict[str, Tensor]:
    """CLIP's symmetric contrast over the batch, and what is read wrongly from the patches."""
    frames, captions = draw_frames(pack, batch, seed, step)
    logits_BB, read = model(to_pixels(frames.pixels), encode(tokenizer, captions))
    own_B = torch.arange(batch)
    contrast = F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)
    losses = patch_losses(read, frames)
    return {
        "contrast": contrast / 2,
        **{name: weight * losses[name] for name, weight in WEIGHTS.items()},
    }


def patch_losses(read: dict[str, Tensor], frames: SceneFrames) -> dict[str, Tensor]:
    """Cross-entropy of kinds and colours; mean distance of edges and places, in sides."""
    shares_BSK, colours_BS, boxes_BS4 = (
        torch.from_numpy(part).float() for part in (frames.shares, frames.colours, frames.boxes)
    )
    shares_BSK = shares_BSK / shares_BSK.sum(-1, keepdim=True)
    shows_BS = colours_BS != NOTHING
    cells = (torch.arange(GRID) + 0.5) / GRID
    places_S2 = torch.cartesian_prod(cells, cells).flip(-1)
    return {
        "kinds": F.cross_entropy(read["kinds"].flatten(0, 1), shares_BSK.flatten(0, 1)),
        "colours": F.cross_entropy(read["colours"][shows_BS], colours_BS[shows_BS].long()),
        "boxes": F.l1_loss(read["boxes"][shows_BS], boxes_BS4[shows_BS] / 255),
        "places": F.l1_loss(read["places"], places_S2.expand_as(read["places"])),
    }


@torch.inference_mode()
def measure_tower(
    model: TowerWithText, tokenizer: PreTrainedTokenizerBase, pack: FramePack
) -> dict[str, float]:
    """On the cropped frames: the share of images whose own caption is the nearest of 32
    ("retrieval"), of patches whose kind and colour are read right, of patches with a thing whose
    box is read with an IoU of 0.5 or more, and the mean distance of places from their own.

    The scenes past the last full 32 are left out.
    """
    group = min(32, len(pack))
    sums: dict[str, list[Tensor]] = {}
    for start in range(0, len(pack) - group + 1, group):
        rows = slice(start, start + group)
        ids = encode(tokenizer, list(pack.captions[rows]))
        logits_BB, read = model(to_pixels(pack.pixels[rows, 0]), ids)
        arrays = (pack.pixels, pack.shares, pack.colours, pack.boxes)
        frames = SceneFrames(*(array[rows, 0] for array in arrays))
        colours_BS = torch.from_numpy(frames.colours.astype(np.int64))
        shows_BS = colours_BS != NOTHING
        kinds_BS = torch.from_numpy(frames.shares.astype(np.int64)).argmax(-1)
        overlaps = _ious(read["boxes"], torch.from_numpy(frames.boxes).float() / 255)
        found = {
            "retrieval": logits_BB.argmax(1) == torch.arange(group),
            "kinds": read["kinds"].argmax(-1) == kinds_BS,
            "colours": (read["colours"].argmax(-1) == colours_BS)[shows_BS],
            "boxes": (overlaps >= 0.5)[shows_BS],
            "places": patch_losses(read, frames)["places"][None],
        }
        for name, values in found.items():
            sums.setdefault(name, []).append(values.float().flatten())
    return {name: float(torch.cat(values).mean()) for name, values in sums.items()}


def _ious(a: Tensor, b: Tensor) -> Tensor:
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-6)


def train_vision(
    pack: FramePack,
    held_out: FramePack,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    *,
    config: CLIPVisionConfig = CONFIG,
    schedule: Schedule = SCHEDULE,
    seed: int = 0,
    batch: int = BATCH,
    max_minutes: float | None = None,
) -> CLIPVisionModel:
    """Train the tower and leave a model directory in `output`/model, averaged weights, fp16."""
    torch.manual_seed(seed)
    model = TowerWithText(config, len(tokenizer))

    def keep(model: nn.Module, step: int) -> None:
        assert isinstance(model, TowerWithText)
        found = measure_tower(model, tokenizer, held_out)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
        logger.info("step %d, unseen scenes: %s", step, shown)
        save_tower(model.tower, output / "model")

    fit(
        model,
        lambda step: tower_losses(model, tokenizer, pack, batch, seed, step),
        schedule,
        output,
        on_checkpoint=keep,
        max_minutes=max_minutes,
    )
    save_tower(model.tower, output / "model")
    return model.tower


def save_tower(tower: CLIPVisionModel, directory: Path) -> None:
    """The tower as a transformers directory with weights in fp16; `tower` itself stays as it is."""
    half = CLIPVisionModel(tower.config)
    half.load_state_dict(tower.state_dict())
    half.half().save_pretrained(directory)
    size = tower.config.image_size
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(CLIP_MEAN),
        "image_std": list(CLIP_STD),
    }
    encoded = json.dumps(processor, indent=2) + "\n"
    (directory / "preprocessor_config.json").write_text(encoded, encoding="utf-8")
