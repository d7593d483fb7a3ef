"""Few-shot prompts: examples are nobody's test problems, the same in every run, part of a run's identity, and shown by
lm-eval as they are shown here."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, attempts

from cipo_eval.data import tasks
from cipo_eval.data.definitions import _read_yaml
from cipo_eval.data.examples import documents, examples
from cipo_eval.engines.chat import render
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Mode, Problem, Sampling, State
from cipo_eval.run.plan import TaskPlan
from cipo_eval.turns.fewshot import FewShot
from cipo_eval.verifiers.pool import VerifierPool

WITH_EXAMPLES = sorted(name for name in tasks.task_names() if tasks.load_spec(name).examples)
SAMPLING = Sampling(temperature=0, top_p=1, top_k=0, min_p=0, max_tokens=8)
WORDS = 5
"""In a row, so many words of one problem in another one are a coincidence or a copy."""


def questions(name: str) -> list[str]:
    return [row["question"] for row in documents(tasks.task_dir() / name)]


def runs_of_words(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {tuple(words[i : i + WORDS]) for i in range(len(words) - WORDS + 1)}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n in ("gsm8k", "math500") else pytest.mark.slow) for n in WITH_EXAMPLES],
)
def test_no_example_is_a_test_problem(real_data: Path, name: str) -> None:
    try:
        problems = tasks.load_problems(name, data_dir=real_data).problems
    except MissingError as error:
        pytest.skip(str(error))
    shown = [runs_of_words(question) for question in questions(tasks.load_spec(name).examples)]
    for problem in problems:
        asked = runs_of_words(problem.question)
        for example in shown:
            common = len(example & asked) / len(example)
            assert common < 0.3, problem.question


@pytest.mark.slow
def test_examples_are_nobodys_training_problems_either(real_data: Path) -> None:
    """They were written for this project: a model has not seen them with their solutions."""
    import gzip

    lines = (real_data / "train" / "gsm8k_train.jsonl").read_text().splitlines()
    lines += (
        gzip.decompress((real_data / "train" / "MATH_train_7500.jsonl.gz").read_bytes()).decode().splitlines()
    )
    known = [runs_of_words(row.get("problem") or row["question"]) for row in map(json.loads, lines)]
    for file in ("examples_math.jsonl", "examples_gsm8k.jsonl"):
        for question in questions(file):
            example = runs_of_words(question)
            assert max(len(example & asked) / len(example) for asked in known) < 0.3, question


def test_the_solutions_are_right() -> None:
    """Each answer against one that was computed in another way, by the verifier that judges models."""
    in_order = [n for n in range(1, 200) if n % 5 == 2 and n % 7 == 3]
    dice = Fraction(sum(max(d) == 4 for d in itertools.product(range(1, 7), repeat=3)), 6**3)
    width = next(w for w in range(1, 99) if (w + 2) * (3 * w + 2) - 3 * w * w == 84)
    ana = next(a for a in range(125) if a + (a + 15) + 2 * (a + 15) == 125)
    sums = [3 * n * n - n for n in range(21)]
    golds = {
        "examples_math.jsonl": [
            str(3 * width * width),
            str(len(in_order)),
            str(Fraction(16, 3)),
            str(dice),
            "\\sqrt{57}",
            "3+\\sqrt{2}",
            "(-2,7)",
            str(sums[20] - sums[19]),
        ],
        "examples_gsm8k.jsonl": [
            str(6 * (45 + 45 - 12)),
            str(400 - 9 * 24),
            str((31 - 3 - 4) // 3),
            str(150 * 4 // 5 * 7 // 12 * 3),
            str(ana),
            str(3 * (40 * 3 // 4 - 6)),
            str((600 - 200) // (25 - 5)),
            str(math.ceil(225 / 42) * 42 - 225),
        ],
    }
    with VerifierPool(1) as pool:
        for file, wanted in golds.items():
            rows = documents(tasks.task_dir() / file)
            for row, gold in zip(rows, wanted, strict=True):
                problem = Problem(task="t", id="", index=0, question="", prompt="", gold=gold)
                verdict = pool.verify("math", problem, row["gold"], None, Mode.FIXED)
                assert verdict.state is State.CORRECT, (row, gold)


def plan_of(folder: Path, count: int, *, multiturn: bool = True) -> TaskPlan:
    problems = tasks.load_problems(own_task(folder))
    shown = FewShot(examples=examples(problems.spec, count), multiturn=multiturn)
    return TaskPlan(problems=problems, samples=1, sampling=SAMPLING, fewshot=shown)


def own_task(folder: Path, given: str = "examples: shown.jsonl") -> Path:
    """A task of a user's own, with its problems and examples beside it."""
    folder.mkdir(exist_ok=True)
    rows = [{"problem": f"{n}+{n}?", "answer": str(2 * n), "id": str(n)} for n in range(4)]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = [{"question": f"{n}*{n}?", "solution": f"It is \\boxed{{{n * n}}}."} for n in (7, 8, 9)]
    (folder / "shown.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shown))
    path = folder / "own.yaml"
    path.write_text(
        "task: own_sums\ninclude: _cipo_math.yaml\ndoc_to_text: 'Q: {{question}}'\n"
        f"metadata:\n  version: 1.0\n  cipo:\n    name: own_sums\n    {given}\n"
        "    columns: {question: problem, gold: answer, id: id}\n"
        "    sources: [{kind: embedded, path: items.jsonl}]\n"
    )
    return path


def test_messages_as_turns_and_in_one_message(tmp_path: Path, tiny_checkpoint: Path) -> None:
    turns, one = plan_of(tmp_path, 2), plan_of(tmp_path, 2, multiturn=False)
    problem = turns.problems.problems[3]
    messages = replace(turns, system_prompt="Be brief.").messages(problem)
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[1]["content"] == "Q: 7*7?", "the task's own prompt, and the first of its examples"
    assert messages[2]["content"] == "It is \\boxed{49}."
    assert messages[-1]["content"] == problem.prompt
    (single,) = one.messages(problem)
    assert single["content"] == "\n\n".join(m["content"] for m in messages[1:])
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    as_turns, _ = render(tokenizer, turns.messages(problem))
    as_one, _ = render(tokenizer, one.messages(problem))
    if tokenizer.chat_template:
        assert as_turns != as_one
    else:
        assert as_turns == as_one, "a base model sees no turns"


def test_it_is_part_of_what_a_run_is(tmp_path: Path) -> None:
    known = {
        json.dumps(plan_of(tmp_path, count, multiturn=multiturn).identity()["prompts"])
        for count, multiturn in ((0, True), (1, True), (2, True), (2, False))
    }
    assert len(known) == 4
    assert plan_of(tmp_path, 0).identity()["fewshot"] is None
    assert plan_of(tmp_path, 2).identity() == plan_of(tmp_path, 2).identity()


@pytest.mark.parametrize(
    ("given", "count", "message"),
    [
        ('examples: ""', 1, "own_sums has no examples"),
        ("examples: shown.jsonl", 4, "there are 3 examples"),
        ("examples: nowhere.jsonl", 1, "cannot be read"),
        ("examples: own.yaml", 1, "a question and a solution"),
    ],
)
def test_what_is_not_there_is_refused(
    cipo: Commands, tmp_path: Path, given: str, count: int, message: str
) -> None:
    task = own_task(tmp_path / "task", given)
    outcome = cipo("run", "-m", "nowhere", "-t", task, "--num-fewshot", str(count), "-o", tmp_path / "run")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run").exists()


def test_tasks_without_examples_say_so(cipo: Commands) -> None:
    assert {tasks.load_spec(name).verifier for name in WITH_EXAMPLES} == {"math"}, "whose answers they show"
    for name in sorted(set(tasks.task_names()) - set(WITH_EXAMPLES)):
        assert _read_yaml(tasks.load_spec(name).path)["num_fewshot"] == 0, "nor has lm-eval any"
        with pytest.raises(UsageError, match=f"{name} has no examples"):
            examples(tasks.load_spec(name), 1)
    outcome = cipo("run", "-m", "nowhere", "-t", "humaneval", "--num_fewshot", "3")
    assert outcome.code == 2
    assert "humaneval has no examples" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize("chat", [False, True])
def test_a_run_is_resumed_with_the_same_examples_only(cipo: Commands, tmp_path: Path, chat: bool) -> None:
    from tiny import make_checkpoint

    model, task = make_checkpoint(tmp_path / "model", chat=chat), own_task(tmp_path / "task")
    line = ("run", "-m", model, "-t", task, "--max-tokens", "8", "--protocol", "direct,self", "-q")
    run = tmp_path / "run"
    assert cipo(*line, "-f", "2", "--limit", "2", "-o", run).code == 0
    assert json.loads((run / "run.json").read_text())["tasks"]["own_sums"]["fewshot"] == {
        "examples": 2,
        "multiturn": True,
    }
    assert cipo(*line, "--num_fewshot", "2", "-o", run).code == 0, "lm-eval's spelling, and more problems"
    assert len({problem for problem, _ in attempts(run, "own_sums")}) == 4
    for other in (("-f", "0"), ("-f", "3"), ("-f", "2", "--fewshot_as_multiturn", "False")):
        refused = cipo(*line, *other, "-o", run)
        assert refused.code == 2
        assert "another configuration" in refused.err
        assert "own_sums.fewshot" in refused.err
    assert cipo("rescore", run, "-q").code == 0
    assert cipo(*line, "-o", tmp_path / "none", "--limit", "1").code == 0
    first = attempts(run, "own_sums")["0", 0]
    assert first["prompt_tokens"] > attempts(tmp_path / "none", "own_sums")["0", 0]["prompt_tokens"]
    assert cipo("export", run, "--to", "lm-eval", "-o", tmp_path / "out").code == 0
    (results,) = (tmp_path / "out").rglob("results_*.json")
    assert set(json.loads(results.read_text())["n-shot"].values()) == {2}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gsm8k", "math500"])
def test_lm_eval_shows_the_same(real_data: Path, tiny_checkpoint: Path, name: str) -> None:
    """Whatever the form: as one text, with a chat template, as turns of it."""
    from lm_eval.tasks import TaskManager
    from tiny import CHAT_TEMPLATE
    from transformers import AutoTokenizer

    manager = TaskManager(
        include_path=str(tasks.task_dir()), include_defaults=False, metadata={"data_dir": str(real_data)}
    )
    theirs = manager.load([f"cipo_{name}"])["tasks"][f"cipo_{name}"]
    assert theirs.get_config("num_fewshot") is None, "of 0 in a definition it hears no --num_fewshot"
    problems = tasks.load_problems(name, data_dir=real_data)
    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    for template, multiturn in ((None, False), (CHAT_TEMPLATE, False), (CHAT_TEMPLATE, True)):
        tokenizer.chat_template = template

        def templated(messages: Any, **options: Any) -> str:
            return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))

        # in a text without templates, lm-eval puts nothing behind the system message
        system = "Be brief." if template else None
        for count in (0, 3):
            shown = FewShot(examples=examples(problems.spec, count), multiturn=multiturn)
            plan = TaskPlan(
                problems=problems, samples=1, sampling=SAMPLING, fewshot=shown, system_prompt=system
            )
            for problem, document in list(zip(problems.problems, theirs.eval_docs, strict=True))[:4]:
                wanted = theirs.fewshot_context(
                    document,
                    count,
                    system_instruction=system,
                    apply_chat_template=template is not None,
                    fewshot_as_multiturn=multiturn,
                    chat_template=templated if template else None,
                )
                assert render(tokenizer, plan.messages(problem))[0] == wanted


@pytest.mark.slow
def test_a_run_of_an_earlier_release_goes_on(cipo: Commands, tmp_path: Path) -> None:
    """Its ``run.json`` says nothing of examples."""
    task = own_task(tmp_path / "task")
    line = ("run", "-m", "m", "--engine", "seeded_engine:Seeded", "-t", task, "-q", "-o", tmp_path / "run")
    assert cipo(*line, "--limit", "2").code == 0
    path = tmp_path / "run" / "run.json"
    info = json.loads(path.read_text())
    del info["tasks"]["own_sums"]["fewshot"]
    path.write_text(json.dumps(info))
    assert cipo(*line).code == 0
    assert cipo("rescore", tmp_path / "run", "-q").code == 0
    refused = cipo(*line, "--num-fewshot", "1")
    assert refused.code == 2
    assert "another configuration" in refused.err
