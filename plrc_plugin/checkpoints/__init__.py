"""Checkpoints, from reading one safely to handing its trunk to another framework."""

from plrc_plugin.checkpoints.encoder import load_encoder
from plrc_plugin.checkpoints.export import TARGETS, export_trunk
from plrc_plugin.checkpoints.mmengine_loader import read_without_running
from plrc_plugin.checkpoints.safe_reading import damage_of, load_tensors
from plrc_plugin.checkpoints.trunk import load_trunk, read_trunk
from plrc_plugin.checkpoints.work_dir import newest_intact_checkpoint

__all__ = [
    'TARGETS',
    'damage_of',
    'export_trunk',
    'load_encoder',
    'load_tensors',
    'load_trunk',
    'newest_intact_checkpoint',
    'read_trunk',
    'read_without_running',
]
