"""Swin Transformer and Swin-MLP: configuration, layers and complexity."""
