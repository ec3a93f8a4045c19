"""Errors that users can mend, and the checks that most settings need."""

from numbers import Real


class SettingsError(ValueError):
    """A setting cannot work. The message, one line, names the setting and says what to do."""

    def __init__(self, message: str):
        # torch turns an error in a loader's worker into one whose message is the whole traceback.
        super().__init__(message.rpartition(f'{__name__}.SettingsError: ')[2].rstrip())


class InputError(Exception):
    """A file cannot be used. The message, one line, names the file and says why."""


class NonFiniteLossError(FloatingPointError):
    """A loss became infinite or NaN.

    Args:
        message (str): what happened.
        losses (dict[str, float]): the terms, averaged over the processes.
    """

    def __init__(self, message: str, losses: dict):
        super().__init__(message)
        self.losses = losses


def check_shares(owner: str, **settings: float) -> None:
    """Raises SettingsError, naming owner and setting, for the first value that is no number in [0,
    1]."""
    for name, value in settings.items():
        if not isinstance(value, Real) or not 0 <= value <= 1:
            raise SettingsError(f'{owner}: {name} must lie in [0, 1], got {value!r}')


def check_positive(owner: str, **settings: float) -> None:
    """Raises SettingsError likewise for the first value that is no number above 0."""
    for name, value in settings.items():
        if not isinstance(value, Real) or not value > 0:
            raise SettingsError(f'{owner}: {name} must be positive, got {value!r}')


def check_positive_integers(owner: str, **settings: int) -> None:
    """Raises SettingsError likewise for the first value that is no integer above 0."""
    for name, value in settings.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise SettingsError(f'{owner}: {name} must be a positive integer, got {value!r}')
