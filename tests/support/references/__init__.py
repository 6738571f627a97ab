"""Independent float64 references, written once more in plain numpy or PyTorch."""
