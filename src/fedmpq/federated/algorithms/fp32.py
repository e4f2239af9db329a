"""FedAvg in full precision."""

from fedmpq.federated.algorithms.base import Algorithm


class FP32(Algorithm):
    """No quantization."""

    quantizes_activations = False


ALGORITHM = FP32
