"""Counts images without regions of their own in the log."""

from typing import Optional

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook

from plrc_plugin.registry import HOOKS


@HOOKS.register_module()
class MissingRegionsHook(Hook):
    """Logs the first images that got a grid because they have no regions, and the number of all at
    the end of each epoch. See ``missing`` of :class:`~plrc_plugin.regions.SampleRegionPoints`."""

    NAMED = 10

    def __init__(self):
        self.named = set()
        self.missing = self.read = 0

    def before_train_iter(self, runner, batch_idx: int, data_batch: Optional[dict] = None) -> None:
        self.read += len(data_batch['paths'])
        self.missing += len(data_batch['regions_missing'])
        for path in data_batch['regions_missing']:
            if path not in self.named and len(self.named) < self.NAMED:
                self.named.add(path)
                runner.logger.warning(f'no regions for {path!a}: it gets a 4 x 4 grid')

    def after_train_epoch(self, runner) -> None:
        missing, read = (
            sum(counts) for counts in zip(*all_gather_object((self.missing, self.read)))
        )
        if missing:
            runner.logger.warning(
                f'{missing} of {read} images read in this epoch had no regions and got a 4 x 4 grid'
            )
        self.missing = self.read = 0
