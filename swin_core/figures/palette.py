"""Colours of curves, the same on all pages and in all figures."""

SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#7F7F7F")
"""The palette of Okabe and Ito, readable with colour blindness; grey replaces black, for the dark theme."""

INK = "#1B2430"
"""Colour of text on a coloured background, in both themes."""
