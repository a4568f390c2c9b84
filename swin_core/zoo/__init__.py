"""Classifiers by name: bundled models, runs, weights files, timm."""
