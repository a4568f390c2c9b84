"""The grid of heat maps as data, and its drawings: Plotly, matplotlib, HTML and JSON reports."""
