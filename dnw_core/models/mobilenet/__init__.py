"""MobileNetV1, and the graph network of the same stages."""
