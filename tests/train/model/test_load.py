"""Loading from directories, files and checkpoints, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionModel,
    LlamaForCausalLM,
)

from pad_pipeline.errors import UserError
from pad_pipeline.train.model.load import load_model
from pad_pipeline.train.model.lora import add_lora
from pad_pipeline.train.model.projector_files import save_projector
from pad_pipeline.train.model.projectors import build_projector, llava_state
from pad_pipeline.train.model.vlm import VisionLanguageModel
from tests.golden_data import golden_dir
from tests.train.model.toy_llava import (
    close,
    empty_model,
    golden_case,
    llava_tiny,
    random_batch,
    settings,
)


def saved(folder: Path) -> tuple[Path, Path]:
    """Directories of a small tower and language model."""
    torch.manual_seed(7)
    model = empty_model()
    model.vision.save_pretrained(folder / "vision")
    model.llm.save_pretrained(folder / "llm")
    return folder / "vision", folder / "llm"


def test_the_original_loads_from_directories(tmp_path: Path) -> None:
    model = llava_tiny()
    model.vision.save_pretrained(tmp_path / "vision")
    model.llm.save_pretrained(tmp_path / "llm")
    file = golden_dir("llava_tiny") / "mm_projector.safetensors"
    loaded = load_model(tmp_path / "vision", tmp_path / "llm", file)
    batch, _, expected, _ = golden_case("pretrain")
    caption_sum, num_targets = loaded(batch)[1:3]
    close(caption_sum / num_targets, expected["loss"][0], 1e-5)


def test_dtypes_and_attention_are_chosen(tmp_path: Path) -> None:
    vision, llm = saved(tmp_path)
    model = load_model(vision, llm)
    assert model.llm.config._attn_implementation == "sdpa"
    assert {p.dtype for p in model.parameters()} == {torch.float32}

    # the file that LLaVA's stage 1 leaves
    torch.save(dict(llava_state(model.projector)), tmp_path / "mm_projector.bin")
    again = load_model(vision, llm, tmp_path, dtype=torch.bfloat16)
    assert again.llm.dtype == again.vision.dtype == torch.bfloat16
    assert again.projector.network[0].weight.dtype == torch.float32
    assert torch.equal(again.projector.network[0].weight, model.projector.network[0].weight)
    mixed = load_model(vision, llm, dtype=torch.bfloat16, llm_dtype=torch.float32)
    assert (mixed.vision.dtype, mixed.llm.dtype) == (torch.bfloat16, torch.float32)
    assert mixed.dtype == torch.bfloat16


def test_the_tower_of_a_whole_clip_loads(tmp_path: Path) -> None:
    _, llm = saved(tmp_path)
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 20}
    vision = settings()[0].to_dict()
    whole = CLIPModel(
        CLIPConfig(
            text_config={**text, "num_attention_heads": 1}, vision_config=vision, projection_dim=8
        )
    )
    whole.save_pretrained(tmp_path / "clip")
    model = load_model(tmp_path / "clip", llm, "linear")
    theirs = whole.vision_model.embeddings.patch_embedding.weight
    assert torch.equal(model.vision.embeddings.patch_embedding.weight, theirs)


@pytest.mark.parametrize("kind", ["linear", "mlp", "c-abstractor"])
def test_saved_projectors_load(tmp_path: Path, kind: str) -> None:
    vision, llm = saved(tmp_path)
    torch.manual_seed(3)
    first = load_model(vision, llm, kind, num_tokens=9, hidden_width=24)
    (tmp_path / "run").mkdir()
    save_projector(first.projector, tmp_path / "run")
    again = load_model(vision, llm, tmp_path / "run")
    assert again.projector.settings() == first.projector.settings()
    for name, tensor in llava_state(first.projector).items():
        assert torch.equal(tensor, llava_state(again.projector)[name])
    sizes = load_model(vision, llm, tmp_path / "run", device="meta")
    assert sizes.parameter_counts() == first.parameter_counts()
    assert {p.device.type for p in sizes.parameters()} == {"meta"}


def test_sizes_that_do_not_fit_are_named_before_weights_are_read(tmp_path: Path) -> None:
    vision, llm = saved(tmp_path)
    for weights in (vision / "model.safetensors", llm / "model.safetensors"):
        weights.unlink()
    (tmp_path / "run").mkdir()
    projector = build_projector("mlp", vision_width=32, llm_width=64, grid=6)
    save_projector(projector, tmp_path / "run")
    with pytest.raises(UserError, match=r"6 x 6 patches, but the vision tower gives 4 x 4 \(56 pi"):
        load_model(vision, llm, tmp_path / "run")
    save_projector(build_projector("mlp", vision_width=32, llm_width=48, grid=4), tmp_path / "run")
    with pytest.raises(UserError, match="tokens of width 48, but the language model's embedding"):
        load_model(vision, llm, tmp_path / "run")
    save_projector(build_projector("mlp", vision_width=48, llm_width=64, grid=4), tmp_path / "run")
    with pytest.raises(UserError, match="features of width 48, but the vision tower's have 32"):
        load_model(vision, llm, tmp_path / "run")
    with pytest.raises(UserError, match="no model could be read from"):
        load_model(vision, llm, "mlp")


def test_bad_references_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    vision, llm = saved(tmp_path)
    with pytest.raises(UserError, match=r"vision tower .*absent is not a directory"):
        load_model(tmp_path / "absent", llm)
    with pytest.raises(UserError, match=r"language model \./absent is not a directory"):
        load_model(vision, "./absent")
    with pytest.raises(UserError, match=r"projector absent is not there; .*linear, mlp, c-abs"):
        load_model(vision, llm, "absent")
    with pytest.raises(UserError, match="is a llama; the vision tower must be a CLIP"):
        load_model(llm, llm)
    with pytest.raises(UserError, match="is no causal language model"):
        load_model(vision, vision)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no config\.json"):
        load_model(tmp_path / "empty", llm)
    with pytest.raises(UserError, match="holds no projector: expected one of mm_projector"):
        load_model(vision, llm, tmp_path / "empty")
    (tmp_path / "empty/mm_projector.bin").write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"mm_projector\.bin cannot be read as a projector"):
        load_model(vision, llm, tmp_path / "empty")


def test_incomplete_weights_are_refused_by_name(tmp_path: Path) -> None:
    vision, llm = saved(tmp_path)
    state = load_file(llm / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, llm / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"does not fit LlamaForCausalLM.*model\.norm\.weight"):
        load_model(vision, llm)


def test_language_models_that_change_their_logits_are_refused() -> None:
    vision, llama = settings()
    llama.final_logit_softcapping = 30.0
    projector = build_projector("mlp", vision_width=32, llm_width=64, grid=4)
    with pytest.raises(UserError, match=r"changes its logits \(final_logit_softcapping = 30"):
        VisionLanguageModel(CLIPVisionModel(vision), projector, LlamaForCausalLM(llama))


def test_adapters_need_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install 'pad-pipeline\[train\]'"):
        add_lora(empty_model())


def test_adapters_are_trained_in_place_of_the_weights() -> None:
    pytest.importorskip("peft")
    batch = random_batch()
    model = empty_model()
    before = model(batch)[1].item()
    add_lora(model, rank=4, alpha=8)
    model.eval()
    assert model(batch)[1].item() == pytest.approx(before, abs=1e-3)
    model.train()
    model.enable_activation_checkpointing()
    model(batch)[1].backward()
    names = {name for name, p in model.named_parameters() if p.grad is not None}
    assert names == {name for name, _ in model.named_trained_parameters()}
    adapters = {name for name in names if not name.startswith("projector.")}
    assert len(adapters) == 2 * 2 * 7
    assert all("lora_" in name for name in adapters)
    assert "with LoRA" in model.describe()
    model.freeze("pretrain")
    assert all(name.startswith("projector.") for name, _ in model.named_trained_parameters())
