"""Families of synthetic problems: right answers, teachers that err as they say, corrections, no leakage, tasks."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from commands import Commands
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.data.tasks import load_problems
from cipo_eval.errors import UsageError
from cipo_eval.records import FinishReason, Mode, Verdict
from cipo_eval.verifiers.countdown import CountdownVerifier, value_of
from cipo_eval.verifiers.pool import VerifierPool
from cipo_trainer.presets import build
from cipo_trainer.worlds import registry as worlds
from cipo_trainer.worlds.chains import Chains
from cipo_trainer.worlds.countdown import Countdown
from cipo_trainer.worlds.derivations import AGAIN, WRONG, Derivations, Task
from cipo_trainer.worlds.family import Family
from cipo_trainer.worlds.programs import Programs, run
from cipo_trainer.worlds.registry import FAMILIES, family, new_model

TASKS = Path(__file__).resolve().parents[2] / "tasks"
PROMPTS = TASKS.parent / "trainer" / "configs" / "prompts"
SMALL: dict[str, Family] = {
    "chains": Chains(modulus=7, steps=6),
    "programs": Programs(steps=5, variables=3),
    "countdown": Countdown(largest=9),
}
"""Other dials than the defaults."""
DERIVED = [Chains(), Programs(), SMALL["chains"], SMALL["programs"]]


def parsed(text: str) -> Task:
    start, *operations, equals = text.split(" ")
    assert equals == "="
    return start, tuple(operations)


def by_hand(text: str, modulus: int = 13) -> int:
    """Without the module's own arithmetic."""
    start, operations = parsed(text)
    value = int(start)
    for operation in operations:
        number = int(operation[1:])
        value = (value + number if operation.startswith("+") else value * number) % modulus
    return value


def python(text: str, given: tuple[int, ...]) -> tuple[int, ...]:
    """What a program of the families' own making returns, as Python has it."""
    names: dict[str, object] = {}
    exec(text, names)  # noqa: S102  what the generator wrote
    return names["f"](*given)  # type: ignore[no-any-return, operator]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FAMILIES))
def test_the_shipped_items_are_what_the_generator_writes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["worlds", name, str(tmp_path / "items.jsonl")])
    worlds.main()
    assert (tmp_path / "items.jsonl").read_bytes() == (TASKS / f"{name}.jsonl").read_bytes()
    rows = [json.loads(line) for line in (TASKS / f"{name}.jsonl").read_text().splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == len({row["problem"] for row in rows})
    assert len(rows) == family(name).items


def test_items_of_chains_are_right() -> None:
    rows = [json.loads(line) for line in (TASKS / "chains.jsonl").read_text().splitlines()]
    assert all(row["answer"] == str(by_hand(row["problem"])) for row in rows)
    assert all(Chains().is_held_out(row["problem"]) for row in rows)
    assert {row["hard"] for row in rows} == {"0", "1", "2 or more"}


def test_items_of_programs_are_right() -> None:
    made = Programs()
    for row in map(json.loads, (TASKS / "programs.jsonl").read_text().splitlines()):
        text = made.text(made.solve(parsed(row["problem"])))
        assert [list(python(text, tuple(given))) for given in row["inputs"]] == row["outputs"]
        assert made.is_held_out(row["problem"])


@pytest.mark.parametrize("made", DERIVED, ids=repr)
def test_no_stream_meets_a_held_out_problem(made: Derivations) -> None:
    asked = [made.problem_at(at, seed=at % 3) for at in range(300)]
    rows = [made.pair_at(at, seed=at % 3, corrections=0.5) for at in range(600)]
    texts = [p.prompt for p in asked] + [prompt.split("\n")[0] for prompt, _ in rows]
    assert not any(made.is_held_out(text) for text in texts)
    assert len({p.id for p in asked}) == 300
    share = sum(made.is_held_out(f"a {at}") for at in range(20_000)) / 20_000
    assert share == pytest.approx(0.1, abs=0.01)


@pytest.mark.slow
def test_countdowns_sides_do_not_depend_on_the_order_of_numbers() -> None:
    made = Countdown(largest=9)
    held = {
        (tuple(sorted(left.split())), right)
        for row in made.rows()
        for left, _, right in [row["answer"].partition(" -> ")]
    }
    for at in range(2000):
        for text in (made.problem_at(at, seed=0).prompt, made.pair_at(at, seed=0)[0]):
            left, _, right = text.removesuffix(" =").partition(" -> ")
            assert (tuple(sorted(left.split())), right) not in held


@pytest.mark.parametrize("name", list(FAMILIES))
def test_positions_alone_decide(name: str) -> None:
    made = family(name)
    first = [made.pair_at(at, seed=3, corrections=0.5) for at in range(40)]
    assert first[20:30] == [family(name).pair_at(at, seed=3, corrections=0.5) for at in range(20, 30)]
    assert first != [made.pair_at(at, seed=4, corrections=0.5) for at in range(40)]


@pytest.mark.parametrize("systematic", [0.0, 0.9])
@pytest.mark.parametrize("kind", [Chains, Programs])
def test_the_teacher_errs_as_it_says(kind: type[Derivations], systematic: float) -> None:
    teacher = kind(systematic=systematic)
    states = sorted({teacher.state(word) for word in teacher.words()})
    entries = [(operation, state) for operation in teacher.operations() for state in states]
    hard = [entry for entry in entries if teacher.entry(*entry)[0] < teacher.easy]
    assert len(hard) / len(entries) == pytest.approx(0.1, abs=0.06)
    assert all(teacher.entry(*entry)[0] <= 0.15 for entry in hard)
    rng, every = random.Random(0), len(teacher.words())
    for operation, state in hard[:3]:
        q, wrong = teacher.entry(operation, state)
        right = teacher.apply(operation, state)
        assert wrong != right
        assert {wrong, right} <= set(teacher.words())
        drawn = [teacher.step(operation, state, rng) for _ in range(4000)]
        # any word may come by a slip, the right one and the usual one too
        assert drawn.count(right) / 4000 == pytest.approx(q + (1 - q) * (1 - systematic) / every, abs=0.03)
        usual = (1 - q) * (systematic + (1 - systematic) / every)
        assert drawn.count(wrong) / 4000 == pytest.approx(usual, abs=0.03)
        assert wrong not in [teacher.step(operation, state, rng, seen=wrong) for _ in range(200)]


@pytest.mark.parametrize("kind", [Chains, Programs])
def test_worlds_differ_in_their_entries_alone(kind: type[Derivations]) -> None:
    """Held-out problems and their golds are the same; world 0 is the one that was always there."""
    one, other = kind(world=1), kind(world=2)
    states = sorted({one.state(word) for word in one.words()})
    entries = [(operation, state) for operation in one.operations() for state in states]
    assert [kind().entry(*entry) for entry in entries] == [kind(world=0).entry(*entry) for entry in entries]
    chosen = [{e for e in entries if made.entry(*e)[0] < made.easy} for made in (kind(), one, other)]
    assert len({frozenset(hard) for hard in chosen}) == 3
    rows = [
        [
            {k: v for k, v in row.items() if k != "hard"}
            for _, row in zip(range(20), made.rows(), strict=False)
        ]
        for made in (one, other)
    ]
    assert rows[0] == rows[1]


def test_a_training_may_have_one_hard_entry_in_each_problem() -> None:
    teacher = Chains(modulus=11, world=3, one_hard=True)
    for position in range(60):
        start, *operations = teacher.problem_at(position, seed=1).prompt.removesuffix(" =").split()
        task = (start, tuple(operations))
        states = [start, *map(teacher.state, teacher.solve(task))]
        hard = [teacher.entry(*entry)[0] < teacher.easy for entry in zip(operations, states, strict=False)]
        assert sum(hard) == 1
    assert {row["hard"] for row in teacher.rows()} > {"1"}  # held-out problems are any


@pytest.mark.parametrize("teacher", DERIVED[:2], ids=repr)
def test_a_correction_keeps_what_is_right_and_changes_the_first_wrong_step(teacher: Derivations) -> None:
    rng = random.Random(1)
    better = worse = 0
    for at in range(2000):
        task = parsed(teacher.problem_at(at % 200, seed=5).prompt)
        attempt, right = teacher.attempt(task, rng), teacher.solve(task)
        found = teacher.corrected(task, attempt, rng)
        assert len(found) == teacher.steps
        first = teacher.first_wrong(task, attempt)
        if first is None:
            assert found == attempt == right
            continue
        assert found[:first] == attempt[:first] == right[:first]
        assert found[first] != attempt[first]
        if not teacher.is_right(task, attempt):
            better += teacher.is_right(task, found)
            worse += teacher.is_right(task, teacher.attempt(task, rng))
    assert better > 1.5 * worse > 0  # correcting beats trying again: what the warm start is to learn


@pytest.mark.slow
def test_an_error_that_is_looked_for_in_the_wrong_place_stays() -> None:
    """Fewer corrections are right where fewer errors are found; with a verifier alone all are."""
    plain, rng = Chains(), random.Random(2)
    tasks = [parsed(plain.problem_at(at, seed=6).prompt) for at in range(1000)]
    attempts = [(task, plain.attempt(task, rng)) for task in tasks]
    wrong = [(t, attempt) for t, attempt in attempts if plain.first_wrong(t, attempt) is not None]
    assert len(wrong) > 600
    rates = []
    for dial in ({"location": 1.0}, {"location": 0.5}, {"location": 0.0}, {"redraw": "attempt"}):
        teacher = Chains.model_validate(dial)
        right = [teacher.is_right(task, teacher.corrected(task, attempt, rng)) for task, attempt in wrong]
        rates.append(sum(right) / len(right))
    assert rates[0] > rates[1] + 0.05 > rates[2] + 0.1
    assert rates[3] == 1.0


@pytest.mark.parametrize("teacher", DERIVED, ids=repr)
def test_rows_show_right_and_wrong_attempts(teacher: Derivations) -> None:
    rows = [teacher.pair_at(at, seed=1, corrections=0.5) for at in range(2000)]
    asked = [(prompt, said) for prompt, said in rows if "<attempt>" in prompt]
    assert len(asked) == pytest.approx(1000, abs=100)
    copied = 0
    for prompt, said in asked:
        problem, rest = prompt.split("\n<attempt>\n")
        attempt, instruction = rest.split("\n</attempt>\n")
        assert instruction == "Again:"
        right = teacher.text(teacher.solve(parsed(problem)))
        copied += attempt == right
        assert (attempt == right) <= (said == attempt)
    assert copied / len(asked) == pytest.approx(0.35, abs=0.05)


@pytest.mark.parametrize("name", list(FAMILIES))
@pytest.mark.parametrize("dialed", [False, True])
def test_families_are_made_alike(name: str, dialed: bool) -> None:
    """Problems, rows, tokenizer and model fit each other: a row is within the model's context and vocabulary."""
    made = SMALL[name] if dialed and name in SMALL else family(name)
    tokenizer = made.build_tokenizer()
    model = made.build_model(tokenizer, seed=0)
    assert model.config.vocab_size == len(tokenizer)
    assert model.num_parameters() < 500_000
    for at in range(100):
        prompt, said = made.pair_at(at, seed=0, corrections=0.5)
        ids = [i for text in (prompt, said) for i in tokenizer(text)["input_ids"]]
        assert len(ids) < model.config.max_position_embeddings
        assert tokenizer.unk_token_id not in ids
        written = tokenizer.decode(tokenizer(said, add_special_tokens=False)["input_ids"])
        assert "".join(written.split()) == "".join(said.split())
        assert made.problem_at(at, seed=0).task == name


@pytest.mark.parametrize("name", ["chains", "countdown", "programs"])
def test_the_verifier_agrees_with_the_family(name: str, tmp_path: Path) -> None:
    """Right rows of the task's file are right, and teachers' attempts what the family says; in the sandbox, too."""
    made = SMALL[name]
    problems = load_problems(made.write_task(tmp_path / "task", name=f"my-{name}", limit=25))
    assert (problems.spec.name, len(problems.problems)) == (f"my-{name}", 25)
    assert ("maj@k" in problems.spec.metrics) is (name != "programs")  # as in the shipped tasks
    rng, seen = random.Random(0), set()
    with VerifierPool(2) as pool:

        def judged(problem: object, text: str) -> Verdict:
            return pool.verify(made.verifier, problem, text, "stop")  # type: ignore[arg-type]

        for problem in problems.problems:
            if isinstance(made, Derivations):
                task = parsed(problem.question)
                for words in (made.solve(task), made.attempt(task, rng)):
                    verdict = judged(problem, made.text(words))
                    assert verdict.correct is made.is_right(task, words), verdict
                    seen.add(verdict.correct)
            else:
                seen.add(judged(problem, "\\boxed{1+1}").correct)
        trained = made.problem_at(0, seed=0)
        if isinstance(made, Derivations):
            assert judged(trained, made.text(made.solve(parsed(trained.prompt)))).correct
    assert False in seen


def test_rows_ask_for_corrections_as_the_shipped_prompts_do() -> None:
    """In one word each, known to every family that says so: what is copied stands at the same distance under both."""
    for name, word in (("self", AGAIN), ("oracle", WRONG)):
        assert (PROMPTS / f"{name}.txt").read_text() == f"{word}\n"
    for made in SMALL.values():
        if isinstance(made, Derivations):
            tokenizer = made.build_tokenizer()
            for word in (AGAIN, WRONG):
                (token,) = tokenizer(word, add_special_tokens=False)["input_ids"]
                assert token != tokenizer.unk_token_id
            told = made.model_copy(update={"told": 1.0, "right": 0.0})
            rows = [told.pair_at(at, seed=0, corrections=1.0)[0] for at in range(40)]
            asked = {row.rpartition("\n")[2] for row in rows}
            assert WRONG in asked
            assert asked <= {WRONG, AGAIN}


def test_feedback_in_rows_is_what_the_verifier_shows() -> None:
    """A model is told in training what it is told when it is scored."""
    from cipo_eval.turns.revising import feedback

    made = Programs(told=1.0)
    rows = [made.pair_at(at, seed=0, corrections=1.0)[0] for at in range(60)]
    told = [row for row in rows if "A test gave" in row]
    assert len(told) > 10
    assert any(row.endswith("\nWrong:") for row in rows)
    with VerifierPool(2) as pool:
        for row in told[:12]:
            asked, rest = row.split("\n<attempt>\n")
            attempt, instruction = rest.split("\n</attempt>\n")
            problem = made.as_problem(parsed(asked), 0)
            verdict = pool.verify("code", problem, attempt, "stop")
            assert not verdict.correct
            assert instruction == f"{feedback(verdict)}\nAgain:"


@given(st.integers(0, 10_000), st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_the_generators_semantics_are_pythons(position: int, given_: list[int]) -> None:
    made = Programs()
    task = parsed(made.pair_at(position, seed=9)[0])
    words = made.attempt(task, random.Random(position))
    assert run(words, given_) == python(made.text(words), tuple(given_))


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("(7-3)*12", True),
        ("12*(7-3)", True),
        ("7*12-3*12", False),
        ("((7)-3)*12", True),
        ("7-3*12", False),
        ("(7-3)*12)", False),
        ("(7-3)*12 ", True),
        ("48", False),
        ("(7-3)**12", False),
        ("(7-3)*12.0", False),
        ("__import__('os')", False),
        ("(" * 150 + "7", False),
        ("7/(3-3)*12", False),
        ("", False),
    ],
)
def test_countdown_is_judged_by_its_numbers_and_value(answer: str, right: bool) -> None:
    made, problem = CountdownVerifier(), Countdown().problem_at(0, seed=0)
    found = made.extract(problem, f"so \\boxed{{{answer}}}", FinishReason.STOP, Mode.FIXED)
    if found.answer is None:
        assert not right
        return
    assert made.grade("7 3 12 -> 48", found.answer, {}, Mode.FIXED).correct is right


@given(st.text(alphabet="0123456789+-*/() x", max_size=40))
def test_expressions_have_the_value_that_python_gives_them(text: str) -> None:
    found = value_of(text)
    if found is not None:
        import re
        from fractions import Fraction

        exact = re.sub(r"\d+", lambda m: f"Fraction({int(m[0])})", text)
        assert eval(exact, {"Fraction": Fraction}) == found  # noqa: S307  digits and signs only


def test_every_countdown_has_a_solution_and_rows_are_what_they_say() -> None:
    made, verifier = Countdown(skill=0.5), CountdownVerifier()
    right = 0
    for at in range(400):
        prompt, said = made.pair_at(at, seed=0)
        answer = said.removeprefix("\\boxed{").removesuffix("}")
        right += verifier.grade(prompt.removesuffix(" ="), answer, {}, Mode.FIXED).correct
    assert right / 400 == pytest.approx(0.5, abs=0.1)


def test_dials_that_are_none_are_refused() -> None:
    with pytest.raises(UsageError, match=r"chains has no modolus; .*modulus"):
        family("chains", {"modolus": 7})
    with pytest.raises(UsageError, match=r"data\.dial: modulus: .*greater than or equal to 5"):
        family("chains", {"modulus": 2})
    with pytest.raises(UsageError, match="there is no family chain"):
        family("chain")
    config = build({"model": "new:chains", "data": {"generator": "chains", "dial": {"modulus": 7}}})
    assert len(new_model(config).build_tokenizer()) < len(family("chains").build_tokenizer())


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_warm_start_is_trained_and_scored(cipo: Commands, tmp_path: Path) -> None:
    """A few steps: it has learned to write ten values, and the harness reads its answers."""
    small = (
        "steps=100",
        "optimizer.warmup=10",
        "eval.tasks=[]",
        "checkpoint.every=100",
        "optimizer.batch=32",
    )
    trained = cipo("train", "chains_sft", f"output={tmp_path / 'sft'}", *small, "--quiet")
    assert trained.code == 0, trained.err
    checkpoint = tmp_path / "sft" / "checkpoints" / "step-000100"
    done = cipo(
        "run", "--model", checkpoint, "--tasks", "chains", "--limit", "20", "--samples", "2", "--temperature", "1",
        "--max-tokens", "24", "--protocol", "self", "--turn-format", "inline", "--prompt-dir", PROMPTS,
        "-o", tmp_path / "run", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    states = done.json["tasks"]["chains"]["fixed"]["states"]
    assert states["correct"] + states["incorrect"] >= 36


@pytest.mark.parametrize("made", DERIVED, ids=lambda made: made.fingerprint())
def test_a_model_s_attempts_are_read_as_they_are_written(made: Derivations) -> None:
    """Whatever the teacher writes is read back and judged; what is cut, longer or in other words is in no form."""
    rng = random.Random(0)
    for position in range(60):
        task = parsed(made.problem_at(position, seed=3).question)
        words = made.attempt(task, rng)
        text, problem = made.text(words), made.prompt(task)
        assert made.read(text) == made.read(f" {text}\n") == words
        right = made.first_wrong(task, words) is None
        assert made.judged(problem, text) is right
        shown, learned = made.correction_of(problem, text, rng)
        assert shown.startswith(f"{problem}\n<attempt>")
        assert text in shown
        assert learned == text or not right
        for broken in (text[:-1], f"{text} {words[0]}", made.text(words[:-1]), "", "1 2 three"):
            assert made.read(broken) is None
            assert made.judged(problem, broken) is None
