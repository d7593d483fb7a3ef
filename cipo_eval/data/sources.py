"""Where benchmark rows come from: a local mirror, a file beside the task, an installed package, our cache, the hub.

Rows are plain dictionaries as the upstream file has them; what they mean is the business of ``tasks.py``. The
cache is filled from the hub by ``pull`` and needs no network afterwards. Data files are hostile input like
everything that is downloaded: only JSON, JSON lines and Parquet are read, nothing in them is ever executed,
and no loading script of a data set is run.

The order of places is fixed: mirror (``--data-dir``, ``CIPO_EVAL_DATA``), embedded file, package, cache, hub. Files may
be far larger than memory: they are read row by row, and only what a task's ``Transform`` leaves of a row is kept.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import gzip
import hashlib
import importlib.util
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cipo_eval.errors import CipoError, MissingError, UsageError, require
from cipo_eval.files import cache_dir, whole_file, write_json

Row = dict[str, Any]
Transform = Callable[[Row], Row]
"""What a task keeps of a row: its columns, or something made of them. Its result is plain JSON."""

LOCK_TIMEOUT = 600.0
"""Seconds to wait for another process that pulls the same data."""
HUB_TIMEOUT = 20.0
"""Seconds until a hub that does not answer counts as out of reach."""
_POINTER = "source.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place that a task's rows may come from."""

    kind: str
    """``mirror`` (below the mirror's folder), ``embedded`` (beside the task's YAML), ``package`` or ``hub``."""
    path: str = ""
    """File of a mirror, an embedded source or a package; ``.gz`` may be appended on disk."""
    package: str = ""
    """Installed Python package that holds the file. It is never imported."""
    repo: str = ""
    """Data set on the hub, ``owner/name``."""
    revision: str | None = None
    """Pinned commit; None: the current head, whose commit is recorded."""
    files: tuple[str, ...] = ()
    """Data files of the hub repository, as glob patterns."""
    where: Mapping[str, str] = field(default_factory=dict)
    """Only rows with these values: column to value, or to a range of whole numbers such as ``11..510``."""
    rows: int | None = None
    """Rows that this source has (after ``where``), if their number differs from the task's."""
    form: str = ""
    """Names the transform whose results are cached; rows that were cached in another form are pulled again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Rows that are on this machine, not yet read."""

    source: Source
    path: Path
    kind: str
    """``mirror``, ``embedded``, ``package`` or ``cache``."""
    revision: str | None = None
    """Commit that a cached file came from."""
    sha256: str | None = None
    """What a cached file must hash to."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Facts about the source for ``run.json``, without a path of this machine."""


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
    folders = {"mirror": mirror_dir(data_dir), "embedded": base}
    for kind in ("mirror", "embedded", "package"):
        for source in sources:
            folder = _package_dir(source.package) if kind == "package" else folders[kind]
            if source.kind != kind or folder is None:
                continue
            for path in (folder / source.path, folder / f"{source.path}.gz"):
                if path.is_file():
                    origin = {"kind": kind, "path": source.path}
                    if kind == "package":
                        origin |= {"package": source.package, "version": _version(source.package)}
                    return Place(source=source, path=path, kind=kind, origin=origin)
    for source in sources:
        if source.kind == "hub" and (place := _cached(task, source)):
            return place
    return None


def _package_dir(package: str) -> Path | None:
    """The folder of an installed top-level package, found without importing it."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) if folders else None


def _version(package: str) -> str:
    """Version of the distribution that holds a package; empty where it has none."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def read(place: Place, command: str | None, transform: Transform | None = None) -> list[Row]:
    """What ``transform`` leaves of the rows of a place; a cached place has that already. ``command`` gets them anew.

    Raises ``UsageError`` for a damaged file.
    """
    if place.kind == "cache":
        if place.sha256 is not None and _sha256(place.path) != place.sha256:
            raise UsageError(f"the cached rows {place.path} are damaged: run `{command}` to fetch them again")
        return read_rows(place.path)
    return list(_kept(iterate_rows(place.path), place.source, transform))


def _kept(rows: Iterable[Row], source: Source, transform: Transform | None) -> Iterator[Row]:
    """The wanted rows of a source, transformed, one at a time."""
    for row in rows:
        if all(_is_wanted(row.get(column), value) for column, value in source.where.items()):
            yield transform(row) if transform else row


def _is_wanted(value: Any, condition: str) -> bool:
    first, dots, last = condition.partition("..")
    if dots and first.isdecimal() and last.isdecimal():
        return isinstance(value, int) and int(first) <= value <= int(last)
    return str(value) == condition


def read_rows(path: Path) -> list[Row]:
    """``iterate_rows`` as a list."""
    return list(iterate_rows(path))


def iterate_rows(path: Path) -> Iterator[Row]:
    """Rows of a ``.jsonl``, ``.json`` (a list of objects) or ``.parquet`` file; the first two may be ``.gz``.

    Of JSON lines, one row is in memory at a time. Raises ``UsageError``, naming the file and the line, for anything
    that is not rows.
    """
    suffixes = path.suffixes
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else path.suffix
    if kind not in {".jsonl", ".json", ".parquet"}:
        raise UsageError(
            f"{path} is not a data file that is read here (.jsonl, .json, .parquet, .gz of the first two)"
        )
    empty = True
    try:
        for row in _parquet_rows(path) if kind == ".parquet" else _json_rows(path, lines=kind == ".jsonl"):
            if not isinstance(row, dict):
                raise UsageError(f"{path} does not hold one JSON object per row")
            empty = False
            yield row
    except (EOFError, OSError, zlib.error) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): the file is cut off or damaged, get it again"
        ) from error
    if empty:
        raise UsageError(f"{path} is empty: get the file again")


def _json_rows(path: Path, *, lines: bool) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(path.open("rb"))
        stream = stack.enter_context(gzip.open(plain)) if path.suffix == ".gz" else plain
        if not lines:
            rows = _parsed(stream.read(), str(path))
            yield from rows if isinstance(rows, list) else [None]
            return
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _parsed(line, f"{path}, line {number}")


def _parsed(text: bytes, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # RecursionError: a megabyte of "[" is a data file too
        raise UsageError(
            f"{where} is not JSON ({error}): the file is cut off or damaged, get it again"
        ) from error


def _parquet_rows(path: Path) -> list[Row]:
    require("data", f"{path}, a Parquet file,")
    from pyarrow import types
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            # records are not taken: images and audio are some, as the hub has them, and no task needs any
            plain = [field.name for field in file.schema_arrow if not types.is_struct(field.type)]
            rows: list[Row] = file.read(columns=plain, use_threads=False).to_pylist()
    except Exception as error:  # of a damaged file Arrow's types and Python's, those of its values included
        raise UsageError(f"{path} is not a readable Parquet file ({error}): get the file again") from error
    return rows


# --- the cache ---------------------------------------------------------------------------------------------


def _folder(task: str) -> Path:
    return cache_dir() / "data" / task


def _cached(task: str, source: Source) -> Place | None:
    """The cache's entry for exactly this source (another repository or pin is another source)."""
    folder = _folder(task)
    try:
        entry = json.loads((folder / _POINTER).read_text(encoding="utf-8"))
        identity = entry["repo"], entry["requested"], entry.get("form", "")
        if identity != (source.repo, source.revision, source.form):
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
    transform: Transform,
    check: Callable[[list[Row]], None],
    force: bool = False,
    watch: Callable[[int], None] = lambda _: None,
) -> Place:
    """Fetches a hub source into the cache and returns its place; what is already there intact is kept.

    ``transform`` is applied to each row before it is stored, so that what is cached may be far smaller than what is
    downloaded; ``check`` sees its results before they are stored for good and may raise. ``watch`` hears how many rows
    are done. Safe with any number of processes at once: one pulls, the others wait and find it done.

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
            files, commit = _download(source)
            rows = (row for path in files.values() for row in iterate_rows(path))
            name, sha256, count = _store(folder, _kept(rows, source, transform), check, watch)
            entry = {
                "repo": source.repo,
                "requested": source.revision,
                "revision": commit,
                "form": source.form,
                "files": {file: _sha256(path) for file, path in files.items()},
                "rows": count,
                "file": name,
                "sha256": sha256,
            }
            write_json(folder / _POINTER, entry)
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


def _store(
    folder: Path,
    rows: Iterator[Row],
    check: Callable[[list[Row]], None],
    watch: Callable[[int], None],
) -> tuple[str, str, int]:
    """Rows under a name of their content, once ``check`` has passed them; their file, its SHA-256, their number.

    Nothing points to the file yet: readers see what was there before, until the entry is replaced.
    """
    digest, count = hashlib.sha256(), 0
    unplaced = folder / ".rows.jsonl"
    try:
        with whole_file(unplaced) as stream:
            for row in rows:
                line = json.dumps(row, ensure_ascii=False, default=str) + "\n"
                body = line.encode("utf-8", "surrogatepass")
                digest.update(body)
                stream.write(body)
                count += 1
                watch(count)
        check(read_rows(unplaced) if count else [])
        name = f"rows-{digest.hexdigest()[:16]}.jsonl"
        unplaced.replace(folder / name)
    finally:
        unplaced.unlink(missing_ok=True)
    return name, digest.hexdigest(), count


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# --- the hub ------------------------------------------------------------------------------


def _download(source: Source) -> tuple[dict[str, Path], str]:
    """Local copies of the files of a hub source, by name, and their commit; the library heeds ``HF_ENDPOINT``."""
    if is_offline():
        raise MissingError(
            f"HF_HUB_OFFLINE is set, so {source.repo} cannot be fetched: unset it and pull again"
        )
    require("data", f"fetching {source.repo} from the hub")
    with _hub_errors(source):
        from huggingface_hub import HfApi

        api = HfApi(library_name="cipo-eval")
        info = api.dataset_info(
            source.repo, revision=source.revision, files_metadata=True, timeout=HUB_TIMEOUT
        )
        entries = info.siblings or []
        files = [e for e in entries if any(fnmatch.fnmatchcase(e.rfilename, glob) for glob in source.files)]
        fetched = [
            (
                entry,
                Path(
                    api.hf_hub_download(source.repo, entry.rfilename, repo_type="dataset", revision=info.sha)
                ),
            )
            for entry in sorted(files, key=lambda entry: entry.rfilename)
        ]
    if not fetched or info.sha is None:
        raise MissingError(
            f"{source.repo} at {info.sha} has no file {' or '.join(source.files)}; it has: "
            f"{', '.join(e.rfilename for e in entries) or 'none'}"
        )
    for entry, path in fetched:
        _check_content(source, entry, path)
    return {entry.rfilename: path for entry, path in fetched}, info.sha


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
