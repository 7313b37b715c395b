"""What the benchmark needs of a machine, checked before anything is measured."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from packaging.version import Version

AT_LEAST = {"torch": "2.9", "transformers": "5.23", "pillow": "13", "numpy": "2"}
"""Older than the package's own requirement where the benchmark runs with less."""

PRESENT = ("pyarrow", "scipy", "pycocotools", "safetensors", "fsspec", "filelock", "braceexpand")
PRESENT += ("annotated_types", "tyro", "docstring_parser")
"""Packages that the sections import, in any version. Ray is not among them."""


def missing(*, tiny: bool) -> str:
    """One sentence on what is missing and how to bring it along; "" where nothing is."""
    wanted = [wish for name, least in AT_LEAST.items() if (wish := _wish(name, least))]
    wanted += [name for name in PRESENT if find_spec(name) is None]
    if wanted:
        names = " ".join(wanted)
        return (
            f"it lacks {', '.join(wanted)}; on a machine with a network, `pip download --no-deps "
            f"--only-binary=:all: -d wheels {names}` (with the target's --python-version and "
            "--platform), then install the wheels here with `pip install --no-index --no-deps`"
        )
    if tiny:
        return ""
    import torch

    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU; --tiny goes the same way on a CPU"
    return ""


def _wish(name: str, least: str) -> str:
    """The requirement, unless it is met."""
    try:
        found = Version(version(name))
    except PackageNotFoundError:
        return f"{name}>={least}"
    return "" if found >= Version(least) else f"{name}>={least}"
