"""Progress of a training: a bar in a terminal, plain lines elsewhere."""

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """Shows round, accuracy and time left; a context manager."""

    def __init__(self, title: str, done: int, rounds: int):
        """Begin at round `done` of `rounds`."""
        self.title, self.rounds = title, rounds
        self.bar = tqdm(
            total=rounds,
            initial=done,
            desc=title,
            unit="round",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def show(self, row: dict[str, Any]) -> None:
        """Show a finished round by its row of rounds.csv."""
        accuracy = f"accuracy {row['test_accuracy']:.1%}"
        if self.bar.disable:
            print(f"{self.title}: round {row['round']}/{self.rounds}, {accuracy}, {row['seconds']:.1f} s", flush=True)
        self.bar.set_postfix_str(accuracy, refresh=False)
        self.bar.update()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()
