"""Training: recipes as data, and the loop that runs them."""

from swin_core.training.config import RECIPES, Recipe, TrainConfig, recipe, setting_help
from swin_core.training.engine import resume, train
from swin_core.training.evaluation import Figures, evaluate

__all__ = ["RECIPES", "Figures", "Recipe", "TrainConfig", "evaluate", "recipe", "resume", "setting_help", "train"]
