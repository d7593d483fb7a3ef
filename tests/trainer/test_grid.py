"""Studies: the grid's jobs, their order and identity, and what becomes of jobs that fail, are done or are torn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.settings import merged
from cipo_trainer.config import Config
from cipo_trainer.presets import build
from cipo_trainer.sections import config_dir
from cipo_trainer.study.conclusions import accepted, comparisons
from cipo_trainer.study.grid import (
    Job,
    StudyConfig,
    jobs,
    read_study_config,
    slug,
    study_file,
    to_yaml,
    write_tasks,
)
from cipo_trainer.study.jobs import Ledger, Process, Runner, configuration, describe, filled

STUDIES = sorted(path.stem for path in (config_dir() / "studies").glob("*.yaml"))
TINY = """
seeds: [0, 1]
families:
  chains: {dial: {modulus: 5, steps: 2}, items: 12}
  slips: {family: chains, dial: {modulus: 5, steps: 2, systematic: 0.0}, items: 12, warm: {steps: 5}}
shape: {layers: 1, hidden: 16, inner: 16, heads: 1}
warm: {steps: 3, data: {corrections: 0.5}, optimizer: {batch: 4}}
train: {steps: 2, rollout: {problems: 4, samples: 2, max_tokens: 4}}
arms:
  warm start:
  GRPO: {algorithm: grpo}
  "CIPO, λ = 1": {algorithm: cipo, steps: 4, rollout: {problems: 2}, correction: {prompt_dir: prompts}}
baseline: GRPO
evaluate: {samples: 2, max_tokens: 4, temperatures: [1, 0]}
"""

DEMO_OF_0_1_0 = {
    "short-chains/seed-0/warm/train": "cf9ffb66c2b5a777",
    "short-chains/seed-0/grpo/train": "aee259336abe793d",
    "short-chains/seed-0/cipo/train": "1b99ebe7943ac560",
    "short-chains/seed-0/warm/run-t1": "6a39e70e3799368c",
    "short-chains/seed-0/grpo/run-t1": "d31e45ad2e0fc0ca",
    "short-chains/seed-0/cipo/run-t1": "8ea1ddca6faebc6f",
}


@pytest.fixture
def tiny(tmp_path: Path) -> StudyConfig:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return read_study_config(path)


def corrections(config: Config) -> int:
    """Of a step."""
    if config.stream is None:
        return 0
    return int(config.stream.fraction * config.rollout.problems) * (
        config.stream.samples or config.rollout.samples
    )


def turns(config: Config) -> int:
    """Of each problem: all attempts are revised, or none."""
    return 2 if config.algorithm == "multi_turn_grpo" else 1


@pytest.mark.parametrize("name", STUDIES)
def test_shipped_studies_are_valid(name: str) -> None:
    """Every training in it can be built, and arms that are compared at equal budget draw as many attempts."""
    config = read_study_config(study_file(name))
    every = jobs(config)
    assert len({job.name for job in every}) == len(every)
    for job in every:
        if job.config:
            build(job.config)
    drawn = {
        arm: c.steps * (c.rollout.problems * c.rollout.samples * turns(c) + corrections(c))
        for arm, over in config.arms.items()
        # but those whose name says otherwise
        if over
        and not any(word in arm for word in ("half", "processed", "2.6×", "1.28×", "1.3×", "DAPO", "LTE"))
        for c in [build(merged(config.train, over))]
    }
    assert len(set(drawn.values())) == 1, drawn


def test_the_grid_is_families_by_seeds_by_arms(tiny: StudyConfig) -> None:
    every = jobs(tiny)
    names = [job.name for job in every]
    assert len(names) == len(set(names)) == 2 * 2 * (1 + 2 + 3 * 2)
    for place, job in enumerate(every):
        assert all(names.index(need) < place for need in job.needs)  # one by one is possible
    by_name = {job.name: job for job in every}
    cipo = by_name["slips/seed-1/cipo-lambda-1/train"]
    assert cipo.needs == ("slips/seed-1/warm/train",)  # a warm start of its own for each seed and family
    assert cipo.config["seed"] == 1
    assert cipo.config["data"]["dial"]["systematic"] == 0.0
    assert by_name["slips/seed-0/warm/train"].units == 5
    assert by_name["chains/seed-0/warm/train"].units == 3
    score = by_name["chains/seed-0/cipo-lambda-1/run-t0"]
    assert "{study}/chains/seed-0/cipo-lambda-1/train/checkpoints/step-000004" in score.arguments
    assert score.arguments[score.arguments.index("--samples") + 1] == "1"  # greedy: more would be the same
    assert "warm start" in describe(by_name["chains/seed-0/warm/train"], 0.5)


def test_a_sweep_is_an_arm_for_each_combination(tmp_path: Path) -> None:
    """With what its positions say over what all have; the study that is written down has the arms themselves."""
    path = tmp_path / "tiny.yaml"
    dials = "{share: {a: {rollout: {problems: 4}}, b: {rollout: {problems: 2}}}, rho: {'0': {correction: {rho: 0}}}}"
    over = "{algorithm: cipo, correction: {controller: fixed}}"
    path.write_text(TINY + f"sweeps: [{{name: '{{share}} at {{rho}}', over: {over}, dials: {dials}}}]\n")
    config = read_study_config(path)
    assert list(config.arms)[-2:] == ["a at 0", "b at 0"]
    assert config.arms["b at 0"] == {
        "algorithm": "cipo",
        "correction": {"controller": "fixed", "rho": 0},
        "rollout": {"problems": 2},
    }
    path.write_text(to_yaml(config))
    assert read_study_config(path) == config
    with pytest.raises(UsageError, match="must name its dials: share, rho"):
        read_study_config(path, ["sweeps=[{name: '{share}', dials: " + dials + "}]"])


def test_arms_go_over_what_a_family_has_of_its_own(tmp_path: Path) -> None:
    """An arm is defined by what it changes: with a family's number of problems, half of them are its own half; an arm
    may lift a budget that the family has. Stages likewise."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    own = "{steps: 3, rollout: {problems: 8}, stop: {generated_tokens: 99}}"
    free = "arms.longer={algorithm: grpo, steps: 6, stop: {generated_tokens: null}}"
    stages = "stages=[{steps: 1}, {steps: 2}]"
    every = {
        job.name: job.config
        for job in jobs(read_study_config(path, [f"families.slips.train={own}", free, stages]))
    }
    grpo, cipo, longer = (every[f"slips/seed-0/{arm}/train"] for arm in ("grpo", "cipo-lambda-1", "longer"))
    assert (grpo["steps"], grpo["rollout"]["problems"]) == (3, 8)
    assert (cipo["steps"], cipo["rollout"]["problems"]) == (4, 2)
    assert (longer["steps"], longer["stop"]["generated_tokens"]) == (6, None)
    assert [every[f"slips/seed-0/warm/{stage}"]["steps"] for stage in ("stage-1", "train")] == [1, 2]


STAGED = [
    "stages=[{steps: 2, data: {corrections: 0.0}}, {steps: 4, stop: {figures: {self/retention: 0.75}}}]",
    "warm.eval={every: 2, protocol: [direct, self]}",
]


def test_a_warm_start_in_stages_is_trained_until_it_is_accepted(tmp_path: Path) -> None:
    """Each stage goes on from the one before; arms begin with, and are compared with, whatever the last one is when it
    is accepted. Without stages every job is what it was."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    every = {job.name: job for job in jobs(read_study_config(path, STAGED))}
    first, last = every["chains/seed-1/warm/stage-1"], every["chains/seed-1/warm/train"]
    assert (first.needs, last.needs) == ((), (first.name,))
    assert last.arguments[-2:] == ("--init-from", f"{{study}}/{first.name}")
    assert [job.kind for job in (first, last)] == ["warm", "warm"]
    assert [job.strict for job in (first, last)] == [False, True]
    assert first.config["data"]["corrections"] == 0.0
    assert last.config["data"]["corrections"] == 0.5
    assert last.config["stop"] == {"figures": {"chains/self/retention": 0.75}}
    assert every["slips/seed-1/warm/train"].config["stop"] == {"figures": {"slips/self/retention": 0.75}}
    assert every["chains/seed-1/grpo/train"].needs == (last.name,)
    assert f"{{newest}}{{study}}/{last.name}" in every["chains/seed-1/warm/run-t1"].arguments
    grpo = every["chains/seed-1/grpo/run-t1"]
    assert any(word.endswith("/checkpoints/step-000002") for word in grpo.arguments)
    plain = {job.name: job for job in jobs(read_study_config(path))}
    assert plain[grpo.name].identity == grpo.identity
    with pytest.raises(UsageError, match=r"stop\.figures are for the last one"):
        read_study_config(path, ["stages=[{stop: {figures: {self/retention: 1}}}, {}]", STAGED[1]])


def test_seeds_whose_warm_start_was_not_accepted_are_left_out(tmp_path: Path) -> None:
    """Of what is compared, and it is said; where none was accepted nothing is compared. A warm start that failed
    otherwise is no reason."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    plain = read_study_config(path)
    assert accepted(plain, tmp_path) == []
    config = read_study_config(path, STAGED)
    every = {job.name: job for job in jobs(config)}
    whole = [len(runs) for runs in comparisons(config, tmp_path)[0].arms.values()]
    assert whole == [8, 8, 8]  # two families, two seeds, each with a run and a training
    for seed, value, code in ((0, None, 1), (1, 0.8125, 0)):
        warm = every[f"chains/seed-{seed}/warm/train"]
        (tmp_path / warm.name).mkdir(parents=True)
        rows = [
            {"step": step, "kind": "eval", "chains/self/retention": v} for step, v in ((0, 0.5), (2, value))
        ]
        (tmp_path / warm.name / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        Ledger(tmp_path).add(warm, code, 1.0)
    Ledger(tmp_path).add(every["slips/seed-0/warm/train"], 137, 1.0)
    assert accepted(config, tmp_path) == [
        "Warm start of chains, seed-0: not accepted, and left out, after 2 steps of its last stage, "
        "self/retention undefined (≥ 0.75).",
        "Warm start of chains, seed-1: accepted after 2 steps of its last stage, self/retention 0.81 (≥ 0.75).",
    ]
    compared = comparisons(config, tmp_path)[0].arms
    assert [len(runs) for runs in compared.values()] == [6, 6, 6]
    assert not any("chains/seed-0" in str(place) for runs in compared.values() for place in runs)
    without = Ledger(tmp_path).left_out(list(every.values()))
    assert without == {n for n in every if n.startswith("chains/seed-0/") and not n.endswith("stage-1")}
    for name in ("chains/seed-1", "slips/seed-0", "slips/seed-1"):
        Ledger(tmp_path).add(every[f"{name}/warm/train"], 1, 1.0)
    with pytest.raises(UsageError, match="no warm start was accepted"):
        comparisons(config, tmp_path)


def test_an_evaluation_takes_the_last_checkpoint_that_there_is(tmp_path: Path) -> None:
    for step in (2, 10):
        (tmp_path / "warm/train/checkpoints" / f"step-{step:06d}" / "trainer_state").mkdir(parents=True)
        (tmp_path / "warm/train/checkpoints" / f"step-{step:06d}" / "trainer_state/state.json").write_text(
            "{}"
        )
    word = filled("{newest}{study}/warm/train", tmp_path)
    assert word == str(tmp_path / "warm/train/checkpoints/step-000010")


def test_what_is_asked_is_the_same_anywhere(tiny: StudyConfig, tmp_path: Path) -> None:
    again = [job.identity for job in jobs(tiny)]
    os.chdir(tmp_path)
    assert [job.identity for job in jobs(tiny)] == again
    assert str(tmp_path) not in json.dumps([[job.arguments, job.config] for job in jobs(tiny)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seedz=[1]", r"seedz: there is no such key; .*seeds"),
        ("baseline=GRPOO", "there is no arm GRPOO"),
        ("families.chains.dial.modolus=3", "chains has no modolus"),
        ("families.chains.dails={}", r"families\.chains\.dails: there is no such key"),
        ("train.rollout.problms=3", r"rollout\.problms: there is no such key"),
        ("arms.warm={algorithm: grpo}", "no trained arm may be named warm"),
        ("arms.grpo={algorithm: grpo}", "names must differ"),
        ("evaluate.protocols=[selfish]", "unknown: selfish"),
        ("seeds=[]", "at least 1"),
        ("seeds=[1, 1]", "seeds must differ"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    with pytest.raises(UsageError, match=message):
        read_study_config(path, [change])


def test_a_study_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no study dmeo.*demo"):
        study_file("dmeo")
    path = tmp_path / "broken.yaml"
    path.write_text("seeds: [")
    with pytest.raises(UsageError, match="cannot be read"):
        read_study_config(path)


def test_names_are_folders() -> None:
    assert slug("GRPO, 2× problems") == "grpo-2x-problems"
    assert slug("../../etc") == "etc"
    assert slug("λ = 1/3") == "lambda-1-3"


# --- running ---------------------------------------------------------------------------------------------------


def made(name: str, *arguments: str, needs: tuple[str, ...] = ()) -> Job:
    """A job of a cheap command."""
    return Job(
        name=f"f/seed-0/{name}/train", kind="train", arguments=arguments or ("--version",), needs=needs
    )


def carried_out(folder: Path, every: list[Job], workers: int = 2) -> Runner:
    runner = Runner(folder, every, workers)
    with Interrupts() as interrupts:
        runner.run(interrupts, lambda *_: None)
    return runner


def test_a_failure_stops_those_that_need_it_and_no_others(tmp_path: Path) -> None:
    a, b = made("a"), made("b", "no-such-command")
    c, d = made("c", needs=(b.name,)), made("d", needs=(a.name,))
    runner = carried_out(tmp_path, [a, b, c, d])
    assert runner.failed == {b.name: 2}
    assert set(runner.done) == {a.name, d.name}
    assert [row["job"] for row in Ledger(tmp_path).rows()].count(c.name) == 0
    assert "No such command" in runner.log(b.name).read_text()
    # what was wrong is put right: only what is missing runs
    before = len(Ledger(tmp_path).rows())
    b = replace(b, arguments=("--version",))
    runner = carried_out(tmp_path, [a, b, c, d])
    assert runner.failed == {}
    assert [row["job"] for row in Ledger(tmp_path).rows()[before:]] == [b.name, c.name]


def test_a_job_that_was_asked_something_else_is_refused(tmp_path: Path) -> None:
    carried_out(tmp_path, [made("a")])
    with pytest.raises(UsageError, match="of another configuration"):
        Runner(tmp_path, [made("a", "--help")], 1)


def test_a_refusal_says_what_differs(tmp_path: Path) -> None:
    """As the configuration that the training there was started with tells, where it can be read."""
    there = replace(made("a"), config={"seed": 1, "loss": {"beta": 0.0}, "model": "{study}/warm"})
    Ledger(tmp_path).add(there, 0, 1.0)
    asked = [replace(there, config={**there.config, "loss": {"beta": 0.5}, "steps": 3})]
    with pytest.raises(UsageError, match="of another configuration: choose"):
        Runner(tmp_path, asked, 1)
    place = configuration(tmp_path, there)
    place.parent.mkdir(parents=True)
    place.write_text(f"seed: 1\nloss: {{beta: 0.0}}\nmodel: {tmp_path}/warm\n")
    with pytest.raises(
        UsageError, match=r"\(loss\.beta: 0\.0 there, 0\.5 asked; steps: None there, 3 asked\)"
    ):
        Runner(tmp_path, asked, 1)


def test_folders_of_0_1_0_go_on() -> None:
    """The jobs of that version's demo are asked what it asked, under the same names."""
    path = Path(__file__).parent / "stored_0_1_0/demo.yaml"
    identities = {job.name: job.identity for job in jobs(read_study_config(path))}
    assert identities == DEMO_OF_0_1_0


def test_every_run_of_an_arm_is_compared(tiny: StudyConfig, tmp_path: Path) -> None:
    """All that was scored at a temperature is in that temperature's report, and nothing else."""
    every = jobs(tiny)
    found = comparisons(tiny, tmp_path)
    assert [(c.temperature, c.report.name) for c in found] == [(1, "report"), (0, "report-t0")]
    for comparison in found:
        runs = {str(p.relative_to(tmp_path)) for places in comparison.arms.values() for p in places}
        named = f"run-t{comparison.temperature:g}"
        scored = {job.name for job in every if job.kind == "evaluate" and job.name.endswith(named)}
        assert runs == scored | {job.name for job in every if job.kind != "evaluate"}


def test_evaluations_on_the_way_are_compared_where_they_are(tmp_path: Path) -> None:
    """Of the arms that have one after so many steps; without one of the baseline there is nothing to compare with."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    config = read_study_config(path, ["evaluate.along=[4]"])
    for arm in ("cipo-lambda-1", "grpo"):
        with pytest.raises(
            UsageError, match=r"after 4 steps there is no evaluation of GRPO: train\.eval\.every"
        ):
            comparisons(config, tmp_path)
        for family, seed in product(("chains", "slips"), (0, 1)):
            (tmp_path / f"{family}/seed-{seed}/{arm}/train/eval/step-000004").mkdir(parents=True)
    *_, on_the_way = comparisons(config, tmp_path)
    assert (on_the_way.step, on_the_way.report.name) == (4, "report-step-4")
    assert {arm: len(runs) for arm, runs in on_the_way.arms.items()} == {"GRPO": 8, "CIPO, λ = 1": 8}


def test_a_torn_line_of_the_ledger_is_no_harm(tmp_path: Path) -> None:
    carried_out(tmp_path, [made("a")])
    ledger = tmp_path / "jobs.jsonl"
    ledger.write_text(ledger.read_text() + '{"job": "f/seed-0/b/tr')
    runner = carried_out(tmp_path, [made("a"), made("b")])
    assert set(runner.done) == {made("a").name, made("b").name}


def test_the_dial_decides_the_task(tiny: StudyConfig, tmp_path: Path) -> None:
    from cipo_eval.data.tasks import load_problems

    write_tasks(tiny, tmp_path)
    found = [load_problems(tmp_path / f"tasks/{n}/cipo_{n}.yaml") for n in ("chains", "slips")]
    assert [f.spec.name for f in found] == ["chains", "slips"]
    assert [len(f.problems) for f in found] == [12, 12]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_jobs_end_with_the_process_that_started_them(tmp_path: Path, workers: int) -> None:
    """kill -9 of a study: its jobs keep what they have and end, so the next call finds nobody in their folders."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [sys.executable, "-m", "cipo_eval", "study", str(tmp_path / "tiny.yaml"), "warm.steps=1000000"]
    options = ["-o", str(tmp_path / "study"), "--workers", str(workers), "--quiet"]
    parent = subprocess.Popen([*command, *options], stderr=subprocess.PIPE)
    logs = [tmp_path / f"study/{f}/seed-0/warm/train/log.jsonl" for f in ("chains", "slips")[:workers]]
    until(lambda: all(log.is_file() and log.stat().st_size for log in logs), parent)
    children = [
        int(pid) for pid in Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    ]
    assert len(children) == workers
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not any(alive(pid) for pid in children))
    assert all(list((log.parent / "checkpoints").glob("step-*")) for log in logs)


def until(condition: object, process: subprocess.Popen[bytes] | None = None, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process is None or process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < end, "too late"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_remaining_time_follows_the_jobs_order(tmp_path: Path) -> None:
    """A warm start, then two trainings side by side: three times the expected seconds are not needed for it."""
    a = replace(made("a"), expected=100.0)
    b, c = (replace(made(n, needs=(a.name,)), expected=50.0) for n in "bc")
    runner = Runner(tmp_path, [a, b, c], 2)
    assert runner._progress([], [a, b, c]) == (0.0, pytest.approx(150.0))
    runner.done[a.name] = 0
    runner._spent, runner._gained = 200.0, 100.0  # half as fast as expected
    share, left = runner._progress([], [b, c])
    assert share == pytest.approx(0.5)
    assert left == pytest.approx(50 * 220 / 120)


def test_a_job_that_finished_with_failures_is_done_and_named(tmp_path: Path) -> None:
    a, b = made("a"), made("b", needs=(made("a").name,))
    Ledger(tmp_path).add(a, 1, 3.0)
    runner = carried_out(tmp_path, [a, b])
    assert (runner.failed, runner.flawed) == ({}, {a.name: 1})
    assert [row["job"] for row in Ledger(tmp_path).rows()] == [a.name, b.name]


def test_a_warm_start_that_was_not_accepted_stops_its_own_arms(tmp_path: Path) -> None:
    """It came to its end, and is asked again by the next call, which may find it good enough."""
    a = replace(made("a"), strict=True)
    b = made("b", needs=(a.name,))
    Ledger(tmp_path).add(a, 1, 3.0)
    runner = Runner(tmp_path, [a, b], 1)
    assert [job.name for job in runner.left] == [a.name, b.name]
    runner = NotAccepted(tmp_path / "other", [a, b], 1)
    with Interrupts() as interrupts:
        runner.run(interrupts, lambda *_: None)
    assert (runner.failed, runner.done) == ({a.name: 1}, {})
    assert [row["job"] for row in Ledger(tmp_path / "other").rows()] == [a.name]


class NotAccepted(Runner):
    """Its jobs end with exit code 1, as a training does that never was as good as wanted."""

    def _launch(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
        return super()._launch([command[0], "-c", "raise SystemExit(1)"], log, environment)
