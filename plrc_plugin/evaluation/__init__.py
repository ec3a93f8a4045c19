"""Metrics and probes."""
from .voc_metric import VOCAPMetric

__all__ = ['VOCAPMetric']
