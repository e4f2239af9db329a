"""The paper's ablation: FedMPQ without growing."""

from fedmpq.federated.algorithms.fedmpq import FedMPQ


class Pruning(FedMPQ):
    """FedMPQ whose server takes bits but never gives one back."""

    grow = False


ALGORITHM = Pruning
