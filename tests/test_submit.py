"""Scripts for a batch system: what the shell makes of them, whatever names are in them, and of signals."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import Commands
from hypothesis import given, settings
from hypothesis import strategies as st

from cipo_eval.cli.submit import without
from cipo_eval.errors import UsageError
from cipo_eval.run import slurm
from cipo_eval.run.slurm import Batch, Job, run_jobs

HOSTILE = 'it\'s $HOME; "%A" `x` \\ @@{log} #'
ECHO = """#!{python}
import json, os, sys, time
print(json.dumps(sys.argv[1:]), flush=True)
if "slowly" in sys.argv:
    time.sleep(60)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the place of Python: says what it was called with."""
    program = tmp_path / "it's $(an) echo"
    program.write_text(ECHO.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(slurm.sys, "executable", str(program))
    return program


def said(script: str, **variables: str) -> list[str]:
    """The arguments that the script's program was called with."""
    ended = subprocess.run(
        ["bash", "-c", script], env={**os.environ, **variables}, capture_output=True, text=True, check=True
    )
    words: list[str] = json.loads(ended.stdout.splitlines()[-1])
    assert words[:2] == ["-m", "cipo_eval"]
    return words[2:]


@pytest.mark.usefixtures("echo")
def test_names_reach_the_program_as_they_are(tmp_path: Path) -> None:
    output = tmp_path / HOSTILE
    shards = [output.with_name(f"{HOSTILE}.shard-{i:02}-of-12") for i in (2, 11)]
    for shard in shards:
        shard.mkdir()
    run, merge = run_jobs(["--model", HOSTILE, "--stop", "a\nb"], output, 12, [f"--figures={HOSTILE}"])
    asked = said(run.script(tmp_path, Batch()), SLURM_ARRAY_TASK_ID="2")
    head = ["run", "--shard", "2/12", "--output", str(shards[0])]
    assert asked == [*head, "--model", HOSTILE, "--stop", "a\nb"]
    assert said(merge.script(tmp_path, Batch())) == [
        "merge", *map(str, shards), "--output", str(output), f"--figures={HOSTILE}"
    ]  # fmt: skip


def lines(batch: Batch, job: Job | None = None) -> list[str]:
    job = job or Job(name="j", title="t", command="exec true", tasks=3)
    return [line for line in job.script(Path("/logs"), batch).splitlines() if line.startswith("#SBATCH")]


def test_what_is_asked_of_the_cluster() -> None:
    batch = Batch(
        partition="gpu",
        account="me",
        time="4:00:00",
        gpus="2",
        extra=("mem=64G", '--comment=a "b"', "exclusive"),
    )
    asked = lines(batch)
    for option in (
        "partition=gpu",
        "account=me",
        "time=4:00:00",
        "gpus=2",
        "mem=64G",
        "array=1-3",
        "exclusive",
    ):
        assert f"#SBATCH --{option}" in asked
    assert '#SBATCH --comment="a \\"b\\""' in asked
    assert not any("gpus" in line for line in lines(batch, Job(name="j", title="t", command="x", gpus=False)))


@pytest.mark.parametrize(
    "batch",
    [Batch(partition="a\n#SBATCH --uid=0"), Batch(extra=("=x",)), Batch(extra=("a b=c",)), Batch(time="1\r")],
)
def test_nothing_begins_a_line_of_its_own(batch: Batch) -> None:
    with pytest.raises(UsageError):
        lines(batch)


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.sh"
    file.write_text("#!/bin/sh\n@@{options}\nmodule load $X\n@@{command}\n")
    text = Job(name="j", title="t", command="exec $Y").script(tmp_path, Batch(template=file, time="1"))
    assert text == "#!/bin/sh\n#SBATCH --time=1\nmodule load $X\nexec $Y\n"
    for wrong, why in (
        ("@@{commando}", "commando"),
        ("@@{options}", "no @@{command}"),
        ("@@ {", "no such placeholder"),
    ):
        file.write_text(wrong)
        with pytest.raises(UsageError, match=why):
            Job(name="j", title="t", command="").script(tmp_path, Batch(template=file))
    with pytest.raises(UsageError, match="cannot be read"):
        Job(name="j", title="t", command="").script(tmp_path, Batch(template=tmp_path / "none"))


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize(
    ("number", "old", "code", "again"),
    [(signal.SIGTERM, 0, 143, False), (signal.SIGUSR1, 100, 143, True)],
)
def test_signals_reach_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, old: int, code: int, again: bool
) -> None:
    """SIGTERM ends the program; near the time limit the job asks to be requeued as well."""
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/asked"\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    script = Job(name="j", title="t", command=f"exec {slurm.call('slowly')}").script(tmp_path, Batch())
    script = script.replace("set -u\n", f"set -u\nSECONDS={old}\n")
    process = subprocess.Popen(
        ["bash", "-c", script], env={**os.environ, "SLURM_JOB_ID": "17"}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while "slowly" not in process.stdout.readline():
        time.sleep(0.01)
    process.send_signal(number)
    assert process.wait(30) == code
    assert (tmp_path / "asked").exists() is again
    if again:
        assert (tmp_path / "asked").read_text() == "requeue 17\n"


WORDS = [["--model", "m"], ["-n", "3"], ["-n3"], ["--seed=-1"], ["-q"], ["--stop", "--shards"], ["samples=2"]]
OURS = [["--submit", "slurm"], ["--shards=4"], ["-o", "x"], ["-ox"], ["--output", "--dry-run"], ["--dry-run"]]


@functools.cache
def run_options() -> list[Any]:
    """Those of the command."""
    from cipo_eval.cli import app

    command: Any = typer.main.get_command(app)
    return list(command.commands["run"].params)


@settings(max_examples=60)
@given(st.lists(st.sampled_from([*WORDS, *OURS])))
def test_words_of_the_command_line_that_are_ours_are_left_out(groups: list[list[str]]) -> None:
    names = {"submit", "shards", "output", "dry_run"}
    words = [word for group in groups for word in group]
    kept = [word for group in groups if group not in OURS for word in group]
    assert without(words, run_options(), names) == kept
    assert without([*words, "-qox", "--", "-o"], run_options(), names) == [*kept, "-q", "--", "-o"]


def test_submission(cipo: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sbatch the scripts are there and it is said; options that do not fit are refused."""
    command = (
        "run",
        "--engine",
        "seeded_engine:Seeded",
        "--model",
        "m",
        "--tasks",
        "arithmetic",
        "-o",
        "x y",
    )
    shown = cipo(*command, "--submit", "slurm", "--shards", "2", "--dry-run")
    assert (shown.code, shown.out.count("#!/bin/bash")) == (0, 2)
    assert not list(tmp_path.glob("x y*"))
    monkeypatch.setenv("PATH", str(tmp_path))
    outcome = cipo(*command, "--submit", "slurm", "--shards", "2")
    assert outcome.code == 3
    assert "no sbatch" in outcome.err
    assert (tmp_path / "x y.slurm" / "merge.sbatch").is_file()
    for more, why in (
        (["--partition", "p"], "--partition belongs together with --submit"),
        (["--submit", "slurm", "--shard", "1/2"], "leave out --shard"),
        (["--submit", "slurm", "--no-resume"], "leave out --no-resume"),
        (["--submit", "slurm", "--tasks", "arithmetik"], "unknown task"),
    ):
        outcome = cipo(*command, *more)
        assert (outcome.code, why in outcome.err) == (2, True), outcome.err


def test_each_seed_is_an_array_and_a_merge_of_its_own(cipo: Commands) -> None:
    """With the folder that ``--seeds`` gives it, so that the same command without ``--submit`` goes on from them."""
    command = "run --engine seeded_engine:Seeded --model m --tasks arithmetic -o runs/m"
    shown = cipo(*command.split(), "--seeds", "3,5", "--submit", "slurm", "--shards", "2", "--dry-run").out
    assert shown.count("#SBATCH --array=1-2") == 2
    for seed in (3, 5):
        [array] = [line for line in shown.splitlines() if f"--seeds={seed}" in line]
        assert f"runs/m.seed-{seed}.shard-" in array
        assert "3,5" not in array
        assert f"--output runs/m.seed-{seed}" in shown
