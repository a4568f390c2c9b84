"""The program that `embedding.py` starts: `python -m swin_core.evaluation.tsne FEATURES PLACES SEED`.

It prints a line every 50 steps, and imports no torch, so that it starts at once.
"""

import sys

import numpy as np

STEPS = 1000
"""Steps of gradient descent; an arrangement that no longer changes ends earlier."""
PERPLEXITY = 30.0
"""Number of neighbours that each image is held to; fewer if there are few images."""
COMPONENTS = 50
"""Principal components that t-SNE compares; further ones change distances little, and take longer."""


def arrange(features: np.ndarray, seed: int) -> np.ndarray:
    """Return places `(n, 2)` float32 for features `(n, D)`."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    components = min(COMPONENTS, *features.shape)
    reduced = PCA(components, random_state=seed).fit_transform(features)
    start = "pca" if components > 1 else "random"
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    tsne = TSNE(2, perplexity=perplexity, init=start, random_state=seed, max_iter=STEPS, verbose=2, n_jobs=1)
    return tsne.fit_transform(reduced)


if __name__ == "__main__":
    source, target, seed_text = sys.argv[1:]
    np.save(target, arrange(np.load(source, allow_pickle=False), int(seed_text)))
