"""Notices that the optimiser has stepped, by the weights that a step changes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from plrc_plugin.errors import SettingsError

UNNOTICED_STEPS = 100  # a loss scaler that starts far too high may skip dozens of steps
MOST_UNSETTLED = 16  # looks that may stay unsettled in a loop that never fetches losses


class StepWatch:
    """Compares some weights with what they were at the last look, on the device.

    This needs no hook and no help from the training loop. It works with every optimiser, with or
    without compilation, with accumulated gradients, and when a loss scaler skips a step. The host
    learns later what a look has found: when it fetches other numbers anyway, it settles all looks
    since the last time.

    Attributes:
        unsettled (list[Tensor]): what each look that is not settled has found, () bool.
    """

    def __init__(self):
        self.unsettled: list[Tensor] = []
        self._forwards_before: list[int] = []  # how many forwards came before each
        self._settled = 0  # number of looks that are settled
        self.forget()

    def forget(self) -> None:
        """Starts anew, for instance after other weights were loaded. The next look finds no
        step."""
        self.settle([False] * len(self.unsettled))
        self._seen: list[Tensor] = []
        self._forwards = self._finished = 0  # forwards, and those whose step was noticed
        self._went_backward = False
        self._unnoticed = 0  # iterations since the last step that was noticed

    @torch.no_grad()
    def look(self, weights: Sequence[Tensor]) -> Tensor:
        """Returns whether the weights have changed since the last look, () bool on their device."""
        seen = self._seen
        self.see(weights)
        if seen and seen[0].device == weights[0].device:  # the model may have moved
            changed = [(now != then).any() for now, then in zip(weights, seen)]
            stepped = torch.stack(changed).any()
        else:
            device = weights[0].device if weights else None
            stepped = torch.zeros((), dtype=torch.bool, device=device)
        self.unsettled.append(stepped)
        self._forwards_before.append(self._forwards)
        return stepped

    def see(self, weights: Sequence[Tensor]) -> None:
        """Remembers the weights as they are, so that only a later change counts as a step."""
        self._seen = [weight.detach().clone() for weight in weights]

    def settle(self, found: Sequence) -> list[int]:
        """Records on the host what the looks have found since the last time.

        Args:
            found: a truth value for each of ``unsettled``.

        Returns:
            The numbers, counted from 0, of the looks that found a step.
        """
        steps = [i for i, stepped in enumerate(found) if stepped]
        if steps:
            self._finished, self._unnoticed = self._forwards_before[steps[-1]], 0
        first, self._settled = self._settled, self._settled + len(self.unsettled)
        self.unsettled.clear()
        self._forwards_before.clear()
        return [first + i for i in steps]

    @property
    def is_finished(self) -> bool:
        """Whether a step was noticed since the last forward. All looks must be settled."""
        return self._finished == self._forwards

    def before_forward(self, weights: Sequence[Tensor]) -> None:
        """Counts an iteration as finished if its gradients were computed and then cleared.

        Raises:
            SettingsError: if :data:`UNNOTICED_STEPS` iterations have changed no weight.
        """
        if self._went_backward and all(weight.grad is None for weight in weights):
            self._unnoticed += 1
            self._went_backward = False
        if self._unnoticed > UNNOTICED_STEPS:
            raise SettingsError(
                f'{UNNOTICED_STEPS} iterations have not changed the last layers of the encoder, so '
                'that the momentum encoder and the queue stand still: give the optimiser the '
                'parameters of this model, and a learning rate above 0'
            )

    def after_forward(self, loss: Tensor) -> None:
        """Counts a forward, and notices the backward of its loss."""
        self._forwards += 1
        if loss.requires_grad:
            loss.register_hook(self._note_backward)

    def _note_backward(self, gradient: Tensor) -> None:
        self._went_backward = True
