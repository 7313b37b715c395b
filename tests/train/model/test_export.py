"""Exports load in the programs that they are for, and compute the same."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jinja2 import TemplateError
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    AutoProcessor,
    AutoTokenizer,
    CLIPVisionModel,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
)

from pad_pipeline.errors import UserError
from pad_pipeline.geometry import geometry
from pad_pipeline.models.references import EMBEDDED_WEIGHTS
from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD
from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from pad_pipeline.train.model.export import export_run_model
from pad_pipeline.train.model.load import load_model
from pad_pipeline.train.model.lora import add_lora
from pad_pipeline.train.model.projector_files import load_projector
from pad_pipeline.train.model.projectors import build_projector, llava_state
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.text.encode import encode_caption, encode_conversation, load_tokenizer
from tests.golden_data import golden_dir
from tests.train.model.toy_llava import llava_tiny, settings
from tests.train.text.byte_level import byte_level_tokenizer

SIZE = 56
WORDS = 789
"""Of the embedded language model's tokenizer; with two more a multiple of 64 is passed."""


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(EMBEDDED_WEIGHTS / "language")


def small_model(
    kind: str = "mlp", *, tied: bool = False, words: int = WORDS
) -> VisionLanguageModel:
    torch.manual_seed(5)
    vision, llama = settings()
    llama.vocab_size, llama.tie_word_embeddings = words, tied
    projector = build_projector(
        kind,  # pyright: ignore[reportArgumentType]
        vision_width=32,
        llm_width=64,
        grid=4,
        num_tokens=4,
        hidden_width=16,
    )
    model = VisionLanguageModel(CLIPVisionModel(vision), projector, LlamaForCausalLM(llama))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases start as constants
                parameter.add_(torch.randn_like(parameter) * 0.1)
        if not tied:
            model.llm.lm_head.weight.mul_(20)
    return model.eval()


def photo(width: int = 90, height: int = 61) -> np.ndarray:
    generator = np.random.default_rng(4)
    small = generator.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def pixels_of(image: np.ndarray, kind: Any) -> torch.Tensor:
    """(1, 3, SIZE, SIZE): the frame as training makes it, normalised."""
    height, width, _ = image.shape
    frame = geometry(kind, width, height, SIZE).apply(image)
    values = (frame / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    return torch.from_numpy(values).permute(2, 0, 1)[None].float()


@torch.no_grad()
def our_logits(model: VisionLanguageModel, ids: list[int], pixels: torch.Tensor) -> torch.Tensor:
    """(T, W) of ids with one image."""
    embed = model.llm.get_input_embeddings()
    tokens = model.project(model.encode(pixels))[0]
    place = ids.index(IMAGE_TOKEN_INDEX)
    before, after = torch.tensor(ids[:place]), torch.tensor(ids[place + 1 :])
    inputs = torch.cat([embed(before), tokens.to(embed.weight.dtype), embed(after)])[None]
    return model.logits(model.hidden(inputs))[0]


def their_ids(ids: list[int], image: int, num_tokens: int) -> torch.Tensor:
    return torch.tensor(
        [[each for i in ids for each in ([image] * num_tokens if i == IMAGE_TOKEN_INDEX else [i])]]
    )


@pytest.mark.parametrize("kind", ["mlp", "linear"])
@pytest.mark.parametrize("frame", ["crop", "pad"])
def test_transformers_computes_the_same(
    tmp_path: Path, tokenizer: Any, kind: str, frame: Any
) -> None:
    model, image = small_model(kind), photo()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lines = export_run_model(model, tokenizer, tmp_path / "out", geometry=frame)
    assert "LlavaForConditionalGeneration.from_pretrained" in lines[0]
    assert len(tokenizer) == WORDS, "the caller's tokenizer was changed"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])

    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    load: Any = LlavaForConditionalGeneration.from_pretrained
    loaded, report = load(tmp_path / "out", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    caption = "a cup on the table"
    inputs = processor(images=Image.fromarray(image), text=f"<image>{caption}", return_tensors="pt")
    pixels = pixels_of(image, frame)
    torch.testing.assert_close(inputs["pixel_values"], pixels, rtol=0, atol=1e-6)
    assert int((inputs["input_ids"] == loaded.config.image_token_id).sum()) == 16

    text = encode_caption(tokenizer, caption)
    ids = their_ids(text.input_ids, loaded.config.image_token_id, 16)
    with torch.no_grad():
        logits = loaded.eval()(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0]
    ours = our_logits(model, text.input_ids, pixels)
    assert ours.abs().max() > 1
    assert logits.shape == (len(ours), 832)
    torch.testing.assert_close(logits[:, :WORDS], ours, rtol=0, atol=1e-4)
    assert int(logits.argmax(-1).max()) < WORDS, "an added row wins"


def test_the_processor_does_what_training_did(tmp_path: Path, tokenizer: Any) -> None:
    for frame in ("crop", "pad"):
        export_run_model(small_model(), tokenizer, tmp_path / frame, geometry=frame)
        processor = AutoProcessor.from_pretrained(tmp_path / frame)
        assert processor.image_processor.do_pad is (frame == "pad")
        assert processor.patch_size == 14
        assert processor.num_additional_image_tokens == 1
        assert processor.vision_feature_select_strategy == "default"
        words = processor.tokenizer
        assert words.convert_tokens_to_ids(["<image>", "<pad>"]) == [WORDS, WORDS + 1]
        assert words.pad_token == "<pad>"
        config = json.loads((tmp_path / frame / "config.json").read_text())
        assert config["image_token_index"] == WORDS
        assert config["vision_feature_layer"] == -2


def test_the_published_layout_is_written(tmp_path: Path) -> None:
    """The same names, shapes and added tokens as the public converter's result."""
    words = load_tokenizer(golden_dir("llava_text") / "tokenizer")
    published = golden_dir("llava_tiny") / "hf"
    export_run_model(llava_tiny(), words, tmp_path / "out")
    wanted = load_file(published / "model.safetensors")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in wanted.items()}
    theirs = json.loads((published / "config.json").read_text())
    ours = json.loads((tmp_path / "out" / "config.json").read_text())
    for name in ("image_token_index", "pad_token_id", "projector_hidden_act", "model_type"):
        assert ours[name] == theirs[name]


@pytest.mark.parametrize("kind", ["embedded", "llama 2", "llama 3"])
def test_the_processor_tokenises_as_training_did(tmp_path: Path, tokenizer: Any, kind: str) -> None:
    if kind == "llama 2":
        tokenizer = load_tokenizer(golden_dir("llava_text") / "tokenizer")
    elif kind == "llama 3":
        tokenizer = byte_level_tokenizer()
    lines = export_run_model(small_model(words=len(tokenizer)), tokenizer, tmp_path / "out")
    space = "" if kind == "llama 3" else " "
    assert f"write prompts as in '<image>{space}a cup'" in lines[-1]
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    caption = "two cups on the table"
    text = f"<image>{space}{caption}\n"
    theirs = processor(images=Image.fromarray(photo()), text=text, return_tensors="pt")
    ours = their_ids(encode_caption(tokenizer, caption).input_ids, len(tokenizer), 16)
    assert theirs["input_ids"].tolist() == ours.tolist()


def test_tied_embeddings_stay_tied(tmp_path: Path, tokenizer: Any) -> None:
    model = small_model(tied=True)
    export_run_model(model, tokenizer, tmp_path / "out")
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    ids, pixels = [1, IMAGE_TOKEN_INDEX, 5, 6], pixels_of(photo(), "crop")
    with torch.no_grad():
        logits = loaded(input_ids=their_ids(ids, WORDS, 16), pixel_values=pixels).logits[0]
    torch.testing.assert_close(logits[:, :WORDS], our_logits(model, ids, pixels), rtol=0, atol=1e-4)


def test_a_vocabulary_with_room_keeps_its_rows(tmp_path: Path, tokenizer: Any) -> None:
    export_run_model(small_model(words=900), tokenizer, tmp_path / "out")
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert loaded.lm_head.weight.shape[0] == 900


def test_bfloat16_is_written_where_asked_for(tmp_path: Path, tokenizer: Any) -> None:
    export_run_model(small_model(), tokenizer, tmp_path / "out", dtype=torch.bfloat16)
    state = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert loaded.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", ["mlp", "linear"])
def test_llava_reads_its_projector(tmp_path: Path, tokenizer: Any, kind: str) -> None:
    model = small_model(kind)
    lines = export_run_model(
        model, tokenizer, tmp_path / "out", "llava", "pad", vision_name="tower", llm_trained=True
    )
    assert "mm_projector.bin" in lines[0]
    assert "the language model was trained too" in lines[1]
    state = torch.load(tmp_path / "out" / "mm_projector.bin", weights_only=True)
    middles = ("0.", "2.") if kind == "mlp" else ("",)
    assert list(state) == [
        f"model.mm_projector.{middle}{what}" for middle in middles for what in ("weight", "bias")
    ]
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written["mm_projector_type"] == {"mlp": "mlp2x_gelu", "linear": "linear"}[kind]
    assert written["mm_vision_tower"] == "tower"
    assert written["image_aspect_ratio"] == "pad"
    again = load_projector(tmp_path / "out", vision_config=model.vision.config, llm_width=64)
    for name, tensor in llava_state(again).items():
        assert torch.equal(tensor, llava_state(model.projector)[name])


def run_note(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the code of the loading note defines, run in its folder."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(__import__("sys").modules, "c_abstractor", raising=False)
    blocks = (folder / "LOADING.md").read_text().split("```python\n")[1:]
    names: dict[str, Any] = {}
    exec("\n".join(block.split("```")[0] for block in blocks), names)
    return names


def test_a_c_abstractor_comes_with_what_loads_it(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = small_model("c-abstractor"), photo()
    lines = export_run_model(model, tokenizer, tmp_path / "out", geometry="pad")
    assert "neither transformers nor LLaVA has a C-Abstractor" in lines[0]
    names = run_note(tmp_path / "out", monkeypatch)
    assert type(names["projector"]).__module__ == "c_abstractor"
    wanted = model.project(model.encode(pixels_of(image, "pad")))
    tokens = names["image_tokens"](Image.fromarray(image))
    torch.testing.assert_close(tokens, wanted.detach(), rtol=0, atol=1e-5)
    assert isinstance(names["describe"](Image.fromarray(image), max_new_tokens=3), str)
    state = names["llm"].state_dict()
    for name, tensor in model.llm.state_dict().items():
        assert torch.equal(tensor, state[name])


def test_a_c_abstractor_for_llava_is_the_projector_alone(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("c-abstractor")
    lines = export_run_model(model, tokenizer, tmp_path / "out", "llava")
    assert "neither transformers nor LLaVA" in lines[0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "LOADING.md",
        "c_abstractor.py",
        "mm_projector.safetensors",
        "projector.json",
    ]
    patches = torch.randn(1, 16, 32)
    loaded = run_note(tmp_path / "out", monkeypatch)["projector"]
    assert torch.equal(loaded(patches), model.projector(patches))


def test_adapters_are_merged(tmp_path: Path, tokenizer: Any) -> None:
    pytest.importorskip("peft")
    model = small_model()
    add_lora(model, rank=4, alpha=8)
    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_trained_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    ids, pixels = [1, IMAGE_TOKEN_INDEX, 5, 6], pixels_of(photo(), "crop")
    wanted = our_logits(model, ids, pixels)
    export_run_model(model, tokenizer, tmp_path / "out")
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        logits = loaded(input_ids=their_ids(ids, WORDS, 16), pixel_values=pixels).logits[0]
    torch.testing.assert_close(logits[:, :WORDS], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_parts_beside_a_c_abstractor_load(
    tmp_path: Path, tokenizer: Any, dtype: torch.dtype | None
) -> None:
    model = small_model("c-abstractor", tied=True)
    export_run_model(model, tokenizer, tmp_path / "out", dtype=dtype)
    loaded = load_model(tmp_path / "out/vision", tmp_path / "out/llm", tmp_path / "out")
    assert loaded.llm.lm_head.weight is loaded.embedding
    for name, tensor in model.state_dict().items():
        wanted = tensor if name.startswith("projector.") else tensor.to(dtype or tensor.dtype)
        assert torch.equal(loaded.state_dict()[name], wanted.float()), name


def test_a_border_of_another_colour_is_reported(tmp_path: Path, tokenizer: Any) -> None:
    half = (0.5, 0.5, 0.5)
    for frame, differs in (("pad", True), ("crop", False)):
        lines = export_run_model(
            small_model(),
            tokenizer,
            tmp_path / frame,
            geometry=frame,  # pyright: ignore[reportArgumentType]
            image_mean=half,
        )
        assert any("(127, 127, 127): pixels differ" in line for line in lines) is differs


def test_a_folder_in_use_is_left_alone(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="already exists; remove it"):
        export_run_model(small_model(), tokenizer, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    export_run_model(small_model(), tokenizer, tmp_path / "empty", "llava")
    assert (tmp_path / "empty" / "mm_projector.bin").is_file()


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UserError, match=r"could not be written to .*No space left"):
        export_run_model(small_model(), tokenizer, tmp_path / "out", "llava")
    assert os.listdir(tmp_path) == []


def talk(*texts: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"from": roles[n % 2], "value": text} for n, text in enumerate(texts)]


def chat(*texts: str) -> list[dict[str, Any]]:
    """The same as transformers takes it, the image as an item behind the first text."""
    turns = [
        {"role": ("user", "assistant")[n % 2], "content": [{"type": "text", "text": text}]}
        for n, text in enumerate(texts)
    ]
    turns[0]["content"].append({"type": "image"})
    return turns


@pytest.mark.parametrize(
    ("kind", "template"),
    [("embedded", "vicuna-v1"), ("llama 2", "vicuna-v1"), ("llama 3", "llama-3")],
)
def test_a_chat_in_transformers_has_the_ids_of_the_training(
    tmp_path: Path, tokenizer: Any, kind: str, template: Any
) -> None:
    if kind == "llama 2":
        tokenizer = load_tokenizer(golden_dir("llava_text") / "tokenizer")
    elif kind == "llama 3":
        tokenizer = byte_level_tokenizer()
    lines = export_run_model(
        small_model(words=len(tokenizer)),
        tokenizer,
        tmp_path / "out",
        template=template,
        llm_trained=True,
    )
    assert "the chat template writes conversations as training did" in lines
    assert tokenizer.chat_template is None, "the caller's tokenizer was changed"
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    texts = ("What is it?", "A red cup.", "And  behind it?", "A table.")
    whole = encode_conversation(
        tokenizer, talk(f"<image>\n{texts[0]}", *texts[1:]), template, has_image=True
    )
    text = processor.apply_chat_template(chat(*texts), tokenize=False)
    inputs = processor(images=Image.fromarray(photo()), text=text, return_tensors="pt")
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    assert inputs["input_ids"].tolist() == their_ids(whole.input_ids, image, 16).tolist()

    asked = processor.apply_chat_template(
        chat(texts[0]), add_generation_prompt=True, tokenize=False
    )
    words = AutoTokenizer.from_pretrained(tmp_path / "out")  # as lmms-eval asks, with strings
    question = [{"role": "user", "content": f"<image>\n{texts[0]}"}]
    assert words.apply_chat_template(question, add_generation_prompt=True, tokenize=False) == asked
    inputs = processor(images=Image.fromarray(photo()), text=asked, return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    assert ids == their_ids(whole.input_ids, image, 16)[0, : len(ids)].tolist()
    first = next(label for label in whole.labels if label != IGNORE_INDEX)
    position = whole.labels.index(first) + 15
    assert position in (len(ids), len(ids) + 1), "the prompt ends where the answer begins"
    model: Any = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    answer = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert answer.shape[1] > len(ids)
    with pytest.raises(TemplateError, match="one image per message"):
        processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}]
        )


def test_a_chat_with_a_model_of_stage_one_is_an_image_and_its_caption(
    tmp_path: Path, tokenizer: Any
) -> None:
    export_run_model(small_model(), tokenizer, tmp_path / "out")
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    text = processor.apply_chat_template(chat("a cup", "on the table"), tokenize=False)
    inputs = processor(images=Image.fromarray(photo()), text=text, return_tensors="pt")
    caption = encode_caption(tokenizer, "a cupon the table")
    assert inputs["input_ids"].tolist() == their_ids(caption.input_ids, WORDS, 16).tolist()
