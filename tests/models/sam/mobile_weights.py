"""MobileSAM's released layout at full size with weights that a seed gives."""

from __future__ import annotations

import json
import math

import numpy as np
import torch
from torch import Tensor

from tests.golden_data import golden_dir

KEYS = "mobile_sam_full_keys.json"


def seeded_state() -> dict[str, Tensor]:
    """What `mobile_sam.pt` holds, batch norms and classifier included, with other numbers.

    `RandomState` gives the same numbers in every version of numpy, so that the outputs of the
    original code for them can be kept without them.
    """
    random = np.random.RandomState(0)
    listing = json.loads(golden_dir(KEYS).read_text(encoding="utf-8"))["keys"]
    state = {}
    for key, shape, *_ in listing:
        numbers = random.standard_normal(tuple(shape))
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
            continue
        if key.endswith("running_var"):
            numbers = 0.5 + numbers**2
        elif len(shape) == 1 and key.endswith("weight"):
            numbers = 1 + 0.1 * numbers
        elif len(shape) > 1 and not key.endswith("attention_biases"):
            numbers /= math.sqrt(math.prod(shape[1:]))
        else:
            numbers *= 0.2
        state[key] = torch.from_numpy(numbers.astype(np.float32))
    return state
