"""Read a JSON report and compute it again."""
