"""Triton kernels without a GPU: numbers by the interpreter, machine code by the compiler."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

triton = pytest.importorskip("triton", reason="Triton comes with torch's CUDA build for Linux")

from pad_pipeline.models import fp8_triton  # noqa: E402
from pad_pipeline.models.grounding_dino import deformable_triton  # noqa: E402
from pad_pipeline.models.norm_triton import add_norm_kernel  # noqa: E402
from pad_pipeline.models.sam import attention_ops, attention_triton  # noqa: E402

ROOT = Path(__file__).parents[2]
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@pytest.fixture(scope="module")
def errors() -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.interpreted_kernels"],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("dtype", "most"), [("float32", 2e-6), ("float16", 1e-3)])
def test_interpreted_kernels_compute_what_torch_does(
    errors: dict[str, float], dtype: str, most: float
) -> None:
    found = {title: error for title, error in errors.items() if title.startswith(dtype)}
    assert len(found) >= 8
    assert {title: error for title, error in found.items() if not error < most} == {}


class Kernel(NamedTuple):
    """A kernel with the values of its constants, and how it is started."""

    function: Any
    constants: dict[str, Any]
    warps: int = 4
    stages: int = 2
    has_products: bool = True


VIT_H = {"HEADS": 16, "D1": 64, "D2": 16}
VIT_B = {"HEADS": 12, "D1": 64, "D2": 0}


def windows(launch: attention_ops.Launch, sizes: dict[str, int]) -> Kernel:
    blocks = {"SIDE": 14, "P": 16, "BLOCK_M": launch.queries, "BLOCK_N": launch.keys}
    constants = {**sizes, **blocks}
    return Kernel(attention_triton.windows_kernel, constants, launch.warps, launch.stages)


def images(launch: attention_ops.Launch, sizes: dict[str, int]) -> Kernel:
    constants = {**sizes, "SIDE": 64, "BLOCK_M": launch.queries}
    return Kernel(attention_triton.images_kernel, constants, launch.warps, launch.stages)


def terms(side: int, places: int) -> Kernel:
    constants = {**VIT_H, "SIDE": side, "P": places, "BLOCK": 64}
    return Kernel(attention_triton.terms_kernel, constants)


DEFORMABLE = {
    "HEADS": 8, "WIDTH": 32, "LEVELS": 4, "POINTS": 4, "SIDES": 4, "BLOCK": 32, "WIDTH_2": 32,
    "PLACES_2": 16,
}  # fmt: skip
IN_USE = {
    "windows": windows(attention_ops.WINDOWS[0], VIT_H),
    "images": images(attention_ops.IMAGES[0], VIT_H),
    "terms of windows": terms(14, 16),
    "terms of images": terms(64, 64),
    "add and norm": Kernel(add_norm_kernel, {"WIDTH": 1280, "WIDTH_2": 2048}, has_products=False),
    "deformable attention": Kernel(deformable_triton._sample, DEFORMABLE, has_products=False),
}
IN_8_BITS = {
    "add and norm in 8 bits": Kernel(
        fp8_triton.add_norm_scaled_kernel, {"WIDTH": 1280, "WIDTH_2": 2048}, has_products=False
    ),
    "GELU in 8 bits": Kernel(
        fp8_triton.scale_rows_kernel, {"GELU": True, "WIDTH": 5120, "WIDTH_2": 8192},
        warps=8, has_products=False,
    ),
}  # fmt: skip
OTHERS = {
    "windows of ViT-B": windows(attention_ops.WINDOWS[0], VIT_B),
    "images of ViT-B": images(attention_ops.IMAGES[0], VIT_B),
    **{f"windows, {launch}": windows(launch, VIT_H) for launch in attention_ops.WINDOWS[1:]},
    **{f"images, {launch}": images(launch, VIT_H) for launch in attention_ops.IMAGES[1:]},
}
COMPILED = [
    *((arch, name) for arch in (80, 89, 90) for name in IN_USE),
    *((arch, name) for arch in (89, 90) for name in IN_8_BITS),
    *((90, name) for name in OTHERS),
]


@pytest.mark.skipif(
    not (TOOLS / "cuobjdump").exists(), reason="Triton is here without NVIDIA's ptxas and cuobjdump"
)
@pytest.mark.parametrize(("arch", "name"), COMPILED)
def test_compiled_kernels_spill_nothing_and_use_the_matrix_units(
    arch: int, name: str, tmp_path: Path
) -> None:
    kernel = (IN_USE | IN_8_BITS | OTHERS)[name]
    compiled = build(kernel, arch)
    (tmp_path / "kernel.cubin").write_bytes(compiled.asm["cubin"])
    usage = subprocess.run(
        [TOOLS / "cuobjdump", "--dump-resource-usage", tmp_path / "kernel.cubin"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (stack,) = re.findall(r"STACK:(\d+)", usage)
    assert int(stack) == 0, usage
    assert compiled.metadata.shared <= 99 * 1024  # of a 4090 and an L4; A100s and H100s have more
    if kernel.has_products:
        product = "wgmma.mma_async" if arch == 90 else "mma.sync"
        assert product in compiled.asm["ptx"]


def build(kernel: Kernel, arch: int) -> Any:
    """The kernel for an architecture, with arguments as a bfloat16 model of usual sizes has."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.function.arg_names
    signature = {name: "constexpr" if name in kernel.constants else kind(name) for name in names}
    source = ASTSource(
        fn=kernel.function,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in kernel.constants.items()},
        # what Triton finds of addresses when it is called: they are multiples of 16
        attrs={
            (place,): [["tt.divisibility", 16]]
            for place, name in enumerate(names)
            if signature[name].startswith("*")
        },
    )
    options = {"num_warps": kernel.warps, "num_stages": kernel.stages}
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)


def kind(name: str) -> str:
    """The type of a kernel's argument by its name."""
    counts = ("height", "width", "across", "num_queries", "num_tokens")
    if name in counts or name.startswith("reference_") or name.endswith("_stride"):
        return "i32"
    if name in ("scale", "scale_2", "eps"):
        return "fp32"
    if name == "values":
        return "*fp8e4nv"
    return {"starts": "*i32", "reference": "*fp32", "sizes": "*fp32", "scales": "*fp32"}.get(
        name, "*bf16"
    )
