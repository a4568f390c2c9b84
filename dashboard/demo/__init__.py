"""The Gradio demo's page, API and gate."""
