"""Pure functions on tensors: codes and planes, packing, fake quantization, sparsity and pruning."""
