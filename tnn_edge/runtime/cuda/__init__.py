"""What CUDA needs beside ONNX Runtime: stream, pinned memory, weights that are on the GPU once."""
