"""MLflow: one run for each algorithm, alpha and seed.

Whatever goes wrong in MLflow, a training goes on: one warning on stderr, and what could not be logged is logged once
MLflow can be used again. What stands in results/ can be brought in later, by `replay`.

    with Run(root, Training("digits", "fedmpq", "0.5", seed, parameters, partition, fingerprint)) as run:
        for row, bits in rounds:
            run.log_round(round_metrics(row, bits), row["round"])
    seal(root, results / "digits/fedmpq/alpha-0.5")  # once the results of all seeds are on disk
"""

from fedmpq.tracking.connection import connect
from fedmpq.tracking.metrics import Training, round_metrics, summary_metrics
from fedmpq.tracking.replay import replay, seal
from fedmpq.tracking.run import Run, fetch_model
from fedmpq.tracking.view import pages

__all__ = ["Run", "Training", "connect", "fetch_model", "pages", "replay", "round_metrics", "seal", "summary_metrics"]
