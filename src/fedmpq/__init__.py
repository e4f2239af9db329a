"""FedMPQ: mixed-precision quantized models, trained together by devices of different bit budgets."""
