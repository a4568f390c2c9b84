"""Grids, timelines and class means built from models and images."""
