"""From blocks and a gate vector to one graph that ONNX Runtime has optimised."""
