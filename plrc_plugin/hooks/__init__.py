"""What happens around the training loop."""
from .check_settings import CheckSettingsHook
from .skipped_images import SkippedImagesHook

__all__ = ['CheckSettingsHook', 'SkippedImagesHook']
