"""Every Eval Ever's schemas, lm-eval's own readers, and ``datasets``, on what ``export`` writes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from export_runs import PROTOCOLS, make_run, stored

from cipo_eval.export.formats import export
from cipo_eval.export.source import unicode_text

SCHEMAS = ("eval", "instance_level_eval")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def schemas(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The schemas from the package's wheel, which needs Python 3.12 and is opened, not installed."""
    folder = Path(request.config.cache.mkdir("every_eval_ever"))
    if not list(folder.glob("*.whl")):
        wanted = ["--no-deps", "--python-version", "3.12", "--only-binary=:all:", "every-eval-ever==0.3.0"]
        command = [sys.executable, "-m", "pip", "download", "-q", "-d", str(folder), *wanted]
        if subprocess.run(command, capture_output=True, timeout=120, check=False).returncode:
            pytest.skip("every-eval-ever 0.3.0 cannot be downloaded: no package index is reachable")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: json.loads(archive.read(f"every_eval_ever/schemas/{name}.schema.json")) for name in SCHEMAS
        }


def check(folder: Path, schemas: dict[str, Any]) -> int:
    """Validates every record of an export; how many lines there are."""
    from jsonschema import Draft7Validator

    of_records, of_lines = (Draft7Validator(schemas[name]) for name in SCHEMAS)
    count = 0
    for path in folder.rglob("data/*/*/*/*.json"):
        record = json.loads(path.read_text())
        of_records.validate(record)
        lines = (folder / record["detailed_evaluation_results"]["file_path"]).read_bytes().splitlines()
        for line in lines:
            of_lines.validate(json.loads(line))
        count += len(lines)
    return count


def test_records_fit_the_schemas(run: Path, tmp_path: Path, schemas: dict[str, Any]) -> None:
    export(run, "eee", tmp_path / "out")
    assert check(tmp_path / "out", schemas) == len(PROTOCOLS) * 18


def test_the_schemas_would_notice(run: Path, tmp_path: Path, schemas: dict[str, Any]) -> None:
    from jsonschema import ValidationError

    export(run, "eee", tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("data/*/*/*/*.json")
    record = json.loads(path.read_text())
    del record["evaluation_results"][0]["metric_config"]["max_score"]
    path.write_text(json.dumps(record))
    with pytest.raises(ValidationError):
        check(tmp_path / "out", schemas)


def test_records_of_real_corrections(
    cipo: Commands, real_data: Path, tmp_path: Path, schemas: dict[str, Any]
) -> None:
    path = real_data / "model_outputs" / "self_correction" / "realcritic_o1-mini_math_self.jsonl.gz"
    words = ("--task", "realcritic_math", "--protocol", "given", "--limit", "20", "--bootstrap", "100")
    assert cipo("score", path, *words, "--data-dir", real_data, "-o", tmp_path / "run").code == 0
    export(tmp_path / "run", "eee", tmp_path / "out", data_dir=real_data)
    assert check(tmp_path / "out", schemas) == 20


def test_lm_eval_reads_results_and_samples(run: Path, tmp_path: Path) -> None:
    """As its own loaders find and print them."""
    from lm_eval.utils import (
        get_file_datetime,
        get_file_task_name,
        get_latest_filename,
        get_results_filenames,
        get_sample_results_filenames,
        make_table,
    )

    export(run, "lm-eval", tmp_path / "out")
    files = [str(path) for path in (tmp_path / "out").rglob("*.json*")]
    (results,) = get_results_filenames(files)
    samples = get_sample_results_filenames(files)
    assert {get_file_task_name(Path(name).name) for name in samples} == {
        "sums",
        *(f"sums_{protocol}" for protocol in PROTOCOLS[1:]),
    }
    stamp = get_file_datetime(Path(get_latest_filename(samples)).name)
    assert stamp == get_file_datetime(Path(results).name).removesuffix(".json")
    table = make_table(json.loads(Path(results).read_text()))
    assert "pass@1" in table
    assert "sums_self" in table


def test_rows_have_the_columns_that_lm_eval_writes(run: Path, tmp_path: Path) -> None:
    """Those of its own tracker, fed with one row."""
    from lm_eval.loggers.evaluation_tracker import EvaluationTracker

    export(run, "lm-eval", tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("samples_sums_2*.jsonl")
    ours = json.loads(path.open().readline())
    tracker = EvaluationTracker(output_path=str(tmp_path / "theirs"))
    tracker.general_config_tracker.log_experiment_args("hf", "pretrained=m", None, None, False)
    arguments = tuple(ours["arguments"]["gen_args_0"].values())
    row = {**ours, "arguments": [arguments], "resps": [ours["resps"][0]]}
    tracker.save_results_aggregated({"results": {}}, {"sums": [row]})
    tracker.save_results_samples("sums", [dict(row)])
    (theirs,) = (tmp_path / "theirs").rglob("samples_sums_*.jsonl")
    written = json.loads(theirs.open(encoding="utf-8", errors="surrogatepass").readline())
    assert theirs.parent.name == path.parent.name
    for name in ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "metrics", "doc_hash"):
        assert written[name] == ours[name], name


def test_datasets_and_pandas_read_the_parquet(run: Path, tmp_path: Path) -> None:
    import pandas
    from datasets import load_dataset

    export(run, "parquet", tmp_path / "out")
    path = tmp_path / "out" / "data" / "sums.parquet"
    loaded = load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    attempts = sorted(stored(run), key=lambda a: a.key)
    assert [unicode_text(a.text) for a in attempts] == loaded["text"][:]
    assert [a.verdicts["paper"].correct for a in attempts] == loaded["paper_correct"][:]
    frame = pandas.read_parquet(path)
    assert frame["sample"].dtype == "int32"
    assert [a.seed for a in attempts] == [None if pandas.isna(v) else int(v) for v in loaded["seed"][:]]
    by_card = load_dataset(str(tmp_path / "out"), "sums", split="attempts", cache_dir=str(tmp_path / "cache"))
    assert by_card.num_rows == len(attempts)
