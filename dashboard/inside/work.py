"""What the Inside page asks of a model, computed once for each state of its weights and each image."""

from dataclasses import dataclass

import numpy as np

from dashboard.shared import cache
from dashboard.shared.cache import InputImage
from swin_core import Classifier
from swin_core.anatomy.internals import (
    BlockAttention,
    Inside,
    StageRelevance,
    block_attention,
    look_inside,
    relevance_of_stages,
    token_rollout,
)
from swin_core.anatomy.structure import Anatomy, Block, anatomy
from swin_core.models.windows import Pair
from swin_core.system.cache import LRUCache

__all__ = ["Subject", "TokenLook"]

# A pass through a large model leaves some 20 MB behind, and the attention of one of its blocks as much.
_insides: LRUCache[Inside] = LRUCache(6)
_attentions: LRUCache[BlockAttention] = LRUCache(8)
_relevances: LRUCache[StageRelevance] = LRUCache(32)
_looks: LRUCache["TokenLook"] = LRUCache(128)


@dataclass(frozen=True, eq=False)
class TokenLook:
    """What one token looks at, head by head and over the image."""

    heads: np.ndarray
    """`(heads, h, w)`: the attention of each head on the block's grid."""
    within: np.ndarray
    """`(heads, M_h, M_w)`: the same as it lies in the window."""
    rolled: np.ndarray
    """`(h, w)` on the grid of the first block: what the token has drawn on."""

    def of(self, head: int | None) -> np.ndarray:
        """One head's attention, or the mean over heads."""
        return self.heads.mean(0) if head is None else self.heads[head]


@dataclass(frozen=True)
class Subject:
    """One image in one model."""

    model: str
    picture: InputImage

    def load(self) -> Classifier:
        """The model, loaded once.

        Raises:
            SwinError: it cannot be loaded.
        """
        return cache.classifier(self.model)

    def anatomy(self) -> Anatomy:
        """What the model is built of."""
        return anatomy(self.load())

    def inside(self) -> Inside:
        """What one pass of the image leaves behind."""
        model = self.load()
        return _insides.get(self._key(model), lambda: look_inside(model, self.picture.image))

    def attention(self, block: Block) -> BlockAttention:
        """The attention of all tokens of a block."""
        model, view = self.load(), self.inside().view
        return _attentions.get((*self._key(model), block.name), lambda: block_attention(model, view, block.name))

    def look(self, block: Block, token: Pair, head: int | None) -> TokenLook:
        """What a token of a block looks at; `head` counts from 0, and None is the mean over heads."""
        model = self.load()

        def make() -> TokenLook:
            found = self.attention(block)
            before = [one.name for one in self.anatomy().blocks].index(block.name)
            rolled = token_rollout(self.inside().transitions[:before], found, token, head)
            return TokenLook(found.of(token), found.within_window(token), rolled)

        return _looks.get((*self._key(model), block.name, token, head), make)

    def relevance(self, target: int) -> StageRelevance:
        """What each stage hands back of a class's logit."""
        model, view = self.load(), self.inside().view
        return _relevances.get((*self._key(model), target), lambda: relevance_of_stages(model, view, target))

    def _key(self, model: Classifier) -> tuple[object, ...]:
        return self.model, model.weights_hash, self.picture.key
