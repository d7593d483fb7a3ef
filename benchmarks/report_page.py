"""How large the page of a report with 100,000 attempts is, how fast it loads, and how fast it filters, in Chromium.

python benchmarks/report_page.py [ATTEMPTS] [CHARACTERS]

Goals: loaded in less than 2 s, filtered in less than 200 ms. The attempts are made up: random words, so that they are
harder to compress than what models write. Loading is the time until the list can be used; texts are read after that,
and ``read_s`` is when the last one was.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cipo_reports.arms import read_arms
from cipo_reports.report import write_report
from cipo_reports.study import read_study
from cipo_reports.synthetic import make_study

FILTERS: tuple[tuple[str, str, str], ...] = (
    ("transition", "#transition", "w→r"),
    ("task", "#task", "sums"),
    ("state", "#state", "truncated"),
    ("problem", "#problem", "sums-17"),
    ("text, rare", "#text", "so the answer is $\\boxed{31"),
    ("text, everywhere", "#text", "answer"),
    ("text, nowhere", "#text", "nowhere at all"),
)


def measure(page: Path) -> dict[str, Any]:
    """Times of one visit, in seconds and milliseconds, with a browser that has nothing cached."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 950})
        started = time.perf_counter()
        tab.goto(page.resolve().as_uri(), wait_until="commit")
        tab.wait_for_selector("html[data-ready]")
        found: dict[str, Any] = {"ready_s": round(time.perf_counter() - started, 2)}
        tab.wait_for_selector("html[data-read]", timeout=120_000)
        found["read_s"] = round(time.perf_counter() - started, 2)
        times = {}
        for name, field, value in FILTERS:
            if field == "#text" or field == "#problem":
                tab.fill(field, value)
            else:
                tab.select_option(field, value)
            tab.wait_for_timeout(500)
            times[name] = float(tab.evaluate("document.documentElement.dataset.filtered"))
            tab.click("button[type=reset]")
            tab.wait_for_timeout(300)
        found["filter_ms"] = times
        found["heap_mb"] = round(tab.evaluate("performance.memory.usedJSHeapSize") / 1e6)
        browser.close()
    return found


def main() -> None:
    attempts = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    characters = int(sys.argv[2]) if len(sys.argv) > 2 else 1200
    with tempfile.TemporaryDirectory() as folder:
        # Nine runs, three tasks; each first attempt has about 2.7 revisions.
        problems = max(1, round(attempts / (9 * 3 * 8 * 3.45)))
        started = time.perf_counter()
        groups = make_study(Path(folder, "runs"), problems=problems, samples=8, padding=characters)
        print(f"study made in {time.perf_counter() - started:.0f} s", flush=True)
        started = time.perf_counter()
        arms = read_arms([], [f"{name}={','.join(map(str, paths))}" for name, paths in groups.items()])
        study = read_study(arms, bootstrap=500)
        read = time.perf_counter() - started
        written = write_report(study, Path(folder, "report"))
        wrote = time.perf_counter() - started - read
        result: dict[str, Any] = {
            "attempts": written.attempts,
            "left_out": written.left_out,
            "page_mb": round(written.bytes / 1e6, 1),
            "read_study_s": round(read, 1),
            "write_report_s": round(wrote, 1),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            **measure(written.page),
        }
    worst = max(result["filter_ms"].values())
    print(f"loaded in {result['ready_s']} s (goal 2), slowest filter {worst:.0f} ms (goal 200)")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
