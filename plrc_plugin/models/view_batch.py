"""The one shape in which a view travels from the loader through the models."""

from collections.abc import Mapping
from typing import NamedTuple, Optional, Union

from torch import Tensor

from plrc_plugin.views import DeviceAugmentation


class ViewBatch(NamedTuple):
    """One view of each of B images.

    A field can be read as an attribute or by its name, ``view['affine']``. mmengine casts
    NamedTuples and None to a device, torch pins them and DistributedDataParallel passes them on.

    Attributes:
        pixels: (B, H, W, 3) uint8 RGB, as the loader makes them. None once they are an ``image``.
        image: (B, 3, H, W) float32, normalised. None until the data preprocessor has made it.
        affine: (B, 2, 3) float32, from positions in the view to positions in the image, see
            :mod:`plrc_plugin.views.geometry`.
        size: (B, 2) float32, width and height of the images in pixels.
        points: (B, M, 2) float32, the (x, y) in [0, 1] of M points of the view. None without
            ``SampleRegionPoints``.
        regions: (B, M) int64, the region of each point, negative = void.
        region_map: (B, R, R) int64, the region of each cell of the view. None unless the pipeline
            keeps it.
        augmentation: the :class:`~plrc_plugin.views.DeviceAugmentation` still to be done on the
            device, or None.
        image_ids: (B,) int64, the same for all views of an image and for no other image.
    """

    pixels: Optional[Tensor] = None
    image: Optional[Tensor] = None
    affine: Optional[Tensor] = None
    size: Optional[Tensor] = None
    points: Optional[Tensor] = None
    regions: Optional[Tensor] = None
    region_map: Optional[Tensor] = None
    augmentation: Optional[DeviceAugmentation] = None
    image_ids: Optional[Tensor] = None

    @classmethod
    def of(cls, view: Union['ViewBatch', Mapping]) -> 'ViewBatch':
        """Returns a view as it is, or makes one of a mapping of field names, such as a training
        loop of your own may pass."""
        return view if isinstance(view, cls) else cls(**view)

    def __getitem__(self, field: Union[str, int]) -> Optional[Tensor]:
        return getattr(self, field) if isinstance(field, str) else tuple.__getitem__(self, field)


class EncodedView(NamedTuple):
    """A view, and what an encoder computes from it.

    Attributes:
        view: the view.
        map: (B, D, h, w), the projected map.
        embeddings: (B, M, D), l2-normalised, those of its points or of its pooled regions.
    """

    view: ViewBatch
    map: Tensor
    embeddings: Tensor
