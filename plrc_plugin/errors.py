"""Errors that users can mend."""


class SettingsError(ValueError):
    """A setting that cannot work: the message names it and says what to do."""
