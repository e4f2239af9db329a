"""Algorithms as a user of the project would bring them, for tests; worker processes import them too."""

from fedmpq.config import AlgorithmSettings
from fedmpq.federated.algorithms.base import Algorithm, Answer
from fedmpq.federated.algorithms.fedpaq import FedPAQ


class HalvingSettings(AlgorithmSettings):
    """What `Halving` has of its own."""

    wide: int
    narrow: int = 2


class Halving(Algorithm):
    """`wide` bits for the first layer, `narrow` ones for the others; back comes everything at `narrow` bits."""

    Settings = HalvingSettings
    settings: HalvingSettings

    def allocate(self, view, budget):
        """Whatever the budget."""
        return self.settings.wide, *[self.settings.narrow] * (len(view.sizes) - 1)

    def answer(self, trained, received, most, scales):
        """All layers at the fewer bits."""
        return Answer(trained, (self.settings.narrow,) * len(trained), scales)


class Doubling(FedPAQ):
    """FedPAQ whose clients send twice their change."""

    def answer(self, trained, received, most, scales):
        """The change, and the change again."""
        twice = [new + (new - old) for new, old in zip(trained, received, strict=True)]
        return super().answer(twice, received, most, scales)


class Greedy(Algorithm):
    """Clients that send more bits than they may."""

    def allocate(self, view, budget):
        """2 bits."""
        return (2,) * len(view.sizes)

    def answer(self, trained, received, most, scales):
        """3 bits."""
        return Answer(trained, (3,) * len(trained), scales)


class NoAlgorithm:
    """Not a subclass of `Algorithm`."""


def factory(settings):
    """No class."""
    return Halving(settings)
