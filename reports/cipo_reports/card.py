"""The ``model-index`` block of a Hugging Face model card: an arm's figures in the form that the hub shows."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figures import is_later_step
from cipo_eval.analysis.judgements import JUDGEMENT_ACCURACY, JUDGEMENT_F1
from cipo_eval.turns.protocols import DIRECT
from cipo_reports.arms import Arm
from cipo_reports.frames import AVERAGE, among, whole
from cipo_reports.study import Study

FAMILIES = (
    f.PASS.name,
    f.MAJORITY.name,
    f.ACCURACY.name,
    f.CORRECTION_RATE.name,
    f.RETENTION.name,
    f.LIFT.family,
    JUDGEMENT_ACCURACY.family,
    JUDGEMENT_F1.family,
)
"""What a card shows; of steps between turns the first."""


def model_card(study: Study, arm: Arm) -> str:
    """A model card's metadata between its two lines of dashes; figures as in the tables, in per cent."""
    r = among(whole(study.results), *FAMILIES, *(figure.family for figure in study.figures))
    rows = r[(r["arm"] == arm.name) & (r["task"] != AVERAGE) & r["value"].notna()]
    shown = rows[[not is_later_step(measure) for measure in rows["measure"]]]
    results = [_result(study, arm, row) for row in shown.to_dict("records")]
    card = ModelCardData(model_name=_model(arm), eval_results=results)
    return f"---\n{card.to_yaml()}\n---\n"


def _model(arm: Arm) -> str:
    engine = arm.runs[0].info["engine"]
    name = str(engine.get("model") or engine.get("file") or arm.name)
    return name.rstrip("/").rsplit("/", 1)[-1] or arm.name


def _result(study: Study, arm: Arm, row: dict[str, Any]) -> EvalResult:
    task = str(row["task"])
    run = arm.having(task)[0]
    asked = run.info["tasks"][task]
    source = asked.get("source", {})
    protocol = "" if row["protocol"] == DIRECT else f" ({row['protocol']})"
    arguments = {
        key: asked["sampling"][key]
        for key in ("temperature", "top_p", "max_tokens")
        if key in asked["sampling"]
    }
    return EvalResult(
        task_type="text-generation",
        task_name="Text generation",
        dataset_type=str(source.get("repo") or source.get("content") or task),
        dataset_name=task,
        dataset_revision=source.get("revision"),
        dataset_args={"problems": int(row["problems"]), "samples": asked.get("samples")},
        metric_type=str(row["figure"]),
        metric_name=f"{row['figure']}{protocol}, %",
        metric_value=round(100 * float(row["value"]), 2),
        metric_args={"verdicts": study.mode.value, **arguments},
        verified=False,
        source_name="cipo-eval",
        source_url="https://arxiv.org/abs/2605.14539",
    )
