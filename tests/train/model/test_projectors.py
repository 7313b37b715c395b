"""Projectors against the original C-Abstractor, and weights under public names."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from pad_pipeline.errors import UserError
from pad_pipeline.train.model.projectors import (
    Projector,
    build_projector,
    kind_of,
    llava_state,
    load_llava_state,
)
from tests.golden_data import golden_dir

KINDS = ("linear", "mlp", "c-abstractor", "perceiver")
SETS = ("c_abstractor", "c_abstractor_overlap")


def small(kind: str, **changes: int) -> Projector:
    sizes = {"vision_width": 12, "llm_width": 8, "grid": 6, "num_tokens": 16, "hidden_width": 16}
    return build_projector(kind, **{**sizes, **changes})  # pyright: ignore[reportArgumentType]


def original(name: str) -> tuple[Projector, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    folder = golden_dir(name)
    config = json.loads((folder / "config.json").read_text())
    projector = build_projector(
        "c-abstractor",
        vision_width=config["encoder_hidden_size"],
        llm_width=config["output_hidden_size"],
        grid=round(config["num_input_tokens"] ** 0.5),
        num_tokens=config["num_query_tokens"],
        hidden_width=config["hidden_size"],
    )
    load_llava_state(projector, load_file(folder / "checkpoint.safetensors"))
    return (
        projector,
        load_file(folder / "inputs.safetensors"),
        load_file(folder / "expected.safetensors"),
    )


@pytest.mark.parametrize("name", SETS)
def test_the_c_abstractor_is_the_original(name: str) -> None:
    projector, inputs, expected = original(name)
    features = inputs["features"].clone().requires_grad_()
    stages: dict[str, torch.Tensor] = {}
    net = projector.network.net
    for stage, module in zip(("after_stage1", "after_pool", "after_stage2"), net, strict=True):
        module.register_forward_hook(
            lambda _module, _inputs, output, stage=stage: stages.__setitem__(stage, output)
        )
    output = projector(features)
    torch.testing.assert_close(output, expected["output"], rtol=0, atol=1e-4)
    for stage, map_BCHW in stages.items():
        torch.testing.assert_close(map_BCHW, expected[stage], rtol=0, atol=1e-4)
    assert torch.equal(features, inputs["features"]), "the caller's features changed"

    (output * inputs["output_weight"]).sum().backward()
    gradients = {
        "grad.abstractor." + key: parameter.grad
        for key, parameter in projector.network.named_parameters()
    }
    gradients["grad.features"] = features.grad
    wanted = {key: value for key, value in expected.items() if key.startswith("grad.")}
    assert "grad.features" in wanted
    assert len(wanted) > 1
    for key, value in wanted.items():
        torch.testing.assert_close(gradients[key], value, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", SETS)
def test_a_checkpoint_with_the_class_tokens_position_loads(name: str) -> None:
    projector, inputs, expected = original(name)
    state = {key: value.clone() for key, value in llava_state(projector).items()}
    position = state["abstractor.pos_emb"]
    state["abstractor.pos_emb"] = torch.cat([torch.full_like(position[:, :1], 9), position], 1)
    with torch.no_grad():
        projector.network.pos_emb.zero_()
    load_llava_state(projector, state)
    torch.testing.assert_close(projector(inputs["features"]), expected["output"], rtol=0, atol=1e-4)


def test_the_full_size_c_abstractor_has_the_originals_keys() -> None:
    listed = json.loads(golden_dir("c_abstractor_full_keys.json").read_text())
    with torch.device("meta"):
        projector = build_projector(
            "c-abstractor", vision_width=1024, llm_width=4096, grid=24, num_tokens=256
        )
    ours = {
        name: (list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in llava_state(projector).items()
    }
    assert ours == {name: (shape, dtype) for name, shape, dtype, _ in listed["keys"]}
    assert sum(p.numel() for p in projector.parameters()) == listed["num_parameters"]
    tensors = {name: torch.empty(shape, device="meta") for name, shape, _, _ in listed["keys"]}
    load_llava_state(projector, tensors)
    assert kind_of(tensors, "the list") == "c-abstractor"


@pytest.mark.parametrize("kind", KINDS)
def test_weights_travel_under_public_names(kind: str) -> None:
    projector, other = small(kind), small(kind)
    state = {name: tensor.clone() for name, tensor in llava_state(projector).items()}
    assert kind_of(state, "the state") == kind
    load_llava_state(other, state)
    patches = torch.randn(2, 36, 12)
    assert torch.equal(projector(patches), other(patches))
    assert projector(patches).shape == (2, projector.num_tokens, 8)
    assert projector.num_tokens == projector.token_grid**2 == (16 if kind in KINDS[2:] else 36)
    again = build_projector(**projector.settings())
    assert again.settings() == projector.settings()


def test_the_mlps_names_are_llavas() -> None:
    names = [
        f"model.mm_projector.{layer}.{what}" for layer in (0, 2) for what in ("weight", "bias")
    ]
    assert list(llava_state(small("mlp"))) == names
    projector = small("mlp")
    short = {name.removeprefix("model."): t for name, t in llava_state(projector).items()}
    load_llava_state(small("mlp"), short)
    hidden = projector.network[0](torch.randn(5, 12))
    exact = torch.nn.functional.gelu(hidden, approximate="none")
    assert torch.equal(projector.network[1](hidden), exact)


def test_states_that_differ_are_refused_by_name() -> None:
    projector = small("mlp")
    state = llava_state(projector)
    del state["model.mm_projector.2.bias"]
    state["model.mm_projector.4.weight"] = torch.zeros(8, 8)
    state["model.mm_projector.0.weight"] = torch.zeros(8, 13)
    with pytest.raises(UserError, match=r"file x does not fit.*missing \(2\.bias\).*\(4\.weight\)"):
        load_llava_state(projector, state, source="file x")
    with pytest.raises(UserError, match=r"0\.weight is \(8, 13\) instead of \(8, 12\)"):
        load_llava_state(projector, state)
    with pytest.raises(UserError, match=r"file x holds no projector.*found lm_head\.weight"):
        kind_of({"lm_head.weight": torch.zeros(2, 2)}, "file x")


def test_a_c_abstractor_for_another_grid_is_refused() -> None:
    with pytest.raises(UserError, match=r"for 25 patches, but the vision tower gives 6 x 6 = 36"):
        load_llava_state(small("c-abstractor"), llava_state(small("c-abstractor", grid=5)))


@pytest.mark.parametrize("num_tokens", [0, 15, 49])
def test_impossible_numbers_of_tokens_are_refused(num_tokens: int) -> None:
    with pytest.raises(UserError, match=f"cannot give {num_tokens} tokens from 6 x 6"):
        small("c-abstractor", num_tokens=num_tokens)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match="there is no projector 'resampler'; choose 'linear'"):
        small("resampler")


def test_coverage_follows_what_a_token_reads() -> None:
    coverage_BRS = torch.rand(2, 3, 36)
    assert small("mlp").token_coverage(coverage_BRS) is coverage_BRS
    pooled_BRP = small("c-abstractor").token_coverage(coverage_BRS)
    assert pooled_BRP.shape == (2, 3, 16)
    assert pooled_BRP.dtype == coverage_BRS.dtype
    # At 6 to 4, cells read patches 0-1, 1-2, 3-4, 4-5 along either axis.
    rows = [(0, 1), (1, 2), (3, 4), (4, 5)]
    grid = coverage_BRS[1, 2].reshape(6, 6).double()
    wanted = [grid[list(y)][:, list(x)].mean() for y in rows for x in rows]
    torch.testing.assert_close(pooled_BRP[1, 2].double(), torch.stack(wanted), rtol=0, atol=1e-7)


def test_coverage_is_pooled_like_the_tokens() -> None:
    """A patch that no token's pooling reads cannot count, and the other way round."""
    projector = small("c-abstractor")
    pool = projector.network.net[1]
    for patch in range(36):
        single = torch.zeros(1, 1, 36)
        single[..., patch] = 1
        read = pool(single.reshape(1, 1, 6, 6)).flatten() > 0
        assert torch.equal(projector.token_coverage(single).flatten() > 0, read)


def test_coverage_of_the_tokens_own_cells_is_taken_as_it_is() -> None:
    coverage_BRP = torch.rand(2, 3, 16)
    assert small("c-abstractor").token_coverage(coverage_BRP) is coverage_BRP


def test_no_regions_give_no_coverage() -> None:
    for kind in KINDS:
        projector = small(kind)
        for shape in ((0, 0, 36), (2, 0, 36)):
            pooled = projector.token_coverage(torch.zeros(shape))
            assert pooled.shape == (*shape[:2], projector.num_tokens)


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_runs_under_autocast(kind: str) -> None:
    projector = small(kind)
    patches = torch.randn(2, 36, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = projector(patches.bfloat16())
    assert tokens.dtype == torch.bfloat16
    torch.testing.assert_close(tokens.float(), projector(patches), rtol=0, atol=0.05)


def test_the_perceiver_begins_with_the_coarse_image_and_sees_all_patches() -> None:
    torch.manual_seed(0)
    projector = small("perceiver").eval()
    patches = torch.randn(1, 36, 12, requires_grad=True)
    tokens = projector(patches)
    assert tokens.shape == (1, 16, 8)
    tokens[0, 0].sum().backward()
    assert patches.grad is not None
    reached = patches.grad[0].abs().sum(-1)
    assert bool((reached > 0).all())  # every patch, by attention
    assert reached[[0, 1, 6, 7]].min() > 2 * reached[30:].mean()  # its own ones most
    assert projector.token_coverage(torch.ones(1, 2, 36)).shape == (1, 2, 16)
