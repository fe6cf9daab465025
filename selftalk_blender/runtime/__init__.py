"""The bundled animator in plain numpy, for Blenders that have no PyTorch beside them."""
