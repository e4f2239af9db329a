"""Who is asked, who drops out, and how long an answer takes: drawn from (seed, round, client) alone."""

from collections.abc import Collection

from fedmpq.config import Experiment
from fedmpq.seeding import numpy_generator


class Participation:
    """The clients as they are in the field, in simulated time."""

    def __init__(self, experiment: Experiment, seed: int):
        self.experiment, self.settings, self.seed = experiment, experiment.participation, seed

    def choose(self, round: int, attempt: int, tried: Collection[int]) -> list[int]:
        """The clients asked, ascending: those not `tried` in this round before others that were."""
        generator = numpy_generator(self.seed, "participation", round, attempt)
        order = generator.permutation(self.experiment.partition.clients).tolist()
        return sorted(sorted(order, key=lambda client: client in tried)[: self.experiment.asked])

    def drops_out(self, round: int, attempt: int, client: int) -> bool:
        """Whether `client`, asked, gives no answer."""
        draw = numpy_generator(self.seed, "dropout", round, attempt, client).random()
        return draw < self.settings.dropout

    def seconds(self, client: int, images: int, size: int) -> float:
        """Simulated time until the answer of `client` is there.

        Args:
            client: from 0.
            images: that it processes, over all epochs.
            size: bytes that it receives and sends.
        """
        settings = self.settings
        generator = numpy_generator(self.seed, "speed", client)
        computing, sending = generator.lognormal(0, settings.speed_spread, 2)
        return float(images / (settings.images_per_second * computing) + size / (settings.bandwidth * sending))

    def is_late(self, seconds: float) -> bool:
        """Whether an answer that takes so long is not waited for."""
        return self.settings.deadline is not None and seconds > self.settings.deadline
