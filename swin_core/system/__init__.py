"""Building blocks without a model: atomic files, memory, progress, caches and ranks."""
