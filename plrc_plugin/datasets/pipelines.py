"""The pipelines of a config of data sets, whatever is put around these."""

from collections.abc import Callable
from typing import Any

_WITHIN = ('dataset', 'datasets')  # settings of a wrapper that hold data sets


def with_pipeline(config: Any, change: Callable[[list], list]) -> Any:
    """A copy of a config in which every data set of images has what ``change`` makes of its
    pipeline. Of ``ImageWindows`` it is its own, not that of the data set within.

    A data set that sets no pipeline and gets none is left as it is.
    """
    if isinstance(config, (list, tuple)):
        return [with_pipeline(part, change) for part in config]
    if not isinstance(config, dict):
        return config
    kind = config.get('type')
    makes_views = str(getattr(kind, '__name__', kind)).endswith('ImageWindows')
    if not makes_views and any(name in config for name in _WITHIN):
        return {k: with_pipeline(v, change) if k in _WITHIN else v for k, v in config.items()}
    pipeline = change(list(config.get('pipeline') or ()))
    return {**config, 'pipeline': pipeline} if pipeline or 'pipeline' in config else dict(config)


def without_pipelines(config: Any) -> Any:
    """A copy of a config of which no image is read: its pipelines may have settings to resolve."""
    return with_pipeline(config, lambda _: [])
