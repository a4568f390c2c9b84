"""Training: settings, recipes, and the training loop."""

from swin_core.training.config import TrainConfig, setting_help, setting_limits
from swin_core.training.recipes import RECIPES, Recipe, recipe
from swin_core.training.trainer import train

__all__ = [
    "RECIPES",
    "Recipe",
    "TrainConfig",
    "recipe",
    "setting_help",
    "setting_limits",
    "train",
]
