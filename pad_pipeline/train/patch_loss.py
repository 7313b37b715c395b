"""The loss that pulls the tokens under a region's mask towards its label's word embedding.

Shapes: I images (those of the batch, some perhaps without regions), P projected tokens of an image,
R regions (padded to the most of any image), N = I · R, D width of the LLM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.train.choices import PatchLossKind
from pad_pipeline.train.regions import covered_tokens

TEMPERATURE = 0.07
"""Of the contrastive kind, as CLIP starts with (Radford et al. 2021)."""
_SAME_LABEL = 1 - 1e-5
"""Labels whose embeddings have at least this cosine count as the same: no negatives."""


@dataclass(frozen=True, slots=True)
class PatchLoss:
    """Sums and counts of one batch: scalars on the tokens' device, to be added up over workers.

    Σ total / Σ num_images over all workers and micro-batches is the loss of the global batch,
    whatever their number; the mean of their means is not.
    """

    total: Tensor
    """Float, with gradient: the sum over images of the mean over regions of 1 − cos(v_p, t_p)."""
    num_images: Tensor
    """int64: images with at least one region that has a token."""
    cosine_total: Tensor
    """Float, detached: the sum over regions of cos(v_p, t_p), whatever the kind of the loss."""
    num_regions: Tensor
    """int64: regions that have a token."""
    num_dropped: Tensor
    """int64: regions without a token, which take no part."""

    @property
    def mean(self) -> Tensor:
        """The loss of this batch alone: zero, with zero gradient, where no image has a region."""
        return self.total / self.num_images.clamp(min=1)


def patch_loss(
    tokens_IPD: Tensor,
    label_embeds_IRD: Tensor,
    coverage_IRP: Tensor,
    region_mask_IR: Tensor,
    *,
    kind: PatchLossKind = "region",
    best_patch: bool = False,
) -> PatchLoss:
    """How far the tokens of each region are from its label (paper, equations 2 and 5).

    `coverage_IRP` is the fraction (0–1) of each token's area that the region's mask covers,
    `region_mask_IR` is true where a region is real and not padding, `label_embeds_IRD` holds the
    mean of the LLM's embedding rows of each label. Of region p, v_p is the mean of its tokens (see
    `regions.covered_tokens`) and t_p the label's embedding. Kinds:

    - "region" (the paper's): 1 − cos(v_p, t_p);
    - "patch": 1 − the mean over the region's tokens of cos(token, t_p);
    - "contrastive": symmetric InfoNCE at temperature 0.07 between all v_p and t_p of this call,
      where regions of the same label are no negatives (negatives of other workers are not seen).

    Each is averaged over the regions of an image, and added up over images. A region that covers
    no token by half is dropped; with `best_patch` it takes the first token that it covers most, if
    it covers any. Where nothing is left the total is exactly zero, joined to the tokens' graph.
    Computed in float32 (float64 for float64 tokens), autocast or not, without waiting for the
    device. A mean vector of length zero has cosine 0. Raises `UserError` for another kind.
    """
    images, regions, tokens = coverage_IRP.shape
    assert tokens_IPD.shape[:2] == (images, tokens), (tokens_IPD.shape, coverage_IRP.shape)
    assert label_embeds_IRD.shape == (images, regions, tokens_IPD.shape[2]), label_embeds_IRD.shape
    assert region_mask_IR.shape == (images, regions), region_mask_IR.shape
    if kind not in get_args(PatchLossKind):
        raise UserError(
            f"there is no patch loss {kind!r}; choose 'region' (the paper's), 'patch' or "
            "'contrastive'"
        )
    covered_IRP = covered_tokens(coverage_IRP, best_patch=best_patch) & region_mask_IR.unsqueeze(-1)
    used_IR = covered_IRP.any(dim=-1)
    dtype = torch.promote_types(tokens_IPD.dtype, torch.float32)
    with torch.autocast(tokens_IPD.device.type, enabled=False):
        weight_IRP = covered_IRP.to(dtype)
        weight_IRP = weight_IRP / weight_IRP.sum(dim=-1, keepdim=True).clamp(min=1)
        labels_IRD = _keep(_unit(label_embeds_IRD.to(dtype)), used_IR)
        if kind == "patch":
            loss_IR, cosine_IR = _patch_kind(tokens_IPD.to(dtype), labels_IRD, weight_IRP, used_IR)
        else:
            means_IRD = _unit(_keep(torch.bmm(weight_IRP, tokens_IPD.to(dtype)), used_IR))
            cosine_IR = (means_IRD * labels_IRD).sum(dim=-1)
            loss_IR = 1 - cosine_IR
            if kind == "contrastive":
                loss_IR = _info_nce(
                    means_IRD.flatten(0, 1), labels_IRD.flatten(0, 1), used_IR.flatten()
                ).view(images, regions)
        num_used_I = used_IR.sum(dim=-1)
        # Dropped regions hold no NaN here, so that a product with zero takes them out.
        total = ((loss_IR * used_IR).sum(dim=-1) / num_used_I.clamp(min=1)).sum()
        cosine_total = (cosine_IR.detach() * used_IR).sum()
    return PatchLoss(
        total=total,
        num_images=(num_used_I > 0).sum(),
        cosine_total=cosine_total,
        num_regions=num_used_I.sum(),
        num_dropped=(region_mask_IR & ~used_IR).sum(),
    )


def _patch_kind(
    tokens_IPD: Tensor, labels_IRD: Tensor, weight_IRP: Tensor, used_IR: Tensor
) -> tuple[Tensor, Tensor]:
    # The mean of the tokens' cosines is the product of the label with the mean of unit tokens.
    mean_units_IRD = _keep(torch.bmm(weight_IRP, _unit(tokens_IPD)), used_IR)
    loss_IR = 1 - (mean_units_IRD * labels_IRD).sum(dim=-1)
    with torch.no_grad():
        means_IRD = _unit(_keep(torch.bmm(weight_IRP, tokens_IPD), used_IR))
        cosine_IR = (means_IRD * labels_IRD).sum(dim=-1)
    return loss_IR, cosine_IR


def _info_nce(means_ND: Tensor, labels_ND: Tensor, used_N: Tensor) -> Tensor:
    """(N,) per region: half the cross entropy over labels plus half that over regions."""
    logits_NN = means_ND @ labels_ND.T / TEMPERATURE
    with torch.no_grad():
        itself_NN = torch.eye(len(used_N), dtype=torch.bool, device=used_N.device)
        other_NN = used_N & (labels_ND @ labels_ND.T < _SAME_LABEL)
        allowed_NN = itself_NN | other_NN
    forward_NN = logits_NN.masked_fill(~allowed_NN, -torch.inf)
    backward_NN = logits_NN.T.masked_fill(~allowed_NN, -torch.inf)
    both_N = torch.logsumexp(forward_NN, dim=-1) + torch.logsumexp(backward_NN, dim=-1)
    return both_N / 2 - logits_NN.diagonal()


def _keep(vectors_IRD: Tensor, used_IR: Tensor) -> Tensor:
    """Zeros in place of the regions that are not used, so that no NaN of theirs gets on."""
    return torch.where(used_IR.unsqueeze(-1), vectors_IRD, 0)


def _unit(vectors: Tensor) -> Tensor:
    """Unit length along the last axis; zero vectors stay, with a gradient of ordinary size."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors / torch.where(length > 0, length, 1)
