"""Where benchmark rows come from: a local mirror, a file beside the task, our cache, the Hugging Face hub.

Rows are plain dictionaries as the upstream file has them; what they mean is the business of ``tasks.py``. The
cache is filled from the hub by ``pull`` and needs no network afterwards. Data files are hostile input like
everything that is downloaded: only JSON, JSON lines and Parquet are read, nothing in them is ever executed,
and no loading script of a data set is run.

The order of places is fixed: mirror (``--data-dir``, ``CIPO_EVAL_DATA``), embedded file, cache, hub.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cipo_eval.errors import CipoError, MissingError, UsageError

Row = dict[str, Any]

LOCK_TIMEOUT = 600.0
"""Seconds to wait for another process that pulls the same data."""
HUB_TIMEOUT = 20.0
"""Seconds until a hub that does not answer counts as out of reach."""
_POINTER = "source.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place that a task's rows may come from."""

    kind: str
    """``mirror`` (below the mirror's folder), ``embedded`` (beside the task's YAML) or ``hub``."""
    path: str = ""
    """File of a mirror or an embedded source; ``.gz`` may be appended on disk."""
    repo: str = ""
    """Data set on the hub, ``owner/name``."""
    revision: str | None = None
    """Pinned commit; None: the current head, whose commit is recorded."""
    files: tuple[str, ...] = ()
    """Data files of the hub repository, as glob patterns."""
    rows: int | None = None
    """Rows that this source has, where it differs from the task's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Rows that are on this machine, not yet read."""

    source: Source
    path: Path
    kind: str
    """``mirror``, ``embedded`` or ``cache``."""
    revision: str | None = None
    """Commit that a cached file came from."""
    sha256: str | None = None
    """What a cached file must hash to."""
    origin: dict[str, Any] = field(default_factory=dict)
    """The same facts for ``run.json``; no path of this machine in it."""


def cache_dir() -> Path:
    """Where pulled data lives: ``CIPO_EVAL_CACHE``, else ``cipo-eval`` in the user's cache folder."""
    if value := os.environ.get("CIPO_EVAL_CACHE"):
        return Path(value).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "cipo-eval"


def mirror_dir(data_dir: str | Path | None = None) -> Path | None:
    """The local mirror that ``--data-dir`` or ``CIPO_EVAL_DATA`` names; ``UsageError`` if it is no folder."""
    value = data_dir or os.environ.get("CIPO_EVAL_DATA")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise UsageError(
            f"{folder} (--data-dir or CIPO_EVAL_DATA) is not a folder; the layout it needs is in docs/data.md"
        )
    return folder


def is_offline(offline: bool | None = None) -> bool:
    """Whether the hub is out of bounds: the caller's word, else the hub library's variables."""
    if offline is not None:
        return offline
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.strip().upper() in {"1", "ON", "YES", "TRUE"}


def locate(
    task: str, sources: Sequence[Source], base: Path, data_dir: str | Path | None = None
) -> Place | None:
    """The first place on this machine that holds the task's rows; None where only the hub can help.

    ``base`` is the folder of the task's YAML. Nothing is read but the cache's small index.
    """
    mirror = mirror_dir(data_dir)
    for kind, folder in (("mirror", mirror), ("embedded", base)):
        for source in sources:
            if source.kind != kind or folder is None:
                continue
            for path in (folder / source.path, folder / f"{source.path}.gz"):
                if path.is_file():
                    origin = {"kind": kind, "path": source.path}
                    return Place(source=source, path=path, kind=kind, origin=origin)
    for source in sources:
        if source.kind == "hub" and (place := _cached(task, source)):
            return place
    return None


def read(place: Place, command: str | None) -> list[Row]:
    """The rows of a place; ``command`` gets them anew. Raises ``UsageError`` for a damaged file."""
    if place.sha256 is not None and _sha256(place.path) != place.sha256:
        raise UsageError(f"the cached rows {place.path} are damaged: run `{command}` to fetch them again")
    return read_rows(place.path)


def read_rows(path: Path) -> list[Row]:
    """Rows of a ``.jsonl``, ``.json`` (a list of objects) or ``.parquet`` file; the first two may be ``.gz``.

    Raises ``UsageError``, naming the file and the line, for anything that is not rows.
    """
    suffixes = path.suffixes
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix
    if kind not in {".jsonl", ".json", ".parquet"}:
        raise UsageError(
            f"{path} is not a data file that is read here (.jsonl, .json, .parquet, .gz of the first two)"
        )
    try:
        rows = _parquet_rows(path) if kind == ".parquet" else _json_rows(path, lines=kind == ".jsonl")
    except (EOFError, OSError, zlib.error) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): the file is cut off or damaged, get it again"
        ) from error
    if not rows:
        raise UsageError(f"{path} is empty: get the file again")
    return rows


def _json_rows(path: Path, *, lines: bool) -> list[Row]:
    rows: list[Any] = []
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(path.open("rb"))
        stream = stack.enter_context(gzip.open(plain)) if path.suffix == ".gz" else plain
        number = 0
        try:
            if not lines:
                rows = json.load(stream)
            for line in stream:
                number += 1
                if line.strip():
                    rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:  # RecursionError: a megabyte of "[" is a data file too
            where = f"{path}, line {number}" if number else str(path)
            raise UsageError(
                f"{where} is not JSON ({error}): the file is cut off or damaged, get it again"
            ) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"{path} does not hold one JSON object per row")
    return rows


def _parquet_rows(path: Path) -> list[Row]:
    """Through ``datasets``, whose intermediate files go to a folder that is gone afterwards."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="cipo-eval-") as scratch:
        try:
            table = Dataset.from_parquet(str(path), cache_dir=scratch, keep_in_memory=True)
        except Exception as error:  # the reader raises its own and Arrow's types, some wrapped
            cause = error.__cause__ or error
            raise UsageError(
                f"{path} is not a readable Parquet file ({cause}): get the file again"
            ) from error
        # columns of images and audio would be decoded by third-party code; no task needs them
        plain = [
            name
            for name, kind in table.features.items()
            if type(kind).__name__ in {"Value", "ClassLabel", "List"}
        ]
        rows: list[Row] = table.select_columns(plain).to_list()
    return rows


# --- the cache ---------------------------------------------------------------------------------------------


def _folder(task: str) -> Path:
    return cache_dir() / "data" / task


def _cached(task: str, source: Source) -> Place | None:
    """The cache's entry for exactly this source (another repository or pin is another source)."""
    folder = _folder(task)
    try:
        entry = json.loads((folder / _POINTER).read_text(encoding="utf-8"))
        if (entry["repo"], entry["requested"]) != (source.repo, source.revision):
            return None
        path = folder / Path(str(entry["file"])).name
        revision, sha256 = str(entry["revision"]), str(entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing there, or an entry that no pull of ours wrote: pull again
    if not path.is_file():
        return None
    origin = {"kind": "hub", "repo": source.repo, "revision": revision}
    return Place(source=source, path=path, kind="cache", revision=revision, sha256=sha256, origin=origin)


def pull(
    task: str,
    source: Source,
    *,
    columns: Sequence[str],
    check: Callable[[list[Row]], None],
    force: bool = False,
) -> Place:
    """Fetches a hub source into the cache and returns its place; what is already there intact is kept.

    ``columns`` are kept, the rest is dropped; ``check`` sees the rows before they are stored and may raise.
    Safe with any number of processes at once: one pulls, the others wait and find it done.

    Raises ``MissingError`` where the hub cannot or will not give the data, ``UsageError`` for wrong rows.
    """
    from filelock import FileLock, Timeout

    folder = _folder(task)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock", timeout=LOCK_TIMEOUT)
        with lock:
            place = _cached(task, source)
            if place and not force and _sha256(place.path) == place.sha256:
                return place
            rows, commit, files = _download(source)
            rows = [{name: row[name] for name in columns if name in row} for row in rows]
            check(rows)
            _store(folder, source, rows, commit, files)
    except Timeout as error:
        raise CipoError(
            f"another process has held {folder / '.lock'} for {LOCK_TIMEOUT:.0f} s: try again later"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise MissingError(f"no space left in {folder}: free some, or set CIPO_EVAL_CACHE") from error
        raise UsageError(
            f"cannot write the cache {folder} ({error}): set CIPO_EVAL_CACHE to another folder"
        ) from error
    stored = _cached(task, source)
    if stored is None:
        raise CipoError(f"{folder} was emptied while {task} was being pulled; pull it again")
    return stored


def _store(folder: Path, source: Source, rows: list[Row], commit: str, files: dict[str, str]) -> None:
    """Rows under a name of their content, then the entry that points to them: readers see old or new."""
    text = "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    body = text.encode("utf-8", "surrogatepass")
    sha256 = hashlib.sha256(body).hexdigest()
    name = f"rows-{sha256[:16]}.jsonl"
    write_atomically(folder / name, body)
    entry = {
        "repo": source.repo,
        "requested": source.revision,
        "revision": commit,
        "files": files,
        "rows": len(rows),
        "file": name,
        "sha256": sha256,
    }
    write_atomically(folder / _POINTER, (json.dumps(entry, indent=1) + "\n").encode())


def write_atomically(path: Path, body: bytes) -> None:
    """A file with this content, or none: readers never see a part of it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(body)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- the hub ------------------------------------------------------------------------------


def _download(source: Source) -> tuple[list[Row], str, dict[str, str]]:
    """Rows, resolved commit and {file: SHA-256} of a hub source; the library heeds ``HF_ENDPOINT``."""
    if is_offline():
        raise MissingError(
            f"HF_HUB_OFFLINE is set, so {source.repo} cannot be fetched: unset it and pull again"
        )
    with _hub_errors(source):
        from huggingface_hub import HfApi

        api = HfApi(library_name="cipo-eval")
        info = api.dataset_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=HUB_TIMEOUT
        )
        entries = info.siblings or []
        wanted = [e for e in entries if any(fnmatch.fnmatchcase(e.rfilename, glob) for glob in source.files)]
        fetched = [
            (
                entry,
                Path(
                    api.hf_hub_download(source.repo, entry.rfilename, repo_type="dataset", revision=info.sha)
                ),
            )
            for entry in sorted(wanted, key=lambda entry: entry.rfilename)
        ]
    if not fetched or info.sha is None:
        raise MissingError(
            f"{source.repo} at {info.sha} has no file {' or '.join(source.files)}; it has: "
            f"{', '.join(e.rfilename for e in entries) or 'none'}"
        )
    rows: list[Row] = []
    files = {}
    for entry, path in fetched:
        _check_content(source, entry, path)
        rows += read_rows(path)
        files[entry.rfilename] = _sha256(path)
    return rows, info.sha, files


def _check_content(source: Source, entry: Any, path: Path) -> None:
    """The downloaded bytes against the hash that the hub lists: SHA-256 of a large file, git's of the others.

    The library compares sizes only. A file that fails is taken out of its cache, or it would stay there.
    """
    if entry.lfs is not None:
        expected, actual = entry.lfs.sha256, _sha256(path)
    elif entry.blob_id:
        body = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False)
        expected, actual = entry.blob_id, git.hexdigest()
    else:
        return
    if expected != actual:
        path.resolve().unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise MissingError(
            f"{entry.rfilename} of {source.repo} arrived damaged (hash {actual[:12]}…, the hub lists "
            f"{expected[:12]}…): pull again"
        )


@contextlib.contextmanager
def _hub_errors(source: Source) -> Iterator[None]:
    """Says in our words what went wrong between us and the hub."""
    from huggingface_hub import constants, errors

    what = f"{source.repo} at {constants.ENDPOINT}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise MissingError(f"{what} is gated: accept its terms on its page, then `hf auth login`") from error
    except errors.RepositoryNotFoundError as error:
        raise MissingError(f"{what}: no such data set, or a private one (then `hf auth login`)") from error
    except errors.RevisionNotFoundError as error:
        raise MissingError(f"{what} has no revision {source.revision}") from error
    except errors.EntryNotFoundError as error:
        raise MissingError(f"{what} lists a file that it does not give ({error})") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "?")
        raise MissingError(f"{what} answered with HTTP {status}: try again later") from error
    except Exception as error:  # of the library's HTTP client, which is another one from release to release
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise MissingError(
            f"{what} is out of reach, or broke off ({type(error).__name__}: {error}): check the network and "
            "HF_ENDPOINT and pull again, or use --data-dir with a local mirror"
        ) from error
