"""A linear classifier on frozen features, and the mean IoU of its predictions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def fit_linear(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    weight_decay: float = 1e-4,
    iterations: int = 100,
) -> nn.Linear:
    """Fits a multinomial logistic regression on standardised features by L-BFGS. The problem is
    convex and the start is zero, so that the result depends neither on a learning rate nor on a
    seed.

    The weight of a sample is the inverse square root of its class's frequency. Most cells of a
    photograph are background, and classifiers that predict little else would hardly show which
    features are better.

    Args:
        features: (N, C) float32.
        labels: (N,) in 0..num_classes - 1.
        num_classes: K.
        weight_decay: lambda of lambda / 2 times the squared norm of W, which is added to the
            weighted mean cross-entropy.
        iterations: most iterations of L-BFGS.

    Returns:
        A layer for features that are not standardised: it does this itself.
    """
    std, mean = torch.std_mean(features, 0)
    frequency = torch.bincount(labels, minlength=num_classes).clamp(min=1) / len(labels)
    weights = frequency.to(features).rsqrt()
    constant = std <= 1e-6 * mean.abs()
    scale = std.masked_fill(constant, torch.inf).reciprocal()  # they are ignored
    features = (features - mean) * scale
    layer = nn.Linear(features.shape[1], num_classes).to(features)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=iterations,
        history_size=10,
        tolerance_change=1e-7,
        line_search_fn='strong_wolfe',
    )

    @torch.enable_grad()
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(layer(features), labels, weights)
        loss = loss + weight_decay / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.sub_(layer.weight @ mean)
    return layer.requires_grad_(False)


def confusion_matrix(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Counts samples by true class (row) and predicted class (column), (K, K), from (N,) and
    (N,)."""
    pairs = labels * num_classes + predicted
    return torch.bincount(pairs, minlength=num_classes**2).view(num_classes, num_classes)


def class_iou(confusion: Tensor) -> Tensor:
    """Returns the IoU of each class, (K,); NaN for a class that neither occurs nor is predicted."""
    hits = confusion.diag().double()
    return hits / (confusion.sum(0) + confusion.sum(1) - hits)
