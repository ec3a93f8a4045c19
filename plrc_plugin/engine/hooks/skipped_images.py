"""Logs and counts images that could not be decoded, and stops the run if they are too many."""

from collections import OrderedDict
from typing import Optional

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook

from plrc_plugin.errors import SettingsError, check_shares
from plrc_plugin.registry import HOOKS


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Logs each undecodable image once, and stops the run beyond a share of the images seen.

    Args:
        max_share (float): share of the images read so far, in [0, 1]. Defaults to 0.01.
        grace (int): number of different skipped images that is always tolerated. Defaults to 10.

    Raises:
        SettingsError: at construction, if the share does not lie in [0, 1].
        RuntimeError: beyond the share, with the list.
    """

    def __init__(self, max_share: float = 0.01, grace: int = 10):
        check_shares('SkippedImagesHook', max_share=max_share)
        if not isinstance(grace, int) or grace < 0:
            raise SettingsError(f'SkippedImagesHook: grace must be 0 or more, got {grace!r}')
        self.max_share = max_share
        self.grace = grace
        self.read = 0
        self.failures = 0
        self.reasons: OrderedDict[str, str] = OrderedDict()

    def before_train_iter(self, runner, batch_idx: int, data_batch: Optional[dict] = None) -> None:
        self.read += len(data_batch['paths']) + len(data_batch['skipped'])
        self.failures += len(data_batch['skipped'])
        for path, reason in data_batch['skipped']:
            # Names may hold line breaks, or bytes that are no text.
            path = (
                path.encode('unicode_escape', 'backslashreplace').decode()
                if (not path.isprintable())
                else path
            )
            if path not in self.reasons:
                self.reasons[path] = reason
                runner.logger.warning(
                    f'skipped image {len(self.reasons)}: {path} ({reason}); '
                    'another one takes its place'
                )
        if len(self.reasons) > self.grace and self.failures > self.max_share * self.read:
            raise RuntimeError(
                f'{self.failures} of {self.read} images read could not be decoded, more than '
                f'SkippedImagesHook.max_share={self.max_share}. Mend or remove them, or raise the '
                'share:\n' + '\n'.join(f'  {p}: {r}' for p, r in self.reasons.items())
            )

    def after_train(self, runner) -> None:
        skipped = sum(all_gather_object(len(self.reasons)))
        if skipped:
            runner.logger.warning(
                f'{skipped} images could not be decoded and were replaced; they are named above'
            )
