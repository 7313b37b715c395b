"""Recognize Anything (RAM and RAM++): Swin image encoder and a head of one query per tag.

RAM: Zhang et al., arXiv 2306.03514; RAM++: Huang et al., arXiv 2310.15200.

Shape suffixes: B images, T image tokens (their mean first), C tags, D descriptions per tag,
E width of the label space, H width of the tagging head.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import SwinConfig, SwinModel
from transformers.models.swin.modeling_swin import SwinRelativePositionBias

from pad_pipeline.models.constants import Constants
from pad_pipeline.models.ram.config import RamConfig
from pad_pipeline.models.swin_forward import Swin, Windows, prepare_swin, run_swin

MAX_WINDOW_BYTES = 64 * 2**20
"""What is kept of how maps are cut into windows; images of one size need some megabytes."""


class Labels(NamedTuple):
    """What the tagging head knows of the tags before it sees an image, without batch axis."""

    hidden_CH: Tensor
    query_CH: Tensor


class TaggingLayer(nn.Module):
    """Cross-attention of the tags to the image and a feed-forward net, post-norm as in BERT."""

    def __init__(self, config: RamConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.num_heads = config.num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(config.image_proj_dim, width)
        self.value = nn.Linear(config.image_proj_dim, width)
        self.attention_output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.intermediate = nn.Linear(width, config.intermediate_size)
        self.output = nn.Linear(config.intermediate_size, width)
        self.output_norm = nn.LayerNorm(width, eps=eps)

    def forward(
        self, tags_BCH: Tensor, image_BTE: Tensor, query_BCH: Tensor | None = None
    ) -> Tensor:
        """The tags after this layer; without a batch axis they are the same for all images.

        `query_BCH` is the query projection of `tags_BCH` where it is known already.
        """
        query: Tensor = self.query(tags_BCH) if query_BCH is None else query_BCH
        query_BCH = query.expand(image_BTE.shape[0], -1, -1)
        attended = F.scaled_dot_product_attention(
            self._split(query_BCH), self._split(self.key(image_BTE)),
            self._split(self.value(image_BTE)),
        )  # fmt: skip
        attended_BCH = attended.transpose(1, 2).flatten(2)
        tags_BCH = self.attention_norm(self.attention_output(attended_BCH) + tags_BCH)
        fed_BCH = self.output(F.gelu(self.intermediate(tags_BCH)))
        return self.output_norm(fed_BCH + tags_BCH)

    def _split(self, tokens: Tensor) -> Tensor:
        """(B, tokens, H) as (B, heads, tokens, H / heads)."""
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class RecognizeAnything(nn.Module):
    """RAM, or RAM++ where `config.descriptions_per_class` is not 0; returns one logit per tag.

    Without gradients, in evaluation mode, what does not depend on the image is computed once and
    kept; `train()`, `eval()`, `load_state_dict()` and `to()` drop it. Change parameters in place
    in training mode only.
    """

    def __init__(self, config: RamConfig) -> None:
        super().__init__()
        self.config = config
        self.visual_encoder = _build_swin(config)
        self.image_proj = nn.Linear(config.vision_width, config.image_proj_dim)
        # spread like a layer's activations, so that training from nothing starts with distinct tags
        self.label_embed = nn.Parameter(torch.randn(config.num_label_vectors, config.label_dim))
        if config.descriptions_per_class:
            self.reweight_scale = nn.Parameter(torch.tensor(1 / 0.07).log())
        self.wordvec_proj = nn.Linear(config.label_dim, config.hidden_size)
        self.tagging_head = nn.ModuleList(
            TaggingLayer(config) for _ in range(config.num_hidden_layers)
        )
        self.fc = nn.Linear(config.hidden_size, 1)
        self.by_modules = False
        """Whether the image encoder always runs by transformers' modules, as in training: where
        they are compiled."""
        self._labels: Labels | None = None
        self._swin: Swin | None = None
        self._windows: Constants[Windows] = Constants(MAX_WINDOW_BYTES)
        self.register_load_state_dict_post_hook(lambda module, _: module.forget())

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Logits (B, C) of normalised images (B, 3, image_size, image_size)."""
        return self.classify(pixel_values, self.labels())

    def classify(self, pixel_values: Tensor, labels: Labels | None) -> Tensor:
        """`forward` with the `labels()` given: a pure function."""
        image_BTE = self.embed_images(pixel_values)
        tags, query = labels or (self.project_labels(self.reweight_labels(image_BTE)), None)
        for layer in self.tagging_head:
            tags, query = layer(tags, image_BTE, query), None
        return self.fc(tags)[..., 0]

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """Tokens (B, T, vision width): the mean of the normalised patch tokens, then these."""
        size = self.config.image_size
        if tuple(pixel_values.shape[1:]) != (3, size, size):
            raise ValueError(f"expected (B, 3, {size}, {size}), got {tuple(pixel_values.shape)}")
        patches = self._encode_patches(pixel_values)
        return torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)

    def _encode_patches(self, pixel_values: Tensor) -> Tensor:
        """The normalised patch tokens."""
        if self.by_modules or self.training or torch.is_grad_enabled():
            return self.visual_encoder(pixel_values).last_hidden_state
        [(patches, _)] = run_swin(self.swin(), pixel_values, self._windows)
        return patches

    def swin(self) -> Swin:
        """The image encoder as it runs in evaluation mode, made by the first call."""
        if self._swin is None:
            last = {f"stage{len(self.config.depths)}": self.visual_encoder.layernorm}
            side = self.config.image_size // self.config.patch_size
            self._swin = prepare_swin(self.visual_encoder, last, map_side=side)
        return self._swin

    def embed_images(self, pixel_values: Tensor) -> Tensor:
        """The image tokens in the label space, (B, T, E)."""
        return self.image_proj(self.encode_images(pixel_values))

    def reweight_labels(self, image_BTE: Tensor) -> Tensor:
        """RAM++: each image's own mixture of the descriptions of every tag, (B, C, E)."""
        mean_BE = F.normalize(image_BTE[:, 0].float(), dim=-1).to(image_BTE.dtype)
        similarity_BCD = (mean_BE @ self.label_embed.T).unflatten(1, (len(self.config.tags), -1))
        weights_BCD = (similarity_BCD.float() * self.reweight_scale.float().exp()).softmax(dim=2)
        descriptions_CDE = self.label_embed.unflatten(0, (len(self.config.tags), -1))
        weights_CBD = weights_BCD.to(image_BTE.dtype).transpose(0, 1)
        return torch.bmm(weights_CBD, descriptions_CDE).transpose(0, 1)

    def project_labels(self, labels_E: Tensor) -> Tensor:
        """Label vectors (…, E) as the head's first hidden states (…, H)."""
        return F.relu(self.wordvec_proj(labels_E))

    def labels(self) -> Labels | None:
        """The tags before any image; none in RAM++, where all of them depend on the image."""
        if self.config.descriptions_per_class:
            return None
        if self._labels is not None and not torch.is_grad_enabled():
            return self._labels
        hidden_CH = self.project_labels(self.label_embed)
        first = cast(TaggingLayer, self.tagging_head[0])
        labels = Labels(hidden_CH, first.query(hidden_CH))
        if not self.training and not torch.is_grad_enabled():
            self._labels = labels
        return labels

    def forget(self) -> None:
        """Drop what is kept, because a parameter behind it has changed."""
        self._labels = None
        self._swin = None
        self._windows = Constants(MAX_WINDOW_BYTES)

    def train(self, mode: bool = True) -> RecognizeAnything:
        self.forget()
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> RecognizeAnything:
        self.forget()
        return super()._apply(fn, recurse)


def passes_threshold(config: RamConfig, probabilities_BC: Tensor) -> Tensor:
    """(B, C) bool: which float32 probabilities are strictly above their tag's threshold.

    Deleted tags never are.
    """
    assert probabilities_BC.dtype == torch.float32
    thresholds_C = torch.tensor(config.thresholds)
    thresholds_C[list(config.delete_tag_index)] = torch.inf
    return probabilities_BC > thresholds_C.to(probabilities_BC.device)


def _build_swin(config: RamConfig) -> SwinModel:
    swin = SwinModel(
        SwinConfig(
            image_size=config.image_size, patch_size=config.patch_size,
            embed_dim=config.embed_dim, depths=list(config.depths),
            num_heads=list(config.num_heads), window_size=config.window_size,
            mlp_ratio=config.mlp_ratio, layer_norm_eps=config.norm_eps_swin,
            drop_path_rate=0.0,
        ),
        add_pooling_layer=False,
    )  # fmt: skip
    for part in swin.modules():
        if isinstance(part, nn.LayerNorm):  # transformers passes its setting to some of them only
            part.eps = config.norm_eps_swin
    # The original gives a stage smaller than the window a window (and a bias table) of its own
    # size; transformers makes the table for the full window and then fails on it.
    for stage, layer in enumerate(swin.encoder.layers):
        side = config.image_size // config.patch_size // 2**stage
        if side < config.window_size:
            for block in cast(Any, layer).blocks:
                block.window_size, block.shift_size = side, 0
                block.attention.relative_position_bias = SwinRelativePositionBias(
                    config.num_heads[stage], (side, side)
                )
    return swin


def restore_swin_buffers(module: nn.Module) -> None:
    """Compute the index buffers of the Swin in `module` that was built on the meta device.

    They follow from the window and are in no state dict.
    """
    for part in module.modules():
        if isinstance(part, SwinRelativePositionBias) and part.relative_position_index.is_meta:
            fresh = SwinRelativePositionBias(1, part.window_size)
            part.relative_position_index = fresh.relative_position_index
