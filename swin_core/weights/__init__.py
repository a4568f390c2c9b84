"""Weights files: reading, saving, key layouts, and adapting tensors to a model."""
