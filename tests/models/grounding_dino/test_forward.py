"""Grounding DINO's forward pass gives the original's numbers."""

from __future__ import annotations

import pytest
import torch

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.grounding_dino.encode import encode_images
from pad_pipeline.models.grounding_dino.forward import (
    LOGIT_EPS,
    compiled_steps,
    detect_pairs,
    inverse_sigmoid,
)
from pad_pipeline.models.grounding_dino.load import to_runtime
from pad_pipeline.models.grounding_dino.phrases import encode_texts
from pad_pipeline.models.grounding_dino.prepare import prepare_network
from pad_pipeline.verify.grounding_dino import golden_outputs
from tests.models.grounding_dino.golden import TOLERANCE, Golden


@pytest.fixture(scope="module")
def tiny() -> Golden:
    return Golden("gdino_tiny")


@pytest.mark.parametrize("name", ["gdino_tiny", "gdino_d256"])
def test_every_golden_tensor_and_phrase(name):
    golden = Golden(name)
    run = golden_outputs(
        golden.config, golden.state, golden.inputs, golden.expected, golden.tokenizer
    )
    compared = set()
    for key, expected in golden.tensors.items():
        case = key.split(".")[0]
        if case in golden.mixed_cases:
            continue  # the original's own mistake
        found = run.tensors[key]
        assert found.shape == expected.shape, key
        if expected.dtype in (torch.bool, torch.int64):
            assert torch.equal(found, expected), key
        else:
            infinite = torch.isinf(expected)
            assert torch.equal(torch.isinf(found), infinite), key
            difference = (found - expected)[~infinite].abs().max()
            assert difference < TOLERANCE, (key, float(difference))
        compared.add(case)
    wanted = {
        f"{name}_own_masks" if name in golden.mixed_cases else name
        for name in golden.expected["cases"]
    }
    assert compared == wanted | {f"post{n}" for n in range(len(golden.expected["post_processing"]))}
    expected_phrases = [post["phrases"] for post in golden.expected["post_processing"]]
    assert run.phrases == expected_phrases


def test_captions_of_a_batch_keep_their_own_masks(tiny):
    """A wrong mask moves the logits by far more than the tolerance, so the test above can fail."""
    assert tiny.mixed_cases
    for name in tiny.mixed_cases:
        right = tiny.tensors[f"{name}_own_masks.pred_logits"]
        wrong = tiny.tensors[f"{name}.pred_logits"]
        assert (right - wrong)[~torch.isinf(right)].abs().max() > 100 * TOLERANCE


def test_compiled_steps_give_the_same(tiny):
    network = prepare_network(to_runtime(tiny.model(), Runtime()))
    with torch.inference_mode():
        case = next(iter(tiny.expected["cases"].values()))
        images = encode_images(network, tiny.inputs[case["images"][0]][None])
        texts = encode_texts(network, case["input_ids"][:1])
        steps = compiled_steps("eager")  # traced, without the minutes that a C++ compiler takes
        found = detect_pairs(network, images, texts, steps=steps)
        expected = detect_pairs(network, images, texts)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


def test_a_clamped_reference_box_moves_as_in_the_original(tiny):
    """The original cuts the inverse sigmoid off at 1e-3; transformers' own forward does at 1e-5."""
    share = torch.tensor([0.0, 1e-4, 0.5, 0.9999, 1.0])
    clamped = share.double().clamp(0, 1)
    expected = torch.log(clamped.clamp(min=1e-3) / (1 - clamped).clamp(min=1e-3))
    found = inverse_sigmoid(share, LOGIT_EPS["grounding-dino"])
    torch.testing.assert_close(found, expected.float(), atol=1e-3, rtol=0)
