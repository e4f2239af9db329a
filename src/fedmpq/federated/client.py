"""Local training of one client (sections 4 and 5 of the specification) as a LightningModule."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from fedmpq.config import TrainingSettings
from fedmpq.federated.layout import Layout
from fedmpq.federated.trainer import LightningModule
from fedmpq.quantization.codes import Quantizer
from fedmpq.quantization.fake import fake_quantize
from fedmpq.quantization.sparsity import bit_plane_lasso


class LocalTraining(LightningModule):
    """SGD on one client's images.

    The parameters of `model` are the real-valued shadow of the codes. With bit-widths, each step
    computes with the shadow put on its grid, the gradient passes straight through to the shadow,
    and the loss is cross entropy + lambda * sum_l (P_l b_l / P) * sum_i || B_i^(l) ||_2.
    A gradient step on the bit planes, recombined, would move each weight along the same gradient
    with one more factor a layer, at b times the memory.
    """

    def __init__(
        self,
        model: nn.Module,
        layout: Layout,
        settings: TrainingSettings,
        quantizer: Quantizer,
        bits: tuple[int, ...] | None = None,
        scales: Tensor | None = None,
        regularization: float = 0.0,
    ):
        """Train `model` as `settings` say.

        Args:
            model: with the values that the server sent.
            layout: of the model.
            settings: of the optimizer.
            quantizer: of the weights.
            bits: bit-width of each layer (L); None: full precision.
            scales: scale of each layer (L,) that the server sent; None: full precision.
            regularization: lambda; its pull on a weight is in units of the layer's step (`bit_plane_lasso`).
        """
        super().__init__()
        self.model, self.layout, self.settings, self.quantizer = model, layout, settings, quantizer
        self.bits, self.regularization = bits, regularization
        self.shadow = [model.get_parameter(key) for key in layout.weights]
        self.places = [_places(model, parameter) for parameter in self.shadow]
        self.total_loss, self.samples = 0.0, 0
        if bits is not None:
            self._prepare_grid(bits, scales)

    def _prepare_grid(self, bits: tuple[int, ...], scales: Tensor) -> None:
        device = self.shadow[0].device
        sizes = torch.tensor(self.layout.sizes, device=device)
        widths = torch.tensor(bits, device=device)
        self.scales, self.binary = scales.to(device), widths == 1
        self.layers = torch.arange(len(sizes), device=device).repeat_interleave(sizes)
        self.grid = self.quantizer.grid(widths, self.scales).expand(sizes)
        self.coefficients = sizes * widths / sizes.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with the learning rate, momentum and weight decay of the settings."""
        settings = self.settings
        return torch.optim.SGD(
            self.model.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay, fused=True
        )

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The objective on one batch of images (N, 3, H, W) and labels (N,)."""
        images, labels = batch
        if self.bits is None:
            logits, penalty = self.model(images), 0.0
        else:
            logits, penalty = self._quantized_forward(images)
        loss = F.cross_entropy(logits.float(), labels)
        self.total_loss += loss.detach() * len(labels)
        self.samples += len(labels)
        return loss + penalty

    def _quantized_forward(self, images: Tensor) -> tuple[Tensor, Tensor | float]:
        weights = torch.cat([parameter.reshape(-1) for parameter in self.shadow])
        self.follow_scales([parameter.detach() for parameter in self.shadow])
        if not self.scales.isfinite().all():
            raise FloatingPointError("a weight is not finite")
        grid = self.grid._replace(scale=self.scales.index_select(0, self.layers))
        values, codes = fake_quantize(weights, grid)
        layers = self.layout.split(values, self.layout.weights)
        weights_of = {place: layer for (_, layer), places in zip(layers, self.places, strict=True) for place in places}
        logits = functional_call(self.model, weights_of, (images,), tie_weights=False)
        if not self.regularization:
            return logits, 0.0
        lasso = bit_plane_lasso(weights, codes, grid, self.layers, self.coefficients)
        return logits, self.regularization * lasso

    def follow_scales(self, weights: list[Tensor]) -> None:
        """Let each layer's scale grow with its weights.

        A range that shrank with the largest weight would never leave the most significant plane
        sparse. The scale of a binary layer is its mean magnitude and follows both ways.
        """
        found = self.quantizer.scales(weights, self.bits)
        self.scales = torch.where(self.binary, found, torch.maximum(found, self.scales))

    @property
    def mean_loss(self) -> float:
        """Mean cross entropy over all images of all epochs."""
        return float(self.total_loss) / max(self.samples, 1)


def _places(model: nn.Module, parameter: nn.Parameter) -> list[str]:
    """Every place in the modules of `model` where `parameter` stands: layers may share it."""
    return [
        f"{module}.{name}" if module else name
        for module, owner in model.named_modules()
        for name, held in owner.named_parameters(recurse=False, remove_duplicate=False)
        if held is parameter
    ]
