"""The spectra that explain ΔH: patches, tokens under masks and outside, and the labels' targets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch

from pad_pipeline.evaluate.measures.spectrum import Spectrum, SpectrumMeter
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.regions import covered_tokens

SETS = ("patches", "tokens", "masked_tokens", "unmasked_tokens", "label_targets")
"""Before the projector; behind it: all, those that a region covers, all others; and of each region
that covers a token the embedding that its label stands for (the entropy H_T)."""


@torch.no_grad()
def measure_spectra(
    model: VisionLanguageModel, batches: Iterable[Batch]
) -> dict[str, Spectrum | None]:
    """The spectrum of each of `SETS` over `batches`; None for a set without a member."""
    meters = {name: SpectrumMeter() for name in SETS}
    for batch in batches:
        batch = batch.to(model.device)
        patches_ISV = model.encode(batch.pixels_ICHW)
        tokens_IPD = model.project(patches_ISV).float()
        covered_IRP = covered_tokens(model.projector.token_coverage(batch.coverage_IRS))
        covered_IRP = covered_IRP & batch.region_mask_IR.unsqueeze(-1)
        is_masked_IP = covered_IRP.any(dim=1)
        meters["patches"].add(patches_ISV.float().flatten(0, 1))
        meters["tokens"].add(tokens_IPD.flatten(0, 1))
        meters["masked_tokens"].add(tokens_IPD[is_masked_IP])
        meters["unmasked_tokens"].add(tokens_IPD[~is_masked_IP])
        if batch.label_ids:
            labels_LD = model.label_embeddings(batch.label_ids).float()
            found_IR = covered_IRP.any(dim=-1)
            meters["label_targets"].add(labels_LD[batch.label_index_IR[found_IR]])
    return {name: meter.value for name, meter in meters.items()}


def spectra_to_json(spectra: dict[str, Spectrum | None]) -> dict[str, Any]:
    """The spectra as JSON values."""
    return {name: None if each is None else asdict(each) for name, each in spectra.items()}


def spectra_lines(spectra: dict[str, Spectrum | None]) -> list[str]:
    """The spectra as a table."""
    head = f"{'entropy of':18}{'tokens':>9}{'H':>8}{'centred':>9}{'unit':>8}{'both':>8}"
    lines = [head + f"{'mean':>7}   largest eigenvalues"]
    for name, each in spectra.items():
        if each is None:
            lines.append(f"{name.replace('_', ' '):18}{0:9,}")
            continue
        numbers = f"{each.entropy:8.3f}{_shown(each.centred):>9}{each.unit_norm:8.3f}"
        numbers += f"{_shown(each.unit_norm_centred):>8}{each.mean_share:7.2f}"
        largest = " ".join(f"{share:.3f}" for share in each.largest)
        lines.append(f"{name.replace('_', ' '):18}{each.num_tokens:9,}{numbers}   {largest}")
    return lines


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
