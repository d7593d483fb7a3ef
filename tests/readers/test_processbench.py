"""ProcessBench on its real rows: published prompts, labels as verdicts, figures as its own evaluation counts them."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Commands, results, turns

from cipo_eval.data import tasks
from cipo_eval.errors import UsageError
from cipo_eval.records import Attempt, Mode, Turn
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.planning import protocols_of
from cipo_eval.run.request import Turns
from cipo_eval.turns.pools import own_pool
from cipo_eval.turns.protocols import CRITIQUE_STEP, PROTOCOLS
from cipo_eval.turns.revising import Revising
from cipo_eval.verifiers.critique import labelled_response

ROWS = {"gsm8k": 400, "math": 1000, "olympiadbench": 1000, "omnimath": 1000}
RIGHT = {"gsm8k": 193, "math": 406, "olympiadbench": 339, "omnimath": 241}
TEMPLATE = """The following is a math problem and a solution (split into paragraphs, enclosed with tags and \
indexed from 0):

[Math Problem]

{problem}

[Solution]

{tagged_response}

Your task is to review and critique the solution paragraph by paragraph. Once you identify an error in a paragraph, \
return the index of the paragraph where the earliest error occurs. Otherwise, return the index of -1 (which typically \
denotes "not found").

Please put your final answer (i.e., the index) in \\boxed{{}}."""
STEP = PROTOCOLS[CRITIQUE_STEP]


def rows_of(real_data: Path, name: str) -> list[dict[str, Any]]:
    with gzip.open(real_data / "processbench" / f"{name}.json.gz", "rt") as file:
        rows: list[dict[str, Any]] = json.load(file)
    return rows


@pytest.mark.parametrize(
    "name", ["gsm8k", *(pytest.param(n, marks=pytest.mark.slow) for n in list(ROWS)[1:])]
)
def test_rows_prompts_and_labels(real_data: Path, name: str) -> None:
    """Both ways to ask, in one turn and about a pool's attempt, show the published prompt."""
    rows = rows_of(real_data, name)
    found = tasks.load_problems(f"processbench_{name}", data_dir=real_data)
    assert (len(found.problems), found.fingerprint) == (ROWS[name], found.spec.fingerprint)
    assert Counter(p.attempt_right for p in found.problems)[True] == RIGHT[name]
    preset = found.spec.presets["paper"]
    revising = Revising(protocols=(STEP,), direct=False, pool=own_pool(found.problems))
    plan = TaskPlan(problems=found, samples=1, sampling=preset.sampling, revising=revising)
    for row, problem in zip(rows, found.problems, strict=True):
        tagged = "".join(
            f"<paragraph_{i}>\n{step}\n</paragraph_{i}>\n\n" for i, step in enumerate(row["steps"])
        )
        published = TEMPLATE.format(problem=row["problem"], tagged_response=tagged.strip())
        assert problem.prompt == published
        response = labelled_response(problem)
        assert (response.correct, problem.gold) == (row["label"] == -1, str(row["label"]))
        (_, item), *more = plan.given(problem)
        assert not more
        request = plan.next(problem, STEP, 0, [Turn(item.text, {"fixed": response})], seed=0)
        assert request is not None
        assert [message["content"] for message in request.messages] == [published]
        (span,) = request.carried
        assert published[span.start : span.end] == tagged.strip()
    assert plan.next(problem, STEP, 0, [Turn("", {"fixed": response})] * 2, seed=0) is None


def said(row: dict[str, Any], place: int) -> str:
    """What a judge says, which is not always right, and not always in the form that is asked for."""
    label, last = row["label"], len(row["steps"]) - 1
    return [
        f"So the answer is $\\boxed{{{label}}}$.",
        f"Paragraph 0? No. \\boxed{{0}} ... rather \\boxed{{ {label} }}",
        "\\boxed{-1}",
        f"\\boxed{{{last}}}",
        f"The earliest error occurs in paragraph {label}." if label >= 0 else "\\boxed{None}",
        f"\\boxed{{\\text{{Paragraph }} {label}}}",
        "I cannot say.",
    ][place % 7]


def published_figures(rows: list[dict[str, Any]], texts: list[str]) -> tuple[float, float, float]:
    """As ProcessBench's ``run_eval.py`` counts them."""
    matches: dict[bool, list[bool]] = {True: [], False: []}
    for row, text in zip(rows, texts, strict=True):
        boxed = re.findall(r"\\boxed\{([^}]*)\}", text)
        try:
            prediction = int(boxed[-1].strip()) if boxed else None
        except ValueError:
            prediction = None
        matches[row["label"] == -1].append(prediction == row["label"])
    first, second = np.mean(matches[False]), np.mean(matches[True])
    return float(first), float(second), float(2 * first * second / (first + second))


def written(path: Path, rows: list[dict[str, Any]], texts: list[str]) -> Path:
    """Judgements as a file to replay."""
    attempts = (
        Attempt(
            task="processbench_gsm8k",
            problem=row["id"],
            protocol=CRITIQUE_STEP,
            sample=0,
            turn=2,
            prompt_hash="",
            seed=None,
            text=text,
            finish_reason="stop",
            prompt_tokens=None,
            completion_tokens=7,
            seconds=None,
            verdicts={},
        )
        for row, text in zip(rows, texts, strict=True)
    )
    path.write_text("".join(json.dumps(attempt.to_json()) + "\n" for attempt in attempts))
    return path


@pytest.mark.parametrize("limit", [240, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("some_figures")
def test_a_run_has_the_published_figures(cipo: Commands, real_data: Path, tmp_path: Path, limit: int) -> None:
    rows = rows_of(real_data, "gsm8k")[:limit]
    texts = [said(row, place) for place, row in enumerate(rows)]
    file = written(tmp_path / "said.jsonl", rows, texts)
    folder = tmp_path / "run"
    ask = ("run", "--engine", "replay", "--model", file, "--tasks", "processbench_gsm8k", "--mode", "both")
    done = cipo(*ask, "-o", folder, "--data-dir", real_data, "--breakdown", "--limit", limit)
    assert done.code == 0, done.err
    assert "location F1" in done.out
    blocks = results(folder)["tasks"]["processbench_gsm8k"]["protocols"][CRITIQUE_STEP]
    paper, fixed = blocks["paper"]["critique"], blocks["fixed"]["critique"]
    names = ("located", "cleared", "location_f1")
    assert [paper[name]["value"] for name in names] == pytest.approx(published_figures(rows, texts))
    assert all(paper[name]["ci"][0] < paper[name]["value"] < paper[name]["ci"][1] for name in names)
    # what fixed mode reads beyond that is what the others say in other words
    plain = [
        f"\\boxed{{{row['label']}}}" if i % 7 in (4, 5) else text
        for i, (row, text) in enumerate(zip(rows, texts, strict=True))
    ]
    assert [fixed[name]["value"] for name in names] == pytest.approx(published_figures(rows, plain))
    assert fixed["unread"] == sum(text == "I cannot say." for text in texts)
    assert paper["unread"] == fixed["unread"] + sum(i % 7 in (4, 5) for i in range(len(rows)))
    assert paper["counts"]["tp"] + paper["counts"]["fn"] == sum(row["label"] >= 0 for row in rows)
    assert blocks["fixed"]["tokens"]["chain"] == 7
    groups = blocks["fixed"]["breakdown"]["final_answer"]
    assert groups["right"]["chains"] == sum(row["final_answer_correct"] for row in rows)
    assert groups["wrong"]["cleared"]["value"] is None  # a wrong answer has a wrong step
    for (_, _, _, turn), attempt in turns(folder, "processbench_gsm8k").items():
        assert turn in (1, 2)
        assert set(attempt["verdicts"]) == {"fixed", "paper"}
    before = (folder / "attempts" / "processbench_gsm8k.jsonl").read_text(), results(folder)
    assert cipo("rescore", folder, "--quiet", "--data-dir", real_data).code == 0
    assert ((folder / "attempts" / "processbench_gsm8k.jsonl").read_text(), results(folder)) == before
    assert "names as the first wrong step" in cipo("show", folder, "--problem", "gsm8k-0").out


def resampled_difference(rows: list[dict[str, Any]], first: list[str], second: list[str]) -> list[float]:
    """95 % interval of the difference of location F1, both judges at the same resampled problems, by brute force."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(300):
        chosen = rng.integers(len(rows), size=len(rows)).tolist()
        of_rows = [rows[i] for i in chosen]
        one, other = (published_figures(of_rows, [texts[i] for i in chosen])[2] for texts in (first, second))
        drawn.append(other - one)
    return [float(end) for end in np.quantile(drawn, [0.025, 0.975])]


@pytest.mark.slow
@pytest.mark.usefixtures("some_figures")
def test_judges_are_compared_and_reported(cipo: Commands, real_data: Path, tmp_path: Path) -> None:
    rows = rows_of(real_data, "gsm8k")
    texts = [said(row, place) for place, row in enumerate(rows)]
    others = [said(row, place // 3) for place, row in enumerate(rows)]
    for name, of in (("a", texts), ("b", [f"\\boxed{{{row['label']}}}" for row in rows]), ("c", others)):
        file = written(tmp_path / f"{name}.jsonl", rows, of)
        ask = ("run", "--engine", "replay", "--model", file, "--tasks", "processbench_gsm8k", "--quiet")
        assert cipo(*ask, "--mode", "both", "-o", tmp_path / name, "--data-dir", real_data).code == 0
    compared = cipo("compare", tmp_path / "a", tmp_path / "b", "--json").json[0]["rows"]
    shown = {row["figure"]: row for row in compared}
    assert shown["critique-step error accuracy"]["second"] == 1
    assert shown["critique-step correct accuracy"]["p"] < 0.05
    assert not any("acc@" in name or "lift" in name for name in shown)
    figure = "critique-step location F1"
    paper = ("compare", "--mode", "paper", "--json")
    forth, back, same = (
        next(
            row
            for row in cipo(*paper, *(tmp_path / name for name in of)).json[0]["rows"]
            if row["figure"] == figure
        )
        for of in ("ac", "ca", "aa")
    )
    published = [published_figures(rows, of)[2] for of in (texts, others)]
    assert [forth["first"], forth["second"]] == pytest.approx(published)
    assert forth["ci"] == pytest.approx(resampled_difference(rows, texts, others), abs=0.015)
    assert (forth["p"] <= 0.05) == (not forth["ci"][0] <= 0 <= forth["ci"][1])
    assert (back["difference"], back["p"]) == pytest.approx((-forth["difference"], forth["p"]))
    assert back["ci"] == pytest.approx([-end for end in reversed(forth["ci"])])
    assert (same["difference"], same["p"], same["ci"]) == (0, 1, None)
    done = cipo("report", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "report", "--json")
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "report" / "tables" / "location.csv")
    assert table["location F1 (value)"].iloc[1] == 1
    assert table["location F1 (value)"].iloc[0] < 1
    main = pd.read_csv(tmp_path / "report" / "tables" / "main.csv")
    assert main["processbench_gsm8k location F1 (value)"].iloc[1] == 1
    differences = pd.read_csv(tmp_path / "report" / "tables" / "differences.csv").set_index("figure")
    assert "***" in differences["difference"]["location F1"]


def test_protocols_that_fit(real_data: Path) -> None:
    """``critique`` asks for the step where the data knows it; what would need answers is refused, and says why."""
    labelled, other = tasks.load_spec("processbench_math"), tasks.load_spec("realcritic_math")
    for asked in (None, ("critique",), (CRITIQUE_STEP,)):
        assert protocols_of(Turns(protocol=asked), [labelled]) == [(STEP,)]
    assert protocols_of(Turns(protocol=("critique", "direct")), [labelled, other])[1][0].name == "critique"
    for asked, spec, why in (
        ("given", labelled, "no answers"),
        ("prefill", labelled, "no answers"),
        (CRITIQUE_STEP, other, "does not say which steps"),
    ):
        with pytest.raises(UsageError, match=why):
            protocols_of(Turns(protocol=(asked,)), [spec])
    with pytest.raises(UsageError, match="attempts that a task's data labels"):
        protocols_of(Turns(attempts_from=real_data), [labelled])


@pytest.mark.parametrize("label", [-2, 1, True, "0", None])
def test_labels_that_name_no_step_are_refused(tmp_path: Path, label: object) -> None:
    row = {"id": "x", "generator": "g", "problem": "p", "steps": ["s"], "final_answer_correct": True}
    (tmp_path / "processbench").mkdir()
    (tmp_path / "processbench" / "gsm8k.json").write_text(json.dumps([{**row, "label": label}] * 400))
    with pytest.raises(UsageError, match="row 1 has another form"):
        tasks.load_problems("processbench_gsm8k", data_dir=tmp_path)


def test_in_one_turn_the_same_is_right(real_data: Path) -> None:
    """As lm-eval asks: the verifier of the task reads the judgement."""
    from cipo_eval.verifiers import get_verifier

    verifier = get_verifier("steps")
    problem = tasks.load_problems("processbench_gsm8k", data_dir=real_data).problems[0]
    for text, right in (
        (f"\\boxed{{{problem.gold}}}", True),
        ("\\boxed{-1}", problem.gold == "-1"),
        ("?", None),
    ):
        for mode in Mode:
            answer = verifier.extract(problem, text, None, mode).answer
            judged = None if answer is None else verifier.grade(problem.gold, answer, {}, mode).correct
            assert judged is right
