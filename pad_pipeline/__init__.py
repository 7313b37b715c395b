"""Annotate images with tags, boxes and masks, and train patch-aligned projectors on the result.

The names below are the library's front door; each is imported when it is first used, so that
`import pad_pipeline` loads neither torch nor Ray.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

__version__ = "0.1.0"

TYPE_CHECKING = False  # as type checkers know it; to import `typing` takes longer than all the rest
if TYPE_CHECKING:
    from typing import Any

    from pad_pipeline.annotate.annotator import Annotator
    from pad_pipeline.annotate.run import annotate
    from pad_pipeline.dataset.plotting import plot
    from pad_pipeline.dataset.reader import iter_records, open_dataset
    from pad_pipeline.engine.config import AnnotateConfig, demo, fast, paper, sam3
    from pad_pipeline.errors import UserError
    from pad_pipeline.masks import decode as decode_mask
    from pad_pipeline.records import PadRecord, Region, Tag

__all__ = [
    "AnnotateConfig",
    "Annotator",
    "PadRecord",
    "Region",
    "Tag",
    "UserError",
    "__version__",
    "annotate",
    "decode_mask",
    "demo",
    "fast",
    "iter_records",
    "open_dataset",
    "paper",
    "plot",
    "sam3",
]

_HOMES = {
    "AnnotateConfig": "engine.config:AnnotateConfig",
    "Annotator": "annotate.annotator:Annotator",
    "PadRecord": "records:PadRecord",
    "Region": "records:Region",
    "Tag": "records:Tag",
    "UserError": "errors:UserError",
    "annotate": "annotate.run:annotate",
    "decode_mask": "masks:decode",
    "demo": "engine.config:demo",
    "fast": "engine.config:fast",
    "iter_records": "dataset.reader:iter_records",
    "open_dataset": "dataset.reader:open_dataset",
    "paper": "engine.config:paper",
    "plot": "dataset.plotting:plot",
    "sam3": "engine.config:sam3",
}


class _Package(ModuleType):
    """The package with `annotate` as the function, though a sub-package has the same name.

    The import system binds a sub-package to its parent as an attribute when it is first imported;
    here it does not, so that `pad_pipeline.annotate` is one thing whatever was imported before.
    `from pad_pipeline.annotate.run import …` works as everywhere; `import pad_pipeline.annotate.run
    as …` does not, as Python looks up `run` on the function then.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
