"""Task definitions: their form, the items behind them, and that lm-eval sees the same prompts and verdicts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from parts import Part, mostly_slow, part

from cipo_eval.data import tasks
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Mode, State, Verdict
from cipo_eval.run.request import RunRequest
from cipo_eval.verifiers.code import testsets

ROWS = {"math500": 500, "aime24": 30, "aime25": 30, "amc23": 40, "minerva": 272, "olympiadbench": 675}
ROWS["realcritic_math"] = 268
NEW = {
    "aime26": 30,
    "hmmt25": 30,
    "hmmt26": 33,
    "gsm8k": 1319,
    "humanevalfix": 164,
    "self_correction_bench": 286,
}
NEW |= {"realcritic_college_math": 279, "realcritic_gsm8k": 273}
NEW |= {"realcritic_minerva": 261, "realcritic_olympiadbench": 267}
NEW |= {"realcritic_arc": 263, "realcritic_mmlu": 292}
PROCESSBENCH = {"gsm8k": 400, "math": 1000, "olympiadbench": 1000, "omnimath": 1000}
NEW |= {f"processbench_{name}": rows for name, rows in PROCESSBENCH.items()}
CODE = {"humaneval": 164, "mbpp": 378, "mbpp_classic": 500, "livecodebench": 1055, "debugbench": 1335}
BUILTIN = "arithmetic"
FAMILIES = ("chains", "countdown", "programs")
UNSEEN = {"criticbench", "beyondaime", "realcritic_gpqa"}
"""Their data was never at hand: no fingerprint, no pinned commit."""
SUFFIX = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."


@pytest.fixture(autouse=True)
def _hermetic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIPO_EVAL_DATA", raising=False)
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=ROWS)
def problems(request: pytest.FixtureRequest, real_data: Path) -> tasks.ProblemSet:
    return tasks.load_problems(request.param, data_dir=real_data)


# --- definitions -------------------------------------------------------------------------------------------------


def test_all_tasks_are_there_and_consistent() -> None:
    assert set(tasks.task_names()) == {*ROWS, *NEW, *CODE, BUILTIN, *FAMILIES, *UNSEEN}
    for name in tasks.task_names():
        spec = tasks.load_spec(name)
        assert spec.name == name
        assert spec.lm_eval_name == f"cipo_{name}"
        assert re.fullmatch("[0-9a-f]{16}", spec.fingerprint or "") or name in UNSEEN
        assert spec.licence
        assert spec.metrics
        assert set(spec.presets) == {"greedy", "paper", "avg64"}
        for source in (source for rows in spec.row_sources for source in rows.sources):
            pinned = re.fullmatch("[0-9a-f]{40}", source.revision or "")
            assert source.kind != "hub" or pinned or source.repo == "llm-agents/CriticBench"


def test_groups_and_patterns_stand_for_their_tasks() -> None:
    """Each task once, in the order that is asked for; what means one stays as it is, and is looked up later."""
    members = [name for names in tasks.GROUPS.values() for name in names]
    assert sorted(members) == tasks.task_names() == sorted(tasks.expanded(["all"]))
    assert not set(tasks.GROUPS) & {*members, "all"}
    assert tasks.expanded(["aime*", "cipo_amc*"]) == ("aime24", "aime25", "aime26", "amc23")
    assert tasks.expanded(["minerva", "math", "x", "a/*.yaml"])[:2] == ("minerva", "aime24")
    assert tasks.expanded(["minerva", "math", "x", "a/*.yaml"])[-2:] == ("x", "a/*.yaml")
    assert [spec.name for spec in tasks.select(["code,correction", "mbpp"])] == [
        *tasks.GROUPS["code"],
        *tasks.GROUPS["correction"],
    ]
    asked = RunRequest.of(model="m", tasks="math,countdown,aime24").task.tasks
    assert asked == (*tasks.GROUPS["math"], "countdown")
    for unknown, near in (
        ("mth*", "did you mean math"),
        ("maths", "did you mean math"),
        ("corection", "correction"),
    ):
        with pytest.raises(UsageError, match=near):
            tasks.select([unknown])
    with pytest.raises(UsageError, match="no task matches"):
        RunRequest.of(model="m", tasks="zzz*")


def test_presets_are_those_of_the_references() -> None:
    for name in ROWS:
        presets = tasks.load_spec(name).presets
        greedy, paper, avg64 = presets["greedy"], presets["paper"], presets["avg64"]
        assert (greedy.samples, greedy.sampling.temperature, greedy.sampling.max_tokens) == (1, 0.0, 2048)
        assert (avg64.samples, avg64.sampling.temperature, avg64.sampling.top_p) == (64, 0.6, 0.95)
        assert avg64.sampling.max_tokens == 32768
        if name in ("aime24", "aime25", "amc23"):
            assert paper.samples == 32
            assert "not public" in paper.note
        else:
            assert paper.sampling == greedy.sampling


def test_presets_of_the_code_tasks_are_those_of_their_harnesses() -> None:
    """HumanEval+ and MBPP+ as evalplus, LiveCodeBench and DebugBench as their own scripts."""
    expected = {"humaneval": (1, 0.0, 768), "mbpp": (1, 0.0, 768), "livecodebench": (10, 0.2, 2000)}
    for name, (samples, temperature, max_tokens) in expected.items():
        paper = tasks.load_spec(name).presets["paper"]
        found = paper.samples, paper.sampling.temperature, paper.sampling.max_tokens
        assert found == (samples, temperature, max_tokens), name
    assert tasks.load_spec("livecodebench").presets["paper"].sampling.top_p == 0.95
    assert tasks.load_spec("debugbench").presets["paper"].sampling.max_tokens == 2000


def test_readme_has_a_section_for_each_task_with_its_fingerprint() -> None:
    sections = re.split(r"^## ", (tasks.task_dir() / "README.md").read_text(), flags=re.MULTILINE)
    by_name = {section.split("\n", 1)[0].strip("` "): section for section in sections[1:]}
    for name in tasks.task_names():
        spec = tasks.load_spec(name)
        assert name in UNSEEN or spec.fingerprint
        assert all(known in by_name[name] for known in spec.fingerprints), name
        for source in (source for rows in spec.row_sources for source in rows.sources):
            assert source.repo in by_name[name]
            assert (source.revision or "")[:8] in by_name[name]


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean math500"):
        tasks.load_spec("maht500")
    with pytest.raises(UsageError, match="no task definition"):
        tasks.load_spec("nowhere.yaml")
    assert tasks.load_spec("cipo_math500") == tasks.load_spec("math500")


def test_select() -> None:
    assert [spec.name for spec in tasks.select(["all"])] == tasks.task_names()
    assert [spec.name for spec in tasks.select(["minerva,aime24", "minerva"])] == ["minerva", "aime24"]
    with pytest.raises(UsageError):
        tasks.select([","])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: x", "no `metadata: cipo:`"),
        ("- 1", "no mapping"),
        ("task: [", "not a readable"),
        ("include: self.yaml\ntask: x", "includes itself"),
        ("include: _cipo_math.yaml\nmetadata: {cipo: {}}", "task must be a name"),
        ("include: _cipo_math.yaml\ntask: x\nmetadata: {cipo: {}}", "either `columns` or a `reader`"),
        (
            "include: _cipo_math.yaml\ntask: x\nmetadata: {cipo: {columns: {}, reader: a:b}}",
            "`question`.*is missing",
        ),
        (
            "include: _cipo_code.yaml\ntask: x\n"
            "metadata: {cipo: {reader: a:b, sources: [], companions: {../x: {key: k, sources: []}}}}",
            "companion '../x'",
        ),
        (
            "include: _cipo_code.yaml\ntask: x\nmetadata: {cipo: {reader: a:b, sources: [], scope: {start: 1}}}",
            "'1' is not a day",
        ),
        ("include: _cipo_math.yaml\ntask: x\nmetadata: {cipo: {name: ../../x}}", "the name '../../x'"),
        ("include: _cipo_math.yaml\ntask: x\nmetadata: {cipo: {columns: 1}}", "`columns`.*wrong form"),
        (
            "include: _cipo_math.yaml\ntask: x\n"
            "metadata: {cipo: {columns: {question: q, gold: a}, sources: [{kind: ftp}]}}",
            "mirror, embedded, package or hub",
        ),
        (
            "include: _cipo_math.yaml\ntask: x\n"
            "metadata: {cipo: {columns: {question: q, gold: a}, sources: [], presets: {p: {samples: 1}}}}",
            "preset p is not valid",
        ),
    ],
)
def test_invalid_definitions_say_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "self.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        tasks.load_spec(path)
    assert "self.yaml" in str(caught.value)


# --- items -------------------------------------------------------------------------------------------------------


def test_items(problems: tasks.ProblemSet) -> None:
    spec, items = problems.spec, problems.problems
    assert len(items) == ROWS[spec.name] == spec.rows
    assert len({p.id for p in items}) == len(items)
    assert [p.index for p in items] == list(range(len(items)))
    assert all(p.gold.strip() and p.question.strip() for p in items)
    assert all(p.prompt == p.question + SUFFIX for p in items)
    assert problems.fingerprint == spec.fingerprint, "the real items are the reference ones"
    assert not problems.warnings
    assert all(set(p.metadata) == set(spec.breakdown) for p in items)
    json.dumps([dict(p.options) for p in items])


@pytest.mark.parametrize("name", NEW)
def test_new_sets_are_what_their_definitions_say(real_data: Path, name: str) -> None:
    found = tasks.load_problems(name, data_dir=real_data)
    assert len(found.problems) == NEW[name]
    assert found.fingerprint == found.spec.fingerprint
    carried = [problem for problem in found.problems if problem.attempt]
    if name in ("humanevalfix", "self_correction_bench"):
        assert not any(problem.attempt_right for problem in found.problems)
    carry = name.startswith(("realcritic", "processbench")) or name in (
        "humanevalfix",
        "self_correction_bench",
    )
    assert len(carried) == (NEW[name] if carry else 0)


def test_golds_of_the_integer_tasks(real_data: Path) -> None:
    for name in ("aime24", "aime25", "amc23"):
        for problem in tasks.load_problems(name, data_dir=real_data).problems:
            assert float(problem.gold).is_integer()
            assert dict(problem.options) == {"kind": "integer", "reference": name}
    first = tasks.load_problems("amc23", data_dir=real_data).problems[0]
    assert first.gold.endswith(".0"), "golds are kept as upstream wrote them"


def test_minerva_has_58_golds_in_e_notation(real_data: Path) -> None:
    golds = [p.gold for p in tasks.load_problems("minerva", data_dir=real_data).problems]
    assert sum(bool(re.search(r"\d[eE][+-]?\d", gold)) for gold in golds) == 58
    assert not any("boxed" in gold for gold in golds)


def test_olympiadbench_options(real_data: Path) -> None:
    items = tasks.load_problems("olympiadbench", data_dir=real_data).problems
    assert sum(p.options["multiple"] for p in items) == 94
    assert sum("unit" in p.options for p in items) == 8
    assert [p.options["tolerance"] for p in items if "tolerance" in p.options] == ["1e-1"]
    kinds = Counter(p.options["answer_type"] for p in items)
    assert kinds == {"Numerical": 572, "Expression": 64, "Tuple": 33, "Interval": 6}
    assert all(p.options["reference"] == "olympiadbench" for p in items)


def test_builtin_items_need_no_data() -> None:
    found = tasks.load_problems(BUILTIN)
    assert len(found.problems) == 200
    assert found.fingerprint == found.spec.fingerprint
    assert all(p.prompt == p.question and p.question.endswith("=") for p in found.problems)
    assert len({p.metadata["level"] for p in found.problems}) > 1


def test_missing_items_name_both_ways_to_get_them() -> None:
    with pytest.raises(MissingError, match=r"cipo-eval data pull math500.*--data-dir") as caught:
        tasks.load_problems("math500", offline=True)
    assert caught.value.exit_code == 3


# --- rows to problems ----------------------------------------------------------------------------------------------


def make_task(folder: Path, rows: list[dict[str, Any]], extra: str = "", template: str | None = None) -> Path:
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "cipo_mine.yaml"
    path.write_text(
        "task: cipo_mine\ninclude: _cipo_math.yaml\n"
        + (f"doc_to_text: {json.dumps(template)}\n" if template else "")
        + "metadata:\n  version: 1.0\n  cipo:\n    name: mine\n"
        "    sources: [{kind: embedded, path: items.jsonl}]\n"
        + (extra or "    columns: {question: q, gold: a}\n")
    )
    return path


def test_fingerprint_ignores_order_white_space_and_form() -> None:
    items = [("a b", "1"), ("c", "2.0")]
    assert tasks.content_fingerprint(items) == tasks.content_fingerprint([(" c\n", "2.0"), ("a\n b", " 1 ")])
    assert tasks.content_fingerprint(items) != tasks.content_fingerprint([("a b", "2.0"), ("c", "1")])
    assert tasks.content_fingerprint(items) != tasks.content_fingerprint(items[:1])


def test_columns_context_boxed_and_options(tmp_path: Path) -> None:
    rows = [
        {
            "q": "Then?",
            "pre": "Given x.",
            "sol": r"so \boxed{\frac{1}{2}}",
            "unit": "km",
            "multi": False,
            "lv": 3,
        },
        {"text": "Now?", "pre": None, "a": ["1", "2"], "unit": "None", "multi": True, "lv": float("nan")},
    ]
    columns = """
    columns:
      question: [q, text]
      context: pre
      gold: [a, "boxed:sol"]
      options: {unit: unit, multiple: multi}
    options: {kind: number, unit: none}
    breakdown: [lv]
"""
    first, second = tasks.load_problems(make_task(tmp_path, rows, columns)).problems
    assert first.question == "Given x.\n\nThen?"
    assert first.gold == r"\frac{1}{2}"
    assert first.options == {"kind": "number", "unit": "km", "multiple": False}
    assert first.metadata == {"lv": 3}
    assert (first.id, second.id) == ("0", "1")
    assert second.gold == "1, 2"
    assert second.options == {"kind": "number", "unit": "none", "multiple": True}
    assert second.metadata == {}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"q": "x"}, "row 2 has no answer"),
        ({"a": "1"}, "row 2 has no question"),
        ({"q": "x", "a": ""}, "no answer"),
    ],
)
def test_rows_without_question_or_answer(tmp_path: Path, row: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tasks.load_problems(make_task(tmp_path, [{"q": "a", "a": "b"}, row]))


def test_ids_must_be_unique(tmp_path: Path) -> None:
    extra = "    columns: {question: q, gold: a, id: n}\n"
    rows = [{"q": "a", "a": "b", "n": 1}, {"q": "c", "a": "d", "n": 1}]
    with pytest.raises(UsageError, match="same id"):
        tasks.load_problems(make_task(tmp_path, rows, extra))


def test_templates_reach_no_python_and_no_undefined_names(tmp_path: Path) -> None:
    rows = [{"q": "a", "a": "b"}]
    for template in ("{{nothing}}", "{{question.__class__.__mro__}}", "{% if %}"):
        with pytest.raises(UsageError, match="doc_to_text"):
            tasks.load_problems(make_task(tmp_path, rows, template=template))


def test_the_guide_to_adding_a_task_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does what docs/add-a-task.md says, with the files that stand in it."""
    guide = (Path(__file__).resolve().parent.parent / "docs" / "add-a-task.md").read_text()
    blocks = re.findall(r"^`([\w.]+)`:\n\n```\w*\n(.*?)^```", guide, flags=re.MULTILINE | re.DOTALL)
    answers, tests = (
        {"capitals.jsonl", "cipo_capitals.yaml"},
        {"squares.jsonl", "squares_reader.py", "cipo_squares.yaml"},
    )
    assert {name for name, _ in blocks} == answers | tests
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    found = tasks.load_problems(tmp_path / "cipo_capitals.yaml")
    assert found.spec.rows == len(found.problems) == 3
    assert not found.warnings
    assert found.problems[0].prompt.startswith(found.problems[0].question)
    assert found.spec.presets["greedy"].samples == 1, "defaults come from the base"

    for name in ("_cipo_math.yaml", "cipo_tasks.py"):
        (tmp_path / name).write_text((tasks.task_dir() / name).read_text())
    prompts = [
        lm_eval_task(tmp_path, "cipo_capitals").doc_to_text(doc)
        for doc in eval_docs(tmp_path, "cipo_capitals")
    ]
    assert prompts == [p.prompt for p in found.problems]

    monkeypatch.syspath_prepend(str(tmp_path))
    code = tasks.load_problems(tmp_path / "cipo_squares.yaml")
    assert [p.id for p in code.problems] == ["square", "cube"]
    cases = [test for p in code.problems for test in testsets.load(p.gold).groups[0].tests]
    assert [(test.args, test.expected, test.public) for test in cases][:2] == [
        ([2], 4, True),
        ([-3], 9, False),
    ]


# --- lm-eval -------------------------------------------------------------------------------------------------------


def lm_eval_task(folder: Path, name: str, **metadata: Any) -> Any:
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(folder), include_defaults=False, metadata=metadata)
    return manager.load([name])["tasks"][name]


def eval_docs(folder: Path, name: str, **metadata: Any) -> Any:
    return lm_eval_task(folder, name, **metadata).eval_docs


@pytest.mark.parametrize(
    "name",
    [
        *mostly_slow([*ROWS, BUILTIN, *FAMILIES], 4),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("humaneval", "mbpp", "mbpp_classic")),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("livecodebench", "debugbench", "realcritic_arc", "processbench_gsm8k")
        ),
    ],
)
@pytest.mark.usefixtures("code_cache")
def test_lm_eval_renders_the_same_prompts(real_data: Path, name: str) -> None:
    ours = tasks.load_problems(name, data_dir=real_data)
    wanted = [p for p in ours.problems if ours.spec.scope is None or ours.spec.scope.admits(p)]
    theirs = lm_eval_task(tasks.task_dir(), f"cipo_{name}", data_dir=str(real_data))
    docs = list(theirs.eval_docs)
    assert [theirs.fewshot_context(doc, 0) for doc in docs] == [p.prompt for p in wanted]
    assert [theirs.doc_to_target(doc) for doc in docs] == [p.gold for p in wanted]
    for doc, problem in zip(docs, wanted, strict=True):
        back = tasks.from_document(doc)
        assert (back.id, back.index, back.gold, back.options) == (
            problem.id,
            problem.index,
            problem.gold,
            problem.options,
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "written"),
    [("realcritic_arc", "The answer is ({})."), ("processbench_gsm8k", "\\boxed{{{}}}")],
)
def test_lm_eval_judges_letters_and_steps(real_data: Path, name: str, written: str) -> None:
    """By generated texts, as every task of ours: the verdict is that of the task's verifier."""
    theirs = lm_eval_task(tasks.task_dir(), f"cipo_{name}", data_dir=str(real_data))
    doc = theirs.eval_docs[0]
    assert theirs.OUTPUT_TYPE == "generate_until"
    for answer, expected in ((doc["gold"], 1.0), ("B" if doc["gold"] != "B" else "C", 0.0), ("99", 0.0)):
        assert theirs.process_results(doc, [written.format(answer)])["acc"] == expected


def test_process_results_averages_kept_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arithmetic of shares; verdicts of the real verifier are compared with cipo-eval's elsewhere."""
    from cipo_eval.verifiers import pool

    class FakePool:
        def verify(self, verifier: str, problem: Any, text: str, finish_reason: Any, mode: Any) -> Verdict:
            assert (verifier, finish_reason, mode) == ("math", None, "paper")
            assert problem.gold
            state = State(text)
            return Verdict(correct=state is State.CORRECT, state=state)

    monkeypatch.setattr(pool, "shared_pool", FakePool)
    task = lm_eval_task(tasks.task_dir(), f"cipo_{BUILTIN}", mode="paper")
    doc = task.eval_docs[0]
    texts = ["correct", "incorrect", "no_answer", "verifier_timeout"]
    shares = {"acc": 0.25, "no_answer": 0.25, "verifier_failed": 0.25}
    assert task.process_results(doc, [texts]) == shares
    assert task.process_results(doc, texts) == shares, "as lm-eval 0.5 hands them over"
    assert task.process_results(doc, ["correct"]) == {"acc": 1.0, "no_answer": 0.0, "verifier_failed": 0.0}


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache")
def test_process_results_gives_shares_of_parts(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample without a program has failed in every part; the others say themselves."""
    from cipo_eval.verifiers import pool

    verdicts = {
        "both": Verdict(correct=True, state=State.CORRECT, parts={"base": True, "plus": True}),
        "base": Verdict(correct=False, state=State.INCORRECT, parts={"base": True, "plus": False}),
        "none": Verdict(correct=False, state=State.NO_ANSWER),
    }

    class FakePool:
        def verify(self, _verifier: str, _problem: Any, text: str, *_: Any) -> Verdict:
            return verdicts[text]

    monkeypatch.setattr(pool, "shared_pool", FakePool)
    task = lm_eval_task(tasks.task_dir(), "cipo_humaneval", data_dir=str(real_data))
    shares = task.process_results(task.eval_docs[0], [["both", "base", "none", "none"]])
    assert shares == {"acc": 0.25, "base": 0.5, "plus": 0.25, "no_answer": 0.5, "verifier_failed": 0.0}
    assert set(shares) <= set(task.aggregation())


@pytest.mark.slow
def test_simple_evaluate_with_the_real_verifier(tiny_checkpoint: Path) -> None:
    """A random model through lm-eval's own loop, model wrapper and aggregation."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(tasks.task_dir()), include_defaults=False)
    results = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(tiny_checkpoint), "device": "cpu", "dtype": "float32"},
        tasks=[f"cipo_{BUILTIN}"],
        task_manager=manager,
        limit=4,
        batch_size=2,
        gen_kwargs={"max_gen_toks": 8},
    )
    assert results is not None
    scores = results["results"][f"cipo_{BUILTIN}"]
    assert scores["verifier_failed,none"] == 0.0
    samples = results["samples"][f"cipo_{BUILTIN}"]
    ours = tasks.load_problems(BUILTIN).problems[:4]
    assert [s["arguments"][0][0] for s in samples] == [p.prompt for p in ours]
    from cipo_eval.verifiers.pool import shared_pool

    for sample, problem in zip(samples, ours, strict=True):
        verdict = shared_pool().verify("math", problem, sample["resps"][0][0])
        assert sample["acc"] == float(verdict.correct)


def test_definitions_load_without_heavy_imports() -> None:
    code = (
        "import sys; from cipo_eval.data import tasks; [tasks.load_spec(n) for n in tasks.task_names()];"
        "tasks.load_problems('arithmetic');"
        "print([m for m in ('torch', 'datasets', 'lm_eval', 'huggingface_hub', 'sympy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


REALCRITIC = ("college_math", "gsm8k", "minerva", "olympiadbench")


@pytest.mark.slow
@part(6)
@pytest.mark.parametrize("name", REALCRITIC)
def test_labels_of_realcritic_are_verdicts_in_paper_mode(real_data: Path, name: str, part: Part) -> None:
    """Of the attempts that its data carries."""
    from cipo_eval.verifiers.pool import VerifierPool

    problems = part.of(tasks.load_problems(f"realcritic_{name}", data_dir=real_data).problems, lambda p: p.id)
    with VerifierPool(2) as pool:
        differing = [
            p.id
            for p in problems
            if pool.verify("math", p, p.attempt or "", None, Mode.PAPER).correct is not p.attempt_right
        ]
    assert differing == []
