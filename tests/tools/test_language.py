"""The embedded tower, tokenizer and language model: training repeats, and they know scenes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from pad_pipeline.models.references import EMBEDDED_WEIGHTS
from pad_pipeline.scenes import backgrounds
from pad_pipeline.scenes.generator import KINDS, generate_scene
from pad_pipeline.scenes.questions import on_padded_square
from tools.annotators.data import EVALUATION_SEED
from tools.annotators.training_loop import Schedule
from tools.language import corpus, frames, tokenizer, train_language, train_vision

VISION, LANGUAGE = EMBEDDED_WEIGHTS / "vision", EMBEDDED_WEIGHTS / "language"


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pieces():
    return AutoTokenizer.from_pretrained(LANGUAGE)


@pytest.fixture(scope="module")
def model(pieces) -> train_language.ModelOfCells:
    llm = LlamaForCausalLM.from_pretrained(LANGUAGE, dtype=torch.float32).eval()
    return train_language.ModelOfCells(llm, train_language.Writer(pieces))


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> frames.FramePack:
    return frames.open_frames(tmp_path_factory.mktemp("frames"), 16, first_seed=40)


def test_weights_are_small_and_half_precision() -> None:
    files = [file for part in (VISION, LANGUAGE) for file in part.iterdir()]
    assert sum(file.stat().st_size for file in files) < 8e6
    for part in (VISION, LANGUAGE):
        with safe_open(part / "model.safetensors", "pt") as weights:
            assert {weights.get_slice(key).get_dtype() for key in weights.keys()} == {"F16"}  # noqa: SIM118


def test_the_shipped_tokenizer_is_what_the_script_learns(tmp_path: Path) -> None:
    tokenizer.save_tokenizer(tmp_path, *tokenizer.learn_pieces())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_text() == (LANGUAGE / name).read_text()


def test_the_tokenizer_is_llamas_and_loses_nothing(pieces) -> None:
    assert (pieces.unk_token_id, pieces.bos_token_id, pieces.eos_token_id) == (0, 1, 2)
    assert pieces.pad_token_id == 0
    assert pieces("fish")["input_ids"][0] == 1
    plain = Tokenizer.from_file(str(LANGUAGE / "tokenizer.json"))
    for text in ("A red fish swims.\n", "USER: Zébra 42?\nASSISTANT: Yes</s>USER: a", "日本", "\n"):
        ids = pieces(text)["input_ids"]
        assert ids == plain.encode(text).ids
        assert 0 not in ids
        assert plain.decode(ids).replace("</s>", "") == text.replace("</s>", "")


def test_every_kind_has_pieces_of_its_own(pieces) -> None:
    ids = {kind: tuple(pieces(kind, add_special_tokens=False)["input_ids"]) for kind in KINDS}
    assert len(set(ids.values())) == len(KINDS)
    assert {len(kind.split()) for kind, found in ids.items() if len(found) > 1} == {2}


def test_places_are_those_of_the_backgrounds() -> None:
    assert tuple(words for words, _ in backgrounds._PLACES) == corpus.PLACES


def test_laid_out_captions_read_like_those_of_scenes(pieces) -> None:
    rng = np.random.default_rng(0)
    known = set()
    for _ in range(500):
        known |= set(re.findall(r"\w+", corpus.caption(corpus.lay_out(rng), rng).lower()))
    for seed in range(10):
        words = re.findall(r"\w+", generate_scene(EVALUATION_SEED + seed).caption.lower())
        assert set(words) <= known


def test_frames_are_those_of_clips_processor() -> None:
    processor = CLIPImageProcessorPil.from_pretrained(VISION)
    for seed in range(5):
        scene = generate_scene(seed)
        made = frames.scene_frames(scene)
        expected = processor(scene.image, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(train_vision.to_pixels(made.pixels[:1]), expected)
        np.testing.assert_allclose(made.shares.astype(int).sum(-1), 255, atol=2)
        shown = {KINDS[k] for k in np.flatnonzero(made.shares[1, :, :-1].sum(0))}
        assert shown == set(scene.tags)


def test_patches_have_the_colour_and_the_box_of_what_they_show() -> None:
    scene = generate_scene(3)
    made = frames.scene_frames(scene)
    height, width = scene.image.shape[:2]
    known = {
        (thing.variant, tuple(round(255 * edge) for edge in on_padded_square(box, width, height)))
        for thing in scene.things
        for box in [thing.bbox_xyxy]
    }
    shows = made.colours[1] != frames.NOTHING  # the padded frame
    found = {
        (frames.COLOURS[colour], tuple(box))
        for colour, box in zip(made.colours[1][shows], made.boxes[1][shows].tolist(), strict=True)
    }
    assert found == known
    # a patch is nearer to its own thing's box than half a patch
    cells = (np.arange(frames.GRID) + 0.5) / frames.GRID
    x, y = np.tile(cells, frames.GRID)[shows], np.repeat(cells, frames.GRID)[shows]
    x0, y0, x1, y1 = made.boxes[1][shows].T / 255
    assert (np.abs(np.clip(x, x0, x1) - x) < 0.5 / frames.GRID).all()
    assert (np.abs(np.clip(y, y0, y1) - y) < 0.5 / frames.GRID).all()


def test_a_mirrored_sample_mirrors_patches_and_words(pack: frames.FramePack) -> None:
    captions = {c for k in range(4) for c in train_vision.draw_frames(pack, 8, 0, k)[1]}
    assert captions <= {*pack.captions, *map(train_vision.mirrored, pack.captions)}
    assert not captions <= set(pack.captions)
    values = np.arange(64 * 2).reshape(64, 2)
    assert train_vision.mirrored_patches(values)[0].tolist() == values[7].tolist()
    for step in range(4):  # a box stays where the patches are that show its thing
        drawn, _ = train_vision.draw_frames(pack, 8, 0, step)
        row, place = np.argwhere(drawn.colours != frames.NOTHING).T
        x0, y0, x1, y1 = drawn.boxes[row, place].T / 255
        x, y = (place % 8 + 0.5) / 8, (place // 8 + 0.5) / 8
        assert (np.abs(np.clip(x, x0, x1) - x) < 0.5 / 8).all()
        assert (np.abs(np.clip(y, y0, y1) - y) < 0.5 / 8).all()
    assert train_vision.mirrored("on the left, to its right") == "on the right, to its left"


def test_training_never_reaches_the_evaluation_seeds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="below"):
        frames.open_frames(tmp_path, 10, first_seed=EVALUATION_SEED - 5)


def _losses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    losses: list[float] = []
    monkeypatch.setattr(
        "tools.annotators.training_loop._report",
        lambda output, step, recent, seconds: losses.extend(recent["total"]),
    )
    return losses


def test_a_few_steps_of_the_tower_repeat_and_lower_the_loss(
    pack: frames.FramePack, pieces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = train_vision.draw_frames(pack, 4, 0, 0)
    monkeypatch.setattr(train_vision, "draw_frames", lambda *_: batch)
    plan = Schedule(steps=8, learning_rate=1e-3, warm_up_steps=1, checkpoint_every=100)
    totals = []
    for run in ("a", "b"):
        losses = _losses(monkeypatch)
        output = tmp_path / run
        train_vision.train_vision(pack, pack, pieces, output, schedule=plan, batch=4, seed=3)
        totals.append(losses)
    assert totals[0] == totals[1]
    assert totals[0][-1] < 0.9 * totals[0][0]
    assert CLIPVisionModel.from_pretrained(tmp_path / "a" / "model").config.image_size == 112


def test_a_few_steps_of_the_language_model_repeat_and_lower_the_loss(
    pieces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    samples = [train_language.Writer(pieces).sample(rng) for _ in range(4)]
    monkeypatch.setattr(
        train_language.Writer, "sample", lambda self, rng: samples[int(rng.integers(4))]
    )
    config = LlamaConfig(**{**train_language.CONFIG.to_dict(), "num_hidden_layers": 1})
    plan = Schedule(steps=8, learning_rate=3e-3, warm_up_steps=1, checkpoint_every=100)
    totals = []
    for run in ("a", "b"):
        losses = _losses(monkeypatch)
        train_language.train_language(
            pieces, tmp_path / run, config=config, schedule=plan, batch=4, seed=3
        )
        totals.append(losses)
    assert totals[0] == totals[1]
    assert totals[0][-1] < 0.8 * totals[0][0]
    saved = json.loads((tmp_path / "a" / "model" / "config.json").read_text())
    assert saved["tie_word_embeddings"] is False


def test_patches_know_what_they_show_where() -> None:
    """A linear probe of hidden layer -2, on scenes that neither training nor the probe saw."""
    tower = CLIPVisionModel.from_pretrained(VISION, dtype=torch.float32).eval()
    made = [frames.scene_frames(generate_scene(EVALUATION_SEED + i)) for i in range(240)]
    pixels = train_vision.to_pixels(np.stack([each.pixels[0] for each in made]))
    with torch.inference_mode():
        states = tower(pixels, output_hidden_states=True).hidden_states
    features = states[train_vision.USED_LAYER][:, 1:].double()
    features = torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)
    shares = torch.from_numpy(np.stack([each.shares[0] for each in made])).double() / 255
    boxes = torch.from_numpy(np.stack([each.boxes[0] for each in made])).double() / 255
    colours = torch.from_numpy(np.stack([each.colours[0] for each in made]).astype(int))
    fit, test = slice(0, 200), slice(200, 240)

    def guess(wanted: torch.Tensor) -> torch.Tensor:
        known = features[fit].flatten(0, 1)
        ridge = 10 * torch.eye(known.shape[1], dtype=torch.float64)
        probe = torch.linalg.solve(known.T @ known + ridge, known.T @ wanted[fit].flatten(0, 1))
        return features[test] @ probe

    shown = shares[test].argmax(-1)
    things = (shares[test].max(-1).values > 0.5) & (shown < len(KINDS))
    assert things.sum() > 300
    right = (guess(shares)[..., :-1].argmax(-1) == shown)[things]
    assert right.double().mean() > 0.5  # of 20 kinds; a straight line through 200 scenes
    hues = torch.nn.functional.one_hot(colours.clamp(max=len(frames.COLOURS))).double()
    right = (guess(hues)[..., :-1].argmax(-1) == colours[test])[things]
    assert right.double().mean() > 0.5
    off = (guess(boxes) - boxes[test]).abs()[things].mean()
    assert off < 0.5 * (boxes[test] - boxes[fit].mean((0, 1))).abs()[things].mean()
    cells = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    places = torch.cartesian_prod(cells, cells).expand(240, -1, -1)
    assert (guess(places) - places[test]).abs().mean() < 0.25 / 8 * 4


def _loss(model: train_language.ModelOfCells, samples: list[train_language.TextSample]) -> float:
    with torch.inference_mode():
        found = train_language.language_losses(model, samples, np.random.default_rng(0))
    return float(found["text"])


def test_the_language_model_knows_captions_and_uses_hints(pieces, model) -> None:
    writer, rng = train_language.Writer(pieces), np.random.default_rng(10)
    layouts = [corpus.lay_out(rng) for _ in range(32)]
    texts = [writer.encode(corpus.caption(layout, rng) + "\n") for layout in layouts]
    hints = [writer.hints(layout, rng) for layout in layouts]
    plain = _loss(model, [train_language.TextSample((), text) for text in texts])
    hinted = _loss(
        model, [train_language.TextSample(*both) for both in zip(hints, texts, strict=True)]
    )
    misled = [
        train_language.TextSample(*both) for both in zip(hints[1:] + hints[:1], texts, strict=True)
    ]
    shuffled = [tuple(rng.permutation(text).tolist()) for text in texts]
    assert plain < 0.9
    assert hinted < 0.97 * plain
    assert _loss(model, misled) > 1.05 * hinted
    assert _loss(model, [train_language.TextSample((), text) for text in shuffled]) > 2 * plain


def test_drawn_captions_are_as_likely_as_laid_out_ones(pieces, model) -> None:
    encode = train_language.Writer(pieces).encode
    captions = [generate_scene(EVALUATION_SEED + seed).caption for seed in range(48)]
    drawn = [train_language.TextSample((), encode(caption + "\n")) for caption in captions]
    assert _loss(model, drawn) < 0.9
