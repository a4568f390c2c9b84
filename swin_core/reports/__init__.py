"""Reading a JSON report and computing it again."""
