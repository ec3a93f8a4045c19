"""Draws affinity maps over time, for every backend of the visualizer."""

from collections.abc import Sequence
from typing import Optional

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmengine.dist import master_only
from mmengine.hooks import Hook

from plrc_plugin.datasets.clean_photographs import READ_BY
from plrc_plugin.errors import SettingsError, check_positive_integers
from plrc_plugin.images.decoding import DecodingError
from plrc_plugin.recipe.windows import reading_step
from plrc_plugin.registry import DATASETS, HOOKS
from plrc_plugin.views.opening import Opener
from plrc_plugin.visualization.affinity import affinity_gallery, check_point, object_centre
from plrc_plugin.wrapped_models import bare_model


@HOOKS.register_module()
class AffinityHook(Hook):
    """Draws the affinities of fixed points of fixed images before the first epoch and every few
    epochs, and hands the picture to the visualizer as ``affinity``.

    Training is not affected: weights, running statistics and generators do not change.

    Args:
        images (Sequence[str]): image files. Give either these or ``data``.
        data (dict): config of ``plrc_plugin.VOCMasks`` or ``COCOMasks``. Its first images are
            taken, each with a point in the middle of its largest object.
        points (Sequence[tuple[float, float]], optional): a point (x, y) in [0, 1] for each of
            ``images``. Defaults to their middles.
        count (int): number of images of ``data``. Defaults to 4.
        interval (int): epochs between pictures. Defaults to 1.
        size (int): side of the network input. Defaults to 896, as in the paper.

    Raises:
        SettingsError: at construction, if a setting cannot work, and before training, if an image
            cannot be read or is too small, or a point lies outside.
    """

    def __init__(
        self,
        images: Sequence[str] = (),
        data: Optional[dict] = None,
        points: Optional[Sequence[tuple[float, float]]] = None,
        count: int = 4,
        interval: int = 1,
        size: int = 896,
    ):
        check_positive_integers('AffinityHook', count=count, interval=interval, size=size)
        if bool(images) == bool(data):
            raise SettingsError('AffinityHook: set either images or data')
        if points is not None and len(points) != len(images):
            raise SettingsError(
                f'AffinityHook: {len(points)} points for {len(images)} images: '
                'give one point per image'
            )
        self.files, self.points = images, points
        self.data, self.count = data, count
        self.interval, self.size = interval, size

    def before_run(self, runner) -> None:
        """Reads the images, now that generated scenes exist."""
        if self.data:
            masks = DATASETS.build(self.data)
            chosen = [masks[i] for i in range(min(self.count, len(masks)))]
            self.images = [image for image, _, _ in chosen]
            self.points = [object_centre(instances) for _, _, instances in chosen]
        else:
            try:
                step = reading_step(runner.cfg) or {}
                read = Opener('AffinityHook', *(step.get(name) for name in READ_BY))
                self.images = [read.whole(dict(img_path=path)) for path in self.files]
            except DecodingError as error:
                raise SettingsError(f'AffinityHook: images: {error}') from error
            self.points = [tuple(p) for p in self.points or [(0.5, 0.5)] * len(self.images)]
        for image, point in zip(self.images, self.points):  # on every rank, and when resuming too
            check_point(image, point)

    def before_train(self, runner) -> None:
        if runner.iter == 0:
            self.draw(runner, 0)

    def after_train_epoch(self, runner) -> None:
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            self.draw(runner, runner.epoch + 1)

    @master_only
    def draw(self, runner, epoch: int) -> None:
        """Adds the picture of an epoch."""
        model = bare_model(runner.model)
        modes = {module: module.training for module in model.modules()}
        model.eval()
        figure = affinity_gallery(self.images, self.points, [model], [f'epoch {epoch}'], self.size)
        for module, mode in modes.items():
            module.training = mode
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        runner.visualizer.add_image('affinity', np.array(canvas.buffer_rgba())[..., :3], epoch)
