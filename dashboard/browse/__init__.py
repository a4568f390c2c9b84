"""Sections of the Browse page."""
