"""The grid of heat maps as data, and its drawings: the browser's viewer, matplotlib, HTML and JSON reports."""
