from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.cognition.answers import as_grid, read_indices, read_rgb
from pad_pipeline.cognition.config import CognitionConfig
from pad_pipeline.cognition.folder import read_finished
from pad_pipeline.cognition.run import TooManyWithoutQuestions, make_conversations
from pad_pipeline.errors import UserError
from pad_pipeline.geometry import geometry
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.vq.load import load_image_coder
from tests.cognition.samples import (
    SIZE,
    entry,
    make_image,
    read_bytes,
    read_lines,
    small_config,
    write_model,
    write_source,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def test_every_image_gets_a_question_for_indices_and_one_for_colours(
    tmp_path: Path, model: Path
) -> None:
    number = 7
    source = write_source(tmp_path / "in", [entry(n) for n in range(number)], range(number))
    report = make_conversations(str(source), str(tmp_path / "out"), small_config(model))
    assert (report.counts.num_asked, report.num_shards) == (number, 3)
    coder = load_image_coder(model, Runtime())
    found = read_lines(tmp_path / "out")
    assert [line["id"] for line in found] == [f"{n:05d}" for n in range(number)]
    assert {line["model"] for line in found} == {"made"}
    for line, image in zip(found, range(number), strict=True):
        frame = geometry("pad", 48, 40, SIZE).apply(make_image(image))
        turns = line["conversations"]
        high, low = line["cognition"]
        assert (high["level"], low["level"]) == ("high", "low")
        assert high["region"] == low["region"]
        x0, y0, x1, y1 = high["box"]
        region = frame[y0:y1, x0:x1]
        assert region.shape == (SIZE // 2, SIZE // 2, 3)
        question, answer = (turns[high["turn"] + n]["value"] for n in range(2))
        assert f"{high['region']} this image" in question
        assert question.endswith("[3, 32, 32], so you should generate 4 indices")
        indices = as_grid(read_indices(answer, coder.num_codes), *high["grid"])
        assert np.array_equal(indices, coder.encode([region])[0])
        question, answer = (turns[low["turn"] + n]["value"] for n in range(2))
        assert question.endswith("[3, 32, 32].")
        colours = as_grid(read_rgb(answer), *low["grid"])
        assert np.array_equal(colours, region[2::4, 2::4])
        asked = {high["turn"], high["turn"] + 1, low["turn"], low["turn"] + 1}
        assert [t for n, t in enumerate(turns) if n not in asked] == entry(image)["conversations"]
    assert list(read_finished(str(tmp_path / "out"))) == found
    manifest = json.loads((tmp_path / "out/_conversations.json").read_text())
    assert manifest["state"] == "finished"
    assert not (tmp_path / "out/_run").exists()


@pytest.mark.parametrize(
    ("factor", "regions"), [(8, "quarters"), (16, "whole")], ids=["quarter", "whole"]
)
def test_table_6_has_1764_indices(tmp_path: Path, factor: int, regions: str) -> None:
    """672 x 672 pixels: the quarter by a factor of 8 (the default), or all by one of 16."""
    source = write_source(tmp_path / "in", [entry(0)], [0])
    codes = str(write_model(tmp_path, factor))
    config = CognitionConfig(codes=codes, regions=(regions,), device="cpu")
    make_conversations(str(source), str(tmp_path / "out"), config)
    [line] = read_lines(tmp_path / "out")
    high = line["cognition"][0]
    question, answer = (line["conversations"][high["turn"] + n]["value"] for n in range(2))
    assert question.endswith(
        "Note that the image resolution is [3, 672, 672], so you should generate 1764 indices"
    )
    assert high["grid"] == [42, 42]
    assert len(read_indices(answer)) == 42**2


def test_a_sample_is_the_same_wherever_it_stands(tmp_path: Path, model: Path) -> None:
    numbers = list(range(8))
    source = write_source(tmp_path / "in", [entry(n) for n in numbers], numbers)
    make_conversations(str(source), str(tmp_path / "out"), small_config(model))
    random.Random(0).shuffle(numbers)
    other = write_source(tmp_path / "in2", [entry(n) for n in numbers])
    config = small_config(model, rows_per_shard=5, batch_size=3)
    images = str(source.parent)
    make_conversations(str(other), str(tmp_path / "out2"), config, images=images)
    one, two = (sorted(read_lines(tmp_path / n), key=lambda e: e["id"]) for n in ("out", "out2"))
    assert one == two
    make_conversations(str(source), str(tmp_path / "out3"), small_config(model, seed=1))
    assert read_lines(tmp_path / "out3") != read_lines(tmp_path / "out")


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, model: Path) -> None:
    number = 60
    source = write_source(tmp_path / "in", [entry(n) for n in range(number)], range(number))
    config = small_config(model, rows_per_shard=1, batch_size=1)
    make_conversations(str(source), str(tmp_path / "whole"), config)
    command = [sys.executable, "-m", "pad_pipeline", "conversations", str(source)]
    command += [str(tmp_path / "out"), "--codes", str(model), "--size", str(SIZE)]
    command += ["--rgb-grid", "4", "--rows-per-shard", "1", "--batch-size", "1", "--threads", "1"]
    process = subprocess.Popen([*command, "--device", "cpu"], stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(tmp_path.glob("out/*.jsonl"))) < 3:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    there = read_bytes(tmp_path / "out")
    assert 3 <= len(there) < number
    done: list[int] = []
    make_conversations(str(source), str(tmp_path / "out"), config, progress=done.append)
    assert read_bytes(tmp_path / "out") == read_bytes(tmp_path / "whole")
    assert done[-1] == number
    # and once more: nothing is left to do
    done.clear()
    make_conversations(str(source), str(tmp_path / "out"), config, progress=done.append)
    assert done == []


def test_what_takes_no_question_stays_as_it_is_and_is_counted(tmp_path: Path, model: Path) -> None:
    Image.fromarray(make_image(0)).save(write_source(tmp_path / "in", []).parent / "00000.png")
    Image.fromarray(make_image(0, 7, 9)).save(tmp_path / "in/00001.png")
    (tmp_path / "in/00002.png").write_bytes(b"no picture")
    text = {"id": "text", "conversations": [{"from": "human", "value": "Hi"}]}
    shown_twice = entry(0)
    shown_twice["conversations"][2]["value"] = "And <image>?"
    odd = [text, shown_twice, 5, {"id": "x", "conversations": 3}, {**entry(0), "image": "no.png"}]
    entries = [entry(0), entry(1), entry(2), *odd, {**entry(0), "id": "half\ud800"}]
    source = write_source(tmp_path / "in", entries)
    config = small_config(model)
    with pytest.raises(TooManyWithoutQuestions) as error:
        make_conversations(str(source), str(tmp_path / "out"), config)
    assert error.value.exit_code == 3
    message = str(error.value)
    assert "6 of 8 conversations with an image got no questions, 75.0%" in message
    for part in (
        "1 whose image is smaller than a code, which covers 8 pixels a side (00001: 7x9)",
        "2 whose image cannot be read (00002: ",
        "1 with <image> in several turns or in an answer (00000)",
        "2 that cannot be read (entry 6: it is '5'; expected an object, x: ",
    ):
        assert part in message
    report = make_conversations(
        str(source), str(tmp_path / "out"), small_config(model, max_failed_share=1)
    )
    assert "  1 without an image, which are left as they are (text)" in report.lines()
    found = read_lines(tmp_path / "out")
    assert len(found) == len(entries)
    assert found[1:8] == entries[1:8]
    assert all("cognition" in found[n] for n in (0, 8))


def test_forms_of_other_programs_become_llavas(tmp_path: Path, model: Path) -> None:
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "A bus."},
    ]
    source = write_source(
        tmp_path / "in", [{"images": ["00000.png"], "messages": messages, "kept": 1}], [0]
    )
    make_conversations(str(source), str(tmp_path / "out"), small_config(model))
    [line] = read_lines(tmp_path / "out")
    assert list(line) == ["kept", "image", "conversations", "cognition"]
    assert line["image"] == "00000.png"
    assert line["conversations"][:2] == [
        {"from": "human", "value": "<image>What?"},
        {"from": "gpt", "value": "A bus."},
    ]


def test_other_choices_change_what_is_asked(tmp_path: Path, model: Path) -> None:
    source = write_source(tmp_path / "in", [entry(n) for n in range(12)], range(12))

    def made(**changes) -> list[dict]:
        output = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        make_conversations(str(source), str(output), small_config(model, **changes))
        return [note for line in read_lines(output) for note in line["cognition"]]

    words = {note["region"] for note in made(regions=("halves", "whole"))}
    assert words <= {"", *(f"the {w} half of" for w in ("upper", "lower", "left", "right"))}
    assert "" in words
    assert len(words) > 2
    apart = made(same_region=False)
    assert any(h["region"] != low["region"] for h, low in zip(apart[::2], apart[1::2], strict=True))
    assert {tuple(note["grid"]) for note in made(rgb_grid=6)[1::2]} == {(6, 6)}

    def answers(**changes) -> list[str]:
        made(**changes)
        output = max(tmp_path.glob("out*"), key=lambda path: int(path.name[3:]))
        return [t["value"] for line in read_lines(output) for t in line["conversations"]]

    plain = answers()
    for changes in ({"region_codes": "grid"}, {"rgb_sampling": "mean"}, {"geometry": "squash"}):
        assert answers(**changes) != plain


def test_settings_that_cannot_work_are_refused_in_one_sentence(tmp_path: Path, model: Path) -> None:
    source = write_source(tmp_path / "in", [entry(0)], [0])

    def refusal(**changes) -> str:
        with pytest.raises(UserError) as error:
            make_conversations(str(source), str(tmp_path / "out"), small_config(model, **changes))
        return str(error.value)

    assert refusal(size=40) == (
        "size=40 does not fit codes that cover 8x8 pixels: quarters of it would cut some; take a "
        "multiple of 16, such as 48"
    )
    assert "the upper left quarter has 1,764 indices, an answer of up to" in refusal(
        size=672, max_answer_tokens=1000
    )
    assert "max_answer_tokens=100 allows fewer; lower the first" in refusal(
        rgb_grid=8, max_answer_tokens=100
    )
    assert "regions names nothing to ask about" in refusal(regions=())
    assert "there is no model 'nothing/there/at/all'" in refusal(codes="nothing/there/at/all")


def test_a_folder_of_something_else_is_refused(tmp_path: Path, model: Path) -> None:
    source = write_source(tmp_path / "in", [entry(0)], [0])
    (tmp_path / "other").mkdir()
    (tmp_path / "other/x.txt").write_text("x")
    with pytest.raises(UserError, match="already holds other files"):
        make_conversations(str(source), str(tmp_path / "other"), small_config(model))
    make_conversations(str(source), str(tmp_path / "out"), small_config(model))
    with pytest.raises(UserError, match=r"begun with other settings \(seed was 0 and is 3\)"):
        make_conversations(str(source), str(tmp_path / "out"), small_config(model, seed=3))
    write_source(tmp_path / "in", [entry(0), entry(0)])
    with pytest.raises(UserError, match=r"begun with other settings \(source was 'sha256"):
        make_conversations(str(source), str(tmp_path / "out"), small_config(model))
    with pytest.raises(UserError, match=r"expected conversations as \.json or \.jsonl"):
        make_conversations(
            str(tmp_path / "other/x.txt"), str(tmp_path / "new"), small_config(model)
        )


def test_the_embedded_model_needs_no_option(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in", [entry(0)], [0])
    make_conversations(str(source), str(tmp_path / "out"), CognitionConfig(device="cpu"))
    [line] = read_lines(tmp_path / "out")
    high, low = line["cognition"]
    assert (high["grid"], low["grid"]) == ([42, 42], [16, 16])
    answer = line["conversations"][high["turn"] + 1]["value"]
    assert len(set(read_indices(answer, 512))) > 10
