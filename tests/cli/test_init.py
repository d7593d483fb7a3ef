"""``init`` writes a configuration that ``run`` reads: it asks for the defaults, commented out or not."""

from __future__ import annotations

import re
from pathlib import Path

from commands import Commands

from cipo_eval.engines import registry
from cipo_eval.run.request import RUN, RunRequest, requested


def test_what_is_written_is_read_as_the_defaults(cipo: Commands) -> None:
    assert cipo("init", "--model", "m", "--tasks", "math").code == 0
    file = Path("run.yaml")
    asked = RunRequest.of(model="m", tasks="math")
    assert requested(file) == asked
    text = file.read_text()
    assert max(map(len, text.splitlines())) <= 120
    keys = re.findall(r"^  #?([a-z_]+): ", text, re.MULTILINE)
    assert len(keys) == len(set(keys)) == len(RUN) - 1 + len(registry.flags()), (
        "the options stand in place of one"
    )
    file.write_text(re.sub(r"^  #(?! )", "  ", text, flags=re.MULTILINE))
    every = requested(file)
    assert every.model_copy(update={"engine": asked.engine}) == asked
    assert every.engine.choice() == asked.engine.choice(), "an option at its default is nobody's"


def test_a_file_that_is_there_stays(cipo: Commands, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("samples: 3\n")
    outcome = cipo("init", file)
    assert outcome.code == 2
    assert "is there already" in outcome.err
    assert file.read_text() == "samples: 3\n"
    outcome = cipo("init", tmp_path / "nowhere" / "run.yaml")
    assert outcome.code == 2
    assert "cannot be written" in outcome.err


def test_run_takes_it(cipo: Commands) -> None:
    assert cipo("init", "--model", "nowhere").code == 0
    outcome = cipo("run", "--config", "run.yaml", "--dry-run")
    assert "'nowhere' is neither" in outcome.err
    assert outcome.code != 0
