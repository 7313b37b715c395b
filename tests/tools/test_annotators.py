"""The training of the embedded models: a few steps of each run, repeat exactly, and learn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pad_pipeline.scenes.generator import KINDS, generate_scene
from tools.annotators import data, detector_data, train_detector, train_segmenter, train_tagger
from tools.annotators.detector_files import TOKENS_OF, VOCABULARY
from tools.annotators.detector_losses import Targets, _stage_losses, generalised_iou
from tools.annotators.training_loop import Schedule, fit, rate_factor


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> data.ScenePack:
    return data.open_pack(tmp_path_factory.mktemp("scenes"), 12, first_seed=40, workers=1)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_pack_holds_the_scenes(pack: data.ScenePack) -> None:
    for row in (0, 7, 11):
        scene, sample = generate_scene(40 + row), pack[row]
        np.testing.assert_array_equal(sample.image, scene.image)
        assert [KINDS[kind] for kind in sample.kinds] == [thing.kind for thing in scene.things]
        for k, thing in enumerate(scene.things):
            np.testing.assert_array_equal(sample.owner == k + 1, thing.mask)
            assert tuple(sample.boxes[k]) == thing.bbox_xyxy


def test_training_never_reaches_the_evaluation_seeds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="below"):
        data.open_pack(tmp_path, 10, first_seed=data.EVALUATION_SEED - 5)


def test_augmented_boxes_still_fit_their_masks(pack: data.ScenePack) -> None:
    flipped = 0
    for seed in range(8):
        sample = data.augment(pack[seed], np.random.default_rng(seed))
        flipped += not np.array_equal(sample.owner, pack[seed].owner)
        for k, box in enumerate(sample.boxes):
            rows, columns = np.nonzero(sample.owner == k + 1)
            extent = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert tuple(box) == extent
    assert 0 < flipped < 8


def test_batches_depend_on_seed_and_step_alone(pack: data.ScenePack) -> None:
    def images(seed: int, step: int) -> list[bytes]:
        samples, _ = data.draw_batch(pack, 3, seed, step, same_size=True)
        assert len({sample.image.shape for sample in samples}) == 1
        return [sample.image.tobytes() for sample in samples]

    assert images(0, 5) == images(0, 5)
    assert images(0, 5) != images(0, 6)
    assert images(0, 5) != images(1, 5)


def test_what_is_covered() -> None:
    boxes = np.array([[[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 0, 0]]], float)
    np.testing.assert_allclose(data.shares_covered(boxes), [[0.5, 0.5, 0, 0]])


def test_crowded_scenes_are_those_where_boxes_overlap(pack: data.ScenePack) -> None:
    crowded = train_segmenter.crowded_rows(pack)
    assert 0 < len(crowded) < len(pack)
    assert all(len(pack[int(row)].kinds) > 1 for row in crowded)
    samples, _ = data.draw_batch(pack, 4, 0, 0, among=crowded[:1])
    assert all(len(s.kinds) == len(pack[int(crowded[0])].kinds) for s in samples)


def test_rate_warms_up_and_decays() -> None:
    schedule = Schedule(steps=100, learning_rate=1.0, warm_up_steps=10)
    assert rate_factor(schedule, 0) == pytest.approx(0.1)
    assert rate_factor(schedule, 30) == 1.0
    assert rate_factor(schedule, 70) == pytest.approx(0.505)
    assert rate_factor(schedule, 99) < 0.02


def test_an_interrupted_run_continues_as_if_it_had_not_been(tmp_path: Path) -> None:
    def run(output: Path, stop: int | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)

        def losses(step: int) -> dict[str, torch.Tensor]:
            if step == stop:
                raise KeyboardInterrupt
            inputs = torch.randn(4, 3, generator=torch.Generator().manual_seed(step))
            return {"square": (model(inputs)[:, 0] - inputs.sum(1)).square().mean()}

        plan = Schedule(steps=12, learning_rate=0.05, warm_up_steps=2, checkpoint_every=4)
        fit(model, losses, plan, output)
        return model.state_dict()

    whole = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 9)
    continued = run(tmp_path / "cut", None)
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


TRAINERS = {
    # how it is trained, images a step, what share of the first loss is left after eight steps
    "tagger": (train_tagger.train_tagger, 4, 0.9),
    "detector": (train_detector.train_detector, 2, 0.9),
    "segmenter": (train_segmenter.train_segmenter, 2, 0.97),
}


@pytest.mark.parametrize("model", TRAINERS)
def test_a_few_steps_repeat_and_lower_the_loss(
    model: str, pack: data.ScenePack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, batch, share = TRAINERS[model]
    sample = data.draw_batch(pack, batch, 0, 0, same_size=True)[0]

    def same_batch(pack, size, seed, step, **_):
        return sample, np.random.default_rng(0)

    for module in (train_tagger, train_detector, train_segmenter):
        monkeypatch.setattr(module, "draw_batch", same_batch)
    plan = Schedule(steps=8, learning_rate=1e-3, warm_up_steps=1, checkpoint_every=100)
    totals = []
    for run in ("a", "b"):
        few = dataclasses.replace(pack, sizes=pack.sizes[:2])
        losses: list[float] = []
        monkeypatch.setattr(
            "tools.annotators.training_loop._report",
            lambda output, step, recent, seconds, losses=losses: losses.extend(recent["total"]),
        )
        train(pack, few, tmp_path / run, schedule=plan, batch=batch, seed=3)
        totals.append(losses)
        assert json.loads((tmp_path / run / "model" / "config.json").read_text())
    assert totals[0] == totals[1]
    assert totals[0][-1] < share * totals[0][0]


def test_cells_say_what_they_show(pack: data.ScenePack) -> None:
    sample = pack[3]
    shares = train_tagger.cell_targets(sample, 12, len(KINDS))
    assert shares.shape == (144, len(KINDS) + 1)
    torch.testing.assert_close(shares.sum(1), torch.ones(144))
    covered = (sample.owner > 0).mean()
    assert 1 - shares[:, -1].mean().item() == pytest.approx(covered, abs=0.03)
    assert set(shares[:, :-1].sum(0).nonzero()[:, 0].tolist()) == set(sample.kinds.tolist())


def test_every_kind_has_tokens_of_its_own_and_any_word_gets_through() -> None:
    assert [VOCABULARY[i] for i in (0, 100, 101, 102, 1012, 1029)] == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?",
    ]  # fmt: skip
    assert len({tuple(tokens) for tokens in TOKENS_OF.values()}) == len(KINDS)
    assert {"z", "##z", "7", "##7", "-"} <= set(VOCABULARY)


def test_prompts_hold_targets_and_spans(pack: data.ScenePack) -> None:
    samples, rng = data.draw_batch(pack, 3, 0, 0, same_size=True)
    prompts = [detector_data.draw_prompt(sample, rng) for sample in samples]
    inputs, targets = detector_data.make_batch(samples, prompts)
    for row, (sample, prompt) in enumerate(zip(samples, prompts, strict=True)):
        asked = [k for k in sample.kinds if int(k) in prompt]
        assert len(targets[row].boxes) == len(asked)
        for kind, tokens in zip(asked, targets[row].tokens, strict=True):
            ids = inputs["input_ids"][row][tokens.bool()].tolist()
            assert ids == TOKENS_OF[KINDS[kind]]


def test_the_second_image_of_a_batch_has_its_own_classes() -> None:
    """transformers' own loss gets this wrong; a perfect answer must cost (almost) nothing."""
    boxes = torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.4]]]).expand(2, -1, -1)
    tokens = torch.eye(2)
    targets = [Targets(boxes[0], tokens), Targets(boxes[1], tokens.flip(0))]
    logits = torch.stack([tokens, tokens.flip(0)]) * 24 - 12
    text = torch.ones(2, 2, dtype=torch.bool)
    coordinates = torch.special.logit(boxes)
    right = _stage_losses(logits, coordinates, text, targets)
    assert sum(float(loss) for loss in right.values()) < 1e-3
    swapped = _stage_losses(logits, coordinates, text, targets[::-1])
    assert float(swapped["class"]) > 5 or float(swapped["box"]) > 1


def test_proposals_off_the_image_match_nothing_and_cost_nothing() -> None:
    target = Targets(torch.tensor([[0.5, 0.5, 0.2, 0.2]]), torch.ones(1, 1))
    logits = torch.tensor([[[9.0], [-9.0]]])
    coordinates = torch.special.logit(torch.tensor([[[0.5, 0.5, 0.2, 0.2]] * 2]))
    coordinates[0, 0] = float("inf")
    coordinates.requires_grad_()
    losses = _stage_losses(logits, coordinates, torch.ones(1, 1, dtype=torch.bool), [target])
    torch.stack(list(losses.values())).sum().backward()
    assert torch.isfinite(coordinates.grad).all()
    assert float(losses["box"]) == pytest.approx(0, abs=1e-5)
    assert float(losses["class"]) > 1  # the usable one says no


def test_generalised_iou() -> None:
    a = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    b = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2], [0.9, 0.5, 0.2, 0.2]])
    values = generalised_iou(a, b)[0].tolist()
    assert values == pytest.approx([1.0, 1 / 3, -1 / 3], abs=1e-5)


def test_the_detector_frames_images_as_the_pipeline_does() -> None:
    grounding_dino = pytest.importorskip("pad_pipeline.models.grounding_dino.detector")
    short, long = detector_data.SHORT_SIDE, detector_data.LONG_SIDE
    for height, width in ((192, 256), (256, 192), (224, 224), (168, 288), (232, 208), (33, 500)):
        expected = grounding_dino.resized_size(height, width, short, long)
        assert detector_data.frame_size(height, width) == expected
