"""Training of the embedded vision tower: CLIP's contrast with captions, and what patches show."""

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
from tools.language.frames import GRID, IMAGE_SIZE, PATCH_SIZE, FramePack

logger = logging.getLogger(__name__)

BATCH = 32
SCHEDULE = Schedule(steps=1500, learning_rate=1e-3, warm_up_steps=100, weight_decay=0.01)
PATCH_WEIGHT = 2.0
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
        self.patches = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(KINDS) + 1))

    def forward(self, pixels_BCHW: Tensor, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Similarity logits (B images, B captions) and patch logits (B, S, kinds + 1)."""
        seen = self.tower(pixels_BCHW, output_hidden_states=True)
        padding_BT = ids_BT == 0
        read_BTD = self.words(ids_BT) + self.positions[: ids_BT.shape[1]]
        read_BTD = self.text_norm(self.text(read_BTD, src_key_padding_mask=padding_BT))
        present_BT1 = (~padding_BT).float().unsqueeze(-1)
        mean_BD = (read_BTD * present_BT1).sum(1) / present_BT1.sum(1)
        image_BE = F.normalize(self.image_projection(seen.pooler_output), dim=-1)
        text_BE = F.normalize(self.text_projection(mean_BD), dim=-1)
        logits_BB = self.scale.exp().clamp(max=50) * image_BE @ text_BE.T
        return logits_BB, self.patches(seen.hidden_states[USED_LAYER][:, 1:])


def to_pixels(frames: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, normalised by CLIP's mean and deviation."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)


def mirrored(caption: str) -> str:
    """The caption of the mirrored scene: left and right change places."""
    return caption.replace("left", "\0").replace("right", "left").replace("\0", "right")


def draw_frames(
    pack: FramePack, size: int, seed: int, step: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Frames (B, H, W, 3), shares (B, S, kinds + 1) and captions of a step.

    Cropped or padded, half of them mirrored, all of slightly other brightness and colours.
    """
    rng = np.random.default_rng((seed, step))
    frames, shares, captions = [], [], []
    for row in rng.choice(len(pack), size, replace=len(pack) < size):
        kind = int(rng.integers(pack.pixels.shape[1]))
        frame, share, caption = pack.pixels[row, kind], pack.shares[row, kind], pack.captions[row]
        if rng.random() < 0.5:
            frame, caption = frame[:, ::-1], mirrored(caption)
            share = share.reshape(GRID, GRID, -1)[:, ::-1].reshape(GRID * GRID, -1)
        gain, shift = rng.uniform(0.9, 1.1) * rng.uniform(0.96, 1.04, 3), rng.uniform(-10, 10)
        frames.append(np.clip(frame * gain + shift, 0, 255).astype(np.uint8))
        shares.append(share)
        captions.append(caption)
    return np.stack(frames), np.stack(shares), captions


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
    """CLIP's symmetric contrast over the batch, and the cross-entropy of what each patch shows."""
    frames, shares, captions = draw_frames(pack, batch, seed, step)
    logits_BB, patches_BSK = model(to_pixels(frames), encode(tokenizer, captions))
    own_B = torch.arange(batch)
    target_BSK = torch.from_numpy(shares).float()
    target_BSK = target_BSK / target_BSK.sum(-1, keepdim=True)
    contrast = F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)
    shown = F.cross_entropy(patches_BSK.flatten(0, 1), target_BSK.flatten(0, 1))
    return {"contrast": contrast / 2, "patches": PATCH_WEIGHT * shown}


@torch.inference_mode()
def retrieval_and_patches(
    model: TowerWithText, tokenizer: PreTrainedTokenizerBase, pack: FramePack
) -> tuple[float, float]:
    """Share of images whose own caption is the nearest of 32, and of patches classified right.

    On the cropped frames; the scenes past the last full 32 are left out.
    """
    group = min(32, len(pack))
    hits = right = count = 0
    for start in range(0, len(pack) - group + 1, group):
        rows = slice(start, start + group)
        ids = encode(tokenizer, list(pack.captions[rows]))
        logits_BB, patches_BSK = model(to_pixels(pack.pixels[rows, 0]), ids)
        hits += int((logits_BB.argmax(1) == torch.arange(group)).sum())
        shown_BS = torch.from_numpy(pack.shares[rows, 0].astype(np.float32)).argmax(-1)
        right += float((patches_BSK.argmax(-1) == shown_BS).float().mean(1).sum())
        count += group
    return hits / count, right / count


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
        retrieval, patches = retrieval_and_patches(model, tokenizer, held_out)
        logger.info("step %d: own caption first %.3f, patches right %.3f", step, retrieval, patches)
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
