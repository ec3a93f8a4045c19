"""PixPro (Xie et al., CVPR 2021), for comparison; it is not part of the paper."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from plrc_plugin.errors import check_positive, check_positive_integers
from plrc_plugin.losses.pixel_consistency import PixelConsistency, near_pairs
from plrc_plugin.models.encoder_pair import EncoderPair, spread
from plrc_plugin.models.view_batch import ViewBatch
from plrc_plugin.registry import MODELS
from plrc_plugin.views.geometry import cell_centres, view_to_image


class PixelPropagation(nn.Module):
    """``y_i = sum_j max(cos(x_i, x_j), 0)^gamma g(x_j)``, where g is a 1x1 convolution.

    Args:
        channels (int): D.
        gamma (float): sharpness. Defaults to 2.
    """

    def __init__(self, channels: int, gamma: float = 2.0):
        super().__init__()
        self.transform = nn.Conv2d(channels, channels, 1)
        self.gamma = gamma

    def forward(self, x: Tensor) -> Tensor:
        """Turns a map (B, D, h, w) into another of this shape."""
        transformed = self.transform(x).float().flatten(2)
        # Half precision is too coarse for cosines and their powers.
        with torch.autocast(x.device.type, enabled=False):
            unit = F.normalize(x.float().flatten(2), dim=1)
            similarity = (unit.transpose(1, 2) @ unit).clamp(min=0) ** self.gamma
            return (transformed @ similarity).view_as(x)


@MODELS.register_module()
class PixPro(EncoderPair):
    """Pixel-to-propagation consistency, without negatives.

    Positions of two views that lie near each other in the image should agree: the propagated
    feature of one view (online) with the plain feature of the other (momentum). The loss is the
    mean over both directions; the paper takes their sum. The paper's momentum rises from 0.99 to 1,
    which ``ScheduleHook`` does here.

    Args:
        *args, **kwargs: arguments of :class:`EncoderPair`. The paper has ``embedding_dim=256`` and
            ``symmetric=True``, the defaults here, and ``momentum=0.99``.
        hidden_dim (int): channels of the projector's hidden layer. Defaults to 2048.
        threshold (float): largest distance of a pair, in diagonals of a bin of the map; the larger
            bin of both views counts. Defaults to 0.7.
        gamma (float): sharpness of :class:`PixelPropagation`. Defaults to 2.

    Reference:
        arXiv 2011.10043, Section 3.
    """

    def __init__(
        self,
        *args,
        embedding_dim: int = 256,
        symmetric: bool = True,
        hidden_dim: int = 2048,
        threshold: float = 0.7,
        gamma: float = 2.0,
        **kwargs,
    ):
        check_positive('PixPro', threshold=threshold, gamma=gamma)
        self._hidden_dim = hidden_dim
        super().__init__(*args, embedding_dim=embedding_dim, symmetric=symmetric, **kwargs)
        self.threshold = threshold
        self.propagation = PixelPropagation(embedding_dim, gamma)
        self.consistency = PixelConsistency()

    def make_projector(self) -> nn.Module:
        """Returns 1x1 convolution, BN, ReLU, 1x1 convolution."""
        check_positive_integers(type(self).__name__, hidden_dim=self._hidden_dim)
        return nn.Sequential(
            nn.Conv2d(self.channels, self._hidden_dim, 1),
            nn.BatchNorm2d(self._hidden_dim),
            nn.ReLU(inplace=True),
            nn.Conv2d(self._hidden_dim, self.embedding_dim, 1),
        )

    def loss(self, query: ViewBatch, key: ViewBatch) -> dict[str, Tensor]:
        """Returns ``l_pix``, ``std`` (see :func:`spread`) and ``no_near_pair``, the share of images
        without a pair."""
        x = self.encode(query.image)
        key_map = self.encode_key(key.image)
        pairs = near_pairs(
            *bins_in_image(query, x.shape[2]), *bins_in_image(key, x.shape[2]), self.threshold
        )
        l_pix = self.consistency(_unit_rows(self.propagation(x)), _unit_rows(key_map), pairs)
        std = spread(F.normalize(x.float().mean((2, 3)), dim=1))
        return dict(
            loss=l_pix, l_pix=l_pix, std=std, no_near_pair=1 - pairs.any(2).any(1).float().mean()
        )


@torch.no_grad()
def bins_in_image(view: ViewBatch, size: int) -> tuple[Tensor, Tensor]:
    """Returns where the size x size bins of a view's map lie in the image: their centres (B, size *
    size, 2) and diagonals (B,), in pixels of the image."""
    affine, image_size = view.affine, view.size
    centres = cell_centres(size, affine.dtype, affine.device)
    # The affine map is diagonal, and its entries are the sides of a bin.
    sides = torch.diagonal(affine[:, :, :2], dim1=1, dim2=2) * image_size / size
    return view_to_image(centres, affine) * image_size.unsqueeze(1), sides.norm(dim=1)


def _unit_rows(feature_map: Tensor) -> Tensor:
    """The l2-normalised positions (B, h * w, D) of a map (B, D, h, w)."""
    return F.normalize(feature_map.float().flatten(2).transpose(1, 2), dim=2)
