"""Read images and arrays, and preprocess them for a model."""
