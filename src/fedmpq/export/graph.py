"""A model as ONNX: weights as integers behind DequantizeLinear, activations through QuantizeLinear.

The network is traced in floating point, with a mark where an activation is quantized; then weights and marks are
replaced. The values are those of PyTorch to the last bit, but for the order of additions.
"""

import logging
import warnings
from contextlib import redirect_stderr
from functools import partial
from io import StringIO

import numpy as np
import onnx
import onnx_ir as ir
import torch
from numpy.typing import ArrayLike
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnx_ir.tape import Tape
from torch import Tensor, nn

from fedmpq.errors import UserError
from fedmpq.export.packed import Device
from fedmpq.federated.activations import MAXIMUM, MINIMUM
from fedmpq.quantization.codes import Grid

OPSET, IR_VERSION = 25, 13
"""The first that have integers of 2 bits."""
TYPES = {2: ir.DataType.UINT2, 4: ir.DataType.UINT4, 8: ir.DataType.UINT8}
MARK = "fedmpq"
"""The domain of the marks."""


def as_onnx(device: Device) -> bytes:
    """The ONNX model of a device: `images` (N, S, S, 3), uint8, to `logits` (N, classes), for any N.

    Its metadata hold the name of each class: `class_0`, `class_1`, ...

    Args:
        device: of no use any more afterwards.

    Raises:
        UserError: the network has an operator that ONNX or torch.export does not know.
    """
    program = _traced(device)
    model, graph = program.model, program.model.graph
    if device.message.bits is not None:
        _quantize_weights(device, graph)
    program.optimize()
    for node in [node for node in graph.all_nodes() if node.domain == MARK]:
        _quantize_activation(node, device.activations.bits, graph)
    ClearMetadataAndDocStringPass()(model)
    model.ir_version = IR_VERSION
    model.opset_imports.pop(MARK, None)
    model.metadata_props.update({f"class_{number}": name for number, name in enumerate(device.card.classes)})
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]  # Shapes, which follow from the rest.
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def _traced(device: Device) -> torch.onnx.ONNXProgram:
    """The network in floating point, marked."""
    if device.activations and device.activations.enabled:
        device.activations.enabled = False
        for layer in device.activations.layers:
            layer.register_forward_hook(partial(_mark, _levels(layer, device.activations.bits)))
    side = device.card.image_size
    logging.disable()  # Torch tells at length where tracing fails.
    try:
        with warnings.catch_warnings(action="ignore"), redirect_stderr(StringIO()):
            return torch.onnx.export(
                device,
                (torch.zeros(2, side, side, 3, dtype=torch.uint8),),
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                opset_version=OPSET,
                dynamo=True,
                optimize=False,  # It would fold weights before they are replaced.
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__:
            cause = cause.__cause__
        reason = str(cause).strip().partition("\n")[0]
        raise UserError(f"model.network: {device.card.network!r} cannot be exported as ONNX: {reason}") from error
    finally:
        logging.disable(logging.NOTSET)


def _levels(layer: nn.Module, bits: int) -> dict[str, float | int]:
    """As `fedmpq.quantization.fake.quantize_activation` has them: their distance, and the code of 0."""
    maximum, minimum = getattr(layer, MAXIMUM), getattr(layer, MINIMUM, torch.zeros(()))
    step = ((maximum - minimum) / (2**bits - 1)).clamp(min=torch.finfo(torch.float32).tiny)
    return {"step": float(step), "zero": -int((minimum / step).round())}


def _mark(levels: dict[str, float | int], layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return torch.onnx.ops.symbolic(f"{MARK}::Mark", [output], levels, dtype=output.dtype, shape=output.shape, version=1)


def _quantize_activation(node: ir.Node, bits: int, graph: ir.Graph) -> None:
    """Put QuantizeLinear and DequantizeLinear in the place of a mark."""
    tape, name = Tape(), node.outputs[0].name
    (value,), step, zero = node.inputs, node.attributes["step"].value, node.attributes["zero"].value
    least, most = np.multiply((-zero, 2**bits - 1 - zero), np.float32(step))
    # QuantizeLinear saturates there by itself, but next to it ONNX Runtime rounds biases, and fails at Clip and UINT4.
    value = tape.op("Max", [value, _constant(tape, f"{name}.min", least)])
    if bits not in TYPES:
        value = tape.op("Min", [value, _constant(tape, f"{name}.max", most)])
    grid = [_constant(tape, f"{name}.step", step), _constant(tape, f"{name}.zero", zero, bits)]
    value = tape.op("DequantizeLinear", [tape.op("QuantizeLinear", [value, *grid]), *grid])
    _register(tape, graph)
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], tape.nodes, node.outputs, [value])


def _quantize_weights(device: Device, graph: ir.Graph) -> None:
    """Put integers in the place of each quantized layer, under whichever of its names it stands."""
    tape, sent = Tape(), device.message
    parameters = dict(device.named_parameters(remove_duplicate=False))
    layers = zip(device.layout.split(sent.model.weights, device.layout.weights), sent.bits, sent.scales, strict=True)
    for (key, values), bits, scale in layers:
        grid = device.quantizer.grid(torch.tensor(bits), scale)
        for name, parameter in parameters.items():
            if parameter is parameters[f"network.{key}"] and name in graph.initializers:
                _replace(tape, graph.initializers.pop(name), grid.encode(values), grid, bits)
    _register(tape, graph)
    graph.insert_before(graph[0], tape.nodes)


def _replace(tape: Tape, weights: ir.Value, codes: Tensor, grid: Grid, bits: int) -> None:
    transposed = [node for node, _ in weights.uses() if node.op_type == "Transpose"]
    for node in transposed:  # ONNX Runtime fails to transpose UINT4, and next to MatMul it rounds what is multiplied.
        turned, output = codes.permute(*node.attributes["perm"].as_ints()), node.outputs[0]
        output.replace_all_uses_with(_dequantized(tape, output.name, turned, grid, bits, at_once=False))
    if len(weights.uses()) > len(transposed):
        at_once = bool(grid.zero % 1 == 0)
        weights.replace_all_uses_with(_dequantized(tape, weights.name, codes, grid, bits, at_once))


def _dequantized(tape: Tape, name: str, codes: Tensor, grid: Grid, bits: int, at_once: bool) -> ir.Value:
    """(codes - zero) * step, at once, for which zero has to be a whole number, or in three operations."""
    integers, step = _constant(tape, f"{name}.codes", codes, bits), _constant(tape, f"{name}.step", grid.step_size)
    if at_once:
        return tape.op("DequantizeLinear", [integers, step, _constant(tape, f"{name}.zero", grid.zero, bits)])
    numbers = tape.op("DequantizeLinear", [integers, _constant(tape, f"{name}.one", 1)])
    return tape.op("Mul", [tape.op("Sub", [numbers, _constant(tape, f"{name}.zero", grid.zero)]), step])


def _constant(tape: Tape, name: str, value: ArrayLike, bits: int | None = None) -> ir.Value:
    """float32, or integers of the smallest type that has `bits`."""
    kind = next(kind for width, kind in TYPES.items() if bits <= width) if bits else ir.DataType.FLOAT
    return tape.initializer(ir.tensor(np.asarray(value, np.float32).astype(kind.numpy())), name)


def _register(tape: Tape, graph: ir.Graph) -> None:
    for value in tape.initializers:
        graph.register_initializer(value)
