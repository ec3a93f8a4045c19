"""Changes the pipelines in a config of data sets, whatever wrappers are around these."""

from collections.abc import Callable
from typing import Any

_WITHIN = ('dataset', 'datasets')  # settings of a wrapper that hold data sets


def with_pipeline(config: Any, change: Callable[[list], list]) -> Any:
    """Returns a copy of a config in which ``change`` was applied to the pipeline of every data set
    of images. For ``ImageWindows`` this is its own pipeline, not that of the data set within.

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
    """Returns a copy of a config without pipelines, so that no image is read. The pipelines may
    have settings still to be resolved."""
    return with_pipeline(config, lambda _: [])
