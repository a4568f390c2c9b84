"""Metrics, predictions and confusion of a classifier on a data set."""
