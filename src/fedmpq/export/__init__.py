"""Trained models as files for devices: ONNX, and the packed message."""
