"""AQFL: each client at its own uniform bit-width."""

import math

from fedmpq.federated.algorithms.base import QuantizedTraining
from fedmpq.federated.allocation import View


class AQFL(QuantizedTraining):
    """Every layer of a client at the whole bits of its budget."""

    def allocate(self, view: View, budget: float) -> tuple[int, ...]:
        """The whole bits of the budget for each layer."""
        return (math.floor(budget),) * len(view.sizes)


ALGORITHM = AQFL
