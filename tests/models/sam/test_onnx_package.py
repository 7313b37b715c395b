"""Reading the weights out of ONNX files: names, shapes, and archives that are none."""

from __future__ import annotations

import builtins
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.models.convert import convert
from pad_pipeline.models.sam.onnx_package import read_onnx_package

onnx = pytest.importorskip("onnx", reason="onnx reads these files (extra photos)")

Array = np.ndarray


def node(operation: str, name: str, *inputs: str) -> Any:
    return onnx.helper.make_node(operation, [*inputs], [f"{name}_output"], name=name)


def model(nodes: list[Any], arrays: dict[str, Array]) -> bytes:
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()]
    graph = onnx.helper.make_graph(nodes, "graph", [], [], tensors)
    return onnx.helper.make_model(graph).SerializeToString()


def package(path: Path, **files: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"package/dist/{name}.onnx")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def numbers(*shape: int) -> Array:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_parameters_get_back_the_names_of_their_modules(tmp_path: Path) -> None:
    bias = onnx.numpy_helper.from_array(numbers(2, 4, 4))
    constant = onnx.helper.make_node("Constant", [], ["/l/attn/Constant_output_0"], value=bias)
    encoder = model(
        [
            node("Conv", "/patch_embed/seq/seq.0/c/Conv", "x", "onnx::Conv_1", "onnx::Conv_2"),
            node("MatMul", "/layers.1/blocks.0/mlp/fc1/MatMul", "x", "onnx::MatMul_3"),
            constant,
            node("Add", "/layers.1/blocks.0/attn/Add", "x", "/l/attn/Constant_output_0"),
            node("Mul", "/neck/neck.1/Mul", "x", "onnx::Mul_4"),
            node("Add", "/neck/neck.1/Add_1", "x", "onnx::Add_5"),
        ],
        {
            "onnx::Conv_1": numbers(4, 3, 3, 3),
            "onnx::Conv_2": numbers(4),
            "onnx::MatMul_3": numbers(8, 2),
            "onnx::Mul_4": numbers(6, 1, 1),
            "onnx::Add_5": numbers(6, 1, 1),
            "layers.1.blocks.0.mlp.fc1.bias": numbers(2),
        },
    )
    decoder = model(
        [
            node("Mul", "/Mul_9", "x", "onnx::Mul_6"),
            node("Expand", "/Expand_1", "onnx::Expand_7", "x"),
            node("MatMul", "/transformer/layers.0/mlp/lin1/MatMul", "x", "onnx::MatMul_8"),
            node("Mul", "/mask_downscaling/mask_downscaling.1/Mul", "x", "onnx::Mul_9"),
        ],
        {
            "onnx::Mul_6": numbers(1, 8, 1, 1),
            "onnx::Expand_7": numbers(1, 5, 8),
            "onnx::MatMul_8": numbers(8, 16),
            "onnx::Mul_9": numbers(4, 1, 1),
            "model.prompt_encoder.not_a_point_embed.weight": numbers(1, 8),
        },
    )
    state = read_onnx_package(package(tmp_path / "p.tgz", encoder=encoder, sam=decoder))
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes == {
        "image_encoder.patch_embed.seq.0.weight": (4, 3, 3, 3),
        "image_encoder.patch_embed.seq.0.bias": (4,),
        "image_encoder.layers.1.blocks.0.mlp.fc1.weight": (2, 8),
        "image_encoder.layers.1.blocks.0.mlp.fc1.bias": (2,),
        "image_encoder.layers.1.blocks.0.attn.ab": (2, 4, 4),
        "image_encoder.neck.1.weight": (6,),
        "image_encoder.neck.1.bias": (6,),
        "prompt_encoder.no_mask_embed.weight": (1, 8),
        "prompt_encoder.not_a_point_embed.weight": (1, 8),
        "prompt_encoder.mask_downscaling.1.weight": (4,),
        "mask_decoder.iou_token.weight": (1, 8),
        "mask_decoder.mask_tokens.weight": (4, 8),
        "mask_decoder.transformer.layers.0.mlp.lin1.weight": (16, 8),
    }
    np.testing.assert_array_equal(
        state["image_encoder.layers.1.blocks.0.mlp.fc1.weight"], numbers(8, 2).T
    )


def test_another_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.tgz"
    for data, message in (
        (b"no archive", "cannot be read as an npm package"),
        (b"", "cannot be read as an npm package"),
        (package(path).read_bytes(), "holds no encoder.onnx and no sam.onnx"),
        (package(path, encoder=b"\xff" * 9, sam=b"").read_bytes(), "is damaged"),
        (package(path, encoder=b"", sam=b"").read_bytes(), "does not fit MobileSAM"),
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match=message):
            convert("mobile-sam", path, tmp_path / "out")
    whole = package(path, encoder=bytes(50_000), sam=b"").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be read as an npm package"):
        convert("mobile-sam", path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_onnx_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match=r"pip install 'pad-pipeline\[photos\]'"):
        read_onnx_package(tmp_path / "p.tgz")
