"""Places of rows: mirror, cache, hub. The hub is a loopback server; the library that talks to it is the real one."""

from __future__ import annotations

import errno
import gzip
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import Hub, Repo, commit_of
from parts import Part

from cipo_eval.data import sources as data
from cipo_eval.data import tasks
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.files import cache_dir

ITEMS = [{"problem": f"What is {n} + 1?", "answer": str(n + 1), "id": n, "extra": "x"} for n in range(12)]


def jsonl(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict], folder: Path) -> bytes:
    from datasets import Dataset

    path = folder / "made.parquet"
    Dataset.from_list(rows).to_parquet(str(path))
    return path.read_bytes()


def write_task(folder: Path, *, files: str = "test.jsonl", revision: str = "", rows: int | None = 12) -> Path:
    """A task on the hub data set acme/tiny, with the fingerprint of ITEMS."""
    content = tasks.content_fingerprint((row["problem"], row["answer"]) for row in ITEMS)
    path = folder / "tiny.yaml"
    path.write_text(
        f"""
task: my_tiny
include: _cipo_math.yaml
metadata:
  version: 1.0
  cipo:
    name: tiny
    {f"rows: {rows}" if rows else ""}
    fingerprints: {{"{content}": twelve sums}}
    columns: {{question: problem, gold: answer, id: id}}
    sources:
      - {{kind: mirror, path: tiny/test.jsonl}}
      - {{kind: hub, repo: acme/tiny, files: "{files}", revision: "{revision}"}}
"""
    )
    return path


@pytest.fixture(autouse=True)
def _no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CIPO_EVAL_DATA", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the library in this process talks to (it reads its variables when it is imported)."""
    from huggingface_hub import constants

    with Hub() as server:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        yield server


def serve(hub: Hub, *versions: dict[str, bytes], lfs: bool = False) -> None:
    hub.repos["acme/tiny"] = Repo(lfs=lfs)
    for files in versions:
        hub.repos["acme/tiny"].commit(files)


# --- the hub -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lfs", [False, True])
@pytest.mark.parametrize("form", ["jsonl", "parquet", "shards"])
def test_pull_then_offline(hub: Hub, tmp_path: Path, form: str, lfs: bool) -> None:
    files = {"README.md": b"# tiny", "test.py": b"raise SystemExit('a loading script ran')"}
    if form == "jsonl":
        files |= {"test.jsonl": jsonl(ITEMS)}
    elif form == "parquet":
        files |= {"test.parquet": parquet(ITEMS, tmp_path)}
    else:
        files |= {"test-00001.parquet": parquet(ITEMS[7:], tmp_path)}
        files |= {"test-00000.parquet": parquet(ITEMS[:7], tmp_path)}
    serve(hub, files, lfs=lfs)
    path = write_task(tmp_path, files="test.jsonl" if form == "jsonl" else "test*.parquet")

    first = tasks.load_problems(path)
    hub.stop()
    again = tasks.load_problems(path, offline=True)

    assert [p.gold for p in first.problems] == [row["answer"] for row in ITEMS]
    assert again == first
    assert first.source["kind"] == "hub"
    assert first.source["repo"] == "acme/tiny"
    assert first.source["revision"] == commit_of(0)
    assert first.source["content"] == "twelve sums"
    assert not first.warnings


def test_pinned_revision_is_fetched_not_the_head(hub: Hub, tmp_path: Path) -> None:
    other = [{**row, "answer": "0"} for row in ITEMS]
    serve(hub, {"test.jsonl": jsonl(ITEMS)}, {"test.jsonl": jsonl(other)})
    pinned = tasks.load_problems(write_task(tmp_path, revision=commit_of(0)))
    assert pinned.source["revision"] == commit_of(0)
    assert not pinned.warnings
    head = tasks.load_problems(write_task(tmp_path, revision=commit_of(1)))
    assert head.source["revision"] == commit_of(1)
    assert {p.gold for p in head.problems} == {"0"}, (
        "another pin must not be served from the cache of the first"
    )


def test_changed_content_warns_and_is_recorded(hub: Hub, tmp_path: Path) -> None:
    changed = [*ITEMS[:-1], {**ITEMS[-1], "answer": "99"}]
    serve(hub, {"test.jsonl": jsonl(changed)})
    found = tasks.load_problems(write_task(tmp_path))
    assert len(found.warnings) == 1
    assert found.fingerprint in found.warnings[0]
    assert found.source["content"] == "unknown"


@pytest.mark.parametrize("kept", [0, 11])
def test_wrong_number_of_rows_is_refused_and_not_cached(hub: Hub, tmp_path: Path, kept: int) -> None:
    serve(hub, {"test.jsonl": jsonl(ITEMS[:kept])})
    path = write_task(tmp_path)
    with pytest.raises(UsageError, match="empty" if kept == 0 else r"11 rows instead of 12"):
        tasks.load_problems(path)
    with pytest.raises(MissingError):
        tasks.load_problems(path, offline=True)


def test_what_the_hub_refuses_is_said_clearly(hub: Hub, tmp_path: Path) -> None:
    path = write_task(tmp_path)
    with pytest.raises(MissingError, match="no such data set"):
        tasks.load_problems(path)
    serve(hub, {"other.txt": b"x"})
    with pytest.raises(MissingError, match=r"has no file test\.jsonl; it has: other\.txt"):
        tasks.load_problems(path)
    with pytest.raises(MissingError, match="has no revision"):
        tasks.load_problems(write_task(tmp_path, revision="f" * 40))
    hub.repos["acme/tiny"].gated = True
    with pytest.raises(MissingError, match=r"gated.*hf auth login"):
        tasks.load_problems(write_task(tmp_path))
    hub.status = 418
    with pytest.raises(MissingError, match="HTTP 418"):
        tasks.load_problems(path)
    hub.stop()
    with pytest.raises(MissingError, match=r"out of reach.*--data-dir"):
        tasks.load_problems(path)


@pytest.mark.parametrize("lfs", [False, True])
def test_interrupted_download_goes_on(hub: Hub, tmp_path: Path, lfs: bool) -> None:
    serve(hub, {"test.jsonl": jsonl(ITEMS)}, lfs=lfs)
    hub.cut = 1
    assert len(tasks.load_problems(write_task(tmp_path)).problems) == 12
    assert hub.cut == 0


@pytest.mark.slow
def test_download_that_never_ends_well_leaves_nothing(hub: Hub, tmp_path: Path) -> None:
    serve(hub, {"test.jsonl": jsonl(ITEMS)})
    hub.cut = 1000
    path = write_task(tmp_path)
    with pytest.raises(MissingError, match="broke off"):
        tasks.load_problems(path)
    hub.cut = 0
    assert len(tasks.load_problems(path).problems) == 12


@pytest.mark.parametrize("lfs", [False, True])
def test_other_bytes_than_listed_are_refused_and_fetched_anew(hub: Hub, tmp_path: Path, lfs: bool) -> None:
    serve(hub, {"test.jsonl": jsonl(ITEMS)}, lfs=lfs)
    hub.corrupt = True
    path = write_task(tmp_path)
    with pytest.raises(MissingError, match="arrived damaged"):
        tasks.load_problems(path)
    hub.corrupt = False
    assert not tasks.load_problems(path).warnings


def test_a_pickle_is_never_loaded(hub: Hub, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(tmp_path / "executed"),))

    body = pickle.dumps(Bomb())
    serve(hub, {"test.pkl": body, "test.parquet": body, "test.jsonl": body})
    for files in ("test.pkl", "test.parquet", "test.jsonl"):
        with pytest.raises(UsageError):
            tasks.load_problems(write_task(tmp_path, files=files))
    assert not (tmp_path / "executed").exists()


def test_damaged_cache_is_named_and_mended_by_a_pull(hub: Hub, tmp_path: Path) -> None:
    serve(hub, {"test.jsonl": jsonl(ITEMS)})
    spec = tasks.load_spec(write_task(tmp_path))
    found = tasks.pull(spec)
    assert found is not None
    place = found.place
    place.path.write_bytes(place.path.read_bytes()[:-40])
    with pytest.raises(UsageError, match=r"damaged: run `cipo-eval data pull /.*/tiny\.yaml`"):
        tasks.load_problems(spec.path)
    tasks.pull(spec)
    assert len(tasks.load_problems(spec.path, offline=True).problems) == 12
    (place.path.parent / "source.json").write_text("{")
    with pytest.raises(MissingError, match=r"data pull /.*/tiny\.yaml`"):
        tasks.load_problems(spec.path, offline=True)


def test_what_is_cached_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    serve(hub, {"test.jsonl": jsonl(ITEMS)})
    spec = tasks.load_spec(write_task(tmp_path))
    tasks.pull(spec)
    before = sum(hub.requests.values())
    tasks.pull(spec)
    assert sum(hub.requests.values()) == before
    tasks.pull(spec, force=True)
    assert sum(hub.requests.values()) > before


def test_offline_variable_keeps_off_the_network(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(hub, {"test.jsonl": jsonl(ITEMS)})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = write_task(tmp_path)
    with pytest.raises(MissingError, match=r"data pull /.*/tiny\.yaml`.*--data-dir"):
        tasks.load_problems(path)
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE is set"):
        tasks.pull(tasks.load_spec(path))
    assert not hub.requests


def command(hub: Hub, tmp_path: Path, path: Path) -> tuple[list[str], dict[str, str]]:
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    return [sys.executable, "-m", "cipo_eval", "data", "pull", str(path), "--json"], env


def test_processes_at_once_pull_once(tmp_path: Path) -> None:
    """Through the command and the library's own variables; ``HF_HOME`` is not shared, so only our lock helps."""
    with Hub() as hub:
        serve(hub, {"test.jsonl": jsonl(ITEMS)})
        path = write_task(tmp_path)
        started = []
        for number in range(3):
            arguments, env = command(hub, tmp_path / str(number), path)
            started.append(subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, text=True))
        outputs = [process.communicate(timeout=60)[0] for process in started]
        assert [process.returncode for process in started] == [0, 0, 0]
        assert all(json.loads(text)[0]["status"] == "ok" for text in outputs)
        gets = [n for what, n in hub.requests.items() if what.startswith("GET") and "resolve" in what]
        assert gets == [1]


# --- files ---------------------------------------------------------------------------------------------------------


def test_mirror_before_cache_and_gz(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(hub, {"test.jsonl": jsonl([{**row, "answer": "7"} for row in ITEMS])})
    path = write_task(tmp_path)
    tasks.load_problems(path)
    mirror = tmp_path / "mirror"
    (mirror / "tiny").mkdir(parents=True)
    (mirror / "tiny/test.jsonl.gz").write_bytes(gzip.compress(jsonl(ITEMS)))
    found = tasks.load_problems(path, data_dir=mirror)
    assert found.source["kind"] == "mirror"
    assert not found.warnings
    monkeypatch.setenv("CIPO_EVAL_DATA", str(mirror))
    assert tasks.load_problems(path) == found
    assert str(tmp_path) not in json.dumps(found.source), "run.json must not depend on where the mirror is"
    monkeypatch.setenv("CIPO_EVAL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="not a folder"):
        tasks.load_problems(path)


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', "one JSON object per row"),
        ("a.jsonl", b"\xff\xfe{}\n", "line 1 is not JSON"),
        ("a.jsonl", b"[" * 200_000, "not JSON"),
        ("a.jsonl", b'{"a": ' + b"9" * 10_000 + b"}", "line 1 is not JSON"),
        ("a.jsonl", b"\n\n", "is empty"),
        ("a.json", b'{"a": 1}', "one JSON object per row"),
        ("a.jsonl.gz", gzip.compress(jsonl(ITEMS))[:-30], "cut off or damaged"),
        ("a.jsonl.gz", b"not gzip", "cut off or damaged"),
        ("a.parquet", b"PAR1 and no more", "not a readable Parquet file"),
        ("a.pkl", b"x", "not a data file"),
        ("a.gz", b"x", "not a data file"),
    ],
)
def test_damaged_files_are_usage_errors(tmp_path: Path, name: str, body: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(body)
    with pytest.raises(UsageError, match=message) as caught:
        data.read_rows(path)
    assert str(path) in str(caught.value)


def test_unwritable_cache_is_a_usage_error(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(hub, {"test.jsonl": jsonl(ITEMS)})
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set CIPO_EVAL_CACHE"):
        tasks.load_problems(write_task(tmp_path))


def test_full_disk_leaves_the_old_rows(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(hub, {"test.jsonl": jsonl(ITEMS)})
    spec = tasks.load_spec(write_task(tmp_path))
    before = tasks.load_problems(spec.path)
    hub.repos["acme/tiny"].commit({"test.jsonl": jsonl(ITEMS[::-1])})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MissingError, match="no space left"):
        tasks.pull(spec, force=True)
    assert tasks.load_problems(spec.path, offline=True) == before
    folder = tmp_path / "cache/data/tiny"
    assert {path.name for path in folder.glob(".*")} <= {".lock"}, "no half-written files stay"


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("CIPO_EVAL_CACHE", "/y")
    assert cache_dir() == Path("/y")
    monkeypatch.delenv("CIPO_EVAL_CACHE")
    assert cache_dir() == Path("/x/cipo-eval")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache/cipo-eval"


# --- packages, filters, transforms -------------------------------------------------------------------------------


def source(**fields: object) -> data.Source:
    return data.Source(**{"kind": "mirror", "path": "a.jsonl", **fields})  # type: ignore[arg-type]


def test_a_package_s_file_is_read_and_the_package_is_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "made_package"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    (package / "data/rows.jsonl.gz").write_bytes(gzip.compress(jsonl(ITEMS)))
    monkeypatch.syspath_prepend(str(tmp_path))
    one = source(kind="package", package="made_package", path="data/rows.jsonl")
    place = data.locate("t", [one], tmp_path)
    assert place is not None
    assert place.kind == "package"
    assert data.read(place, None) == ITEMS
    assert "made_package" not in sys.modules
    for missing in ("no_such_package", "made_package.data", "../made_package"):
        assert data.locate("t", [source(kind="package", package=missing, path="x")], tmp_path) is None


def test_only_wanted_rows_are_read_and_transformed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(jsonl(ITEMS))
    for where, expected in (({"id": "3"}, [3]), ({"id": "3..5"}, [3, 4, 5]), ({"extra": "y"}, [])):
        place = data.locate("t", [source(where=where)], tmp_path, tmp_path)
        assert place is not None
        assert data.read(place, None, lambda row: {"n": row["id"]}) == [{"n": n} for n in expected]


PREPARED = """
from cipo_eval.verifiers.code import testsets
from cipo_eval.data.readers import ReadProblem
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet


def prepare(row):
    tests = [Test(input=text, expected=text) for text in row["tests"]]
    return {"id": row["id"], "tests": testsets.store(TestSet(kind=Kind.STDIN, groups=(Group(name="t", tests=tests),)))}


def read(row, companions):
    return ReadProblem(id=str(row["id"]), question=f"Echo {row['id']}", tests=row["tests"])
"""


def write_prepared_task(folder: Path, monkeypatch: pytest.MonkeyPatch, form: int = 1) -> Path:
    """A task whose rows are reduced to a reference when they are pulled, as LiveCodeBench's are."""
    (folder / "made_reader.py").write_text(PREPARED)
    monkeypatch.syspath_prepend(str(folder))
    path = folder / "large.yaml"
    path.write_text(
        f"""
task: my_large
include: _cipo_code.yaml
metadata:
  cipo:
    name: large
    rows: 40
    reader: made_reader:read
    prepare: made_reader:prepare
    form: {form}
    sources: [{{kind: hub, repo: acme/tiny, files: "test*.jsonl"}}]
"""
    )
    return path


def large_rows(first: int) -> bytes:
    """Twenty rows of a megabyte."""
    return jsonl(
        [{"id": n, "tests": [f"{n} {c}" + "x" * 250_000 for c in "abcd"]} for n in range(first, first + 20)]
    )


def test_large_rows_are_reduced_while_they_are_pulled(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty megabytes in two files: one row is in memory at a time, and the cache does not hold them a second time."""
    import tracemalloc

    from cipo_eval.verifiers.code import testsets

    serve(hub, {"test.jsonl": large_rows(0), "test2.jsonl": large_rows(20)}, lfs=True)
    path = write_prepared_task(tmp_path, monkeypatch)
    files = data._download(tasks.load_spec(path).sources[0])
    monkeypatch.setattr(data, "_download", lambda _: files)  # the server has its copies in this process
    counts: list[int] = []
    tracemalloc.start()
    try:
        found = tasks.pull(tasks.load_spec(path), watch=counts.append)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found is not None
    assert counts == list(range(1, 41))
    assert peak < 15_000_000
    assert found.place.path.stat().st_size < 10_000
    hub.stop()
    problems = tasks.load_problems(path, offline=True).problems
    assert [p.id for p in problems] == [str(n) for n in range(40)]
    tests = testsets.load(problems[7].gold)
    assert [test.expected[:3] for test in tests.groups[0].tests] == ["7 a", "7 b", "7 c", "7 d"]


@pytest.mark.slow
def test_tests_that_are_gone_are_named_and_mended_by_a_pull(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(hub, {"test.jsonl": large_rows(0), "test2.jsonl": large_rows(20)})
    path = write_prepared_task(tmp_path, monkeypatch)
    before = tasks.load_problems(path)
    next((tmp_path / "cache/tests").iterdir()).unlink()
    with pytest.raises(MissingError, match=r"no longer in the cache: run `cipo-eval data pull"):
        tasks.load_problems(path, offline=True)
    tasks.pull(tasks.load_spec(path))
    assert tasks.load_problems(path, offline=True) == before


@pytest.mark.slow
def test_rows_of_another_form_are_pulled_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(hub, {"test.jsonl": large_rows(0), "test2.jsonl": large_rows(20)})
    tasks.load_problems(write_prepared_task(tmp_path, monkeypatch))
    path = write_prepared_task(tmp_path, monkeypatch, form=2)
    with pytest.raises(MissingError):
        tasks.load_problems(path, offline=True)
    assert len(tasks.load_problems(path).problems) == 40


# --- companions --------------------------------------------------------------------------------------------------

READER = """
from cipo_eval.data.readers import ReadProblem
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet


def read(row, companions):
    extra = companions.get("more", {}).get("answers", [])
    if row["problem"] == "none":
        return ReadProblem(id="none", question="?", tests=None, coverage="left out: no tests")
    tests = [Test(source=f"assert f() == {answer}") for answer in [row["answer"], *extra]]
    return ReadProblem(
        id=str(row["id"]),
        question=row["problem"],
        tests=TestSet(kind=Kind.CODE, groups=(Group(name="t", tests=tuple(tests)),), entry_point="f"),
        shown={"hint": "none"},
        metadata={"more": bool(extra)},
        coverage="" if extra else "without more",
    )
"""


def write_companion_task(folder: Path, monkeypatch: pytest.MonkeyPatch, *, required: bool = False) -> Path:
    (folder / "own_reader.py").write_text(READER)
    monkeypatch.syspath_prepend(str(folder))
    (folder / "own.jsonl").write_bytes(jsonl([*ITEMS, {"problem": "none", "id": 99}]))
    path = folder / "own.yaml"
    path.write_text(
        f"""
task: my_own
include: _cipo_code.yaml
doc_to_text: "{{{{question}}}} ({{{{hint}}}})"
metadata:
  cipo:
    name: own
    rows: 13
    reader: own_reader:read
    breakdown: [more]
    sources: [{{kind: embedded, path: own.jsonl}}]
    companions:
      more:
        key: [id, number]
        rows: 2
        required: {str(required).lower()}
        without: there are fewer tests
        sources:
          - {{kind: mirror, path: own/more.jsonl}}
          - {{kind: hub, repo: acme/tiny, files: more.jsonl}}
"""
    )
    return path


MORE = [{"number": 3, "answers": [7]}, {"number": "5", "answers": [8, 9]}]


def test_companions_are_joined_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody's reader, a mirror's companion; what is missing changes the fingerprint, and the run says so."""
    from cipo_eval.verifiers.code import testsets

    path = write_companion_task(tmp_path, monkeypatch)
    mirror = tmp_path / "mirror/own"
    mirror.mkdir(parents=True)
    (mirror / "more.jsonl").write_bytes(jsonl(MORE))
    found = tasks.load_problems(path, data_dir=mirror.parent)
    counts = {p.id: len(testsets.load(p.gold).groups[0].tests) for p in found.problems}
    assert counts == {**{str(n): 1 for n in range(12)}, "3": 2, "5": 3}
    assert found.problems[0].prompt == "What is 0 + 1? (none)"
    assert found.source["companions"]["more"]["kind"] == "mirror"
    assert found.source["coverage"] == {"without more": 10, "left out: no tests": 1}
    assert found.warnings == ("own: of 13 rows 10 without more; 1 left out: no tests",)

    alone = tasks.load_problems(path, offline=True)
    assert alone.fingerprint != found.fingerprint
    assert alone.source["companions"] == {"more": None}
    assert "there are fewer tests" in alone.warnings[0]
    (mirror / "more.jsonl").write_bytes(jsonl(MORE[:1]))
    with pytest.raises(UsageError, match="1 rows instead of 2"):
        tasks.load_problems(path, data_dir=mirror.parent)


def test_companions_are_pulled_and_may_fail(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_companion_task(tmp_path, monkeypatch)
    without = tasks.load_problems(path)
    assert "no such data set" in without.warnings[0]
    with pytest.raises(MissingError, match="no such data set"):
        tasks.load_problems(write_companion_task(tmp_path, monkeypatch, required=True))
    with pytest.raises(MissingError, match="data pull"):
        tasks.load_problems(path, offline=True)
    path = write_companion_task(tmp_path, monkeypatch)
    serve(hub, {"more.jsonl": jsonl(MORE)})
    found = tasks.load_problems(path)
    assert found.source["companions"]["more"]["revision"] == commit_of(0)
    hub.stop()
    assert tasks.load_problems(path, offline=True) == found
    assert (tmp_path / "cache/data/own/more/source.json").is_file()


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ("own_reader:nothing", "reader: there is no own_reader:nothing"),
        ("own_reader", "reader: there is no own_reader"),
        ("no_module:f", "No module"),
    ],
)
def test_readers_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str, message: str
) -> None:
    path = write_companion_task(tmp_path, monkeypatch)
    path.write_text(path.read_text().replace("own_reader:read", reader))
    with pytest.raises(UsageError, match=message):
        tasks.load_problems(path, offline=True)


def test_rows_that_a_reader_cannot_take_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_companion_task(tmp_path, monkeypatch)
    (tmp_path / "own.jsonl").write_bytes(jsonl([*ITEMS, {"id": 99}]))
    with pytest.raises(UsageError, match=r"own\.jsonl, row 13 has another form.*KeyError"):
        tasks.load_problems(path, offline=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "part"),
    [
        *((name, Part(24)) for name in ("mbpp", "mbpp_classic", "debugbench")),
        *(
            pytest.param(name, Part(1), marks=pytest.mark.exhaustive)
            for name in ("humaneval", "mbpp", "mbpp_classic", "debugbench")
        ),
    ],
    ids=str,
)
def test_the_hub_s_layouts_of_the_code_tasks(
    hub: Hub,
    tmp_path: Path,
    real_data: Path,
    name: str,
    part: Part,
    code_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The definitions as they are, against a hub that has the release's files in the layout of the real one. Nothing is
    in the cache but the inputs that are made for LeetCode's problems, which takes long. A part of the rows: the
    problems are those of the mirror."""
    whole = tasks.load_problems(name, data_dir=real_data)
    own = tmp_path / "cache"
    own.mkdir()
    (code_cache / "inputs").mkdir(exist_ok=True)
    (own / "inputs").symlink_to(code_cache / "inputs")
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(own))
    spec = tasks.load_spec(name)
    if not part.whole:
        few = {"rows": None}
        spec = replace(
            spec,
            own=replace(spec.own, **few, sources=tuple(replace(one, **few) for one in spec.own.sources)),
            companions=tuple(
                replace(c, **few, sources=tuple(replace(one, **few) for one in c.sources))
                for c in spec.companions
            ),
        )
        monkeypatch.setattr(tasks, "load_spec", lambda _: spec)
    mirror = {
        "evalplus/humanevalplus": (
            "humaneval/HumanEvalPlus-v0.1.10-OriginFmt.jsonl.gz",
            "data/test-0.parquet",
        ),
        "evalplus/mbppplus": ("mbpp/MbppPlus-v0.2.0-OriginFmt.jsonl.gz", "data/test-0.parquet"),
        "google-research-datasets/mbpp": ("mbpp/mbpp.jsonl", "full/test-0.parquet"),
        "Rtian/DebugBench": ("debugbench/python3.jsonl.gz", "eval.json"),
        "newfacade/LeetCodeDataset": (
            "debugbench/tests_from_LeetCodeDataset.jsonl.gz",
            "LeetCodeDataset-train.jsonl",
        ),
    }
    for one in (one for rows in spec.row_sources for one in rows.sources if one.kind == "hub"):
        path, file = mirror[one.repo]
        rows = [hub_row(name, row) for row in data.read_rows(real_data / path)]
        rows = [row for row in rows if name != "mbpp_classic" or 11 <= row["task_id"] <= 510]
        rows = part.of(rows, lambda row: row.get("slug") or row["task_id"])
        body = {
            "parquet": lambda rows=rows: parquet(rows, tmp_path),
            "json": lambda rows=rows: json.dumps(rows).encode(),
            "jsonl": lambda rows=rows: jsonl(rows),
        }[file.rpartition(".")[2]]()
        hub.repos[one.repo] = Repo(commits={one.revision or "": {file: body}})
    found = tasks.load_problems(name)
    hub.stop()
    assert tasks.load_problems(name, offline=True) == found
    if part.whole:
        assert found.fingerprint == spec.fingerprint
    golds, of_mirror = ({(p.question, p.gold) for p in of.problems} for of in (found, whole))
    assert golds <= of_mirror
    assert len(golds) > len(of_mirror) // 3 // part.one_in


def hub_row(task: str, row: data.Row) -> data.Row:
    """A row of the mirror with the columns that the hub's copy has."""
    if task == "debugbench" and "x_category" in row:
        return {
            "slug": row["slug"],
            "language": "python3",
            "subtype": row["x_category"],
            "question": row["description"],
            "solution": row["oracle_code"],
            **{name: row[name] for name in ("examples", "constraints", "level", "buggy_code")},
        }
    if task == "debugbench":
        return {
            "task_id": row["slug"],
            "entry_point": row["entry_point"],
            **{name: row[name] for name in ("input_output", "prompt", "completion")},
        }
    return row
