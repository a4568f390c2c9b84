"""Training: recipes as data, and the loop that runs them."""

from swin_core.training.config import TrainConfig, setting_help, setting_limits
from swin_core.training.engine import train
from swin_core.training.evaluation import Figures, evaluate
from swin_core.training.recipes import RECIPES, Recipe, recipe

__all__ = [
    "RECIPES",
    "Figures",
    "Recipe",
    "TrainConfig",
    "evaluate",
    "recipe",
    "setting_help",
    "setting_limits",
    "train",
]
