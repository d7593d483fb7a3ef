"""The page as people see it: in Chromium, with a keyboard, in print, and with attempts that want to act in it."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from reports.few import SOME_FIGURES, some_of_figures

from cipo_eval.storage.index import read_attempts
from cipo_reports.arms import read_arms
from cipo_reports.explorer import LONGEST_TEXT, cut, explorer
from cipo_reports.figures import figures
from cipo_reports.page import write_page
from cipo_reports.panels import save
from cipo_reports.report import Written, write_report
from cipo_reports.study import Study, read_study
from cipo_reports.tables import main, tables

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


class Visit:
    """A page that is open, and everything that it complained about or asked for."""

    def __init__(self, browser: Any, path: Path) -> None:
        self.tab = browser.new_page(viewport={"width": 1400, "height": 950})
        self.said: list[str] = []
        self.asked: list[str] = []
        self.tab.on("console", lambda m: self.said.append(f"{m.type}: {m.text}"))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("dialog", lambda dialog: (self.said.append(f"dialog {dialog.message}"), dialog.dismiss()))
        self.tab.on("request", lambda request: self.asked.append(request.url))
        self.tab.goto(path.resolve().as_uri())
        self.tab.wait_for_selector("html[data-read]", timeout=60_000)

    def count(self) -> int:
        self.tab.wait_for_selector("html:not([data-pending])")
        return int(self.tab.text_content("#count").split(" of ")[0].replace(",", ""))

    def open(self, number: int) -> None:
        """Chooses a row of the list."""
        self.tab.click(f"#row-{number}")
        self.tab.wait_for_selector("html[data-opened]")

    def fine(self) -> None:
        assert self.said == []
        assert [url for url in self.asked if not url.startswith(("file:", "data:"))] == []


@pytest.fixture(scope="module", params=["some", pytest.param("all", marks=pytest.mark.exhaustive)])
def written(
    study: Study, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Written]:
    """A report with a few of its figures, of which each takes a second or three, or with all."""
    with some_of_figures(only=request.param == "some"):
        yield write_report(study, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(written: Written) -> Path:
    return written.page


@pytest.fixture
def visit(browser: Any, page: Path) -> Iterator[Visit]:
    made = Visit(browser, page)
    yield made
    made.fine()
    made.tab.close()


def attempts(study: Study) -> list[Any]:
    return [
        a for arm in study.arms for run in arm.runs for task in arm.tasks for a in run.selected(task).attempts
    ]


def test_it_loads_without_errors_or_requests(visit: Visit, study: Study, written: Written) -> None:
    assert visit.tab.locator("h2").all_text_contents() == ["Summary", "Tables", "Figures", "Attempts"]
    first = visit.tab.locator("#summary table, #summary dl").first
    assert "Main results" in first.locator("xpath=ancestor::figure").inner_text(), "scores before differences"
    images = visit.tab.locator("#figures img")
    assert images.count() == len(written.figures)
    assert all(images.nth(i).evaluate("image => image.naturalWidth > 0") for i in range(images.count()))
    assert all(images.nth(i).get_attribute("alt") for i in range(images.count()))
    assert visit.count() == explorer(study).chains


def test_every_table_and_figure_is_written_in_every_form(written: Written, study: Study) -> None:
    folder = written.page.parent
    assert len(written.tables) > 9
    made = {name for name, _, _ in figures(study)}
    assert len(made) > 9
    assert set(written.figures) in (made, SOME_FIGURES & made)
    for name in written.tables:
        for suffix in ("tex", "md", "csv", "html"):
            assert (folder / "tables" / f"{name}.{suffix}").stat().st_size > 50
    for name in written.figures:
        for suffix in ("png", "pdf", "svg"):
            assert (folder / "figures" / f"{name}.{suffix}").stat().st_size > 2000


def test_filters_find_what_is_there(visit: Visit, study: Study) -> None:
    whole = visit.count()
    visit.tab.select_option("#transition", "w→r")
    corrected = visit.count()
    assert 0 < corrected < whole
    visit.tab.select_option("#arm", "CIPO")
    visit.tab.select_option("#protocol", "oracle")
    visit.tab.select_option("#task", "sums")
    (cipo,) = [arm for arm in study.arms if arm.name == "CIPO"]
    wanted = sum(
        a.protocol == "oracle" and a.verdicts["fixed"].correct
        for run in cipo.runs
        for a in run.selected("sums").attempts
    )
    assert visit.count() == wanted
    visit.tab.click("button[type=reset]")
    assert visit.count() == whole
    visit.tab.select_option("#state", "truncated")
    cut_off = visit.count()
    assert 0 < cut_off < whole
    visit.tab.click("button[type=reset]")
    visit.tab.fill("#problem", "sums-17")
    assert visit.count() == sum(p.endswith("sums-17") for p in _chains_problems(study))
    visit.tab.fill("#problem", "")
    visit.tab.fill("#text", "COMMON denominator")  # either case
    assert visit.count() > 0
    visit.tab.fill("#text", "nothing says this")
    assert visit.count() == 0


def _chains_problems(study: Study) -> list[str]:
    from cipo_reports.explorer import _chains

    return [
        chain[0].problem
        for arm in study.arms
        for run in arm.runs
        for task in run.results["tasks"]
        for _, chains in _chains(run.selected(task))
        for chain in chains
    ]


def test_an_attempt_is_shown_with_mathematics_code_and_differences(visit: Visit) -> None:
    visit.tab.select_option("#task", "sums")
    visit.tab.select_option("#transition", "w→r")
    visit.count()
    visit.open(0)
    detail = visit.tab.locator("#detail")
    assert detail.locator("h3").text_content().count("sums-") == 1
    assert detail.locator(".turn").count() >= 2
    assert detail.locator("math mfrac").count() >= 3
    assert detail.locator("math .boxed").count() >= 1
    assert "expected:" in detail.text_content()
    visit.tab.keyboard.press("d")
    visit.tab.wait_for_selector("#detail ins")
    assert detail.locator(".turn").nth(0).locator("del").count() >= 1
    for side, tag in ((0, "del"), (1, "ins")):  # without its marks each side is the text as it was
        text = visit.tab.evaluate(
            f"document.querySelectorAll('#detail .turn')[{side}].querySelector('.text').textContent"
        )
        visit.tab.keyboard.press("s")
        visit.tab.wait_for_selector("#detail .source")
        source = visit.tab.evaluate(
            f"document.querySelectorAll('#detail .turn')[{side}].querySelector('.source').textContent"
        )
        assert text == source, tag
        visit.tab.keyboard.press("d")
        visit.tab.wait_for_selector("#detail .diff")
    visit.tab.select_option("#task", "programs")
    visit.count()
    visit.open(0)
    visit.tab.click("text=rendered")
    visit.tab.wait_for_selector("#detail pre code .k")
    assert "def" in visit.tab.locator("#detail pre .k").all_text_contents()
    assert visit.tab.locator("#detail pre .c").count() >= 1


def test_it_is_used_with_the_keyboard(visit: Visit) -> None:
    visit.tab.keyboard.press("/")
    assert visit.tab.evaluate("document.activeElement.id") == "text"
    visit.tab.keyboard.type("answer")
    visit.count()
    visit.tab.keyboard.press("Escape")
    assert visit.tab.evaluate("document.activeElement.id") == "list"
    for key, selected in (("j", 0), ("j", 1), ("ArrowDown", 2), ("k", 1), ("Home", 0)):
        visit.tab.keyboard.press(key)
        visit.tab.wait_for_timeout(60)
        assert visit.tab.get_attribute("#list", "aria-activedescendant") == f"row-{selected}"
    visit.tab.keyboard.press("End")
    visit.tab.wait_for_timeout(100)
    last = visit.count() - 1
    assert visit.tab.get_attribute(f"#row-{last}", "aria-selected") == "true"
    assert visit.tab.locator("#rows .row").count() < 100  # only what is seen is there
    visit.tab.keyboard.press("Enter")
    assert visit.tab.evaluate("document.activeElement.id") == "detail"


def test_tables_sort_by_value(visit: Visit, study: Study) -> None:
    head = visit.tab.locator("#table-main th", has_text="average").locator("button")
    for order in ("descending", "ascending"):
        head.click()
        names = visit.tab.locator("#table-main tbody td:first-child").all_text_contents()
        column = list(main(study).columns).index("average")
        rows = sorted(main(study).rows, key=lambda row: row[column].value or 0, reverse=order == "descending")
        assert names == [row[0].text for row in rows]
        assert visit.tab.get_attribute("#table-main th:nth-child(5)", "aria-sort") == order


CONTRAST = """
(scheme) => {
  const luminance = (colour) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = colour.match(/[\\d.]+/g).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (!colour.endsWith(", 0)") && colour !== "transparent") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !node.checkVisibility() || /SCRIPT|STYLE|OPTION/.test(node.tagName)) continue;
    const [a, b] = [luminance(getComputedStyle(node).color), luminance(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([node.className || node.tagName, walk.currentNode.data.slice(0, 20), ratio]);
  }
  return poor;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_enough(visit: Visit, scheme: str) -> None:
    """WCAG 2 AA: 4.5 to 1, of every text that is shown."""
    visit.tab.emulate_media(color_scheme=scheme)
    visit.tab.select_option("#transition", "w→r")
    visit.count()
    visit.open(1)
    visit.tab.keyboard.press("d")
    visit.tab.wait_for_selector("#detail ins")
    assert visit.tab.evaluate(CONTRAST, scheme) == []
    visit.tab.click("text=rendered")
    visit.tab.select_option("#task", "programs")
    visit.count()
    visit.open(0)
    assert visit.tab.evaluate(CONTRAST, scheme) == []


@pytest.mark.parametrize("width", [375, pytest.param(1400, marks=pytest.mark.exhaustive)])
def test_axe_finds_nothing_serious_and_a_phone_shows_all(visit: Visit, width: int) -> None:
    axe = resources.files(pytest.importorskip("axe_playwright_python")).joinpath("axe.min.js")
    visit.tab.set_viewport_size({"width": width, "height": 900})
    visit.open(0)
    visit.tab.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert visit.tab.evaluate("document.documentElement.scrollWidth") <= width
    if width < 600:
        cut = "[...document.querySelectorAll('.scroll')].filter(x => x.scrollWidth > x.clientWidth + 1)"
        assert visit.tab.evaluate(f"{cut}.map(x => x.getAttribute('aria-label'))") == []
        assert visit.tab.evaluate(
            "getComputedStyle(document.querySelector('#table-main td.number'), '::before').content"
        ) == visit.tab.evaluate(
            "JSON.stringify(document.querySelector('#table-main td.number').dataset.label)"
        )
    visit.tab.evaluate(axe.read_text(encoding="utf-8"))
    found = visit.tab.evaluate("axe.run()")["violations"]
    assert [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")] == []


def test_it_prints(visit: Visit, tmp_path: Path) -> None:
    visit.tab.emulate_media(media="print")
    assert not visit.tab.is_visible("#filters")
    assert not visit.tab.is_visible("#list")
    assert visit.tab.is_visible("#table-main")
    visit.tab.pdf(path=str(tmp_path / "page.pdf"))
    assert (tmp_path / "page.pdf").stat().st_size > 50_000


# --- hostile attempts ---------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>window.pwned = 1; alert(1)</script>",
    "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned=1'>",
    "</template></div></article></section></main><iframe src='https://example.com'></iframe>",
    "<svg onload=window.pwned=1><style>*{display:none}</style>",
    "\u202egnihton si siht\u202c \u2066a\u2069 \u200bzero\ufeff width \x1b[31mred\x07 \x00 end",
    "lone \ud83d surrogate and \udfff another",
    "$\\text{<img src=x onerror=window.pwned=1>}$ \\(\\href{javascript:window.pwned=1}{x}\\) $\\frac{1}{$",
    "```html\n<b onmouseover=window.pwned=1>x</b>\n```\n```python\n'''never closed",
    "${window.pwned=1} {{ 7*7 }} {% raw %} [[x]] javascript:window.pwned=1",
    "\\[" + "{" * 5000 + "}" * 5000 + "\\]",
    "$" + "x^" * 2000 + "1$ " + "\\(" * 3000 + " " + "$a" * 2000,
    "`" * 20_000 + "\\boxed{" * 4000 + "'" * 20_000 + "/" * 20_000,
    "line " * 1_048_576,  # 5 MB in one line
]


NAMED = "<img src onerror>&amp;'\"</script>"


@pytest.fixture(scope="module")
def hostile(made: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """A study whose every text, answer and problem is hostile, and its page."""
    run = tmp_path_factory.mktemp("hostile") / "run"
    shutil.copytree(made["CIPO"][0], run)
    for task in ("sums", "programs"):
        path = run / "attempts" / f"{task}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for number, row in enumerate(rows):
            row["text"] = HOSTILE[number % len(HOSTILE)] if number < 40 or number % len(HOSTILE) < 6 else "ok"
            row["verdicts"]["fixed"]["extracted"] = row["text"][:200]
            row["verdicts"]["fixed"]["report"] = {
                "failure": {"test": HOSTILE[0], "kind": HOSTILE[1], "input": HOSTILE[4]}
            }
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        path = run / "problems" / f"{task}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for number, row in enumerate(rows):
            row["question"] = HOSTILE[number % (len(HOSTILE) - 1)]
            row["answer"] = HOSTILE[6]
            row["metadata"] = {"subject": HOSTILE[1], "level": HOSTILE[4]}
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arms = read_arms([], [f"{NAMED}={run}", f"GRPO={made['GRPO'][0]}"])
    found, page = read_study(arms, bootstrap=50), run.parent / "report.html"
    name, caption, figure = next(figures(found))
    drawn = [(name, caption, save(figure, run.parent, name)[-1])]
    write_page(page, found, tables(found), drawn, title="</title><script>window.pwned=1</script>")
    return found, page


def test_nothing_that_a_model_wrote_is_markup(hostile: tuple[Study, Path]) -> None:
    page = hostile[1].read_text()
    assert "pwned=1</script>" not in page
    assert "<img src=x" not in page
    assert re.findall(r"<script[^>]*>", page).count("<script>") == 1
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]  # type: ignore[index]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy


def test_hostile_attempts_do_nothing(browser: Any, hostile: tuple[Study, Path]) -> None:
    visit = Visit(browser, hostile[1])
    visit.tab.select_option("#arm", NAMED)
    assert visit.count() > 30
    for number in range(30):
        visit.open(number)
        for key in "dss":
            visit.tab.keyboard.press(key)
            visit.tab.wait_for_timeout(40)
    assert visit.tab.evaluate("window.pwned") is None
    for tag in ("iframe", "#detail img", "#detail script", "#detail style", "#detail a", "#detail svg"):
        assert visit.tab.locator(tag).count() == 0, tag
    visit.tab.fill("#text", "gnihton")
    assert visit.count() > 0
    visit.open(0)
    shown = visit.tab.text_content("#detail")
    assert "U+202E" in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b]", shown)
    visit.fine()
    visit.tab.close()


def test_long_texts_are_cut_in_their_middle_and_too_many_left_out(
    hostile: tuple[Study, Path], tmp_path: Path
) -> None:
    study = hostile[0]
    assert hostile[1].stat().st_size < 6_000_000
    text = cut("a" * LONGEST_TEXT + "b" * LONGEST_TEXT, LONGEST_TEXT)
    assert len(text) < LONGEST_TEXT + 100
    assert f"{LONGEST_TEXT} characters left out" in text
    sizes = write_page(tmp_path / "page.html", study, [], [], budget=10_000)
    assert 0 < sizes["left_out"] < sizes["attempts"]
    page = (tmp_path / "page.html").read_text()
    assert f"{sizes['left_out']} of {sizes['attempts']} attempts are listed without their text" in page


# --- mathematics and code, against libraries that do the same -----------------------------------------------------


def test_real_mathematics_reads_as_latex2mathml_has_it(browser: Any, page: Path, real_data: Path) -> None:
    """The letters, digits and operators of real formulas, in the order in which a well-kept converter has them."""
    import gzip

    from latex2mathml.converter import convert

    with gzip.open(
        real_data / "model_outputs" / "math" / "Qwen2.5-14B-Instruct__math500.jsonl.gz", "rt"
    ) as file:
        texts = [json.loads(line)["code"][0] for line in file]
    found = {
        m.strip() for text in texts for m in re.findall(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", text, re.S) for m in m
    }
    formulas = sorted(f for f in found if f and len(f) < 400)[::3]
    assert len(formulas) > 1500
    visit = Visit(browser, page)
    script = (
        "(sources) => sources.map((s) => { const made = formula(s, false, s);"
        " return made.querySelector('math') ? [made.textContent, made.querySelectorAll('mtext').length] : null; })"
    )
    ours = visit.tab.evaluate(script, formulas)
    visit.tab.close()
    unread = [f for f, made in zip(formulas, ours, strict=True) if made is None]
    assert len(unread) < len(formulas) / 200, unread[:5]
    same = 0
    for source, made in zip(formulas, ours, strict=True):
        theirs = _characters(re.sub(r"<[^>]+>", "", convert(source)))
        same += made is not None and _characters(made[0]) == theirs
    assert same / len(formulas) > 0.9
    shown = "".join(made[0] for made in ours if made)
    assert len(re.findall(r"\\[a-zA-Z]+", shown)) < len(formulas) / 100  # commands that are not known


def _characters(text: str) -> str:
    """What carries meaning, in its order: swapped parts of a fraction would show."""
    import html
    import unicodedata

    plain = unicodedata.normalize("NFKC", html.unescape(text)).replace("−", "-").replace("∗", "*")
    return re.sub(r"[^\w+\-=<>≤≥×]", "", plain)


def test_code_is_coloured_as_pygments_has_it(browser: Any, page: Path) -> None:
    """Keywords, strings and comments of this project's own modules."""
    from pygments.lexers import PythonLexer
    from pygments.token import Comment, Keyword, Literal, Operator, String

    visit = Visit(browser, page)
    script = (
        "(source) => [...code(source).querySelectorAll('span')].filter((s) => /^[ksc]$/.test(s.className))"
        ".map((s) => [s.className, s.textContent])"
    )
    root = Path(__file__).parents[2]
    for name in ("cipo_eval/sandbox/codec.py", "cipo_eval/metrics/seeds.py", "trainer/cipo_trainer/loss.py"):
        source = (root / name).read_text()
        ours = {"k": "", "s": "", "c": ""}
        for kind, text in visit.tab.evaluate(script, source):
            ours[kind] += f" {text}"
        theirs = {"k": "", "s": "", "c": ""}
        for token, text in PythonLexer().get_tokens(source):
            kind = (
                "c" if token in Comment else "s" if token in String or token in Literal.String
                else "k" if token in Keyword or token in Operator.Word else ""
            )  # fmt: skip
            if kind:
                theirs[kind] += f" {text}"
        words = {kind: re.findall(r"\w+", text) for kind, text in ours.items()}
        wanted = {kind: re.findall(r"\w+", text) for kind, text in theirs.items()}
        assert words["c"] == wanted["c"]
        # Ours has more: keywords of other languages, and what stands in braces of an f-string.
        for kind in "ks":
            assert not Counter(wanted[kind]) - Counter(words[kind]), (name, kind)
    visit.tab.close()


def test_texts_are_those_of_the_run(
    browser: Any, page: Path, study: Study, made: dict[str, list[Path]]
) -> None:
    """The page's texts, all of them, against the files."""
    visit = Visit(browser, page)
    shown = visit.tab.evaluate("texts.map((row) => row[0])")
    visit.tab.close()
    stored = [
        attempt.text
        for paths in made.values()
        for run in paths
        if (run / "run.json").exists()
        for path in sorted((run / "attempts").iterdir())
        for _, attempt in read_attempts(path)
    ]
    assert sorted(shown) == sorted(stored)
    assert len(shown) == len(attempts(study))
