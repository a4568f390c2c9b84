"""What every part builds on: files, memory, progress, caches and ranks."""
