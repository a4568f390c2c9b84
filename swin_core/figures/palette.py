"""Colours of curves, the same on every page and in every figure."""

__all__ = ["INK", "SERIES"]

SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")
"""Okabe and Ito's colours, which survive colour blindness; grey for their black, for the dark theme."""

INK = "#1B2430"
"""Text on a coloured ground, in both themes."""
