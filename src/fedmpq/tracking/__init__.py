"""MLflow: one run for each algorithm, alpha and seed.

Whatever goes wrong in MLflow, a training goes on: one warning on stderr, and what could not be logged is logged once
MLflow can be used again, or brought in from results/ by `replay`.
"""

from fedmpq.tracking.connection import connect
from fedmpq.tracking.metrics import Training, round_metrics, summary_metrics
from fedmpq.tracking.registry import fetch_model, register
from fedmpq.tracking.replay import replay, seal
from fedmpq.tracking.run import Run
from fedmpq.tracking.view import links

__all__ = [
    "Run",
    "Training",
    "connect",
    "fetch_model",
    "links",
    "register",
    "replay",
    "round_metrics",
    "seal",
    "summary_metrics",
]
