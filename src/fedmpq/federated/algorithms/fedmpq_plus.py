"""FedMPQ+: FedMPQ whose server balances the noise of the layers, and whose clients calibrate batch norm."""

from fedmpq.config import FedMPQPlusSettings
from fedmpq.federated.algorithms.fedmpq import FedMPQ
from fedmpq.federated.allocation import View
from fedmpq.federated.noise_balance import noise_balanced


class FedMPQPlus(FedMPQ):
    """Bits go where they take most of the error away that quantization leaves in the global model."""

    settings: FedMPQPlusSettings

    @property
    def calibration(self) -> int:
        """What the settings say."""
        return self.settings.calibration

    def allocate(self, view: View, budget: float) -> tuple[int, ...]:
        """Noise-balanced bits."""
        return noise_balanced(view.sizes, view.errors, budget, self.settings.min_bits)


ALGORITHM = FedMPQPlus
