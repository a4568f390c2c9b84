"""Sections of the Inside page."""
