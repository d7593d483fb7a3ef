"""Commands as forks of one warm process, so that a hundred of them take minutes, not an hour."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

FORKER = """
import json, os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
import jinja2, yaml, cipo_eval.run.runner, cipo_eval.cli, cipo_eval.engines.replay
if len(sys.argv) > 1:
    import torch, cipo_trainer.loop
    from cipo_eval.engines.hf import HFEngine
    torch.set_num_threads(1)  # threads do not survive a fork
    HFEngine(sys.argv[1], device="cpu")  # imports what a run imports; every run below is a fork of this process
if os.environ.get("TEST_HOLD"):
    import cipo_eval.data.tasks
    from pathlib import Path
    from verifiers.faulty import hold
    def held(name, work):
        def first_hold(*args, **more):
            hold(Path(os.environ["TEST_HOLD"], name))
            return work(*args, **more)
        return first_hold
    cipo_eval.data.tasks.load_problems = held("loading", cipo_eval.data.tasks.load_problems)
    cipo_eval.run.runner.Run.results = held("results", cipo_eval.run.runner.Run.results)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.setsid()
        sys.stdin.close()
        sys.stdout = sys.stderr
        cipo_eval.cli.main(json.loads(line))
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Runs:
    """Starts runs as forks of one warm process, so that fifty of them take minutes."""

    def __init__(self, folder: Path, checkpoint: Path | None = None, hold: Path | None = None) -> None:
        """``checkpoint``: of a model that the runs are to find in memory; ``hold``: a folder
        where each says when it is about to load its problems (``loading``) and to make its results (``results``), and
        waits there (``faulty.hold``)."""
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CIPO_EVAL_CACHE": str(folder / "cache")}
        environment["PYTHONPATH"] = os.pathsep.join(
            filter(None, sys.path)
        )  # tests have verifiers of their own
        if hold is not None:
            environment["TEST_HOLD"] = str(hold)
        self._log = (folder / "log.txt").open("w")
        self._forker = subprocess.Popen(
            [sys.executable, "-c", FORKER, *([str(checkpoint)] if checkpoint else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def start(self, arguments: list[str]) -> int:
        assert self._forker.stdin is not None
        self._forker.stdin.write(json.dumps(arguments) + "\n")
        self._forker.stdin.flush()
        child = self._number()
        assert child > 1, "not a process: to kill it would kill everybody"
        return child

    def wait(self) -> int:
        """The exit code of the run that was started last; negative: the signal that ended it."""
        return self._number()

    @staticmethod
    def kill(child: int, done: Callable[[], int], target: int, later: float) -> None:
        """Kills a run with SIGKILL so many seconds after ``done`` is at its target, unless it has ended by then: how
        far it has come does not depend on how fast it is."""
        with suppress(ProcessLookupError):
            while done() < target:
                os.kill(child, 0)
                time.sleep(0.001)
            time.sleep(later)
            os.kill(child, signal.SIGKILL)

    def _number(self) -> int:
        assert self._forker.stdout is not None
        return int(self._forker.stdout.readline())

    def close(self) -> None:
        assert self._forker.stdin is not None
        self._forker.stdin.close()
        self._forker.wait(timeout=60)
        self._log.close()
