"""The Gradio demo: its page, its API and the limits on requests."""
