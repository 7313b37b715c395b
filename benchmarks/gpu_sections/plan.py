"""Which sections there are, in which order they run, and how long each may take."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from gpu_sections.bench import Bench, Rows


@dataclass(frozen=True)
class Section:
    """A module of this package, whose `rows` gives the section's rows, and its limit."""

    name: str
    limit_s: float
    what: str
    arguments: tuple[str, ...] = ()
    module: str = ""
    loads_models: bool = False
    """Whether it needs what the section `weights` writes."""

    def rows(self, bench: Bench) -> Rows:
        """The rows, none of which has run yet."""
        module = importlib.import_module(f"gpu_sections.{self.module or self.name}")
        return module.rows(bench, *self.arguments)


SECTIONS = (
    Section("machine", 12, "versions, and the attention kernels that torch takes"),
    Section("weights", 65, "models of the released sizes, written once for all sections"),
    Section("chain", 123, "images per second of the whole chain", loads_models=True),
    Section(
        "peers",
        45,
        "the same models as the public script and as transformers run them",
        loads_models=True,
    ),
    Section("sam3", 30, "the preset sam3, and SAM 3 alone by number of tags", loads_models=True),
    Section("detector", 20, "passes of Grounding DINO, one size and mixed", loads_models=True),
    Section("encoder", 20, "SAM's encoder with its levers on and off", loads_models=True),
    Section("profile", 25, "what the GPU spends its time on, by kind of kernel", loads_models=True),
    Section("matrix", 10, "products at the models' shapes, bf16, epilogues and fp8"),
    Section(
        "training",
        35,
        "stage 1 at 7B, with and without packing",
        ("padded", "packed", "packed, activations kept"),
    ),
    Section("attention", 10, "settings of SAM's attention kernels"),
    Section("launches", 10, "kernels that a pass starts, counted"),
    Section("masks", 15, "IoU of masks of lower precision with those of float32"),
    Section(
        "stages",
        10,
        "images per second of each model by batch size, and what plan says",
        loads_models=True,
    ),
    Section(
        "training-compiled",
        15,
        "the same with the layers compiled",
        ("packed", "packed, kept, compiled"),
        "training",
    ),
    Section("compile", 20, "seconds until compiled, with no cache", ("cold",), loads_models=True),
    Section(
        "compile-again",
        15,
        "the same with the cache of the section before",
        ("warm",),
        "compile",
        True,
    ),
)
"""In the order of what would be missed most. Their limits add up to eight minutes."""

BY_NAME = {section.name: section for section in SECTIONS}
