"""Models, batches and steps that the pieces share; and what a step costs on a device."""

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

import plrc_plugin  # noqa: F401
from plrc_plugin.engine.precision import MixedPrecisionOptimWrapper
from plrc_plugin.models import ViewBatch
from plrc_plugin.regions.sampling import region_map_of_view, sample_region_points
from plrc_plugin.registry import MODELS
from plrc_plugin.views.geometry import crop_affine

from .pieces import Setting

AS_IN_RUNS = 'as in runs'
PRECISIONS = ('float32', 'TF32', 'bfloat16', 'float16')
HALF = dict(bfloat16=torch.bfloat16, float16=torch.float16)


def configs(setting: Setting, queue: int = 65536) -> dict[str, dict]:
    """Every objective, and every form of it that runs other code."""
    base = dict(backbone=trunk(setting), queue_size=setting.sized(queue, 64))
    plrc = dict(type='plrc_plugin.PLRC', warmup_epochs=0, **base)
    return {
        'MoCo v2': dict(type='plrc_plugin.MomentumContrast', **base),
        'PLRC': plrc,
        'PLRC, strategy 2': dict(plrc, strategy=2),
        'PLRC, strategy 3': dict(plrc, strategy=3),
        'PLRC, symmetric': dict(plrc, symmetric=True),
        'PLRC, own keys masked': dict(plrc, mask_own_keys=True),
        'PLRC, negatives of the image': dict(plrc, negatives='image'),
        'PLRC, negatives of a queue': dict(
            plrc, negatives='queue', point_queue_size=setting.sized(65536, 512)
        ),
        'region-level contrast': dict(type='plrc_plugin.RegionContrast', **base),
        'DenseCL': dict(type='plrc_plugin.DenseCL', **base),
        'PixPro': dict(type='plrc_plugin.PixPro', backbone=trunk(setting)),
    }


WITH_ADAMW = ('ConvNeXt-T by PLRC', 'ViT-S/16 by PLRC')


def other_trunks(setting: Setting) -> dict[str, dict]:
    """PLRC on the trunks of the configs that have no ResNet."""
    names = setting.sized(
        ('convnext_tiny', 'vit_small_patch16_224', 'tf_efficientnet_lite0'),
        ('convnext_atto', 'vit_tiny_patch16_224', 'tf_efficientnet_lite0'),
    )
    plrc = configs(setting)['PLRC']
    further = [{}, {}, dict(output_stride=16)]
    return {
        title: dict(plrc, backbone=dict(type='plrc_plugin.TimmTrunk', name=name, **more))
        for title, name, more in zip((*WITH_ADAMW, 'EfficientNet-Lite0 by PLRC'), names, further)
    }


def trunk(setting: Setting, depth: int = 50) -> dict:
    small = dict(depth=18, base_channels=8, strides=(1, 2, 2, 1))
    return dict(type='plrc_plugin.ResNet', **setting.sized(dict(depth=depth), small))


def build(config: dict, device: str, seed: int = 0, channels_last: bool = False) -> nn.Module:
    """A model in training, the same for a seed whatever the device."""
    torch.manual_seed(seed)
    config = copy.deepcopy(config)
    if channels_last:
        config['data_preprocessor'] = dict(type='plrc_plugin.ViewsPreprocessor', channels_last=True)
    model = MODELS.build(config).train().to(device)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def batch_of(
    count: int, size: int, device: str, seed: int = 0, per_region: int = 16, resolution: int = 56
) -> dict:
    """Two views of images of noise, the geometry of random crops, and points of a 4 x 4 grid."""
    rng = np.random.default_rng(seed)
    grid = np.arange(16).reshape(4, 4)
    ids = torch.from_numpy(rng.integers(0, 2**40, count))

    def view() -> ViewBatch:
        sides = np.sqrt(rng.uniform(0.2, 1, count))
        corners = rng.uniform(0, 1 - sides, (2, count)).T
        flips = rng.random(count) < 0.5
        affine = np.stack(
            [crop_affine(x, y, s, s, f) for (x, y), s, f in zip(corners, sides, flips)]
        )
        region_map = region_map_of_view(grid, affine, resolution)
        regions, points = sample_region_points(region_map.numpy(), 16, per_region, rng)
        coarse = rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        pixels = coarse.repeat(-(-size // 8), 1).repeat(-(-size // 8), 2)[:, :size, :size]
        return ViewBatch(
            pixels=torch.from_numpy(np.ascontiguousarray(pixels)),
            affine=torch.from_numpy(affine.astype(np.float32)),
            size=torch.full((count, 2), 400.0),
            points=torch.from_numpy(points).flatten(1, 2),
            regions=torch.from_numpy(regions).repeat_interleave(per_region, 1),
            region_map=region_map,
            image_ids=ids,
        )

    return {name: moved(view(), device) for name in ('query', 'key')}


def for_model(config: dict, batch: dict) -> dict:
    """The batch as the model's pipeline would have it: pooled regions have no points."""
    if config['type'] != 'plrc_plugin.RegionContrast':
        return batch
    return {
        name: view._replace(regions=view.regions[:, :: view.regions.shape[1] // 16], points=None)
        for name, view in batch.items()
    }


def moved(view: ViewBatch, device: str) -> ViewBatch:
    return ViewBatch(*(x.to(device) if isinstance(x, Tensor) else x for x in view))


def wrapper(model: nn.Module, precision: str = 'float32', adamw: bool = False) -> OptimWrapper:
    """SGD or AdamW as in the configs, with the autocast of a precision."""
    if adamw:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.1)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    if precision not in HALF:
        return OptimWrapper(optimizer)
    return MixedPrecisionOptimWrapper(precision, loss_scale=1024.0, optimizer=optimizer)


@contextmanager
def precision_of(name: str, device: str) -> Iterator[None]:
    """float32 products in full or by TF32, and autocast in the half precisions.

    ``AS_IN_RUNS`` is what PyTorch does unless it is told otherwise, and the plug-in does not tell
    it: convolutions of float32 by TF32, products of matrices in full.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = name == 'TF32'
    cudnn.allow_tf32 = name in ('TF32', AS_IN_RUNS)
    try:
        with torch.autocast(device, HALF[name]) if name in HALF else nullcontext():
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def precisions(device: str) -> tuple[str, ...]:
    """Those that a device has: a CPU has no TF32, and before torch 2.3 no float16."""
    if device == 'cuda':
        return PRECISIONS
    return ('float32', 'bfloat16', 'float16')[: 3 if hasattr(torch.amp, 'GradScaler') else 2]


def seconds_of(function: Callable[[], object], device: str, repeats: int, warm: int = 3) -> float:
    """Median time of a call, by the device's own clock where it has one."""
    for _ in range(warm):
        function()
    if device != 'cuda':
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            function()
            times.append(time.perf_counter() - began)
        return statistics.median(times)
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    marks[0].record()
    for mark in marks[1:]:  # nothing is waited for between: the host may run ahead
        function()
        mark.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(marks, marks[1:])) / 1000


def peak_memory(function: Callable[[], object], device: str) -> float:
    """MB of the device that a call needs beside what was there; nan on a CPU."""
    if device != 'cuda':
        function()
        return float('nan')
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def relative(found: Tensor, expected: Tensor, floor: float = 1e-12) -> float:
    """Largest difference over the largest value, or over ``floor`` where that is larger."""
    expected = expected.detach().double().cpu()
    scale = expected.abs().max().clamp(min=floor)
    return float((found.detach().double().cpu() - expected).abs().max() / scale)
