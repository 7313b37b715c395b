"""What sets ΔH in the miniature: projectors trained with label targets of low and high entropy.

`python benchmarks/delta_entropy.py` trains the MLP of `reproduce` (120 steps, three seeds) on
captions alone and patch-aligned, four times: as it is; with a vector that all labels share, which
lowers the entropy H_T of the targets; with whitened patches, which raises the entropy before;
with both. Measured on held-out scenes: entropy before and after the projector, H_T, Align.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pad_pipeline.evaluate.analysis import measure
from pad_pipeline.evaluate.spectra import measure_spectra
from pad_pipeline.reproduce.bench import FULL, Bench

RESULTS = Path(__file__).parent / "results/delta_entropy.json"
VARIANTS = {
    "as it is": (0.0, False),
    "labels share a vector": (0.74, False),
    "whitened patches": (0.0, True),
    "both": (0.91, True),
}
"""Mean cosine of two labels that the shared vector gives them, and whether patches are whitened."""


def main() -> None:
    """Train and measure one after the other, write and print."""
    bench = Bench(FULL)
    plain = dict(bench.patches)
    whitened = whiten(plain)
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for variant, (cosine, is_white) in VARIANTS.items():
        bench.patches = whitened if is_white else plain
        found[variant] = {"caption": [], "patch_aligned": []}
        for seed in FULL.seeds:
            for regime, weight in (("caption", 0.0), ("patch_aligned", 5.0)):
                values = run(bench, seed, weight, cosine)
                found[variant][regime].append(values)
                print(variant, regime, seed, values, flush=True)  # noqa: T201
        write(found)


def write(found: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """Mean and values of the seeds, of the variants that are there."""
    summary = {
        variant: {
            regime: {name: summarise([of_seed[name] for of_seed in rows]) for name in rows[0]}
            for regime, rows in by_regime.items()
        }
        for variant, by_regime in found.items()
    }
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n")


def run(bench: Bench, seed: int, weight: float, cosine: float) -> dict[str, float]:
    """One projector trained and measured."""
    torch.manual_seed(seed)
    model = bench._model("mlp")
    share_vector(model, cosine)
    config = replace(bench.config, patch_weight=weight, seed=seed)
    bench._train(model, config, seed)
    model.eval()
    batches = bench.batches(model, bench.held_out)
    measures, spectra = measure(model, iter(batches)), measure_spectra(model, batches)
    targets, masked = spectra["label_targets"], spectra["masked_tokens"]
    assert targets is not None
    assert masked is not None
    return {
        "entropy_before": measures.entropy_before,
        "entropy_targets": targets.entropy,
        "entropy_after": measures.entropy_after,
        "entropy_masked": masked.entropy,
        "delta_entropy": measures.delta_entropy,
        "align": measures.align,
        "cosine": measures.cosine,
    }


def share_vector(model: Any, cosine: float) -> None:
    """Add to every label's target a vector of such a length that two have this cosine."""
    embed = model.label_embeddings
    direction = torch.randn(model.embedding.shape[1], generator=torch.Generator().manual_seed(7))
    direction /= direction.norm()
    length = float(model.embedding.norm(dim=1).mean()) * (cosine / (1 - cosine)) ** 0.5

    def shared(label_ids: Sequence[Sequence[int]]) -> Tensor:
        return embed(label_ids) + length * direction

    model.label_embeddings = shared


def whiten(patches: dict[str, Tensor]) -> dict[str, Tensor]:
    """The patches with mean 0 and covariance 1, by the statistics of them all."""
    together = torch.cat(list(patches.values())).double()
    mean, centred = together.mean(dim=0), together - together.mean(dim=0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    matrix = vectors / (values + 1e-6 * values.max()).sqrt()
    return {key: ((one.double() - mean) @ matrix).float() for key, one in patches.items()}


def summarise(values: Sequence[float]) -> dict[str, Any]:
    """Mean and values of the seeds."""
    return {"mean": statistics.fmean(values), "values": list(values)}


if __name__ == "__main__":
    main()
