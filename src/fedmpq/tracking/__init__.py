"""MLflow: one run for each algorithm, alpha and seed.

Whatever goes wrong in MLflow, a training goes on: one warning on stderr, and nothing more is logged.
What stands in results/ can be brought in later, by `replay`.

    with Run.start(root, experiment="digits", algorithm="fedmpq", alpha="0.5", seed=0, ...) as run:
        for row, bits in rounds:
            run.log_round(round_metrics(row, bits), row["round"])
    seal(root, results / "digits/fedmpq/alpha-0.5", {0: run.run_id})  # once the results are on disk
"""

from fedmpq.tracking.connection import repository, tracking_uri
from fedmpq.tracking.metrics import round_metrics, summary_metrics
from fedmpq.tracking.replay import experiments, replay, seal
from fedmpq.tracking.run import Run

__all__ = ["Run", "experiments", "replay", "repository", "round_metrics", "seal", "summary_metrics", "tracking_uri"]
