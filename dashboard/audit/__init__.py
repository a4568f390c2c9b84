"""Sections of the Audit page."""
