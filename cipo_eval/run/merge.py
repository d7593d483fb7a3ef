"""Shards of a run, put together: the run directory that one call without shards would have made.

    from cipo_eval.run.merge import merge

    merge(["runs/x.shard-1-of-2", "runs/x.shard-2-of-2"], output="runs/x")

The shards stay as they are. Attempts are written in the order of their problems in the data, then by sample, protocol
(first attempts before all others) and turn, whichever shard they are from and in whatever order they were finished:
two shards or two hundred give the same file. Of each attempt only numbers are in memory; its line is copied as it is.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.analysis.figures import load
from cipo_eval.analysis.selection import Selection, selected_attempts
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.files import Writing, locked, whole_folder, write_json, write_json_lines
from cipo_eval.records import Mode
from cipo_eval.run import planning
from cipo_eval.run.api import Results, Silence, Watch, gaps, over
from cipo_eval.run.folder import look_at_place
from cipo_eval.run.identity import conflicts
from cipo_eval.run.info import call_of
from cipo_eval.run.request import MERGE, RunRequest
from cipo_eval.run.results import Measures, failures, framed, task_results
from cipo_eval.run.shards import Shard, stored_shard
from cipo_eval.run.stored import stored_plan
from cipo_eval.storage.facts import differences
from cipo_eval.storage.store import attempts_of_task, attempts_path, read_info, read_problems
from cipo_eval.turns.protocols import DIRECT

PLACE = np.dtype(
    [
        ("problem", np.int32),
        ("sample", np.int32),
        ("protocol", np.int16),
        ("turn", np.int16),
        ("shard", np.int32),
        ("offset", np.int64),
        ("length", np.int32),
    ]
)
"""An attempt's place: what it is sorted by, the shard that it is in, and where in that shard's file its line is, with
its length (bytes)."""
LINES = 4096
"""Lines of attempts that are copied at once."""
NAMED = 12
"""Missing shards that a message names."""
_ELSEWHERE = ("source", "definition")
"""What may differ between machines in what ``run.json`` says of a task: paths."""


@dataclass(frozen=True, slots=True)
class Part:
    """One shard on disk."""

    path: Path
    shard: Shard
    info: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether its run came to its end: figures are written last."""
        return (self.path / "results.json").is_file()


def merge(
    shards: Sequence[str | Path],
    request: RunRequest | None = None,
    *,
    partial: bool = False,
    watch: Watch | None = None,
    **values: Any,
) -> Results:
    """Makes one run directory, ``output``, of the shards of a run; ``values`` as for ``run.api.evaluate``.

    ``partial``: also where shards are missing or not finished; the attempts that are not there are counted as missing,
    and the run that asked for the shards goes on in ``output`` without them. Raises ``MissingError`` where not all of
    them are there, ``UsageError`` for directories that are not shards of one run, and for an ``output`` that exists.
    """
    request = over(request, values, MERGE)
    watch = watch or Silence()
    output = request.output.output
    if output is None:
        raise UsageError("--output names no folder for the merged run")
    look_at_place(output)
    if output.is_dir() and any(output.iterdir()):
        raise UsageError(f"{output} is there already: choose another --output, or move it away")
    with ExitStack() as stack:
        parts, lacking = _parts([Path(shard) for shard in shards])
        _allow_open_files(2 * len(parts))
        for part in parts:
            with suppress(OSError):  # in a folder that nobody can write, nobody writes
                refusal = f"{part.path} is still being written: merge when its run has ended"
                stack.enter_context(locked(part.path / "run.lock", refusal))
        if lacking and not partial:
            raise MissingError(
                f"not all shards are there: {_named(lacking)}. Run them, or give --partial to merge what there is: "
                "its figures leave out what is missing"
            )
        info = _merged_info(parts, watch.command)
        with Writing(output), whole_folder(output) as folder:
            for task in info["tasks"]:
                with watch.phase("merge", f"{task}, {len(parts)} shard(s)"):
                    _merge_task(folder, parts, task)
            write_json(folder / "run.json", info)
            with watch.phase("merge", "figures"):
                figures, failed = _figures(folder, output.name, info, request)
            write_json(folder / "results.json", figures)
    warnings = [f"not in this run: {_named(lacking)}"] if lacking else []
    warnings += _other_environments(parts)
    return Results(folder=output, figures=figures, failures=failed, warnings=[*warnings, *gaps(figures)])


def _parts(paths: Sequence[Path]) -> tuple[list[Part], list[str]]:
    """The shards by number, and what is lacking, a phrase each. Raises ``UsageError`` where they are not of one run."""
    there: dict[int, Part] = {}
    empty: list[Path] = []
    first: Part | None = None
    for path in paths:
        if not (path / "run.json").exists() and (not path.exists() or path.is_dir()):
            empty.append(path)
            continue
        info = read_info(path)
        shard = stored_shard(info)
        if shard is None:
            raise UsageError(
                f"{path} is a whole run and no shard: runs that were made apart are not merged. One run is extended by "
                "the same command with more --samples, --limit or --tasks"
            )
        part = Part(path, shard, info)
        first = first or part
        if part is not first and (differing := _differing(first, part)):
            raise UsageError(
                f"{first.path} ({first.shard}) and {path} ({shard}) are not shards of one run: "
                f"{'; '.join(differing)}"
            )
        if twice := there.get(shard.index):
            raise UsageError(f"{twice.path} and {path} are both shard {shard}: name one of them")
        there[shard.index] = part
    if first is None:
        raise MissingError(
            f"there is no shard in {', '.join(map(str, paths[:NAMED]))}: none of them was begun"
        )
    count = first.shard.count
    lacking = [f"{Shard(i, count)}" for i in range(1, count + 1) if i not in there]
    if lacking and empty:
        lacking[-1] += f" (nothing in {', '.join(map(str, empty[:NAMED]))})"
    parts = [there[index] for index in sorted(there)]
    lacking += [f"{part.shard} is not finished ({part.path})" for part in parts if not part.finished]
    return parts, lacking


def _differing(first: Part, other: Part) -> list[str]:
    """What two shards of one run would not have otherwise."""
    split = differences(first.info["shard"], {**other.info["shard"], "index": first.shard.index}, "shard")
    facts = {name: other.info[name] for name in ("engine", "seed", "modes")}
    tasks = {
        name: {key: value for key, value in task.items() if key not in _ELSEWHERE}
        for name, task in other.info["tasks"].items()
    }
    odd = [f"task {name}" for name in first.info["tasks"].keys() ^ tasks.keys()]
    lines = [*split, *odd, *conflicts(first.info, facts, tasks)]
    return [line.replace(" there, ", " in the first, ").replace(" asked", " in the other") for line in lines]


def _named(lacking: Sequence[str]) -> str:
    more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
    return f"shard {', '.join(lacking[:NAMED])}{more}"


def _allow_open_files(count: int) -> None:
    """A shard needs two descriptors, and the usual limit is 1,024; what a process may have is mostly more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft < wanted:
        with suppress(OSError, ValueError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _merged_info(parts: Sequence[Part], command: Sequence[str]) -> dict[str, Any]:
    """``run.json`` of the whole: what all shards were asked, with every call of each of them and this one."""
    info = {name: value for name, value in parts[0].info.items() if name != "shard"}
    calls = [{**call, "shard": str(part.shard)} for part in parts for call in part.info["calls"]]
    calls.sort(key=lambda call: str(call.get("at")))
    info["created"] = min(str(part.info.get("created")) for part in parts)
    info["calls"] = [
        *calls,
        {**call_of(command), "merged": [str(part.shard) for part in parts]},
    ]
    notes = dict.fromkeys(note for part in parts for note in part.info.get("adaptations", ()))
    if notes:
        info["adaptations"] = list(notes)
    return info


def _other_environments(parts: Sequence[Part]) -> list[str]:
    """A line where shards were made with different versions."""
    first = parts[0].info.get("environment", {})
    differing = {
        line
        for part in parts[1:]
        for line in differences(first, part.info.get("environment", {}), complete=True)
    }
    if not differing:
        return []
    lines = sorted(line.replace(" there, ", ", ").removesuffix(" asked") for line in differing)
    return [f"the shards were made with different versions: {'; '.join(lines[:NAMED])}"]


def _merge_task(folder: Path, parts: Sequence[Part], task: str) -> None:
    """Writes the problems of a task, and the attempts of all shards at it. Raises ``UsageError`` for damage, and where
    shards have different problems."""
    problems: dict[str, dict[str, Any]] = {}
    tables = []
    for number, part in enumerate(parts):
        rows = read_problems(part.path, task)
        selection = Selection.stored(task, part.info["tasks"][task], rows)
        whole = {name: {k: v for k, v in row.items() if k != "shard"} for name, row in rows.items()}
        problems = problems or whole
        if whole and whole != problems:
            raise UsageError(f"{part.path} has other problems of {task} than the shards before it")
        tables.append(_table(part, number, selection, problems))
    for name in ("problems", "attempts"):
        (folder / name).mkdir(exist_ok=True)
    if problems:
        write_json_lines(folder / "problems" / f"{task}.jsonl", problems.values())
    table = np.concatenate(tables)
    tables.clear()
    order = np.lexsort([table[name] for name in ("turn", "protocol", "sample", "problem")])
    if len(table):
        paths = [attempts_path(part.path, task) for part in parts]
        with attempts_path(folder, task).open("wb") as out:
            for lines in _lines(paths, table, order):
                out.write(lines)


def _table(part: Part, number: int, selection: Selection, problems: Iterable[str]) -> NDArray[Any]:
    """The attempts of one shard that are its own, shape (attempts,) of type ``PLACE``."""
    attempts = attempts_of_task(part.path, selection.task)
    attempts = attempts.only(selection.shared(attempts))
    protocols = [DIRECT, *sorted(name for name in selection.extents if name != DIRECT)]
    table = np.zeros(len(attempts), PLACE)
    for name, places in (("problem", problems), ("protocol", protocols)):
        place_of = {word: place for place, word in enumerate(places)}
        place = np.array([place_of.get(word, -1) for word in attempts.words(name)] + [-1])
        table[name] = place[attempts.column(name)]
        if (table[name] < 0).any():
            raise UsageError(
                f"{part.path} has attempts at a {name} of {selection.task} that its run.json lacks"
            )
    for name in ("sample", "turn", "offset", "length"):
        table[name] = attempts.column(name)
    table["shard"] = number
    return table


def _lines(paths: Sequence[Path], table: NDArray[Any], order: NDArray[np.int64]) -> Iterator[bytes]:
    """The lines of attempts in an order, many at once. Raises ``UsageError`` where a file is changed meanwhile."""
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")).fileno() if path.exists() else -1 for path in paths]
        for start in range(0, len(order), LINES):
            rows = table[order[start : start + LINES]]
            places = zip(*(rows[name].tolist() for name in ("shard", "length", "offset")), strict=True)
            lines = [os.pread(files[shard], length, offset) for shard, length, offset in places]
            if not all(line.endswith(b"}\n") for line in lines):
                raise UsageError("a shard was changed while it was merged: run the command again")
            yield b"".join(lines)


def _figures(
    folder: Path, name: str, info: Mapping[str, Any], request: RunRequest
) -> tuple[dict[str, Any], list[str]]:
    """``results.json`` of the merged run, and what went wrong in it. Raises ``UsageError``, ``MissingError``."""
    scoring = request.scoring
    measures = Measures(
        modes=[Mode(mode) for mode in info["modes"]],
        ks=scoring.k,
        bootstrap=scoring.bootstrap,
        figures=load(scoring.figures),
    )
    blocks, failed = {}, []
    for task, facts in info["tasks"].items():
        plan = stored_plan(task, facts, request.task.data_dir)
        planning.check_k(scoring.k, task, plan.samples)
        selected = selected_attempts(folder, task, info)
        blocks[task] = task_results(plan, selected, measures)
        failed += failures(task, selected.attempts, {})
    return framed(name, info, blocks), failed
