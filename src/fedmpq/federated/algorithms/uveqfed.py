"""UVeQFed (Shlezinger et al. 2020): training in full precision, the update on a subtractively dithered lattice."""

from torch import Tensor

from fedmpq.federated.algorithms.fedpaq import FedPAQ
from fedmpq.quantization.rounding import Coder, DitheredLattice, pair_range
from fedmpq.seeding import torch_generator


class UVeQFed(FedPAQ):
    """FedPAQ with a hexagonal lattice, whose dither server and client draw from the same seed."""

    def scale(self, change: Tensor) -> Tensor:
        """Scale of one layer's change."""
        return pair_range(change)

    def coder(self, *key: int | str) -> Coder:
        """A dithered hexagonal lattice."""
        return DitheredLattice(torch_generator(*key))


ALGORITHM = UVeQFed
