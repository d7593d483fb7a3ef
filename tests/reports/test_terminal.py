"""The results table: numbers whole at every width, nothing executed or hidden, failures in sight."""

import io
import json
import random
import re
from pathlib import Path

import pytest
from rich.console import Console

from cipo_eval.analysis.comparison import Comparison, Row
from cipo_eval.analysis.figures import CORRECTION_RATE
from cipo_eval.analysis.summary import summarise
from cipo_eval.metrics.differences import Difference
from cipo_eval.records import Attempt, Mode, State, Verdict
from cipo_reports.terminal import render
from cipo_reports.terminal_comparison import render as render_comparison
from cipo_reports.terminal_turns import render_turns


def block(task="toy", *, problems=40, samples=4, rate=0.5, mode="fixed", failed=0, meta=None, missing=0):
    """A real block of simulated attempts; the first ``failed`` ones have a verifier that failed."""
    draw = random.Random(f"{task}{problems}{samples}{rate}")
    attempts = []
    for number in range(problems * samples):
        right = draw.random() < rate
        state = State.CORRECT if right else draw.choice([State.INCORRECT, State.NO_ANSWER])
        if number < failed:
            right, state = False, State.VERIFIER_TIMEOUT
        attempts.append(
            Attempt(
                task=task,
                problem=f"p{number % problems}",
                sample=number // problems,
                prompt_hash="",
                seed=0,
                text="[red]model text[/red]",
                finish_reason=draw.choice(["stop", "length"]),
                prompt_tokens=9,
                completion_tokens=draw.randint(1, 30_000),
                seconds=1.0,
                verdicts={mode: Verdict(correct=right, state=state, extracted="1" if right else "[bold]2")},
            )
        )
    asked = {f"p{index}": (meta or {}) for index in range(problems + missing)}
    return summarise(task, attempts, asked, mode=mode, bootstrap=200)


def show(tasks, width=120, *, breakdown=False, **options):
    console = Console(file=io.StringIO(), width=width, **options)
    render({"schema": 1, "tasks": tasks}, console, breakdown=breakdown)
    return console.file.getvalue()


def tasks():
    return {
        "math500": {"fixed": block("math500", problems=500, samples=8)},
        "aime24": {"fixed": block("aime24", problems=30, samples=8, rate=0.0)},
        "olympiadbench": {"fixed": block("olympiadbench", problems=675, samples=8, rate=0.99, failed=7)},
    }


def percent(figure):
    low, high = (f"{100 * end:.1f}" for end in figure["ci"])
    mark = "*" if figure["method"] == "clopper_pearson" else ""
    return f"{100 * figure['value']:.1f} [{low}, {high}]{mark}"


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40, 20])
def test_every_score_stands_whole_in_the_row_of_its_task(width):
    results = tasks()
    lines = show(results, width).splitlines()
    for task, modes in results.items():
        row = next(line for line in lines if line.startswith(task[:6]))
        assert percent(modes["fixed"]["metrics"]["pass@1"]) in row
    # Below 30 columns even names and scores are too wide: lines then overflow rather than lose digits.
    assert max(map(len, lines)) <= max(width, 32)


def test_all_but_the_tokens_fit_into_80_columns_and_the_rest_is_named():
    wide, narrow = show(tasks(), 120), show(tasks(), 80)
    assert "tokens" in wide.splitlines()[1]
    assert "Too narrow" not in wide
    for title in ("pass@8", "maj@8", "trunc", "ans %", "failed", "x n"):
        assert title in "".join(narrow.splitlines()[:2])
    assert "Too narrow for: tokens" in narrow


def test_all_figures_are_those_of_the_block():
    one = block(samples=8, failed=3, missing=2)
    row = next(line for line in show({"toy": {"fixed": one}}, 160).splitlines() if line.startswith("toy"))
    cells = re.split(r"\s{2,}", row.strip())
    assert cells == [
        "toy",
        "40/42 x 8",
        percent(one["metrics"]["pass@1"]),
        percent(one["metrics"]["pass@8"]),
        percent(one["metrics"]["maj@8"]),
        f"{100 * one['truncated']:.1f}",
        f"{100 * one['state_shares']['no_answer']:.1f}",
        "3",
        f"{one['tokens']['completion']['mean']:.0f}",
    ]


def test_macro_average_only_over_several_tasks_and_per_mode():
    results = tasks()
    values = [modes["fixed"]["metrics"]["pass@1"]["value"] for modes in results.values()]
    row = next(line for line in show(results).splitlines() if line.startswith("macro average"))
    mean = 100 * sum(values) / 3
    found, low, high = map(float, re.search(r"([\d.]+) \[([\d.]+), ([\d.]+)\]", row).groups())
    assert found == pytest.approx(mean, abs=0.051)
    assert low < found < high
    assert "macro" not in show({"math500": results["math500"]})
    results["aime24"]["paper"] = block("aime24", problems=30, samples=8, mode="paper")
    lines = show(results).splitlines()
    assert sum(line.startswith("macro") for line in lines) == 1
    assert any(line.startswith("aime24 (paper)") for line in lines)


def test_tasks_with_different_samples_never_average_different_k():
    results = {"a": {"fixed": block("a", samples=2)}, "b": {"fixed": block("b", samples=8)}}
    lines = show(results).splitlines()
    assert "pass@n" in lines[0]
    assert "maj@n" in lines[0]
    assert re.split(r"\s{2,}", next(line for line in lines if line.startswith("macro")))[3] == "-"
    results["b"]["fixed"]["metrics"].pop("pass@8")  # as with --k 1,4: the largest k is not n
    assert "pass@k" in show(results).splitlines()[0]
    assert re.search(r"[\]*] @4 ", show(results))


def test_a_single_sample_has_no_columns_for_more():
    text = show({"toy": {"fixed": block(samples=1)}})
    assert "pass@1" in text
    assert "maj@" not in text


def test_no_right_answer_is_not_shown_as_certainty():
    text = show({"aime24": {"fixed": block("aime24", problems=30, rate=0.0)}})
    assert "0.0 [0.0, 11.6]*" in text
    assert "* binomial bound" in text
    # Small groups have the mark even where the task as a whole has not; and no mark, no explanation.
    one = block(samples=1, meta={"level": "3"})
    one["breakdown"]["level"]["3"]["method"] = "clopper_pearson"
    assert "*" not in show({"toy": {"fixed": one}})
    assert show({"toy": {"fixed": one}}, breakdown=True).count("*") == 2


def test_simulated_majorities_are_marked():
    one = block()
    one["metrics"]["maj@4"]["exact"] = False
    assert re.search(r"~\d", show({"toy": {"fixed": one}}))
    assert "~ majority vote simulated" in show({"toy": {"fixed": one}})


def test_failures_of_the_verifier_are_red_and_spelt_out():
    text = show({"toy": {"fixed": block(failed=3)}}, force_terminal=True, color_system="standard")
    assert re.search(r"\x1b\[1;31m *3", text)
    assert "! toy (fixed): verifier timeouts 3, verifier errors 0" in re.sub(r"\x1b\[[\d;]*m", "", text)
    clean = show({"toy": {"fixed": block()}}, force_terminal=True, color_system="standard")
    assert "\x1b[1;31m" not in clean
    assert "!" not in clean


def test_disagreements_of_the_modes_are_counted():
    entry = {"fixed": block(), "paper": block(mode="paper"), "disagreements": [{}, {}]}
    assert "toy: fixed and paper mode differ on 2 attempts" in show({"toy": entry})


def test_names_are_plain_text():
    name = "[red]x[/red]\x1b[2J\u202e"
    meta = {"level": "[link=http://evil]5[/link]\n\x07"}
    entry = {"fixed": block(failed=1, meta=meta), "disagreements": [{}]}
    text = show({name: entry}, force_terminal=True, color_system="standard", breakdown=True)
    assert "[red]x[/red]" in text
    assert "[link=http" in text
    for hidden in ("\x1b[2J", "\u202e", "\x07", "\x1b]8"):
        assert hidden not in text


def test_breakdown_on_request():
    one = block(meta={"level": "3"})
    assert "by level" not in show({"toy": {"fixed": one}})
    text = show({"toy": {"fixed": one}}, breakdown=True)
    group = one["breakdown"]["level"]["3"]
    assert re.search(rf"^3 +40 +160 +{100 * group['pass@1']:.1f} \[", text, re.MULTILINE)


def test_a_plain_log_has_no_escapes_and_ascii_output_stays_ascii():
    assert "\x1b" not in show(tasks(), 80)
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True), width=80)
    render({"tasks": {"toy": {"fixed": block(failed=1)}}}, console)
    assert b"toy" in raw.getvalue()


def test_nothing_scored_yet():
    assert "No results" in show({})
    assert "No results" in show({"toy": {"missing_attempts": 4}})


def test_parts_have_rows_of_their_own():
    whole = block("humaneval", problems=164, samples=1, rate=0.4)
    base, plus = block("b", problems=164, samples=1, rate=0.6), whole
    whole["parts"] = {"base": base["metrics"], "plus": plus["metrics"]}
    text = show({"humaneval": {"fixed": whole}, "math500": {"fixed": block("math500")}}, width=140)
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert percent(base["metrics"]["pass@1"]) in lines["humaneval base"]
    assert percent(whole["metrics"]["pass@1"]) in lines["humaneval plus"]
    assert "164 x 1" in lines["humaneval base"]
    macro = (whole["metrics"]["pass@1"]["value"] + block("math500")["metrics"]["pass@1"]["value"]) / 2
    assert f"{100 * macro:.1f}" in lines["macro average"], "parts are no tasks of their own"
    narrow = show({"humaneval": {"fixed": whole}}, width=60)
    assert percent(base["metrics"]["pass@1"]) in narrow


def test_weak_verdicts_are_named():
    whole = {**block("mbpp"), "weak_integrity": 3}
    text = " ".join(show({"mbpp": {"fixed": whole}}).split())
    assert "mbpp (fixed): 3 verdicts are weak" in text
    assert "weak" not in show(tasks())


def test_intervals_of_all_scores_where_there_is_room_and_none_where_there_is_not():
    results = {"math500": {"fixed": block("math500", problems=300, samples=8)}}
    metrics = results["math500"]["fixed"]["metrics"]
    wide, narrow = show(results, 160), show(results, 60)
    for figure in ("pass@1", "pass@8", "maj@8"):
        assert percent(metrics[figure]) in wide
    assert percent(metrics["pass@8"]) not in narrow
    assert f"{100 * metrics['pass@8']['value']:.1f}" in narrow
    assert "intervals of" in narrow


def turns_of(made, width):
    """The table of turns of a made-up run, and the run's results."""
    results = json.loads((made["CIPO"][0] / "results.json").read_text())
    console = Console(file=io.StringIO(), width=width)
    render_turns(results, console)
    return console.file.getvalue(), results


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40])
def test_revisions_have_intervals_as_far_as_there_is_room(made, width):
    text, results = turns_of(made, width)
    found = results["tasks"]["sums"]["protocols"]["self"]["fixed"]
    row = next(line for line in text.splitlines() if re.match(r"sums +self", line))
    lift = found["lift"]["correction_lift"]
    low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in lift["ci"])
    whole = f"{100 * lift['value']:+.1f} [{low}, {high}]".replace("-", "−")
    last = percent(found["by_turn"]["acc@t3"])
    assert width != 200 or (whole in row and last in row)
    assert width > 60 or (whole not in row and last not in row)
    assert f"{100 * found['by_turn']['acc@t3']['value']:.1f}" in row
    assert max(len(line) for line in text.splitlines()) <= max(width, 50)


def test_replies_that_a_server_withheld_have_a_column_and_a_line():
    one = block()
    one["states"]["filtered"] = 3
    text = " ".join(show({"toy": {"fixed": one}}).split())
    assert "with-" in text
    assert "! toy (fixed): a server withheld 3 replies; they count as wrong" in text
    assert "with-" not in show({"toy": {"fixed": block()}})


def test_attempts_that_were_not_asked_for_are_told(made):
    text = show({"toy": {"fixed": block(), "not_asked": 12}})
    assert "toy: 12 attempts on disk were not asked for and do not count" in text
    revised = json.loads((made["CIPO"][0] / "results.json").read_text())["tasks"]["sums"]["protocols"]
    assert "toy: 5 attempts" in show({"toy": {"protocols": revised, "not_asked": 5}})
    assert "not asked" not in show(tasks())


def comparison_of(p):
    difference = Difference(
        first=0.5, second=0.4, difference=-0.1, ci=(-0.15, -0.05), p=p, mde=0.05, problems=60
    )
    row = Row(task="sums", protocol="self", figure=CORRECTION_RATE.at(2), difference=difference, p_holm=p)
    return Comparison(first=Path("a"), second=Path("b"), mode=Mode.FIXED, rows=(row,), notes=())


@pytest.mark.parametrize(("p", "stars"), [(0.0004, "***"), (0.03, "*"), (0.4, "")])
def test_compare_says_beside_the_stars_that_a_run_is_one_training(p, stars):
    console = Console(file=io.StringIO(), width=120)
    render_comparison(comparison_of(p), console)
    text = console.file.getvalue()
    assert "−10.0 [−15.0, −5.0]" in text
    assert "self correction rate" in text
    assert (f"{stars}‡" in text) == bool(stars)
    assert ("one seed: says nothing about another training" in text) == bool(stars)


def test_a_terminal_without_minus_signs_gets_hyphens():
    raw = io.BytesIO()
    console = Console(file=io.TextIOWrapper(raw, encoding="ascii", write_through=True), width=120)
    render_comparison(comparison_of(0.0004), console)
    assert b"-10.0 [-15.0, -5.0]" in raw.getvalue()
