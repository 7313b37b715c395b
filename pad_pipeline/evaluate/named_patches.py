"""How often matching pursuit names what a patch shows, over batches of images with regions.

Shapes: I images, P projected tokens, D LLM width, R regions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pad_pipeline.evaluate.measures.pursuit import matching_pursuit
from pad_pipeline.evaluate.measures.pursuit_quality import PursuitMeter
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.regions import covered_tokens


@torch.no_grad()
def measure_named_patches(
    model: VisionLanguageModel, batches: Sequence[Batch], num_iterations: int
) -> dict[str, float]:
    """`precision_K` and `recall_K` of the first K words, and `without_word`, by `PursuitMeter`.

    A patch counts where a mask covers it by half; its labels are the tags of all masks that do.
    NaN where there is no such patch.
    """
    known = {token for batch in batches for ids in batch.label_ids for token in ids}
    meter = PursuitMeter(num_iterations, known)
    vocabulary = model.embedding.float()
    for batch in batches:
        batch = batch.to(model.device)
        tokens_IPD = model.project(model.encode(batch.pixels_ICHW)).float()
        covered_IRP = covered_tokens(model.projector.token_coverage(batch.coverage_IRS))
        covered_IRP = covered_IRP & batch.region_mask_IR.unsqueeze(-1)
        for image, covered_RP in enumerate(covered_IRP):
            places = covered_RP.any(dim=0).nonzero().flatten()
            if not len(places):
                continue
            picked = matching_pursuit(
                tokens_IPD[image, places], vocabulary, num_iterations=num_iterations
            )
            for place, picks in zip(places.tolist(), picked.indices_NK.tolist(), strict=True):
                regions = covered_RP[:, place].nonzero().flatten()
                labels = {int(each) for each in batch.label_index_IR[image, regions]}
                meter.add(picks, [batch.label_ids[label] for label in sorted(labels)])
    values = {"without_word": meter.share_without_word}
    for k in range(num_iterations):
        values[f"precision_{k + 1}"] = float(meter.precision_K[k])
        values[f"recall_{k + 1}"] = float(meter.recall_K[k])
    return values
