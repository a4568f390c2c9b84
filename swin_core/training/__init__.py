"""Training: recipes as data, and the loop that runs them."""

from swin_core.evaluation.metrics import Metrics, evaluate
from swin_core.training.config import TrainConfig, setting_help, setting_limits
from swin_core.training.recipes import RECIPES, Recipe, recipe
from swin_core.training.trainer import train

__all__ = [
    "RECIPES",
    "Metrics",
    "Recipe",
    "TrainConfig",
    "evaluate",
    "recipe",
    "setting_help",
    "setting_limits",
    "train",
]
