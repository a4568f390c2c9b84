"""One image in one model: what the Inside page shows of it, computed once for each state of the weights."""

from dataclasses import dataclass

import numpy as np

from dashboard.shared import cache
from dashboard.shared.cache import InputImage
from dashboard.shared.model_names import weights_state
from swin_core import Classifier
from swin_core.anatomy.internals import (
    BlockAttention,
    Internals,
    StageRelevance,
    block_attention,
    read_internals,
    relevance_of_stages,
    token_rollout,
)
from swin_core.anatomy.structure import Anatomy, Block, anatomy
from swin_core.models.windows import Pair
from swin_core.system.cache import LRUCache

# The results of a forward pass of a large model take some 20 MB, and so does the attention of one of its blocks; those
# of large images take more.
_MOST_BYTES = 64 * 2**20
_internals: LRUCache[Internals] = LRUCache(6, _MOST_BYTES)
_attentions: LRUCache[BlockAttention] = LRUCache(8, _MOST_BYTES)
_relevances: LRUCache[StageRelevance] = LRUCache(32, _MOST_BYTES)
_token_attentions: LRUCache["TokenAttention"] = LRUCache(128, _MOST_BYTES)


@dataclass(frozen=True, eq=False)
class TokenAttention:
    """The attention of one token of a block."""

    heads: np.ndarray
    """Attention of each head on the block's grid, `(heads, h, w)`."""
    in_window: np.ndarray
    """The same as it lies in the token's window, `(heads, M_h, M_w)`."""
    rollout: np.ndarray
    """Attention rollout from the token to the grid of the first block, `(h, w)`."""

    def of(self, head: int | None) -> np.ndarray:
        """Attention of one head, or the mean over heads, `(h, w)`."""
        return self.heads.mean(0) if head is None else self.heads[head]


@dataclass(frozen=True)
class Inspection:
    """One image in one model. All methods raise `SwinError` if the model cannot be loaded."""

    model: str
    image: InputImage

    def classifier(self) -> Classifier:
        """The loaded model."""
        return cache.classifier(self.model)

    def anatomy(self) -> Anatomy:
        """The structure of the model."""
        return anatomy(self.classifier())

    def internals(self) -> Internals:
        """The results of one forward pass."""
        key, classifier = self._key, self.classifier()
        return _internals.get(key, lambda: read_internals(classifier, self.image.pil))

    def attention(self, block: Block) -> BlockAttention:
        """The attention of all tokens of a block."""
        key, classifier, view = self._key, self.classifier(), self.internals().view
        return _attentions.get((*key, block.name), lambda: block_attention(classifier, view, block.name))

    def token_attention(self, block: Block, token: Pair, head: int | None) -> TokenAttention:
        """The attention of one token of a block; `head` counts from 0, None is the mean over heads."""

        def compute() -> TokenAttention:
            attention = self.attention(block)
            earlier = [other.name for other in self.anatomy().blocks].index(block.name)
            rollout = token_rollout(self.internals().transitions[:earlier], attention, token, head)
            return TokenAttention(attention.of(token), attention.within_window(token), rollout)

        return _token_attentions.get((*self._key, block.name, token, head), compute)

    def relevance(self, target: int) -> StageRelevance:
        """The relevance of a class's logit at the pixels and at each stage."""
        key, classifier, view = self._key, self.classifier(), self.internals().view
        return _relevances.get((*key, target), lambda: relevance_of_stages(classifier, view, target))

    @property
    def _key(self) -> tuple[object, ...]:
        # Read it before the model: weights that are replaced in between are then computed again.
        return self.model, weights_state(self.model), self.image.key
