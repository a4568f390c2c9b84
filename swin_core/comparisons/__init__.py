"""Grids, timelines and class means, computed from models and images."""
