"""A training loop that can start in the middle of an epoch."""

from itertools import islice

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import LoggerHook
from mmengine.runner import EpochBasedTrainLoop

from plrc_plugin.engine.loading import batch_size_of, readable_loader_errors
from plrc_plugin.engine.non_finite import NonFiniteLossError, dump_step
from plrc_plugin.engine.seeding import seed_iteration
from plrc_plugin.errors import check_positive_integers
from plrc_plugin.registry import LOOPS

# mmengine copies a scalar's whole history at each step, which takes 40 ms after a million steps.
MIN_LOG_HISTORY = 10000


@LOOPS.register_module()
class ResumableTrainLoop(EpochBasedTrainLoop):
    """mmengine's ``EpochBasedTrainLoop``, but a resumed run equals one that was never interrupted.

    - A checkpoint from the middle of an epoch is resumed there. Images already seen are not read
      again with ``plrc_plugin.KeyedSampler``; the batches of another sampler are read and dropped.
    - The global generators are seeded anew for each iteration, see :func:`seed_iteration`.
    - If the number of processes or the batch size has changed, the run goes on from the same image
      of the epoch, rounded down to a whole batch.
    - A loss that is not finite ends the run before it reaches the weights, and leaves a dump.

    Args:
        runner, dataloader, max_epochs, ...: as for ``EpochBasedTrainLoop``.

    Raises:
        SettingsError: if there is no epoch to train.
    """

    def __init__(self, runner, dataloader, max_epochs: int, **kwargs):
        check_positive_integers('train_cfg', max_epochs=max_epochs)
        super().__init__(runner, dataloader, max_epochs, **kwargs)

    _begun = False
    moved = False  # whether the position was adapted to another batch or number of processes

    def run(self):
        self.fit_position()
        return super().run()

    def fit_position(self) -> None:
        """Finds the image at which a resumed run goes on, even if the batch size was another."""
        hub = self.runner.message_hub
        global_batch = batch_size_of(self.dataloader) * get_world_size()
        saved_batch = hub.get_info('global_batch', global_batch)
        saved_length = hub.get_info('iters_per_epoch', len(self.dataloader))
        if self._iter and (saved_batch, saved_length) != (global_batch, len(self.dataloader)):
            images = (self._iter - self._epoch * saved_length) * saved_batch
            position = min(images // global_batch, len(self.dataloader))
            self.moved = True
            self._iter = self._epoch * len(self.dataloader) + position
            self.runner.optim_wrapper.initialize_count_status(
                self.runner.model, self._iter, self._max_iters
            )
            self.runner.logger.warning(
                f'The checkpoint was made with {saved_batch} images per iteration and '
                f'{saved_length} iterations per epoch; now there are {global_batch} and '
                f'{len(self.dataloader)}: resuming at iteration {position} of epoch '
                f'{self._epoch + 1}. The result cannot equal that of an uninterrupted run.'
            )
        hub.update_info('global_batch', global_batch)
        hub.update_info('iters_per_epoch', len(self.dataloader))

    def run_epoch(self) -> None:
        """Runs the rest of the current epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        # A config may leave mmengine's DistSamplerSeedHook out, which does the same.
        batches = self.dataloader.batch_sampler
        for sampler in (self.dataloader.sampler, getattr(batches, 'sampler', None)):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(self._epoch)
        for buffer in self.runner.message_hub.log_scalars.values():
            buffer.max_length = max(MIN_LOG_HISTORY, 2 * len(self.dataloader))
        first = self._iter - self._epoch * len(self.dataloader)
        with readable_loader_errors('train_dataloader'):
            for idx, data_batch in enumerate(self._batches_from(first), first):
                self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _show_first(self, idx: int) -> None:
        """Logs the first iteration, for which the logger would wait until the end of its
        interval."""
        hooks = [hook for hook in self.runner.hooks if isinstance(hook, LoggerHook)]
        last = idx + 1 == len(self.dataloader) <= min([h.interval for h in hooks], default=0)
        if hooks and not last and all((idx + 1) % hook.interval for hook in hooks):
            self._iter -= 1  # this iteration was counted already
            _, line = self.runner.log_processor.get_log_after_iter(self.runner, idx, 'train')
            self._iter += 1
            self.runner.logger.info(line)

    def _batches_from(self, first: int):
        sampler = self.dataloader.sampler
        if not first:
            return self.dataloader
        if self.dataloader.batch_size is None or not hasattr(sampler, 'pass_over'):
            self.runner.logger.warning(
                f'{type(sampler).__name__} cannot start in the middle of an epoch: the first '
                f'{first} batches are read again and dropped. plrc_plugin.KeyedSampler can.'
            )
            return islice(self.dataloader, first, None)
        sampler.pass_over(first * self.dataloader.batch_size)
        return self.dataloader

    def run_iter(self, idx, data_batch) -> None:
        """Runs one iteration.

        Raises:
            NonFiniteLossError: with the iteration, the images and the path of the dump.
        """
        seed_iteration(self.runner.seed, self._iter, get_rank())
        begun, self._begun = self._begun, True
        try:
            super().run_iter(idx, data_batch)
            if not begun:
                self._show_first(idx)
        except NonFiniteLossError as error:
            raise dump_step(self.runner, data_batch, error) from None
