"""From projected maps to the embeddings of points and of regions."""
from torch import Tensor
from torch.nn import functional as F

from plrc_plugin.views import read_points


def embed_points(projected_map: Tensor, points: Tensor) -> Tensor:
    """l2-normalised embeddings (B, M, D) of points (B, M, 2) of a projected map (B, D, h, w)."""
    return F.normalize(read_points(projected_map, points), dim=2)
