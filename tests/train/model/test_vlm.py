"""The model against the original LLaVA at toy size, and against transformers' own."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
)

from pad_pipeline.errors import UserError
from pad_pipeline.train import caption_loss
from pad_pipeline.train.choices import TrainingStage
from pad_pipeline.train.constants import IGNORE_INDEX
from pad_pipeline.train.model.compatibility import patch_grid
from pad_pipeline.train.model.projectors import build_projector
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.patch_loss import patch_loss
from tests.golden_data import golden_dir
from tests.train.model.toy_llava import (
    close,
    empty_model,
    golden_case,
    gradients,
    llava_keys,
    llava_tiny,
    load_llava_checkpoint,
    random_batch,
)


@pytest.mark.parametrize("name", ["pretrain", "sft", "sft_cut", "text_only"])
def test_the_original_llava_is_matched(name: str) -> None:
    batch, images, expected, numbers = golden_case(name)
    model = llava_tiny()
    model.freeze("pretrain" if name == "pretrain" else "finetune")
    assert torch.equal(batch.labels_BT, expected["expanded_labels"])
    assert torch.equal(batch.attention_BT, expected["expanded_attention_mask"])

    there = batch.attention_BT
    tokens_IPD, caption_sum, num_targets, _ = model(batch)
    if "vision_features" in expected:
        close(model.encode(images), expected["vision_features"])
        close(model.project(model.encode(images)), expected["image_features"])
        inputs_BTD = model.embed(batch, tokens_IPD)
        close(inputs_BTD[there], expected["inputs_embeds"][there])
        close(model.logits(model.hidden(inputs_BTD))[there], expected["logits"][there])

    assert num_targets == numbers["supervised_targets"] == batch.num_targets
    loss = caption_sum / num_targets
    assert loss.dtype == torch.float32
    close(loss, expected["loss"][0], 1e-5)
    loss.backward()
    found = gradients(model)
    for key, value in expected.items():
        if key.startswith("grad."):
            close(found[key.removeprefix("grad.")], value)
    norms = numbers.get("gradient_norms", {})
    assert {key: float(found[key].norm()) for key in norms} == pytest.approx(norms, abs=1e-4)
    total = torch.stack([grad.norm() for grad in found.values()]).norm()
    assert float(total) == pytest.approx(numbers["gradient_norm_total"], abs=1e-4)


def test_text_alone_gives_the_projector_gradients_of_zero() -> None:
    batch = random_batch(images=False)
    for kind in ("linear", "mlp", "c-abstractor"):
        model = empty_model(kind)
        _, caption_sum, _, _ = model(batch)
        caption_sum.backward()
        for parameter in model.projector.parameters():
            assert parameter.grad is not None
            assert not parameter.grad.any()


def test_both_losses_together_match_the_original_in_float64() -> None:
    folder = golden_dir("llava_tiny")
    batch, *_ = golden_case("pretrain")
    case = json.loads((folder / "expected.json").read_text())["combined"]
    inputs = load_file(folder / "inputs.safetensors")
    expected = load_file(folder / "expected.safetensors")
    model = llava_tiny().double()
    model.freeze("pretrain")
    tokens_IPD, caption_sum, num_targets, _ = model(batch)

    unique = [ids for image in case["tag_ids"] for ids in image]
    labels_LD = model.label_embeddings(unique)
    assert labels_LD.dtype == torch.float64
    images, most = len(case["tags"]), max(map(len, case["tags"]))
    coverage_IRS = torch.zeros(images, most, tokens_IPD.shape[1], dtype=torch.float64)
    regions_IR = torch.zeros(images, most, dtype=torch.bool)
    embeds_IRD = torch.zeros(images, most, tokens_IPD.shape[-1], dtype=torch.float64)
    for image, tags in enumerate(case["tags"]):
        coverage_IRS[image, : len(tags)] = inputs[f"combined.coverage{image}"]
        regions_IR[image, : len(tags)] = True
    embeds_IRD[regions_IR] = labels_LD
    patch = patch_loss(tokens_IPD, embeds_IRD, coverage_IRS, regions_IR)
    caption = caption_sum / num_targets
    total = caption + case["beta"] * patch.mean
    # The norms of the LLM compute in float32 here, as they always do.
    assert caption.item() == pytest.approx(case["caption_loss"], abs=2e-6)
    assert patch.mean.item() == pytest.approx(case["patch_loss"], abs=1e-9)
    assert total.item() == pytest.approx(case["total"], abs=2e-6)
    total.backward()
    found = gradients(model)
    prefix = "combined.grad."
    assert {prefix + key for key in found} == {key for key in expected if key.startswith(prefix)}
    for key, grad in found.items():
        close(grad, expected[f"combined.grad.{key}"], 2e-6)


def from_transformers(reference: Any) -> VisionLanguageModel:
    """Our model with the weights of transformers' LLaVA."""
    vision, words = reference.model.vision_tower, reference.config.text_config
    llm = LlamaForCausalLM(words)
    llm.model.load_state_dict(reference.model.language_model.state_dict())
    llm.lm_head.load_state_dict(reference.lm_head.state_dict())
    projector = build_projector(
        "mlp",
        vision_width=vision.config.hidden_size,
        llm_width=words.hidden_size,
        grid=patch_grid(vision.config),
    )
    theirs = reference.model.multi_modal_projector
    projector.network[0].load_state_dict(theirs.linear_1.state_dict())
    projector.network[2].load_state_dict(theirs.linear_2.state_dict())
    return VisionLanguageModel(vision, projector, llm)


@pytest.mark.parametrize("name", ["pretrain", "sft"])
def test_the_loss_is_that_of_transformers(name: str) -> None:
    folder = golden_dir("llava_tiny")
    reference = LlavaForConditionalGeneration.from_pretrained(folder / "hf").eval()
    batch, *_ = golden_case(name)
    ids = batch.input_ids_BT.masked_fill(batch.image_mask_BT, reference.config.image_token_id)
    theirs = reference(
        input_ids=ids,
        pixel_values=batch.pixels_ICHW,
        attention_mask=batch.attention_BT.long(),
        labels=batch.labels_BT,
    )
    model = from_transformers(reference)
    _, caption_sum, num_targets, _ = model(batch)
    close(caption_sum / num_targets, theirs.loss, 1e-5)
    assert batch.num_targets == num_targets


def test_the_full_size_llava_is_covered_key_by_key() -> None:
    listed = json.loads(golden_dir("llava_v15_7b_full_keys.json").read_text())
    with torch.device("meta"):
        model = VisionLanguageModel(
            CLIPVisionModel(
                CLIPVisionConfig(
                    hidden_size=1024,
                    intermediate_size=4096,
                    num_hidden_layers=24,
                    num_attention_heads=16,
                    image_size=336,
                    patch_size=14,
                )
            ),
            build_projector("mlp", vision_width=1024, llm_width=4096, grid=24),
            LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=32000,
                    hidden_size=4096,
                    intermediate_size=11008,
                    num_hidden_layers=32,
                    num_attention_heads=32,
                )
            ),
        )
        tensors = {name: torch.empty(shape) for name, shape, *_ in listed["keys"]}
    keys, state = llava_keys(model), model.state_dict()
    assert {name: list(state[ours].shape) for name, ours in keys.items()} == {
        name: shape for name, shape, *_ in listed["keys"]
    }
    assert sum(p.numel() for p in model.parameters()) == listed["num_parameters"]
    load_llava_checkpoint(model, tensors)
    described = model.describe()
    assert "projector (mlp, 576 tokens per image): 20,979,712 parameters trained, 0 fr" in described
    assert "llm (llama): 0 parameters trained, 6,738,415,616 frozen" in described


def test_frozen_weights_have_no_gradients() -> None:
    batch = random_batch()
    model = empty_model()
    model.freeze("finetune")
    model(batch)[1].backward()
    assert model.llm.lm_head.weight.grad is not None
    assert not any(parameter.requires_grad for parameter in model.vision.parameters())

    model.freeze("pretrain")
    assert all(parameter.grad is None for parameter in model.llm.parameters())
    model(batch)[1].backward()
    trained = {name for name, _ in model.named_trained_parameters()}
    assert trained == {
        f"projector.network.{i}.{what}" for i in (0, 2) for what in ("weight", "bias")
    }
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == trained
    assert model.parameter_counts()["projector"] == (
        sum(p.numel() for p in model.projector.parameters()),
        0,
    )


def test_the_vision_tower_stays_in_evaluation_mode() -> None:
    model = empty_model().train()
    assert not model.vision.training
    assert model.projector.training
    assert model.llm.training
    assert not model.eval().llm.training


def test_the_last_layer_of_the_tower_is_not_computed() -> None:
    model = llava_tiny()
    with torch.no_grad():
        for parameter in model.vision.encoder.layers[-1].parameters():
            parameter.fill_(float("nan"))
        model.vision.post_layernorm.weight.fill_(float("nan"))
    _, images, expected, _ = golden_case("pretrain")
    close(model.encode(images), expected["vision_features"])


def test_trained_weights_return() -> None:
    model, other = empty_model(), empty_model()
    trained: dict[TrainingStage, set[str]] = {
        "pretrain": {"projector"},
        "finetune": {"projector", "llm"},
    }
    for stage, parts in trained.items():
        model.freeze(stage)
        other.freeze(stage)
        state = {name: tensor.clone() for name, tensor in model.trained_state().items()}
        assert {name.partition(".")[0] for name in state} == parts
        other.load_trained_state(state, source="a checkpoint")
        for name, tensor in other.trained_state().items():
            assert torch.equal(tensor, state[name])
    state.pop("llm.lm_head.weight")
    with pytest.raises(UserError, match=r"a checkpoint does not.*missing \(llm\.lm_head\.weight"):
        other.load_trained_state(state, source="a checkpoint")


def test_many_targets_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = random_batch()
    model = empty_model()
    model.freeze("finetune")
    whole = model(batch)[1]
    whole.backward()
    wanted = {name: grad.clone() for name, grad in gradients(model).items()}
    model.zero_grad()
    monkeypatch.setattr(caption_loss, "LOGITS_AT_ONCE", 800 * 4)
    parts = model(batch)[1]
    parts.backward()
    close(parts, whole.detach(), 1e-4)
    for name, grad in gradients(model).items():
        close(grad, wanted[name], 1e-5)


def test_activation_checkpointing_changes_nothing() -> None:
    batch = random_batch()
    model = empty_model()
    model(batch)[1].backward()
    wanted = {name: grad.clone() for name, grad in gradients(model).items()}
    model.zero_grad()
    model.enable_activation_checkpointing()
    runs = []
    model.llm.model.layers[0].self_attn.register_forward_hook(lambda *_: runs.append(1))
    model(batch)[1].backward()
    assert len(runs) == 2, "the layer was not computed again"
    for name, grad in gradients(model).items():
        close(grad, wanted[name], 1e-6)


def test_a_batch_without_targets_has_a_sum_of_zero() -> None:
    batch = random_batch()
    batch.labels_BT.fill_(IGNORE_INDEX)
    model = empty_model()
    _, caption_sum, num_targets, _ = model(batch)
    assert (float(caption_sum.detach()), num_targets) == (0.0, 0)
    caption_sum.backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.projector.parameters())


def test_image_tokens_that_do_not_fill_their_places_are_a_bug() -> None:
    batch = random_batch()
    model = empty_model()
    with pytest.raises(AssertionError, match="32 positions for 16 image tokens"):
        model.embed(batch, model.project(model.encode(batch.pixels_ICHW[:1])))


def test_padding_on_the_left_is_a_bug() -> None:
    batch = random_batch()
    batch.attention_BT[1] = batch.attention_BT[1].flip(0)
    with pytest.raises(AssertionError, match="padded on the right"):
        empty_model()(batch)


def test_bfloat16_passes_keep_float32_projectors() -> None:
    batch = random_batch()
    exact = empty_model()
    model = empty_model()
    model.load_state_dict(exact.state_dict())
    model.vision.bfloat16()
    model.llm.bfloat16()
    model.compute_dtype = torch.bfloat16
    tokens_IPD, caption_sum, num_targets, _ = model(batch)
    assert tokens_IPD.dtype == torch.bfloat16
    assert caption_sum.dtype == torch.float32
    caption_sum.backward()
    assert {p.dtype for p in model.projector.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in model.projector.parameters() if p.grad is not None} == {
        torch.float32
    }
    close(caption_sum / num_targets, exact(batch)[1].detach() / num_targets, 0.05)
    assert model.label_embeddings([[1, 2]]).dtype == torch.float32

    model.freeze("finetune")
    assert {p.dtype for p in model.trained_parameters()} == {torch.float32}
    trained_sum = model(batch)[1]
    close(trained_sum / num_targets, exact(batch)[1].detach() / num_targets, 0.05)
    trained_sum.backward()
    assert model.llm.model.layers[0].mlp.up_proj.weight.grad.dtype == torch.float32


def test_label_embeddings_are_means_of_raw_rows() -> None:
    model = empty_model()
    rows = model.llm.get_input_embeddings().weight
    found = model.label_embeddings([[5], [7, 7, 9], [5, 3]])
    wanted = torch.stack([rows[5], (2 * rows[7] + rows[9]) / 3, (rows[5] + rows[3]) / 2])
    close(found, wanted.detach(), 1e-6)
    assert not found.requires_grad
    assert model.label_embeddings([]).shape == (0, 64)
