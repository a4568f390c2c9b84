"""Metrics of batches against a slow loop."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swin_core.errors import DataError
from swin_core.evaluation.metrics import Metrics, evaluate

pytestmark = pytest.mark.usefixtures("one_thread")


class Linear(nn.Module):
    """A classifier that is quick to follow by hand, with a part whose mode was set by its user."""

    def __init__(self, classes: int, side: int = 4) -> None:
        super().__init__()
        self.frozen = nn.Dropout(0.5)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(3 * side * side, classes)
        self.train()
        self.frozen.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(self.frozen(x.flatten(1))))


def batches(count: int, classes: int, size: int) -> list[tuple[Tensor, Tensor]]:
    pictures, labels = torch.randn(count, 3, 4, 4), torch.randint(0, classes, (count,))
    return list(zip(pictures.split(size), labels.split(size), strict=True))


@pytest.mark.parametrize("classes", [2, 5, 6, 11])
def test_metrics_against_a_slow_loop(classes: int) -> None:
    model, given = Linear(classes), batches(47, classes, 10)
    modes = [module.training for module in model.modules()]
    figures = evaluate(model, given)
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    loss, hits, hits5 = 0.0, 0, 0
    confusion = np.zeros((classes, classes), dtype=int)
    weight, bias = (parameter.detach().double().numpy() for parameter in model.head.parameters())
    for pictures, labels in given:
        for picture, label in zip(pictures.double().numpy(), labels.tolist(), strict=True):
            logits = weight @ picture.ravel() + bias
            loss += np.log(np.exp(logits).sum()) - logits[label]
            order = sorted(range(classes), key=lambda index: -logits[index])
            hits += order[0] == label
            hits5 += label in order[:5]
            confusion[label, order[0]] += 1
    assert figures.count == 47
    assert figures.loss == pytest.approx(loss / 47, rel=1e-6)
    assert figures.top1 == hits / 47
    assert figures.top5 == (hits5 / 47 if classes > 5 else None)
    np.testing.assert_array_equal(figures.confusion, confusion)
    for label, share in enumerate(figures.per_class):
        assert share == confusion[label, label] / confusion[label].sum()


def test_batches_do_not_matter() -> None:
    model = Linear(7)
    pictures, labels = (torch.cat(part) for part in zip(*batches(30, 7, 30), strict=True))
    one = evaluate(model, [(pictures, labels)])
    many = evaluate(model, zip(pictures.split(4), labels.split(4), strict=True))
    assert many.loss == pytest.approx(one.loss, rel=1e-6)
    np.testing.assert_array_equal(many.confusion, one.confusion)


def test_modes_are_restored_after_a_failure() -> None:
    model = Linear(3)
    modes = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError):
        evaluate(model, [(torch.zeros(2, 5), torch.zeros(2, dtype=torch.long))])
    assert [module.training for module in model.modules()] == modes
    with pytest.raises(DataError, match="at least one image"):
        evaluate(model, [])


def test_a_class_without_images_has_no_share() -> None:
    figures = Metrics(3, 1.0, 2 / 3, None, np.array([[2, 1, 0], [0, 0, 0], [0, 0, 0]]))
    np.testing.assert_array_equal(figures.per_class, [2 / 3, np.nan, np.nan])
    plain = json.loads(json.dumps(figures.to_dict()))
    assert plain["per_class"] == [2 / 3, None, None]
    assert plain["confusion"] == [[2, 1, 0], [0, 0, 0], [0, 0, 0]]
