"""The block of results.json: what it counts and refuses, and that only the set of attempts decides it."""

import gzip
import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cipo_eval.analysis.summary import summarise
from cipo_eval.records import Attempt, State, Verdict

STATES = list(State)


def attempt(problem, sample, state=State.CORRECT, *, task="toy", answer=None, paper=None, **fields):
    given = {
        "prompt_hash": "",
        "seed": sample,
        "text": "…",
        "finish_reason": "stop",
        "prompt_tokens": 7,
        "completion_tokens": 10,
        "seconds": 0.1,
        **fields,
    }
    verdicts = {"fixed": Verdict(correct=state is State.CORRECT, state=state, extracted=answer, seconds=0.01)}
    if paper:
        verdicts["paper"] = Verdict(correct=paper is State.CORRECT, state=paper, extracted=answer)
    return Attempt(task=task, problem=problem, sample=sample, verdicts=verdicts, **given)


def grid(*rows):
    """Attempts from one string per problem: ``+`` right, a letter a wrong answer, ``.`` no answer."""
    made = []
    for index, row in enumerate(rows):
        for sample, mark in enumerate(row):
            state = {"+": State.CORRECT, ".": State.NO_ANSWER}.get(mark, State.INCORRECT)
            made.append(attempt(f"p{index}", sample, state, answer=None if mark == "." else mark))
    return made, {f"p{index}": {} for index in range(len(rows))}


def test_figures_of_a_small_run():
    attempts, meta = grid("++a.", "aab.", "++++")
    block = summarise("toy", attempts, meta, mode="fixed")
    values = {name: figure["value"] for name, figure in block["metrics"].items()}
    assert values["pass@1"] == values["avg@n"] == 0.5
    assert values["pass@2"] == pytest.approx((5 / 6 + 0 + 1) / 3)
    assert values["pass@4"] == pytest.approx(2 / 3)
    assert values["maj@4"] == pytest.approx(2 / 3)
    assert "maj@1" not in values
    assert (block["problems"], block["attempts"]) == (3, 12)
    assert block["samples_per_problem"] == {"min": 4, "max": 4}
    assert block["states"] == {
        "correct": 6,
        "incorrect": 4,
        "no_answer": 2,
        "truncated": 0,
        "filtered": 0,
        "verifier_timeout": 0,
        "verifier_error": 0,
    }
    assert sum(block["state_shares"].values()) == pytest.approx(1)
    assert block["tokens"]["completion"] == {"total": 120, "mean": 10, "attempts": 12}
    assert block["seconds"]["generation"]["total"] == pytest.approx(1.2)
    assert block["seconds"]["verification"]["total"] == pytest.approx(0.12)
    assert block["variance"]["mean"]["total"] == pytest.approx(block["metrics"]["pass@1"]["se"] ** 2)


states = st.lists(st.lists(st.sampled_from(STATES), min_size=1, max_size=4), min_size=1, max_size=7)


@settings(max_examples=40)
@given(states, st.randoms(use_true_random=False))
def test_the_order_of_attempts_and_of_problems_does_not_show(outcomes, shuffle):
    attempts = [
        attempt(
            f"p{i}", j, state, answer="xyz"[j % 3], seconds=0.1 * i + 0.01 * j, completion_tokens=i or None
        )
        for i, row in enumerate(outcomes)
        for j, state in enumerate(row)
    ]
    meta = {f"p{i}": {"level": i % 3} for i in range(len(outcomes))}
    first = summarise("toy", attempts, meta, mode="fixed", bootstrap=50)
    shuffled = shuffle.sample(attempts, len(attempts))
    turned = dict(reversed(meta.items()))
    assert json.dumps(first) == json.dumps(summarise("toy", shuffled, turned, mode="fixed", bootstrap=50))
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert sum(first["states"].values()) == first["attempts"]
    assert all(0 <= figure["value"] <= 1 for figure in first["metrics"].values())


def test_a_bootstrap_interval_does_not_depend_on_the_order_of_problems():
    draw = random.Random(1)
    attempts, meta = grid(*draw.choices(["++++", "+ab.", "a+++", "....", "aabb"], k=40))
    blocks = [
        summarise(
            "toy",
            draw.sample(attempts, len(attempts)),
            dict(draw.sample(list(meta.items()), 40)),
            mode="fixed",
        )
        for _ in range(5)
    ]
    assert blocks[0]["metrics"]["pass@1"]["method"] == "cluster_bootstrap"
    assert all(json.dumps(block) == json.dumps(blocks[0]) for block in blocks)


def test_seed_and_resamples_are_used_and_recorded():
    attempts, meta = grid(*random.Random(0).choices(["++", "+a", "ab"], k=20))
    one, other = (summarise("toy", attempts, meta, mode="fixed", seed=seed, bootstrap=300) for seed in (0, 1))
    assert one["metrics"]["pass@1"]["ci"] != other["metrics"]["pass@1"]["ci"]
    assert one["metrics"]["pass@1"]["value"] == other["metrics"]["pass@1"]["value"]
    assert one["intervals"]["resamples"] == 300
    assert one["intervals"]["seed"] != other["intervals"]["seed"]


def test_a_failed_verifier_counts_as_wrong_and_is_seen():
    attempts = [
        attempt("p", 0),
        attempt("p", 1, State.VERIFIER_TIMEOUT),
        attempt("p", 2, State.VERIFIER_ERROR),
    ]
    block = summarise("toy", attempts, {"p": {}}, mode="fixed")
    assert block["metrics"]["pass@1"]["value"] == pytest.approx(1 / 3)
    assert (block["states"]["verifier_timeout"], block["states"]["verifier_error"]) == (1, 1)


def test_truncated_is_about_the_token_limit_and_not_about_the_answer():
    reasons = ["length", "context", "stop", None]
    attempts = [attempt("p", i, State.CORRECT, finish_reason=reason) for i, reason in enumerate(reasons)]
    block = summarise("toy", attempts, {"p": {}}, mode="fixed")
    assert block["truncated"] == 0.5
    assert block["states"]["truncated"] == 0


def test_what_a_replayed_file_does_not_say_is_left_open():
    silent = {"prompt_tokens": None, "completion_tokens": None, "seconds": None}
    block = summarise("toy", [attempt("p", 0, **silent)], {"p": {}}, mode="fixed")
    assert block["tokens"]["completion"] == {"total": None, "mean": None, "attempts": 0}
    assert block["seconds"]["generation"]["total"] is None
    some = summarise("toy", [attempt("p", 0, **silent), attempt("p", 1)], {"p": {}}, mode="fixed")
    assert some["tokens"]["completion"] == {"total": 10, "mean": 10, "attempts": 1}


def test_majority_votes_count_canonical_answers_first():
    def voting(*answers):
        """maj@n of two right attempts against wrong ones, given as (written, normal form)."""
        verdicts = [Verdict(correct=True, state=State.CORRECT, extracted="7", canonical="7")] * 2
        for written, form in answers:
            verdicts.append(Verdict(correct=False, state=State.INCORRECT, extracted=written, canonical=form))
        attempts = [replace(attempt("p", i), verdicts={"fixed": v}) for i, v in enumerate(verdicts)]
        return summarise("toy", attempts, {"p": {}}, mode="fixed")["metrics"][f"maj@{len(attempts)}"]["value"]

    assert voting(("1/2", "1/2"), ("0.5", "0.5"), ("0.50", "0.50")) == 1
    assert voting(("9", None), ("9", None), ("9", None)) == 0  # without a normal form what was written counts
    assert voting((None, None), (None, None), (None, None)) == 1


def test_each_mode_reads_its_own_verdicts():
    attempts = [attempt("p", 0, State.CORRECT, paper=State.INCORRECT), attempt("q", 0, paper=State.INCORRECT)]
    meta = {"p": {}, "q": {}}
    assert summarise("toy", attempts, meta, mode="fixed")["metrics"]["pass@1"]["value"] == 1
    assert summarise("toy", attempts, meta, mode="paper")["metrics"]["pass@1"]["value"] == 0


def test_breakdown_by_the_columns_that_the_task_has():
    attempts, meta = grid("++", "a", "++", "+", "aa")
    levels, subjects = [10, 2, 2, None, 10], ["A", "B", "B", "A", ["A", "C"]]
    for problem, level, subject in zip(meta, levels, subjects, strict=True):
        meta[problem] = {"level": level, "subject": subject, "url": ""}
    block = summarise("toy", attempts, meta, mode="fixed", breakdown=("level", "subject", "url", "year"))
    level = block["breakdown"]["level"]
    assert list(level) == ["2", "10", "(none)"]
    assert {name: group["pass@1"] for name, group in level.items()} == {"(none)": 1, "2": 0.5, "10": 0.5}
    assert [group["problems"] for group in level.values()] == [2, 2, 1]
    assert [group["attempts"] for group in level.values()] == [3, 4, 1]
    assert level["(none)"]["ci"] is None
    assert list(block["breakdown"]["subject"]) == ["A", "A, C", "B"]
    assert set(block["breakdown"]) == {"level", "subject"}


def test_problems_without_attempts_are_counted_and_enter_no_figure():
    attempts, meta = grid("+", "+")
    block = summarise("toy", attempts, {**meta, "p9": {}}, mode="fixed")
    assert (block["problems"], block["unattempted"], block["metrics"]["pass@1"]["value"]) == (2, 1, 1.0)


def test_problems_may_differ_in_attempts_and_k_is_bound_by_the_fewest():
    attempts, meta = grid("+a", "aaaa")
    block = summarise("toy", attempts, meta, mode="fixed")
    assert block["metrics"]["pass@1"]["value"] == 0.25  # each problem weighs the same
    assert [name for name in block["metrics"] if name.startswith("pass")] == ["pass@1", "pass@2"]
    with pytest.raises(ValueError, match="k = 4 needs"):
        summarise("toy", attempts, meta, mode="fixed", ks=[1, 4])
    chosen = summarise("toy", *grid("+a+", "aaa"), mode="fixed", ks=[3])
    assert [name for name in chosen["metrics"] if name.startswith("pass")] == ["pass@1", "pass@3"]


def test_what_cannot_be_meant_is_refused():
    attempts, meta = grid("+a", "aa")
    for wrong, words in [
        ([], "nothing to summarise"),
        ([*attempts, attempts[0]], "twice"),
        ([*attempts, attempt("p7", 0)], "p7"),
        ([*attempts, attempt("p0", 5, task="other")], "other"),
        ([*attempts, attempt("p0", 0, turn=2)], "one turn"),
        ([*attempts, attempt("p0", 0, protocol="self")], "one protocol"),
    ]:
        with pytest.raises(ValueError, match=words):
            summarise("toy", wrong, meta, mode="fixed")
    with pytest.raises(ValueError, match="not judged in paper"):
        summarise("toy", attempts, meta, mode="paper")


def test_repeated_real_answers_give_the_published_score_without_its_false_certainty(real_data):
    """Ten greedy repetitions of a 1.5B model on AIME: published with standard error 0, on 1 and 0 of 30."""
    manifest = json.loads((real_data / "MANIFEST.json").read_text(encoding="utf-8"))
    for task, gold in (("AIME24", "expected_answer"), ("AIME25", "answer")):
        name = f"model_outputs/small_models/Qwen2.5-1.5B-Instruct__{task}.jsonl.gz"
        published = manifest[name]["published_metrics"]
        with gzip.open(real_data / name, "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        attempts = [
            attempt(
                str(row["id"]), i, State.CORRECT if given == str(row[gold]) else State.INCORRECT, answer=given
            )
            for row in rows
            for i, given in enumerate(row["model_answers"])
        ]
        block = summarise("toy", attempts, {str(row["id"]): {} for row in rows}, mode="fixed")
        figure = block["metrics"]["avg@n"]
        assert figure["value"] == pytest.approx(published["accuracy_avg"])
        assert published["accuracy_std_err"] == 0
        assert figure["ci"][0] <= figure["value"] < 0.1 < figure["ci"][1]
        assert figure["method"] == "clopper_pearson"
        # The same answer ten times: more samples tell nothing, so every pass@k and maj@k is the same figure.
        assert {f["value"] for f in block["metrics"].values()} == {figure["value"]}
        assert block["variance"]["mean"]["sampling"] == 0


def with_parts(problem, sample, *, base, plus, state=None, **report):
    right = base and plus
    state = state or (State.CORRECT if right else State.INCORRECT)
    verdict = Verdict(correct=right, state=state, parts={"base": base, "plus": right}, report=report)
    if state is State.NO_ANSWER:
        verdict = Verdict(correct=False, state=state)
    return replace(attempt(problem, sample, state), verdicts={"fixed": verdict})


def test_parts_have_the_figures_of_verdicts_that_are_like_them():
    """``base`` is judged as if there were nothing else; the whole is what passes everything."""
    draw = random.Random(5)
    made = [
        with_parts(f"p{p}", s, base=draw.random() < 0.7, plus=draw.random() < 0.6, state=None)
        for p in range(40)
        for s in range(4)
    ]
    made[3] = with_parts("p0", 3, base=False, plus=False, state=State.NO_ANSWER)
    meta = {f"p{p}": {} for p in range(40)}
    block = summarise("toy", made, meta, mode="fixed", bootstrap=200)
    assert list(block["parts"]) == ["base", "plus"]
    for name in ("base", "plus"):
        alone = [
            replace(a, verdicts={"fixed": replace(v, correct=v.parts.get(name, False), parts={})})
            for a in made
            for v in a.verdicts.values()
        ]
        expected = summarise("toy", alone, meta, mode="fixed", bootstrap=200)
        assert "parts" not in expected
        figures = {key: value for key, value in expected["metrics"].items() if not key.startswith("maj")}
        assert block["parts"][name] == figures
    assert block["parts"]["plus"]["pass@1"] == block["metrics"]["pass@1"]
    assert block["parts"]["base"]["pass@1"]["value"] > block["metrics"]["pass@1"]["value"]


def test_parts_that_no_verdict_names_are_still_reported():
    made = [with_parts(f"p{p}", 0, base=False, plus=False, state=State.NO_ANSWER) for p in range(3)]
    block = summarise("toy", made, {f"p{p}": {} for p in range(3)}, mode="fixed", parts=("base", "plus"))
    assert [block["parts"][name]["pass@1"]["value"] for name in ("base", "plus")] == [0.0, 0.0]


def test_weak_verdicts_are_counted_only_where_there_are_any():
    meta = {"p0": {}}
    strong = [with_parts("p0", s, base=True, plus=True, integrity="strong") for s in range(3)]
    assert "weak_integrity" not in summarise("toy", strong, meta, mode="fixed")
    weak = with_parts("p0", 3, base=True, plus=True, integrity="weak")
    assert summarise("toy", [*strong, weak], meta, mode="fixed")["weak_integrity"] == 1


def test_programs_do_not_vote():
    attempts, meta = grid("++ab", "++aa")
    names = summarise("toy", attempts, meta, mode="fixed", majority=False)["metrics"]
    assert set(names) == {"pass@1", "pass@2", "pass@4", "avg@n"}
