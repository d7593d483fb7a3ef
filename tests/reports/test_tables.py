"""Tables: numbers are those of results.json, marks are right, every form is well-formed, LaTeX compiles."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from cipo_reports import published
from cipo_reports.cells import ONE_SEED, ONE_SEED_NOTE, Cell, Table, marked, name
from cipo_reports.correction_tables import correction, headline, overview
from cipo_reports.cost_tables import cost, training
from cipo_reports.latex import to_latex
from cipo_reports.macros import macros
from cipo_reports.page import to_html
from cipo_reports.study import AVERAGE, Study
from cipo_reports.tables import categories, differences, main, passk, tables
from cipo_reports.terminal import show_table
from cipo_reports.writers import frame_csv, to_csv, to_markdown

Made = dict[str, list[Path]]
HOSTILE = "<b>x</b> & 100% | a_b \\input{/etc/passwd} $x$ `y` </td>"


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())["tasks"]


def cells(table: Table, **where: str) -> dict[str, Cell]:
    """The one row with these names, by column."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    (found,) = [row for row in rows if all(row[column].text == text for column, text in where.items())]
    return found


def test_numbers_are_those_of_the_results(single: Study, made: Made) -> None:
    """Of every table that shows a run's own figures, against results.json."""
    whole, revised, curves = main(single), correction(single), passk(single)
    parted = {table.name: table for table in categories(single)}
    spent = cost(single)
    for arm, paths in made.items():
        for task, entry in results(paths[0]).items():
            block = entry["fixed"]
            first = cells(whole, method=arm)[task]
            assert (first.value, first.text.rstrip("*‡")) == (
                block["metrics"]["pass@1"]["value"],
                f"{100 * block['metrics']['pass@1']['value']:.1f}",
            )
            assert (first.low, first.high) == tuple(block["metrics"]["pass@1"]["ci"])
            row = cells(curves, task=task, method=arm)
            for figure, estimate in block["metrics"].items():
                if figure != "avg@n":
                    assert row[figure].value == estimate["value"]
            for level, found in block["breakdown"]["level"].items():
                assert cells(parted[f"category-{task}-level"], level=level)[arm].value == found["pass@1"]
            assert (
                cells(spent, task=task, method=arm)["generated tokens"].value
                == block["tokens"]["completion"]["total"]
            )
            for protocol, modes in entry["protocols"].items():
                row, found = cells(revised, protocol=protocol, task=task, method=arm), modes["fixed"]
                step = found["steps"][0]["metrics"]
                assert row["acc@t2"].value == found["by_turn"]["acc@t2"]["value"]
                assert row["Δ(i→c)"].value == step["Δ(i→c)"]["value"]
                assert row["correction rate"].value == step["correction_rate"]["value"]
                assert row["lift"].value == found["lift"]["correction_lift"]["value"]
                if protocol == "self":
                    assert row["retention"].value == step["retention"]["value"]
                else:  # right attempts are not asked again
                    assert row["retention"].value is None


def test_a_line_of_the_overview_is_a_method(single: Study, made: Made) -> None:
    table = overview(single)
    for arm, paths in made.items():
        for task, entry in results(paths[0]).items():
            row, found = cells(table, task=task, method=arm), entry["protocols"]["self"]["fixed"]
            assert row["pass@1"].value == entry["fixed"]["metrics"]["pass@1"]["value"]
            assert row["acc@t2"].value == found["by_turn"]["acc@t2"]["value"]
            assert row["resample"].value == found["lift"]["fresh"]["value"]
            assert row["lift"].value == found["lift"]["correction_lift"]["value"]
            assert row["seq@1 gain"].value == found["sequential"]["seq@1 gain"]["value"]


def test_the_headline_has_every_figure_with_its_difference(study: Study) -> None:
    table = headline(study)
    assert len(table.rows) == len(study.tasks) * len(study.names) * 5
    for row in table.rows:
        task, called, arm = (cell.text for cell in row[:3])
        value, difference = row[3:]
        figure = {"lift": "correction_lift"}.get(called, called)
        protocol = "direct" if figure.startswith("pass") else "self"
        rows = study.figure(figure, protocol)
        assert value.value == rows[(rows["arm"] == arm) & (rows["task"] == task)]["value"].item()
        d = study.differences
        of = d[
            (d["arm"] == arm) & (d["task"] == task) & (d["figure"] == figure) & (d["protocol"] == protocol)
        ]
        assert difference.value == (of["difference"].item() if len(of) else None)
    out = io.StringIO()
    show_table(table, Console(file=out, width=100))
    for row in table.rows:  # whole, on a terminal of the usual width
        line = next(x for x in out.getvalue().splitlines() if all(cell.text in x for cell in row))
        assert "…" not in line


def test_a_narrow_terminal_cuts_nothing_off() -> None:
    """Values and names of methods go on in the next line."""
    row = ("chains", "correction_lift", "GRPO, 2.6× steps", "-16.9 ± 22.3", "-12.7 [-24.1, -1.4]***")
    columns = ("task", "figure", "method", "per cent", "difference to GRPO")
    table = Table(name="t", caption="", columns=columns, rows=(tuple(Cell(text=c) for c in row),), left=3)
    out = io.StringIO()
    show_table(table, Console(file=out, width=64))
    assert max(map(len, out.getvalue().splitlines())) <= 64
    assert "…" not in out.getvalue()
    words = Counter(out.getvalue().split())
    assert not Counter(" ".join((*row, *columns)).split()) - words


def test_what_training_took_is_the_sum_of_its_log(study: Study, made: Made) -> None:
    table = training(study)
    for arm, paths in made.items():
        logs = [path / "log.jsonl" for path in paths if (path / "log.jsonl").is_file()]
        if not logs:
            assert not [row for row in table.rows if row[0].text == arm]
            continue
        rows = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
        trained = [[row for row in of if row["kind"] == "train"] for of in rows]
        found = cells(table, method=arm)
        assert found["trainings"].value == len(logs)
        assert found["steps"].value == np.mean([len(of) for of in trained])
        for title, figure in (
            ("generated tokens", "generated_tokens"),
            ("processed tokens", "passed_tokens"),
        ):
            assert found[title].value == pytest.approx(
                np.mean([sum(r[figure] for r in of) for of in trained])
            )


def test_the_best_is_bold_and_the_second_underlined() -> None:
    def marks(*values: float | None) -> list[str]:
        return [cell.mark for cell in marked([Cell(text="", value=v) for v in values])]

    assert marks(0.1, 0.3, 0.2) == ["", "best", "second"]
    assert marks(0.3, 0.3, 0.2) == ["best", "best", ""]
    assert marks(0.3, None, 0.2) == ["best", "", "second"]
    assert marks(0.3, 0.3) == marks(0.3, None) == ["", ""]


def test_nothing_is_best_where_best_means_nothing(study: Study) -> None:
    """Controls, and shares of all attempts that depend on how many first answers were right."""
    found = {table.name: table for table in tables(study)}
    for which, plain in (
        ("correction", {"Δ(i→c)", "Δ(c→i)", "same tokens"}),
        ("overview", {"resample"}),
        ("cost", set(found["cost"].columns)),
    ):
        table = found[which]
        marked_columns = {
            c for row in table.rows for c, cell in zip(table.columns, row, strict=True) if cell.mark
        }
        assert not marked_columns & plain
        assert which == "cost" or marked_columns >= {"acc@t2", "lift", "retention"}


def test_stars_are_those_of_the_adjusted_p_values(study: Study) -> None:
    table = main(study)
    for _, row in study.differences.query("figure == 'pass@1' and task != @AVERAGE").iterrows():
        wanted = (
            "***"
            if row["p_holm"] < 0.001
            else "**"
            if row["p_holm"] < 0.01
            else "*"
            if row["p_holm"] < 0.05
            else ""
        )
        found = cells(table, method=row["arm"])[row["task"]].text
        assert re.search(r"\**$", found)[0] == wanted  # type: ignore[index]
    assert "***" in str(table.rows)


def test_where_stars_rest_on_one_seed_they_say_so_in_every_form(study: Study, single: Study) -> None:
    for made in (main, differences, headline):
        several, one = made(study), made(single)
        assert ONE_SEED not in str(several)
        texts = [cell.text for row in one.rows for cell in row]
        assert any("*" in text for text in texts)
        assert all(text.endswith(ONE_SEED) == ("*" in text) for text in texts)
        for form in (to_markdown(one), to_html(one)):
            assert f"*{ONE_SEED}" in form
            assert ONE_SEED_NOTE in form
        latex = to_latex(one)
        assert re.search(r"\^\{\*+\\ddagger\}", latex)
        assert "one seed: says nothing about another training" in latex


def test_published_rows_are_apart_and_marked(study: Study) -> None:
    assert not any("†" in row[0].text for row in main(study).rows)
    aime = study.results.assign(task=study.results["task"].replace({"sums": "aime24"}))
    renamed = Study(
        arms=study.arms, baseline=study.baseline, mode=study.mode, results=aime, differences=study.differences,
        budget=study.budget, training=study.training,
    )  # fmt: skip
    object.__setattr__(renamed, "__class__", _Renamed)
    table = main(renamed, with_published=True)
    rows = [row for row in table.rows if row[0].text.endswith("†")]
    assert [row[1].text for row in rows] == ["23.5", "42.1", "47.5"]
    assert table.rules == (3,)
    assert not any(cell.mark for row in rows for cell in row)
    assert any(published.SOURCE in note and "not measured here" in note for note in table.notes)
    assert "published" in {table.name for table in tables(study, with_published=True)}


class _Renamed(Study):
    @property
    def tasks(self) -> list[str]:
        return ["aime24", "equations", "programs"]


def test_csv_has_the_values_in_full(study: Study) -> None:
    frame = pd.read_csv(io.StringIO(to_csv(main(study))))
    row = study.figure("pass@1").query("arm == 'CIPO' and task == 'sums'")
    mine = frame[frame["method"] == "CIPO"]
    assert mine["sums (value)"].item() == pytest.approx(row["value"].item(), abs=1e-12)
    assert mine["sums (low)"].item() == pytest.approx(row["low"].item(), abs=1e-12)


def hostile() -> Table:
    row = (Cell(text=HOSTILE), Cell(text="1.0", value=0.01, mark="best"), Cell(text="Δ → ±"))
    columns = ("method", HOSTILE, "x<y")
    return Table(
        name="hostile", caption=HOSTILE, columns=columns, rows=(row, row), rules=(1,), notes=(HOSTILE,)
    )


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        self.seen.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_no_text_of_a_csv_is_a_formula() -> None:
    texts = [
        "=1+1",
        "+cmd|' /C calc'!A0",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "+3.4 [+2.3, +4.7]***",
        "plain",
        "a=b",
        "−1",
    ]
    frame = pd.DataFrame({"group": texts, "value": [-0.5] * len(texts), "=head": list(range(len(texts)))})
    rows = list(csv.reader(io.StringIO(frame_csv(frame), newline="")))
    assert rows[0] == ["group", "value", "'=head"]
    found = [row[0] for row in rows[1:]]
    shown = [text.replace("\r", "\n") for text in texts]  # a bare carriage return would end the row
    assert found == [text if text in ("plain", "a=b", "−1") else f"'{text}" for text in shown]
    assert {row[1] for row in rows[1:]} == {"-0.5"}  # numbers are no text
    assert "'" not in frame_csv(pd.DataFrame({"a": ["+3.4", "-0.2"], "b": [1.5, None]}))


def test_macros_are_the_frames_numbers(study: Study) -> None:
    text = macros(study)
    direct = study.results.query("protocol == 'direct' and column == '' and figure == 'pass@1'")
    assert len(direct)
    for row in direct.to_dict("records"):
        name = f"{row['arm'].replace(' ', '-')}/{row['task']}/pass@1"
        assert f"{{{name}}}{{{100 * row['value']:.1f}}}" in text
    assert not re.search(r"\{-\d", text)  # a real minus


def test_the_caption_of_a_paper_says_what_was_asked_and_tested(study: Study) -> None:
    said = to_latex(main(study)).split("\\caption{")[1].splitlines()[0]
    for words in ("n = 24", "4 samples each", "tokens", "95", "Holm", "intervals"):
        assert words in said, said


def test_a_minus_is_no_hyphen(study: Study) -> None:
    table = correction(study)
    texts = [cell.text for row in table.rows for cell in row[table.left :]]
    assert any(text.startswith("−") for text in texts)
    assert not any("-" in text for text in texts)
    latex = to_latex(table)
    assert "−" not in latex
    assert re.search(r"\$-\$\d", latex)
    assert not re.search(r"[ &]-\d", latex)


def test_latex_of_the_main_table_has_intervals(study: Study) -> None:
    table = main(study)
    latex = to_latex(table)
    for row in table.rows:
        for cell in row[1:]:
            if cell.low is not None and cell.high is not None:
                assert f"{100 * cell.low:.1f}, {100 * cell.high:.1f}]" in latex


def test_names_are_text_in_every_form() -> None:
    parser = _Tags()
    parser.feed(to_html(hostile()))
    assert parser.seen <= {
        "figure",
        "figcaption",
        "div",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "span",
        "p",
    }
    assert parser.text.count(HOSTILE) == 5
    markdown = to_markdown(hostile())
    assert "<b>" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    latex = to_latex(hostile())
    assert "\\input" not in latex
    assert "\\textbf{1.0}" in latex


def test_latex_compiles_and_fits_a_two_column_paper(study: Study, single: Study, tmp_path: Path) -> None:
    engine = next(
        (found for name in ("pdflatex", "tectonic", "xelatex") if (found := shutil.which(name))), None
    )
    if engine is None:
        pytest.skip("no TeX engine here: apt-get install texlive-latex-recommended")
    wide = replace(
        hostile(),
        columns=("method", *(f"task {i}" for i in range(14))),
        rows=(tuple(Cell(text=HOSTILE if i == 0 else "−71.4 ± 12.1***‡", value=1.0) for i in range(15)),)
        * 90,
        rules=(20, 70),
    )
    large = replace(
        main(study),
        columns=("method", *(f"benchmark{i}" for i in range(11)), "average", "Δ to GRPO"),
        rows=(
            tuple(
                Cell(text=f"method {i}" if not i else "51.4***‡", value=0.514, low=0.4, high=0.6)
                for i in range(14)
            ),
        )
        * 8,
        rules=(),
    )
    made = [
        large,
        replace(large, rows=large.rows[:2]),
        *tables(study, with_published=True),
        headline(study),
        hostile(),
        wide,
        main(single),
        differences(single),
    ]
    body = "\n\\clearpage\n".join(to_latex(table) for table in made)
    (tmp_path / "macros.tex").write_text(macros(study))
    cited = [line for line in macros(study).splitlines() if line.startswith("\\cipoeval@figure{")]
    names = [line.split("{")[1][:-1] for line in cited]
    assert len(names) == len(set(names)) > 20
    source = (
        "\\documentclass[twocolumn]{article}\\usepackage{booktabs}\\input{macros}\\begin{document}\n"
        + "\n".join(f"\\cipoeval{{{name}}}" for name in names)
        + body
        + "\\end{document}\n"
    )
    (tmp_path / "all.tex").write_text(source)
    options = [] if engine.endswith("tectonic") else ["-interaction=nonstopmode", "-halt-on-error"]
    done = subprocess.run([engine, *options, "all.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000
    assert not re.findall(r"Overfull.*|Float too large.*", done.stdout)


def test_a_name_is_one_line() -> None:
    assert name("two\nlines |\r\n of a\tcategory").text == "two lines | of a category"


def test_every_row_has_all_columns(study: Study) -> None:
    names = [table.name for table in tables(study, with_published=True)]
    assert len(names) == len(set(names))
    assert {"main", "overview", "correction", "differences", "passk", "cost", "training", "published"} <= set(
        names
    )
    for table in tables(study, with_published=True):
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert re.fullmatch(r"[\w.@-]+", table.name)
    assert any(row[1].text == AVERAGE for row in correction(study).rows)
