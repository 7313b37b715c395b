"""One optimiser step as a plain function: micro-batches in, updated weights and metrics out.

The result does not depend on how the global batch is divided: losses are sums over micro-batches
and workers divided by global counts, which are known before the first backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.distributed import Workers
from pad_pipeline.train.model.vlm import Passes, VisionLanguageModel
from pad_pipeline.train.patch_loss import PatchLoss, patch_loss
from pad_pipeline.train.regions import covered_tokens
from pad_pipeline.train.run.config import TrainConfig


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """The metrics of a global batch, over all workers; means are over what they are named after."""

    caption_loss: float
    patch_loss: float
    reconstruction_loss: float | None
    """None where nothing is reconstructed."""
    cosine: float
    num_targets: int
    num_tokens: int
    num_images: int
    num_regions: int
    num_dropped: int
    gradient_norm: float = 0.0


class NotFiniteError(UserError):
    """The loss is NaN or infinite; nothing was changed."""


def training_step(
    model: VisionLanguageModel,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    beta: float,
    config: TrainConfig,
    workers: Workers,
    step: int,
    caption_weight: float = 1.0,
) -> StepMetrics:
    """Train on `batches`, this worker's part of a global batch.

    The loss is `caption_weight` · caption loss + `beta` · patch loss, and in the stages after VLSA
    + `config.image_loss_weight` · reconstruction loss.

    Raises `NotFiniteError` naming the samples where a loss is not a number, and `UserError` where
    no token of the global batch is supervised; the weights are as before then.
    """
    parameters = model.trained_parameters()
    num_targets, num_images, num_shown = workers.sum(
        [
            sum(batch.num_targets for batch in batches),
            sum(_num_images_with_regions(model, batch, config.best_patch) for batch in batches),
            sum(len(batch.image_ids) for batch in batches),
        ]
    )
    if not num_targets:
        names = ", ".join(name for batch in batches for name in batch.sample_ids[:4])
        raise UserError(
            f"step {step}: no token of the batch is supervised (samples {names} …); their captions "
            "or answers are empty or longer than ",
            Setting("max_length"),
        )
    optimizer.zero_grad(set_to_none=True)
    totals = torch.zeros(_NUM_TOTALS, dtype=torch.float64, device=model.device)
    bad: list[str] = []
    for batch in batches:
        batch = batch.to(model.device)
        passes, patch = losses(
            model, batch, config, with_gradient=beta > 0, draw=f"{config.seed}/{step}"
        )
        loss = caption_weight * passes.caption_sum / num_targets
        if beta > 0:
            loss = loss + beta * patch.total / max(num_images, 1)
        if passes.reconstruction_sum is not None:
            weight = config.image_loss_weight / max(num_shown, 1)
            loss = loss + weight * passes.reconstruction_sum
        if not torch.isfinite(loss):
            bad += batch.sample_ids
            break
        loss.backward()
        totals += _totals(passes, patch, batch)
    (num_bad,) = workers.sum([float(bool(bad))])
    if num_bad:
        optimizer.zero_grad(set_to_none=True)
        names = ", ".join(bad[:8]) if bad else "on another worker"
        raise NotFiniteError(
            f"step {step}: the loss is not a number (samples {names}). The last checkpoint is "
            "kept; try a lower ",
            Setting("learning_rate"),
            " or ",
            Setting("dtype", "float32"),
        )
    workers.sum_gradients(parameters)
    limit = config.clip or float("inf")
    norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    optimizer.step()
    counts = (num_targets, num_images, num_shown)
    return _step_metrics(model, workers.sum(totals.tolist()), counts, float(norm))


@torch.no_grad()
def evaluation_step(
    model: VisionLanguageModel, batches: Sequence[Batch], config: TrainConfig, workers: Workers
) -> StepMetrics:
    """The same metrics without training."""
    totals = torch.zeros(_NUM_TOTALS, dtype=torch.float64, device=model.device)
    counts = [0.0, 0.0, 0.0]
    for batch in batches:
        counts[0] += batch.num_targets
        counts[1] += _num_images_with_regions(model, batch, config.best_patch)
        counts[2] += len(batch.image_ids)
        batch = batch.to(model.device)
        passes, patch = losses(model, batch, config, with_gradient=False, draw="held out")
        totals += _totals(passes, patch, batch)
    return _step_metrics(model, workers.sum(totals.tolist()), workers.sum(counts), 0.0)


def losses(
    model: VisionLanguageModel,
    batch: Batch,
    config: TrainConfig,
    *,
    with_gradient: bool,
    draw: str = "",
) -> tuple[Passes, PatchLoss]:
    """The sums of the losses in the model, and the patch loss (paper, equations 5 and 6).

    The patch loss is part of the graph only `with_gradient`; it is measured either way. What is
    drawn at random follows from `draw`.
    """
    passes = model(batch, draw)
    tokens_IPD = passes.tokens_IPD
    if batch.label_ids:
        labels = model.label_embeddings(batch.label_ids)
    else:
        labels = tokens_IPD.new_zeros(1, tokens_IPD.shape[-1])
    with torch.set_grad_enabled(with_gradient and torch.is_grad_enabled()):
        patch = patch_loss(
            tokens_IPD if with_gradient else tokens_IPD.detach(),
            labels[batch.label_index_IR],
            model.projector.token_coverage(batch.coverage_IRS),
            batch.region_mask_IR,
            kind=config.patch_loss,
            best_patch=config.best_patch,
        )
    return passes, patch


def _num_images_with_regions(model: VisionLanguageModel, batch: Batch, best_patch: bool) -> int:
    coverage_IRP = model.projector.token_coverage(batch.coverage_IRS)
    used_IR = covered_tokens(coverage_IRP, best_patch=best_patch).any(-1) & batch.region_mask_IR
    return int(used_IR.any(-1).sum())


_NUM_TOTALS = 7


def _totals(passes: Passes, patch: PatchLoss, batch: Batch) -> Tensor:
    """Sums of a batch on its device, so that nobody waits for it."""
    caption_sum, reconstruction_sum = passes.caption_sum, passes.reconstruction_sum
    values = [
        caption_sum.detach(),
        patch.total.detach(),
        patch.cosine_total,
        patch.num_regions,
        patch.num_dropped,
        batch.attention_BT.sum(),
        torch.zeros_like(caption_sum)
        if reconstruction_sum is None
        else reconstruction_sum.detach(),
    ]
    return torch.stack([value.double() for value in values])


def _step_metrics(
    model: VisionLanguageModel, totals: Sequence[float], counts: Sequence[float], norm: float
) -> StepMetrics:
    caption, patch, cosine, regions, dropped, tokens, reconstruction = totals
    num_targets, num_images, num_shown = counts
    return StepMetrics(
        caption_loss=caption / max(num_targets, 1),
        patch_loss=patch / max(num_images, 1),
        reconstruction_loss=reconstruction / max(num_shown, 1) if model.reconstructs else None,
        cosine=cosine / max(regions, 1),
        num_targets=round(num_targets),
        num_tokens=round(tokens),
        num_images=round(num_images),
        num_regions=round(regions),
        num_dropped=round(dropped),
        gradient_norm=norm,
    )
