"""FPQ8: 8 bits throughout."""

from fedmpq.config import MAX_BITS
from fedmpq.federated.algorithms.base import QuantizedTraining
from fedmpq.federated.allocation import View


class FPQ8(QuantizedTraining):
    """Every layer of every client at 8 bits."""

    def allocate(self, view: View, budget: float) -> tuple[int, ...]:
        """8 bits for each layer."""
        return (MAX_BITS,) * len(view.sizes)


ALGORITHM = FPQ8
