"""Pictures of the VQ indices in a folder of conversations, by the model that gave them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models import references


class IndexDecoder:
    """The VQ model of a folder of conversations; made by `load_decoder`."""

    def __init__(self, coder: Any, name: str) -> None:
        self._coder = coder
        self.name = name
        """The model's, as it was given."""

    def __call__(self, indices_hw: NDArray[np.integer]) -> NDArray[np.uint8]:
        """The (H, W, 3) picture of a grid of indices; `UserError` for indices past the codebook."""
        [picture] = self._coder.decode([np.asarray(indices_hw, np.int64)])
        return picture


def load_decoder(manifest: Mapping[str, Any], codes: str | None = None) -> IndexDecoder:
    """The VQ model that gave the indices of a finished folder, which has this `manifest`.

    It is looked for where it was, or at `codes`. A hub id is loaded where `codes` names it, so that
    a folder from elsewhere downloads nothing by itself. Raises `UserError` where the model is not
    there, is another one, or has no decoder.
    """
    known = manifest["codes"]
    name = codes or str(known["model"])
    if codes is None and isinstance(references.resolve(name, "vq"), str):
        raise UserError(f"{name} is a model of the hub; give it by ", Setting("codes", name))
    if references.fingerprint(name, "vq") != known["checksum"]:
        raise UserError(
            f"{name} is not the VQ model that gave these indices, {known['model']}: its checksum "
            "is another; give that one by ",
            Setting("codes"),
        )
    from pad_pipeline.models.base import Runtime
    from pad_pipeline.models.vq.load import load_image_coder

    decoder = IndexDecoder(load_image_coder(name, Runtime(device="cpu")), name)
    decoder(np.zeros((2, 2), np.int64))  # some have an encoder alone
    return decoder
