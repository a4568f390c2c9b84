"""Read and save weights files, and load them into a model."""
