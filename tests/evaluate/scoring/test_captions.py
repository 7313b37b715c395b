"""Caption metrics against what pycocoevalcap gave for the same captions."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.scoring import java
from pad_pipeline.evaluate.scoring.caption_tokens import tokenize
from pad_pipeline.evaluate.scoring.captions import score_captions
from pad_pipeline.evaluate.scoring.scores import Scores
from tests.evaluate.scoring.java import needs_java
from tests.golden_data import golden_dir

GOLDEN = json.loads((golden_dir("eval") / "captions.json").read_text(encoding="utf-8"))
PAIRS = GOLDEN["pairs"]
METRICS = ("METEOR", "ROUGE_L", "CIDEr", "Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4")


@pytest.fixture(scope="module")
def scores() -> Iterator[Scores]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LC_ALL", "C")  # where Java would otherwise not write UTF-8
        yield score_captions(
            [pair["candidate"] for pair in PAIRS.values()],
            [pair["references"] for pair in PAIRS.values()],
        )


@needs_java
@pytest.mark.parametrize("metric", METRICS)
def test_corpus_scores_are_those_of_pycocoevalcap(scores: Scores, metric: str) -> None:
    assert scores.metrics[metric].value == GOLDEN["corpus"][metric]


@needs_java
@pytest.mark.parametrize("metric", METRICS)
def test_scores_of_pairs_are_those_of_pycocoevalcap(scores: Scores, metric: str) -> None:
    found = dict(zip(PAIRS, scores.per_sample[metric].tolist(), strict=True))
    assert found == {name: pair[metric] for name, pair in PAIRS.items()}


@needs_java
@pytest.mark.parametrize("metric", METRICS)
def test_every_sample_drawn_once_gives_the_corpus_score(scores: Scores, metric: str) -> None:
    once = np.ones((1, len(PAIRS)), np.int64)
    [value] = scores.metrics[metric].resampled(once)
    assert value == pytest.approx(GOLDEN["corpus"][metric], rel=1e-12)


@needs_java
def test_meteor_of_a_draw_is_that_of_the_drawn_captions(scores: Scores) -> None:
    drawn = ["exact", "stem", "one_word", "exact", "five_refs"]
    draws = np.array([[drawn.count(name) for name in PAIRS]])
    [value] = scores.metrics["METEOR"].resampled(draws)
    direct = score_captions(
        [PAIRS[name]["candidate"] for name in drawn], [PAIRS[name]["references"] for name in drawn]
    )
    assert value == direct.metrics["METEOR"].value


@needs_java
def test_spice_is_not_measured_without_its_files(scores: Scores, tmp_path) -> None:
    assert "SPICE" not in scores.metrics
    assert "stanford-corenlp-3.6.0.jar" in scores.not_measured["SPICE"]
    with pytest.raises(UserError, match=r"has no spice-1\.0\.jar; spice_home should be"):
        score_captions(["a cat"], [["a cat"]], spice_home=str(tmp_path))


@needs_java
def test_what_ends_a_line_elsewhere_does_not_shift_the_captions() -> None:
    captions = ["a\rb", "c\u2028d", "e\x0cf", "", "g\nh", "i\x00j", "\U0001f600", "last."]
    found = tokenize(captions)
    assert found[:5] == ["a b", "c d", "e f", "", "g h"]
    assert len(found) == 8
    assert found[-1] == "last"
    assert tokenize([]) == []
    assert tokenize(["", ""]) == ["", ""]


@needs_java
def test_references_without_a_word_are_refused() -> None:
    with pytest.raises(UserError, match="none of the references has a word"):
        score_captions(["a cat", ""], [["..."], ["", "!"]])


def test_without_java_one_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match=r"apt-get install default-jre-headless"):
        score_captions(["a cat"], [["a cat"]])


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'pad-pipeline\[evaluate\]'"):
        score_captions(["a cat"], [["a cat"]])


@needs_java
def test_a_program_that_fails_is_named() -> None:
    with pytest.raises(UserError, match=r"no\.jar ended early: .*java -version"):
        java.run_java(["-jar", "no.jar"], "text")
    with (
        java.talk_to_java(["-jar", "no.jar"]) as program,
        pytest.raises(UserError, match="ended early"),
    ):
        program.hear()
