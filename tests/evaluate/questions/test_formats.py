"""Questions in the forms that the benchmarks publish them in."""

from __future__ import annotations

import base64
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.questions.question import Question, read_image
from pad_pipeline.evaluate.questions.read import read_questions

COLOURS = {"a": 10, "b": 60, "c": 110}


def png(name: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (COLOURS.get(name, 200), 0, 0)).save(stream, "png")
    return stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in COLOURS:
        (tmp_path / f"images/{name}.jpg").write_bytes(png(name))
    return tmp_path


def write(path: Path, value: Any) -> str:
    path.write_text(json.dumps(value))
    return str(path)


def write_lines(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def shown(question: Question) -> str:
    """Which of the pictures a question is about."""
    red = int(read_image(question)[0, 0, 0])
    return min(COLOURS, key=lambda name: abs(COLOURS[name] - red))


def read(kind: Any, source: str, **more: Any) -> list[Question]:
    return read_questions(kind, source, **more)[0]


def test_cocos_captions(folder: Path) -> None:
    whole = {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 7, "caption": "one"},
            {"image_id": 9, "caption": "three"},
            {"image_id": 7, "caption": "two"},
        ],
    }
    source = write(folder / "captions_val2014.json", whole)
    found = read("captions", source)
    assert [(q.question_id, q.entry["references"], shown(q)) for q in found] == [
        ("7", ["one", "two"], "a"),
        ("9", ["three"], "b"),
    ]
    with pytest.raises(UserError, match="has no splits; leave out split='test'"):
        read("captions", source, split="test")
    instances = {"images": whole["images"], "annotations": [{"image_id": 7, "bbox": []}]}
    with pytest.raises(UserError, match=r"expected COCO's captions_\*\.json"):
        read("captions", write(folder / "instances.json", instances))


def test_karpathys_split(folder: Path) -> None:
    entries = [
        {
            "filename": f"{name}.jpg",
            "filepath": "images",
            "split": split,
            "cocoid": number,
            "sentences": [{"raw": f"a {name}."}, {"raw": name}],
        }
        for number, (name, split) in enumerate({"a": "train", "b": "test", "c": "val"}.items())
    ]
    source = write(folder / "dataset_coco.json", {"images": entries, "dataset": "coco"})
    questions, where = read_questions("captions", source, str(folder))
    assert [(q.question_id, q.entry["references"]) for q in questions] == [("1", ["a b.", "b"])]
    assert where == f"test of Karpathy's {source}"
    assert [q.question_id for q in read("captions", source, split="val")] == ["2"]
    with pytest.raises(UserError, match="no split 'restval', but test, train, val; choose with sp"):
        read("captions", source, split="restval")


def test_llavas_json_and_lists_of_ones_own(folder: Path) -> None:
    conversations = [
        {
            "id": "x",
            "image": "a.jpg",
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": "a thing"},
            ],
        }
    ]
    [question] = read("captions", write(folder / "llava.json", conversations))
    assert question.entry["references"] == ["a thing"]
    [question] = read("vqa", str(folder / "llava.json"), benchmark="exact")
    assert question.text == "What is it?"
    rows = [{"question_id": 5, "image": "b.jpg", "references": ["one", "two"]}]
    [question] = read("captions", write_lines(folder / "own.jsonl", rows))
    assert (question.question_id, question.entry["references"]) == ("5", ["one", "two"])
    with pytest.raises(UserError, match=r"entry 1 of .* has no question"):
        read("vqa", str(folder / "own.jsonl"), benchmark="exact")


REFERENCES = [
    {
        "ref_id": 1,
        "ann_id": 31,
        "image_id": 7,
        "split": split,
        "sentences": [
            {"sent_id": 10 * number, "raw": " the left one ", "sent": "left one"},
            {"sent_id": 10 * number + 1, "sent": "red"},
        ],
    }
    for number, split in enumerate(("val", "testA"))
]


def refer_folder(folder: Path, references: Any = REFERENCES) -> str:
    instances = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 8, "height": 6}],
        "annotations": [{"id": 31, "bbox": [1, 2, 3, 2]}],
    }
    (folder / "refs(unc).p").write_bytes(pickle.dumps(references, protocol=2))
    write(folder / "instances.json", instances)
    return str(folder)


def test_the_refer_apis_folder(folder: Path) -> None:
    questions, where = read_questions("referring", refer_folder(folder), split="testA")
    assert [(q.question_id, q.text) for q in questions] == [("10", "the left one"), ("11", "red")]
    assert questions[0].entry == {"bbox": [1, 2, 3, 2], "width": 8, "height": 6}
    assert shown(questions[1]) == "a"
    assert where == f"testA of {folder / 'refs(unc).p'}"
    with pytest.raises(UserError, match="has the splits testA, val; choose one with split"):
        read("referring", str(folder))
    with pytest.raises(UserError, match=r"expected instances.json and one refs\(…\).p"):
        read("referring", str(folder), split="val", split_by="google")


class Harmful:
    """Runs code where it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/never"),))


def test_a_pickle_that_would_run_code_is_not_read(folder: Path) -> None:
    with pytest.raises(UserError, match=r"refs\(unc\)\.p is not read: .* \(it holds "):
        read("referring", refer_folder(folder, [Harmful()]), split="val")
    (folder / "refs(unc).p").write_bytes(pickle.dumps(REFERENCES)[:-20])
    with pytest.raises(UserError, match="is not read"):
        read("referring", str(folder), split="val")


def test_the_hubs_parquet_has_a_row_per_object(folder: Path) -> None:
    table = pa.table(
        {
            "question_id": ["1", "2"],
            "image": [{"bytes": png("a"), "path": "a"}, {"bytes": png("c"), "path": "c"}],
            "question": ["?", "?"],
            "answer": [["left one", "red"], ["the sky"]],
            "bbox": [[1.0, 1.0, 2.0, 2.0], [0.0, 0.0, 8.0, 3.0]],
        }
    )
    pq.write_table(table, folder / "val.parquet")
    questions, where = read_questions("referring", str(folder / "val.parquet"))
    assert [(q.question_id, q.text, shown(q)) for q in questions] == [
        ("1/0", "left one", "a"),
        ("1/1", "red", "a"),
        ("2/0", "the sky", "c"),
    ]
    assert questions[2].entry == {"bbox": [0.0, 0.0, 8.0, 3.0], "width": 8, "height": 6}
    assert where == f"the file {folder / 'val.parquet'}"
    pq.write_table(table.drop_columns(["bbox"]), folder / "other.parquet")
    with pytest.raises(UserError, match="has no column bbox; found question_id"):
        read("referring", str(folder / "other.parquet"))


def test_gqa(folder: Path) -> None:
    whole = {"201": {"question": "Red?", "answer": "yes", "imageId": "b", "isBalanced": True}}
    [question] = read("vqa", write(folder / "gqa.json", whole), benchmark="gqa")
    assert (question.question_id, question.text, shown(question)) == ("201", "Red?", "b")
    assert question.entry["references"] == ["yes"]


def test_textvqa(folder: Path) -> None:
    answers = ["stop"] * 10
    data = [{"question_id": 3, "image_id": "a", "question": "What?", "answers": answers}]
    [question] = read("vqa", write(folder / "t.json", {"data": data}), benchmark="textvqa")
    assert (question.question_id, question.entry["references"]) == ("3", answers)


def test_okvqa(folder: Path) -> None:
    (folder / "images/COCO_val2014_000000000042.jpg").write_bytes(png("c"))
    asked = [{"image_id": 42, "question": "Why?", "question_id": 420}]
    source = write(folder / "OpenEnded_mscoco_val2014_questions.json", {"questions": asked})
    with pytest.raises(UserError, match=r"mscoco_val2014_annotations\.json beside"):
        read("vqa", source, benchmark="ok-vqa")
    given = [{"question_id": 420, "answers": [{"answer": "sun"}, {"answer": "rain"}]}]
    write(folder / "mscoco_val2014_annotations.json", {"annotations": given})
    [question] = read("vqa", source, benchmark="ok-vqa")
    assert (question.question_id, question.entry["references"]) == ("420", ["sun", "rain"])
    assert shown(question) == "c"


def test_vizwiz(folder: Path) -> None:
    rows = [{"image": "a.jpg", "question": "?", "answers": [{"answer": "x"}, {"answer": "y"}]}]
    [question] = read("vqa", write(folder / "val.json", rows), benchmark="vizwiz")
    assert question.entry["references"] == ["x", "y"]


def test_scienceqa(folder: Path) -> None:
    (folder / "test/1").mkdir(parents=True)
    (folder / "test/1/image.png").write_bytes(png("b"))
    problem = {
        "question": "Which?",
        "choices": ["x", "y"],
        "answer": 1,
        "hint": "",
        "split": "test",
    }
    whole = {
        "1": {**problem, "image": "image.png"},
        "2": {**problem, "image": None, "hint": "Look."},
        "3": {**problem, "image": None, "split": "train"},
    }
    first, second = read(
        "vqa", write(folder / "p.json", whole), benchmark="scienceqa", images=str(folder)
    )
    assert first.text == "Which?\nA. x\nB. y"
    assert first.entry == {"references": ["B"], "choices": ["x", "y"], "has_image": True}
    assert shown(first) == "b"
    assert second.text == "Look.\nWhich?\nA. x\nB. y"
    assert second.image is None
    said = [
        {"from": "human", "value": "Which?\nA. x\nB. y"},
        {"from": "gpt", "value": "The answer is B."},
    ]
    source = write(folder / "llava_test.json", [{"id": "1", "conversations": said}])
    [question] = read("vqa", source, benchmark="scienceqa")
    assert question.entry == {"references": ["B"], "has_image": False}


def test_pope(folder: Path) -> None:
    rows = [{"question_id": 1, "image": "a.jpg", "text": "Is there a dog?", "label": "no"}]
    source = write_lines(folder / "coco_pope_random.json", [*rows, {**rows[0], "question_id": 2}])
    question, _ = read("vqa", source, benchmark="pope")
    assert question.entry == {"category": "random", "references": ["no"]}


def test_mme(folder: Path) -> None:
    table = pa.table(
        {
            "question_id": ["OCR/1.jpg", "OCR/1.jpg"],
            "image": [{"bytes": png("a"), "path": None}] * 2,
            "question": ["Is it red? Please answer yes or no.", "Is it blue?"],
            "answer": ["Yes", "No"],
            "category": ["OCR", "OCR"],
        }
    )
    pq.write_table(table, folder / "mme.parquet")
    first, second = read("vqa", str(folder / "mme.parquet"), benchmark="mme")
    assert first.question_id != second.question_id
    assert first.entry == {"references": ["Yes"], "category": "OCR", "image": "OCR/1.jpg"}
    assert shown(second) == "a"


def test_mmbench(folder: Path) -> None:
    picture = base64.b64encode(png("c")).decode()
    lines = [
        "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage",
        f'7\t"Which ""one""?"\tSee below.\tx\ty\t\t\tB\tcolour\t{picture}',
        "1000007\tWhich?\t\ty\tx\tnan\t\tA\tcolour\t7",
    ]
    (folder / "mmbench.tsv").write_text("\n".join(lines) + "\n")
    first, second = read("vqa", str(folder / "mmbench.tsv"), benchmark="mmbench")
    assert first.text == 'See below.\nWhich "one"?\nA. x\nB. y'
    assert first.entry["references"] == ["B"]
    assert second.text == "Which?\nA. y\nB. x"
    assert shown(first) == shown(second) == "c"


@pytest.mark.parametrize("benchmark", ["gqa", "textvqa", "scienceqa"])
def test_a_file_of_another_benchmark_is_named(folder: Path, benchmark: Any) -> None:
    source = write(folder / "x.json", {"1": {"unknown": 2}})
    with pytest.raises(UserError, match=f"is not in the form of {benchmark} .*expected the benchm"):
        read("vqa", source, benchmark=benchmark)


def test_missing_images_are_counted_and_none_is_skipped(folder: Path) -> None:
    rows = [
        {"question_id": n, "image": f"{name}.jpg", "references": ["x"]}
        for n, name in enumerate(("a", "gone", "b", "away"))
    ]
    source = write_lines(folder / "own.jsonl", rows)
    with pytest.raises(UserError, match=r"2 images of 4 questions not in .*, such as gone\.jpg"):
        read("captions", source, images=str(folder / "images"))
    with pytest.raises(UserError, match=r"no such folder or \.zip of images"):
        read("captions", source, images=str(folder / "nowhere"))
    with pytest.raises(UserError, match=r"no questions at .*nowhere\.json: nothing is there"):
        read("captions", str(folder / "nowhere.json"))
    textual = write_lines(folder / "text.jsonl", [{"question_id": 1, "references": ["x"]}])
    with pytest.raises(UserError, match=r"question 1 of .* has no image"):
        read("captions", textual)


def test_an_image_that_cannot_be_decoded_is_named(folder: Path) -> None:
    (folder / "images/a.jpg").write_bytes(b"no image")
    rows = [{"question_id": "q", "image": "a.jpg", "references": ["x"]}]
    [question] = read("captions", write_lines(folder / "own.jsonl", rows))
    with pytest.raises(UserError, match="the image of question q cannot be decoded"):
        read_image(question)
    assert np.array_equal(
        read_image(Question("i", "", base64.b64encode(png("a")).decode())).shape, (6, 8, 3)
    )
    with pytest.raises(UserError, match="the image of question i cannot be read"):
        read_image(Question("i", "", "no base64!"))
