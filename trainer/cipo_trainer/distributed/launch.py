"""Starts a training in several processes on this machine, by torch's own launcher."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from cipo_eval.interrupts import unhurried


def launch(
    processes: int, arguments: Sequence[str], *, program: Sequence[str] = ("-m", "cipo_trainer")
) -> int:
    """Runs ``python -m cipo_trainer`` with these arguments in so many processes, and returns the exit code: that of
    the first process that failed, 128 and the signal's number where a signal ended them.

    It is ``torchrun --standalone --nproc-per-node N -m cipo_trainer …``, without the launcher's own table of failures.
    A process that fails ends the others, and so does Ctrl-C.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser
    from torch.distributed.run import run as run_processes

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes have said it
    logging.getLogger("torch.distributed.run").setLevel(logging.ERROR)
    options = ["--standalone", f"--nproc-per-node={processes}", *program, *arguments]
    try:
        with unhurried():  # the processes save a checkpoint first
            run_processes(get_args_parser().parse_args(options))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        code = int(failure.exitcode)
        return code if code > 0 else 128 - code
    except SignalException as signalled:
        return 128 + int(signalled.sigval)
    return 0
