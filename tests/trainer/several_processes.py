"""What several processes do in tests of a training, and what they leave behind for the tests to look at.

``python several_processes.py FOLDER`` does it with 2, 1 and 4 processes and as two nodes. All are forks of one process
that has imported what takes ten seconds.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from made import bandit
from test_packing import SIZES, items, make_model
from test_step import config as learner_config
from test_step import graded

from cipo_eval.errors import MissingError
from cipo_trainer.config import Config
from cipo_trainer.distributed import beats
from cipo_trainer.distributed.environment import ElsewhereError
from cipo_trainer.distributed.sharding import Sharded
from cipo_trainer.distributed.world import World, joined
from cipo_trainer.loop import Trainer
from cipo_trainer.packing import TrainSequence
from cipo_trainer.step import Learner, LossStream
from cipo_trainer.training import train

BASE, CORRECTIONS = graded(items(*SIZES)), graded(items((4, 3), (6, 8), seed=9), seed=5)
ONE = [TrainSequence(prompt=s.prompt, tokens=s.tokens, advantage=0.0, sampled=s.sampled) for s in BASE[1:]]
STREAMS: dict[str, list[LossStream]] = {
    "base": [LossStream(name="base", sequences=BASE)],
    "both": [
        LossStream(name="base", sequences=BASE),
        LossStream(name="correction", sequences=CORRECTIONS, weight=0.5),
    ],
    "lambda 0": [
        LossStream(name="base", sequences=BASE),
        LossStream(name="correction", sequences=CORRECTIONS, weight=0.0),
    ],
    "one": [LossStream(name="base", sequences=[BASE[0], *ONE])],
    "not finite": [
        LossStream(
            name="base",
            sequences=[*BASE, TrainSequence(prompt=[5], tokens=[6], advantage=float("nan"), sampled=[-1.0])],
        )
    ],
}
"""``one``: a single sequence has an advantage, so that most processes have nothing to do."""
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "grpo": ("both", {"algorithm": "grpo", "loss": {"beta": 0.1}}),
    "dapo": ("both", {"algorithm": "dapo", "optimizer": {"micro_tokens": 20}}),
    "base": ("base", {}),
    "lambda 0": ("lambda 0", {}),
    "one": ("one", {}),
    "not finite": ("not finite", {}),
    "four updates": ("both", {"algorithm": "grpo", "optimizer": {"minibatches": 2, "epochs": 2, "lr": 1e-3}}),
}
"""Streams, and what is configured."""
OF_FOUR = ("grpo", "one")
"""Cases that four processes do."""
RUNS = {1: ["ddp"], 2: ["ddp", "fsdp"], 4: ["fsdp"]}
"""By number of processes, the runs that they start."""
CONTINUED = {2: [], 1: ["2-ddp ddp", "2-fsdp fsdp"], 4: ["1-ddp fsdp", "2-fsdp ddp"]}
"""The runs of others that they go on with, and how."""


def updates(world: World, *, in_parts: bool) -> dict[str, Any]:
    """Of each case: the gradients of the last update, the weights after it, and what was measured."""
    results: dict[str, Any] = {}
    for case in CASES if world.size < 4 else OF_FOUR:
        streams, values = CASES[case]
        model = make_model("llama", tie_word_embeddings=True).float()
        reference = copy.deepcopy(model).requires_grad_(False)
        asked = learner_config(**values)
        sharded = Sharded(copy.deepcopy(model), model) if in_parts else None
        learner = Learner(model, asked, reference, world=world, sharded=sharded)
        gradients: list[torch.Tensor] = []
        step = learner.masters.step

        def stepped(lr: float, scale: float) -> None:
            gradients[:] = [whole(g) for g in learner.masters.gradients]  # noqa: B023
            step(lr, scale)  # noqa: B023

        learner.masters.step = stepped  # type: ignore[method-assign]
        measured = learner.update(STREAMS[streams], step=0, lr=asked.optimizer.lr)
        results[case] = {
            "gradients": gradients,
            "weights": [whole(p) for p in learner.masters.parameters],
            "measured": {k: v for k, v in measured.items() if "seconds" not in k},
        }
    return results


def whole(tensor: Any) -> torch.Tensor:
    tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return tensor.detach().clone()  # type: ignore[no-any-return]


def look_at_the_world(world: World) -> None:
    """What one process cannot do none can; errors and Ctrl-C are met by all, and afterwards all go on."""
    assert world.gather(world.rank) == list(range(world.size))
    assert world.added({"a": 1.0, f"of {world.rank}": 2.0})["a"] == world.size
    assert world.told(lambda: world.rank) == 0
    assert world.first(lambda: "here") == ("here" if world.rank == 0 else None)

    def fails() -> None:
        if world.rank == 1:
            raise MissingError("no disk")

    def is_interrupted() -> None:
        if world.rank == 1:
            raise KeyboardInterrupt

    raised: list[BaseException] = []
    for work in (fails, is_interrupted):
        try:
            world.together(work)
        except BaseException as error:
            raised.append(error)
    expected = MissingError if world.rank == 1 else ElsewhereError
    assert [type(error) for error in raised] == [expected, KeyboardInterrupt], raised
    assert raised[0].exit_code == 3  # type: ignore[attr-defined]
    layer = torch.nn.ParameterList([torch.zeros(3), torch.zeros(2), torch.zeros(1)])
    if world.rank == 1:
        layer[0].grad = torch.ones(3)
    world.complete(list(layer))
    assert [p.grad is not None for p in layer] == [True, False, False]
    tensors = [torch.full((2, 3), float(world.rank)), torch.ones(3).double(), torch.ones(4)[::2]]
    world.add_up(tensors)
    total = sum(range(world.size))
    assert [t.tolist() for t in tensors] == [[[total] * 3] * 2, [world.size] * 3, [world.size] * 2]


def run(folder: Path, name: str, **more: Any) -> Config:
    """A training of CIPO of the bandit: three problems with five attempts of up to three tokens each."""
    values: dict[str, Any] = {
        "output": str(folder / name),
        "steps": 3,
        "rollout": {"problems": 3, "samples": 5, "max_tokens": 3, "dynamic": 1},
        "correction": {"prompt_dir": "prompts", "band": [0, 1]},
        "optimizer": {"lr": 1e-3},
        "checkpoint": {"every": 1, "keep": 9},
        "eval": {"tasks": [str(folder / "bandit.yaml")], "limit": 2, "samples": 2, "every": 2},
    }
    return bandit(folder, "cipo", **{**values, **more})


METHODS: dict[str, dict[str, Any]] = {
    "lte": {},
    "sdpo": {"template": "{{ problem }} {{ demonstration }} {{ problem }}"},
    "pag": {"prompt_dir": "prompts", "ask": "Right?", "right": "1", "wrong": "0", "retry": "Again."},
    "critique_grpo": {"prompt_dir": "prompts", "right": "Right.", "wrong": "Wrong."},
}
"""Methods with second tries, other prompts for the reference, judgements and mixed groups."""
METHODS_OF_A_COMMIT = ("lte", "sdpo")
"""The other ones are tried with ``-m exhaustive``."""


def of_method(folder: Path, size: int, name: str) -> Config:
    """Two steps of it."""
    values: dict[str, Any] = {"rollout": {"problems": 3, "samples": 24, "max_tokens": 1}, "steps": 2}
    output = str(folder / f"{size}-{name}")
    return bandit(folder, name, method=METHODS[name], output=output, optimizer={"lr": 1e-3}, **values)


def several(folder: Path, size: int, methods: Sequence[str]) -> None:
    """All that is asked of so many processes, in each of them."""
    with joined("cpu") as world:
        assert world.size == size
        if size > 1:
            look_at_the_world(world)
        kinds = ("ddp", "fsdp") if size > 1 else ("ddp",)
        results = {kind: updates(world, in_parts=kind == "fsdp") for kind in kinds}
        for result in results["ddp"].values():  # what is whole in each process is the same to the bit
            sums = [float(t.double().sum()) for t in result["weights"]]
            assert world.gather(sums) == [sums] * size
        if world.rank == 0:
            torch.save(results, folder / f"updates-{size}.pt")
    saving = {"every": 1, "keep": 9, "asynchronous": size == 2}
    for kind in RUNS[size]:
        train(run(folder, f"{size}-{kind}", parallel=kind, checkpoint=saving))
    for name in methods if size < 4 else ():
        train(of_method(folder, size, name))


def going_on(folder: Path, runs: Sequence[str]) -> None:
    """Goes on with copies of runs that are there: ``COPY PARALLEL``."""
    for each in runs:
        output, parallel = each.split()
        train(run(folder, output, parallel=parallel, steps=4))


def copied(folder: Path, size: int) -> list[str]:
    """Copies of runs, for so many processes to go on with."""
    names = []
    for each in CONTINUED[size]:
        output, parallel = each.split()
        shutil.copytree(folder / output, folder / f"{output}-{size}-{parallel}")
        names.append(f"{output}-{size}-{parallel} {parallel}")
    return names


def killed(folder: Path, output: str) -> None:
    """Does a step more, and then the last process is killed in the middle of the next."""
    update = Trainer._update
    calls: list[int] = []

    def dies(self: Trainer, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2 and self.world.rank == self.world.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return update(self, *arguments)

    Trainer._update = dies  # type: ignore[method-assign]
    train(run(folder, output, parallel="fsdp", steps=9))


def silent(rank: int) -> None:
    """A process that hangs, by its number, ends the others."""
    beats.EVERY, beats.SILENCE, beats.STORE_WAIT = 0.2, 2.0, timedelta(seconds=2)
    with joined("cpu") as world:
        world.gather(None)
        if world.rank == rank:
            os.kill(os.getpid(), signal.SIGSTOP)
        world.gather(None)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def forked(work: Callable[[], object]) -> int:
    if child := os.fork():
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def processes(size: int, work: Callable[[], object]) -> list[int]:
    """Starts so many, as ``srun`` would: the first of them has the store."""
    port = free_port()

    def one(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        work()

    return [forked(partial(one, rank)) for rank in range(size)]


def node(port: int, work: Callable[..., object], *arguments: Any) -> None:
    """One of two nodes, each with a launcher and a process: what ``torchrun --nnodes 2`` does."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=2,
        max_nodes=2,
        nproc_per_node=1,
        run_id="test",
        rdzv_backend="c10d",
        rdzv_endpoint=f"127.0.0.1:{port}",
        start_method="fork",
        max_restarts=0,
    )
    elastic_launch(config, work)(*arguments)


def everything(folder: Path, methods: Sequence[str]) -> None:
    """Two processes start runs, one goes on with them and starts its own, four go on with both and start theirs, two
    nodes go on with those."""
    torch.set_num_threads(1)  # threads do not survive a fork
    run(folder, "")  # model and data are there before anyone needs them
    for size in (2, 1, 4):
        runs = copied(folder, size)

        def work() -> None:
            several(folder, size, methods)  # noqa: B023
            going_on(folder, runs)  # noqa: B023

        codes = [ended(child) for child in processes(size, work)]
        assert not any(codes), (size, codes)
    assert ended(forked(lambda: train(run(folder, "1-ddp", steps=4)))) == 0
    shutil.copytree(folder / "4-fsdp", folder / "4-2")
    port = free_port()
    codes = [ended(child) for child in [forked(partial(node, port, killed, folder, "4-2")) for _ in range(2)]]
    hung = {}
    for rank in (0, 1):
        children = processes(2, partial(silent, rank))
        hung[rank] = ended(children[1 - rank])
        os.kill(children[rank], signal.SIGKILL)
        ended(children[rank])
    (folder / "ended.json").write_text(json.dumps({"nodes": codes, "beside one that hangs": hung}))


if __name__ == "__main__":
    everything(Path(sys.argv[1]), sys.argv[2:])
