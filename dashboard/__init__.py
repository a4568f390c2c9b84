"""The dashboard: widgets and layout over `swin_core`, no tensors."""
