"""Are the numbers right on the device? Losses, models, determinism, waits, views."""

import os
import warnings
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from plrc_plugin import losses
from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.models import ViewsPreprocessor
from plrc_plugin.randomness import SampleKey
from plrc_plugin.views.device_augmentation import augment
from plrc_plugin.views.two_views import TwoViews

from .cases import (
    HALF,
    batch_of,
    build,
    configs,
    for_model,
    moved,
    precision_of,
    precisions,
    relative,
    seconds_of,
    wrapper,
)
from .photographs import photographs
from .pieces import ROOT, Report, Setting, python

# Largest difference from the CPU: of a loss of given embeddings, and of its gradient, both over the
# largest value. Half precisions round the embeddings, to 2^-9 and 2^-12 of each.
OF_LOSSES = dict(
    float32=(1e-5, 1e-4), TF32=(2e-3, 1e-2), bfloat16=(2e-2, 5e-2), float16=(3e-3, 1e-2)
)
# Of the terms of a whole step at a fresh network.
OF_STEPS = dict(float32=1e-3, TF32=1e-2, bfloat16=5e-2, float16=2e-2)
# A value, and a gradient of a mean of so many queries, below which differences are not relative.
FLOOR = 0.1
# Scale of float16 losses that torch's GradScaler starts with.
FIRST_SCALE = 2.0**16


def loss_cases(setting: Setting) -> dict[str, tuple[Callable[..., Tensor], list[Tensor]]]:
    """Name to a loss and its embeddings; a loss gets those, on their device."""
    images, points, dim, queue = setting.sized((32, 256, 128, 65536), (4, 16, 16, 64))
    generator = torch.Generator().manual_seed(0)

    def rows(*shape: int) -> Tensor:
        return normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)

    regions = [torch.randint(-1, 16, (images, points), generator=generator) for _ in range(2)]
    valid = torch.rand(images, points, generator=generator) < 0.7
    matches = torch.randint(0, points, (images, points), generator=generator)
    near = torch.rand(images, points, points, generator=generator) < 0.1

    def on(x: Tensor, *others: Tensor) -> list[Tensor]:
        return [other.to(x.device) for other in others]

    q, k, t = (rows(images, points, dim) for _ in range(3))
    more = rows(queue, dim)
    alike = q[:1, :1].expand(images, points, dim).contiguous()
    contrast, distillation = losses.point_region_contrast, losses.point_affinity_distillation
    return {
        'L_m': (lambda q, k, n: losses.image_contrast(q, k, n)[0], [q[:, 0], k[:, 0], more]),
        'L_c': (lambda q, k: contrast(q, k, *on(q, *regions)), [q, k]),
        'L_c, of the image': (
            lambda q, k: contrast(q, k, *on(q, *regions), inter_image=False),
            [q, k],
        ),
        'L_c, of a queue': (
            lambda q, k, n: contrast(q, k, *on(q, *regions), negatives=n),
            [q, k, more],
        ),
        'L_c, all points alike': (lambda q, k: contrast(q, k, *on(q, *regions)), [alike, alike]),
        'L_a': (lambda q, k, t: distillation(q, k, t, k, *on(q, valid)), [q, k, t]),
        'L_a, keys left out': (
            lambda q, k, t: distillation(q, k, t, k, *on(q, valid), key_valid=on(q, valid)[0]),
            [q, k, t],
        ),
        'DenseCL': (
            lambda q, k, n: losses.dense_contrast(q, k, *on(q, matches), n),
            [q, k, more],
        ),
        'PixPro': (lambda q, k: losses.pixel_consistency(q, k, *on(q, near)), [q, k]),
    }


def value_and_gradient(loss: Callable, embeddings: list[Tensor], scale: float = 1.0):
    """Of the queries, which are what learns."""
    queries, *others = embeddings
    queries = queries.detach().clone().requires_grad_()
    value = loss(queries, *others)
    (gradient,) = torch.autograd.grad(value * scale, queries)
    return value.detach(), gradient


def check_losses(setting: Setting) -> Report:
    """Each loss of given embeddings against float64 on the CPU: value, and gradient of the
    queries. Largest difference over the largest value. In the half precisions the embeddings are
    rounded before; what follows is float32, inside autocast too."""
    report = Report()
    rows = report.table('Differences', ['loss', 'precision', 'value', 'gradient'])
    worst = {p: [0.0, 0.0] for p in precisions(setting.device)}
    for name, (loss, embeddings) in loss_cases(setting).items():
        expected = value_and_gradient(loss, embeddings)
        for precision in worst:
            given = [
                x.to(HALF.get(precision, torch.float32)).to(setting.device) for x in embeddings
            ]
            with precision_of(precision, setting.device):
                found = value_and_gradient(loss, given)
            floors = FLOOR, FLOOR / expected[1][..., 0].numel()
            errors = list(map(relative, found, expected, floors))
            rows.append([name, precision, *errors])
            worst[precision] = [max(pair) for pair in zip(worst[precision], errors)]
            if precision == 'float16':
                _, scaled = value_and_gradient(loss, given, FIRST_SCALE)
                report.verify(f'{name}: float16 gradient, scaled, is finite', _finite(scaled))
    for precision, errors in worst.items():
        for what, error, allowed in zip(('value', 'gradient'), errors, OF_LOSSES[precision]):
            report.at_most(f'{precision}: {what}', error, allowed)
    if setting.device != 'cuda':
        report.needs_cuda('TF32: value', 'TF32: gradient')
    return report


def _finite(x: Tensor) -> bool:
    return bool(x.isfinite().all())


def check_steps(setting: Setting) -> Report:
    """The terms of a whole step, from pixels on, of the same weights, images and points, against
    float32 on the CPU. The direction of the trunk's gradient is compared as well."""
    report, lowest = Report(), 1.0
    header = ['model', 'precision', 'largest difference of a term', 'cosine of the gradients']
    rows = report.table('Whole steps', header)
    size, count = setting.sized((96, 8), (32, 4))
    batch = batch_of(count, size, 'cpu', per_region=setting.sized(16, 2), resolution=14)
    cases = configs(setting, queue=4096)
    worst = dict.fromkeys(precisions(setting.device), 0.0)
    for name, config in cases.items():
        of_model = for_model(config, batch)
        expected, gradient = terms_and_gradient(build(config, 'cpu'), of_model, 'float32', 'cpu')
        for precision in worst:
            there = {view: moved(fields, setting.device) for view, fields in of_model.items()}
            terms, found = terms_and_gradient(
                build(config, setting.device), there, precision, setting.device
            )
            error = max(abs(terms[t] - expected[t]) / max(abs(expected[t]), 0.1) for t in expected)
            cosine = float(torch.cosine_similarity(found, gradient, dim=0))
            rows.append([name, precision, error, cosine])
            worst[precision] = max(worst[precision], error)
            if precision == 'float32':
                lowest = min(lowest, cosine)
    for precision, error in worst.items():
        report.at_most(f'{precision}: terms', error, OF_STEPS[precision])
    report.at_most('float32: 1 - cosine of the gradients', 1 - lowest, 1e-2)
    if setting.device != 'cuda':
        report.needs_cuda('TF32: terms')
    return report


def terms_and_gradient(model: nn.Module, batch: dict, precision: str, device: str):
    """The terms that tell of training (top-1 may flip), and the trunk's gradient in one row."""
    with precision_of(precision, device):
        found = model(**model.data_preprocessor(batch, training=True), mode='loss')
    found['loss'].backward()
    gradient = [p.grad.flatten().cpu().double() for p in model.backbone.parameters()]
    terms = {name: float(x.detach()) for name, x in found.items() if name not in ('top1', 'std')}
    return terms, torch.cat(gradient)


@contextmanager
def deterministic():
    """As the runner's ``randomness.deterministic=True`` has it."""
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # read when cuBLAS is first used
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])


def check_models_twice(setting: Setting) -> Report:
    """Three steps of every model, twice, with deterministic algorithms: every weight, statistic
    and key is the same bit. An operator without a deterministic form would end the run."""
    report = Report()
    size, count = setting.sized((128, 16), (32, 4))
    batch = batch_of(count, size, setting.device, per_region=setting.sized(16, 2), resolution=14)
    for name, config in configs(setting, queue=4096).items():
        for precision in setting.sized(('float32', 'bfloat16', 'float16'), ('bfloat16',)):
            with deterministic():
                states = [
                    trained(config, for_model(config, batch), precision, setting.device, steps=3)
                    for _ in range(2)
                ]
            differ = [key for key, value in states[0].items() if not equal(value, states[1][key])]
            found = (
                f'{len(differ)} tensors differ, first {differ[0]}' if differ else 'the same bits'
            )
            report.verify(f'{name}, {precision}', not differ, found)
    return report


def trained(config: dict, batch: dict, precision: str, device: str, steps: int) -> dict:
    """The state of a new model after some steps."""
    model = build(config, device)
    optim = wrapper(model, precision)
    for _ in range(steps):
        model.train_step(dict(batch), optim)
    return model.state_dict()


def equal(a: Tensor, b: Tensor) -> bool:
    """Bit for bit; NaN equals itself."""
    return torch.equal(a, b) or a.cpu().numpy().tobytes() == b.cpu().numpy().tobytes()


# What makes the host read a value, or makes shapes of values, on any device.
_WAITS = ('local_scalar_dense', 'nonzero', 'masked_select', 'unique', 'equal')


class Waits(TorchDispatchMode):
    """Notes each operator for which a host would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__.split('.')[0].lstrip('_')
        indexed = name in ('index', 'index_put', 'index_put_') and any(
            x is not None and x.dtype == torch.bool for x in args[1]
        )
        if indexed or any(name.startswith(wait) for wait in _WAITS):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def check_waits(setting: Setting) -> Report:
    """The host queues a whole forward and backward of every model without waiting for the GPU:
    torch raises at any synchronisation. Then a whole training step, in which there is one, where
    the logged numbers are fetched; float16 has a second, as its scaler asks for an overflow. On a
    CPU each operator of forward and backward is looked at instead, on the path of a GPU."""
    report = Report()
    size, count = setting.sized((128, 16), (32, 4))
    batch = batch_of(count, size, setting.device, per_region=setting.sized(16, 2), resolution=14)
    for name, config in configs(setting, queue=4096).items():
        for precision in setting.sized(('float32', 'bfloat16', 'float16'), ('bfloat16',)):
            model = build(config, setting.device)
            optim = wrapper(model, precision)
            of_model = for_model(config, batch)
            step = partial(model.train_step, of_model, optim)
            step()  # the allocator, cuDNN and the optimiser settle
            step()
            views = model.data_preprocessor(of_model, training=True)
            allowed = 2 if precision == 'float16' else 1
            if setting.device == 'cuda':
                problem = raised_by_waiting(model, views, precision)
                report.verify(f'{name}, {precision}: forward, backward', not problem, problem)
                waits = waits_of(step)
                report.at_most(f'{name}, {precision}: waits of a step', len(waits), allowed)
            else:
                found = waits_on_cpu(model, views, precision)
                report.verify(f'{name}, {precision}: forward, backward', not found, str(found))
                report.needs_cuda(f'{name}, {precision}: waits of a step')
    return report


def raised_by_waiting(model: nn.Module, views: dict, precision: str) -> str:
    """The error of a forward and backward that waits; '' of one that does not."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        with precision_of(precision, 'cuda'):
            loss = model(**views, mode='loss')['loss']
        loss.backward()
    except RuntimeError as error:
        return ' '.join(str(error).split())[:200]
    finally:
        torch.cuda.set_sync_debug_mode('default')
        model.zero_grad()
    return ''


def waits_of(step: Callable[[], object]) -> list[str]:
    """The file and line of each synchronisation of a step."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            step()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return [f'{Path(w.filename).name}:{w.lineno}' for w in caught if 'synchroniz' in str(w.message)]


def waits_on_cpu(model: nn.Module, views: dict, precision: str) -> list[str]:
    """The operators of a forward and backward that would make the host wait, on the path that a
    GPU takes."""
    contrast = 'plrc_plugin.losses.point_region_contrast._rows_with'
    with mock.patch(contrast, lambda pairs: None), Waits() as waits:
        with precision_of(precision, 'cpu'):
            loss = model(**views, mode='loss')['loss']
        loss.backward()
    return waits.found


def check_views(setting: Setting) -> Report:
    """Views that the loader augments beside views that the device augments, of the same draws, and
    the distributions of both over other draws. Differences are in levels of 256; means and
    spreads of the channels are compared in units of their standard error."""
    report = Report()
    paths = photographs(setting, count=setting.sized(256, 8))
    size = setting.sized(224, 32)
    there = drawn_views(paths, size, 'device', epoch=0)
    on_device = ViewsPreprocessor().to(setting.device).cast_data(there)
    images = on_device.pixels.permute(0, 3, 1, 2).float()
    given = augment(images, on_device.augmentation)
    expected = drawn_views(paths, size, 'loader', epoch=0).pixels.permute(0, 3, 1, 2).float()
    error = (given.cpu() - expected).abs()
    report.at_most('mean difference of the same draws', float(error.mean()), 0.1)
    report.at_most('largest difference of the same draws', float(error.max()), 12)
    report.at_most('share above two levels', float((error > 2).float().mean()), 2e-3)
    here = augment(there.pixels.permute(0, 3, 1, 2).float(), there.augmentation)
    differ = float((given.cpu() != here).float().mean())
    report.at_most('share of the levels that the device and the CPU make differently', differ, 1e-3)
    other = drawn_views(paths, size, 'loader', epoch=1).pixels.permute(0, 3, 1, 2).float()
    for what, of_image in (
        ('means', lambda x: x.mean((2, 3))),
        ('spreads', lambda x: x.std((2, 3))),
    ):
        a, b = of_image(given.cpu()), of_image(other)
        off = (a.mean(0) - b.mean(0)).abs() / (a.var(0) + b.var(0)).div(len(a)).sqrt()
        report.at_most(f'{what} of the channels, other draws, standard errors', float(off.max()), 5)
    seconds = seconds_of(lambda: augment(images, on_device.augmentation), setting.device, 5)
    report.table(
        'Time',
        ['views', 'size', 'ms a batch', 'views per second'],
        [[len(images), size, 1000 * seconds, len(images) / seconds]],
    )
    report.numbers['views_per_second'] = len(images) / seconds
    return report


def drawn_views(paths: list[str], size: int, where: str, epoch: int):
    """The query views of photographs."""
    views = TwoViews(size=size, where=where)
    samples = [
        views(dict(img_path=path, sample_key=SampleKey(0, epoch, i), skipped=[]))
        for i, path in enumerate(paths)
    ]
    return collate_views(samples)['query']


def run_cuda_tests(setting: Setting) -> Report:
    """The project's tests that are marked `cuda`."""
    report = Report()
    marked = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / 'tests').rglob('test_*.py'))
        if '@pytest.mark.cuda' in path.read_text()
    ]
    done = python('-m', 'pytest', '-q', '-m', 'cuda', *marked, seconds=setting.seconds - 5)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ''
    failed = [line for line in done.stdout.splitlines() if line.startswith(('FAILED', 'ERROR'))]
    if setting.device == 'cuda':
        ran = done.returncode == 0 and ' passed' in last and ' skipped' not in last
        report.verify('all pass, none is skipped', ran, '; '.join([last, *failed])[:1000])
    else:
        report.verify('they are collected', done.returncode == 0, last)
        report.needs_cuda('all pass, none is skipped')
    return report
