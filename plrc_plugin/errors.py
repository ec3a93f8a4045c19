"""Errors that users can mend."""


class SettingsError(ValueError):
    """A setting that cannot work: the message names it and says what to do."""


class NonFiniteLossError(FloatingPointError):
    """A loss became infinite or NaN.

    Args:
        message (str): what happened.
        losses (dict[str, float]): the terms, averaged over the processes.
    """

    def __init__(self, message: str, losses: dict):
        super().__init__(message)
        self.losses = losses
