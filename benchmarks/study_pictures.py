"""The pictures of docs/study.md, drawn anew from the figures under docs/study: ``python benchmarks/study_pictures.py``.

No run is needed. The last line is one JSON object: the pictures that were drawn.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from cipo_reports.figures import by_turn
from cipo_reports.frontier import frontier
from cipo_reports.panels import save, style
from cipo_reports.summaries import read_summary
from cipo_reports.training_figures import along

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "study"
PICTURES = {
    "frontier": ("worth", frontier, "frontier-self", "GRPO"),
    "grid": ("frontier", frontier, "frontier-self", "GRPO"),
    "along": ("methods", along, "along", "GRPO"),
    "by-turn": ("claims", by_turn, "by-turn-self", "GRPO, 2× steps"),
}
"""By picture: the study whose figures it is of, what draws it and which one of that, and the method that others are
compared with."""


def draw(out: Path) -> list[str]:
    """Draws all pictures into a folder, and returns their names."""
    with tempfile.TemporaryDirectory() as folder:
        for name, (study, draws, figure, baseline) in PICTURES.items():
            of = read_summary(FOLDER / study, baseline=baseline)
            with style([*of.names, *of.tasks]):
                (drawn,) = (drawn for key, _, drawn in draws(of) if key == figure)
                png, *_ = save(drawn, Path(folder), name)
            (out / png.name).write_bytes(png.read_bytes())
    return list(PICTURES)


def main() -> None:
    """Draws them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="where they go (default: docs/study)")
    print(json.dumps({"pictures": draw(parser.parse_args().out)}))


if __name__ == "__main__":
    main()
