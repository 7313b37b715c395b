"""Sizes that an original checkpoint's tensors do not show, from a config.json beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pad_pipeline.errors import UserError


def read_sidecar_config(checkpoint: str | Path, *models: str) -> dict[str, Any] | None:
    """The config.json in the checkpoint's folder where it describes one of `models`, else None.

    It is the form that folders of reference data have: `model` names the architecture, other
    entries its sizes (attention heads among them, which no tensor shows), in the original code's
    words. Raises `UserError` where the file is not JSON.
    """
    path = Path(checkpoint).parent / "config.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(
            f"{path} is not JSON ({error}); it is read because it lies beside the checkpoint: "
            "fix it or move the checkpoint elsewhere"
        ) from error
    described = isinstance(content, dict) and content.get("model") in models
    return content if described else None
