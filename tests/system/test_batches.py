"""How many images pass through a model at once."""

import pytest
import torch

import swin_core
from swin_core.attribution import dispatch
from swin_core.attribution.dispatch import attribute
from swin_core.attribution.method import Method
from swin_core.system.batches import images_at_once

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("side", "plain", "gradients"), [(32, 64, 32), (128, 16, 2), (224, 9, 1), (1024, 2, 1), (4096, 1, 1)]
)
def test_a_cpu_takes_fewer_of_larger_images(side: int, plain: int, gradients: int) -> None:
    assert images_at_once(CPU, side, most=512) == plain
    assert images_at_once(CPU, side, most=512, gradients=True) == gradients
    assert images_at_once(CPU, side, most=1) == 1
    assert images_at_once(torch.device("cuda"), side, most=512, gradients=True) == 512
    assert images_at_once(torch.device("mps"), side, most=512) == plain


def test_a_batch_that_is_split_gives_the_same_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = swin_core.build("swin_nano", num_classes=5, image_size=32)
    classifier = swin_core.Classifier(model, "abcde", (0.5,) * 3, (0.5,) * 3, 32)
    batch, targets, against = torch.randn(7, 3, 32, 32), torch.arange(7) % 5, torch.arange(1, 8) % 5
    whole = attribute(classifier, batch, targets, against=against)
    sizes, run = [], dispatch.run_method

    def watched(model: torch.nn.Module, x: torch.Tensor, select: object, method: Method, *rest: object) -> object:
        sizes.append(len(x))
        return run(model, x, select, method, *rest)

    monkeypatch.setattr(dispatch, "run_method", watched)
    monkeypatch.setattr(dispatch, "images_at_once", lambda *_, **__: 3)
    torch.testing.assert_close(attribute(classifier, batch, targets, against=against), whole)
    assert sizes == [3, 3, 1]
