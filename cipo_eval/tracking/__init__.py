"""Figures in the trackers that people use: Weights & Biases, Trackio, TensorBoard and MLflow, one interface for all.

Evaluations, reports and trainings log through it. Nothing is sent where a tracker is told to stay offline (its own
variables, docs/tracking.md), and none is imported unless it is asked for.
"""

from cipo_eval.tracking.figures import numbers_of
from cipo_eval.tracking.trackers import TRACKERS, Tracker, check, named, opened, record

__all__ = ["TRACKERS", "Tracker", "check", "named", "numbers_of", "opened", "record"]
