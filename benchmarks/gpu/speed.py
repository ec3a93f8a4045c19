"""How fast is it, what bounds it, where does the time go, what must the loader give?"""

import copy
import gc
import importlib.util
import math
import os
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.samplers import KeyedSampler
from plrc_plugin.engine.hooks.trunk_options import recompute_activations
from plrc_plugin.registry import MODELS

from .cases import (
    AS_IN_RUNS,
    WITH_ADAMW,
    batch_of,
    build,
    configs,
    for_model,
    other_trunks,
    peak_memory,
    precision_of,
    precisions,
    seconds_of,
    trunk,
    wrapper,
)
from .photographs import photograph_folder
from .pieces import Report, Setting, numbers_of

METHODS = ('PLRC', 'MoCo v2', 'region-level contrast', 'DenseCL', 'PixPro')
LIGHTLY = "lightly's MoCo v2"


def measure_machine(setting: Setting) -> Report:
    """The card, and what it does at best: a large product in each precision, and a copy within its
    memory. Shares of the roofline below are of these, not of a data sheet."""
    report = Report()
    device, side = setting.device, setting.sized(8192, 128)
    rows = []
    for name in precisions(device):
        dtype = getattr(torch, name, torch.float32)
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        with precision_of('TF32' if name == 'TF32' else 'float32', device):
            seconds = seconds_of(partial(torch.matmul, a, b), device, setting.sized(20, 2))
        report.numbers[name] = 2 * side**3 / seconds
        rows.append([f'product of {side} × {side}, {name}', report.numbers[name] / 1e12, 'TFLOP/s'])
    source = torch.empty(setting.sized(2**30, 2**16), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = seconds_of(lambda: target.copy_(source), device, setting.sized(20, 2))
    report.numbers['bytes_per_second'] = 2 * len(source) / seconds
    rows.append(['copy, bytes read and written', report.numbers['bytes_per_second'] / 1e9, 'GB/s'])
    report.table('Rates', ['what', 'rate', 'unit'], rows)
    facts = [['cores of the host', os.cpu_count()]]
    if device == 'cuda':
        found = torch.cuda.get_device_properties(0)
        facts += [
            ['card', found.name],
            ['GPUs', torch.cuda.device_count()],
            ['memory, GB', found.total_memory / 1e9],
            ['compute capability', f'{found.major}.{found.minor}'],
            ['multiprocessors', found.multi_processor_count],
            ['CUDA', torch.version.cuda],
            ['cuDNN', torch.backends.cudnn.version()],
            ['NCCL', '.'.join(map(str, torch.cuda.nccl.version()))],
        ]
    else:
        report.needs_cuda('card')
    report.table('Machine', ['what', 'value'], facts)
    return report


class Bytes(TorchDispatchMode):
    """Counts the bytes that operators read and write, each for itself: what travels where nothing
    is fused and no cache helps. See :func:`traffic`."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.count += traffic(func, args, kwargs or {}, result)
        return result


# They reserve memory, and touch none of it.
_RESERVING = ('empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided', 'detach')
# They write what they are given without reading it.
_OVERWRITING = (
    'copy_',
    'zero_',
    'fill_',
    '_foreach_zero_',
    '_foreach_copy_',
    'normal_',
    'uniform_',
)


def traffic(func, args: tuple, kwargs: dict, result) -> int:
    """Bytes that an operator reads and writes: its inputs, what it changes in place, and its
    outputs, but those that are its inputs once more. Of a tensor that repeats its values, as
    ``expand`` makes it, the values are counted once."""
    name = func.__name__.split('.')[0]
    if func.is_view or name in _RESERVING:
        return 0
    schema = func._schema
    given = {argument.name: value for argument, value in zip(schema.arguments, args)} | kwargs
    count = 0
    for argument in schema.arguments:
        size = _bytes(given.get(argument.name))
        changed = argument.alias_info is not None and argument.alias_info.is_write
        count += size * (2 if changed and name not in _OVERWRITING else 1)
    results = result if len(schema.returns) > 1 else (result,)
    return count + sum(
        _bytes(one) for kind, one in zip(schema.returns, results) if kind.alias_info is None
    )


def _bytes(value) -> int:
    if isinstance(value, Tensor):
        distinct = [n for n, step in zip(value.shape, value.stride()) if step or n == 1]
        return math.prod(distinct) * value.element_size() if value.numel() else 0
    return sum(map(_bytes, value)) if isinstance(value, (tuple, list)) else 0


def in_place_product(_, rows, columns, **kwargs) -> int:
    """torch's counter of products passes over addmm_."""
    return 2 * rows[0] * rows[1] * columns[1]


def products_and_bytes(step: Callable[[], object]) -> tuple[int, int]:
    """Multiplications and additions of convolutions and products of a step, and its bytes."""
    mapping = {torch.ops.aten.addmm_: in_place_product}
    with FlopCounterMode(display=False, custom_mapping=mapping) as products:
        step()
    with Bytes() as travelled:
        step()
    return products.get_total_flops(), travelled.count


def stepper(
    name: str, setting: Setting, count: int, size: int, precision: str, compiled=False, **options
) -> Callable[[], object]:
    """A function that trains a step on one batch, which lies on the device."""
    torch.backends.cudnn.benchmark = True  # as in the configs
    batch = batch_of(count, size, setting.device, per_region=setting.sized(16, 2))
    if name == LIGHTLY:
        return lightly_step(setting, batch, precision, **options)
    config = {**configs(setting), **other_trunks(setting)}[name]
    model = build(config, setting.device, **options)
    if compiled:
        arguments = {} if compiled is True else compiled
        model.backbone.compile(**arguments)
        model.momentum_backbone.compile(**arguments)
    adamw = name in WITH_ADAMW
    return partial(model.train_step, for_model(config, batch), wrapper(model, precision, adamw))


class LightlyMoCo(nn.Module):
    """MoCo v2 of lightly's parts, as in its example, on the same trunk."""

    def __init__(self, setting: Setting):
        from lightly.loss import NTXentLoss
        from lightly.models.modules import MoCoProjectionHead

        super().__init__()
        self.trunk = MODELS.build(trunk(setting))
        width = self.trunk.out_channels
        self.head = MoCoProjectionHead(width, width, 128)
        self.loss = NTXentLoss(temperature=0.2, memory_bank_size=(setting.sized(65536, 64), 128))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.trunk(images)[-1].mean((2, 3)))


def lightly_step(
    setting: Setting, batch: dict, precision: str, channels_last: bool = False
) -> Callable[[], object]:
    """The loop of lightly's example; its images are normalised before, as its loader does it."""
    from lightly.models.utils import deactivate_requires_grad, update_momentum

    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = LightlyMoCo(setting).to(setting.device, memory_format=layout).train()
    momentum_model = copy.deepcopy(model)
    deactivate_requires_grad(momentum_model)
    optim = wrapper(model, precision)
    query, key = (
        (view.pixels.permute(0, 3, 1, 2).float() / 255).contiguous(memory_format=layout)
        for view in batch.values()
    )

    def step():
        update_momentum(model, momentum_model, m=0.999)
        with optim.optim_context(model):
            with torch.no_grad():
                target = momentum_model(key)
            loss = model.loss(model(query), target)
        optim.update_params(loss)

    return step


def measure_speed(setting: Setting) -> Report:
    """Images per second of a training step on ResNet-50 at 224 pixels, the batch on the card: no
    loader is in it. Shares of the roofline: the step's products over the card's measured rate in
    that precision, and the bytes that its operators read and write, each for itself and none
    fused, over the card's bandwidth, both as a share of the measured time."""
    report = Report()
    size = setting.sized(224, 32)
    rows = report.table(f'Steps at {size} pixels', _OF_STEPS)
    rates = rates_of(setting)
    batches = setting.sized((32, 256), (4,))
    for precision in setting.sized(('bfloat16', 'TF32'), ('bfloat16',)):
        for count in batches:
            for name in (*METHODS, LIGHTLY):
                row = speed_of(name, setting, count, size, precision, rates, report)
                rows.append([name, precision, count, *row])
    return report


_OF_STEPS = (
    *('model', 'precision', 'batch', 'images per second', 'ms a step', 'peak memory, MB'),
    *('products, share of the rate, %', 'bytes, share of the bandwidth, %'),
)


def measure_trunks(setting: Setting) -> Report:
    """As above, PLRC on the trunks of the other configs, in bfloat16: ConvNeXt-T and ViT-S/16 with
    AdamW, and EfficientNet-Lite0. They need timm."""
    report = Report()
    size = setting.sized(224, 32)
    rows = report.table(f'Steps of PLRC at {size} pixels', _OF_STEPS)
    if importlib.util.find_spec('timm') is None:
        report.checks.append(dict(name='other trunks', ok=None, found='needs timm'))
        return report
    rates = rates_of(setting)
    for name in other_trunks(setting):
        for count in setting.sized((64, 256), (4,)):
            row = speed_of(name, setting, count, size, 'bfloat16', rates, report)
            rows.append([name, 'bfloat16', count, *row])
    return report


def rates_of(setting: Setting) -> dict:
    """What the card does at best: of the piece before, or measured now."""
    return numbers_of(setting, 'machine') or measure_machine(setting).numbers


def speed_of(name, setting, count, size, precision, rates, report) -> list:
    """A row of :func:`measure_speed`; the images per second go into the report's numbers."""
    half = precision in ('bfloat16', 'float16')
    step = None
    try:
        step = stepper(name, setting, count, size, precision, channels_last=half)
        with precision_of('TF32' if precision == 'TF32' else AS_IN_RUNS, setting.device):
            seconds = seconds_of(step, setting.device, setting.sized(20, 1), setting.sized(5, 1))
            memory = peak_memory(step, setting.device)
            products, travelled = products_and_bytes(step)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return ['out of memory', *['-'] * 4]
    finally:
        step = None
        free(setting)
    report.numbers[f'{name}, {precision}, {count}'] = count / seconds
    shares = [
        100 * amount / rates[rate] / seconds if rate in rates else '-'
        for amount, rate in ((products, precision), (travelled, 'bytes_per_second'))
    ]
    return [count / seconds, 1000 * seconds, memory, *shares]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Of torch's own memory, or of what cuDNN and cuBLAS ask for beside it."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or 'ALLOC_FAILED' in str(error)


def measure_options(setting: Setting) -> Report:
    """PLRC with each option: time of a step, peak memory, and the loss of the first step beside
    that in float32."""
    cases = {
        'float32, TF32 products': dict(precision='TF32'),
        'bfloat16': dict(precision='bfloat16'),
        'float16': dict(precision='float16'),
        'bfloat16, channels last': dict(precision='bfloat16', channels_last=True),
        'bfloat16, channels last, recomputed activations': dict(
            precision='bfloat16', channels_last=True, recompute=True
        ),
    }
    if 'float16' not in precisions(setting.device):
        del cases['float16']
    return compare(setting, cases)


def measure_compiled(setting: Setting) -> Report:
    """The two trunks compiled by torch.compile, as `TrunkOptionsHook(compile=True)` does it, beside
    the same without."""
    # The small check compiles nothing.
    return compare_compiled(setting, 'compiled', setting.sized(True, dict(backend='eager')))


def measure_graphs(setting: Setting) -> Report:
    """The two trunks compiled with CUDA graphs, `mode='reduce-overhead'`, beside the same without.
    They pay where the host is what a step waits for."""
    if setting.device != 'cuda':
        report = Report()
        report.needs_cuda('CUDA graphs')
        return report
    return compare_compiled(setting, 'CUDA graphs', dict(mode='reduce-overhead'))


def compare_compiled(setting: Setting, what: str, compiled) -> Report:
    plain = dict(precision='bfloat16', channels_last=True)
    cases = {
        'bfloat16, channels last': plain,
        f'bfloat16, channels last, {what}': dict(plain, compiled=compiled),
    }
    return compare(setting, cases)


def compare(setting: Setting, cases: dict[str, dict]) -> Report:
    """Steps of PLRC under each case's options; losses are compared with the first case's."""
    report, expected = Report(), None
    size, count = setting.sized((224, 64), (32, 4))
    rows = report.table(
        f'PLRC, batch {count}, {size} pixels',
        ['option', 'images per second', 'ms a step', 'peak memory, MB'],
    )
    for name, options in cases.items():
        try:
            loss, seconds, memory = option_of(setting, count, size, **options)
        except Exception as error:  # of the compiler, whatever it is: the other options go on
            message = ' '.join(str(error).split())[:200]
            report.verify(name, False, f'{type(error).__name__}: {message}')
            continue
        finally:
            free(setting)
        expected = loss if expected is None else expected
        report.at_most(f'{name}: difference of the loss', abs(loss / expected - 1), 5e-2)
        rows.append([name, count / seconds, 1000 * seconds, memory])
    return report


def free(setting: Setting) -> None:
    """Gives back what models of before held."""
    gc.collect()
    if setting.device == 'cuda':
        torch.cuda.empty_cache()


def option_of(setting, count, size, precision, recompute=False, **options):
    """Loss of the first step, seconds and MB of a step."""
    step = stepper('PLRC', setting, count, size, precision, **options)
    if recompute:
        for stage in ('layer1', 'layer2', 'layer3', 'layer4'):
            recompute_activations(getattr(step.func.__self__.backbone, stage))
    with precision_of('TF32' if precision == 'TF32' else AS_IN_RUNS, setting.device):
        loss = float(step()['loss'])
        seconds = seconds_of(step, setting.device, setting.sized(20, 1), setting.sized(5, 0))
        return loss, seconds, peak_memory(step, setting.device)


def measure_memory(setting: Setting) -> Report:
    """Peak memory of a training step of PLRC beside what lies on the card, in bfloat16 and
    channels last, against batch and crop, until the card is full."""
    report = Report()
    rows = report.table('Memory', ['crop', 'batch', 'peak, MB', 'MB per image'])
    for size in setting.sized((128, 160, 224, 320), (32,)):
        for count in setting.sized((32, 64, 128, 256, 512, 1024), (2, 4)):
            try:
                step = stepper('PLRC', setting, count, size, 'bfloat16', channels_last=True)
                step()  # momentum of the optimiser
                memory = peak_memory(step, setting.device)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                rows.append([size, count, 'out of memory', '-'])
                break
            finally:
                step = None
                free(setting)
            rows.append([size, count, memory, memory / count])
    if setting.device != 'cuda':
        report.needs_cuda('memory')
    return report


def profile_step(setting: Setting) -> Report:
    """Where a step of PLRC spends the card's time, in bfloat16 and channels last: kernels by what
    they are for, the longest kernels, and how long the card waits. Then parts of a step alone."""
    report = Report()
    size, count = setting.sized((224, 64), (32, 4))
    step = stepper('PLRC', setting, count, size, 'bfloat16', channels_last=True)
    on_card = setting.device == 'cuda'
    for _ in range(setting.sized(5, 1)):
        step()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_card
    steps = setting.sized(5, 1)
    # The clock is read without the profiler, which slows the host and takes seconds to begin.
    seconds = steps * seconds_of(step, setting.device, steps, 0)
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
        if on_card:
            torch.cuda.synchronize()
    times = kernel_times(profiler, on_card)
    report.verify('the profiler saw kernels', bool(times))
    total = sum(t for t, _ in times.values()) or 1
    report.numbers['busy_share'] = total / seconds
    report.table(
        'Longest',
        ['kernel' if on_card else 'operator', 'share, %', 'calls a step'],
        [
            [name[:80], 100 * t / total, calls / steps]
            for name, (t, calls) in sorted(times.items(), key=lambda item: -item[1][0])[:20]
        ],
    )
    kinds: dict[str, float] = {}
    for name, (t, _) in times.items():
        kind = kind_of(name)
        kinds[kind] = kinds.get(kind, 0) + t
    rows = [[kind, 1000 * t / steps, 100 * t / total] for kind, t in sorted(kinds.items())]
    report.table('By kind', ['kind', 'ms a step', 'share, %'], rows)
    report.table(
        'The card' if on_card else 'The host',
        ['what', 'value'],
        [['ms a step by the clock', 1000 * seconds / steps], ['busy, %', 100 * total / seconds]],
    )
    parts_of_a_step(setting, step.func.__self__, report)
    return report


def kernel_times(profiler, on_card: bool) -> dict[str, tuple[float, int]]:
    """Seconds and calls by kernel of the card, or by operator of the CPU."""
    found: dict[str, tuple[float, int]] = {}
    for event in profiler.key_averages():
        if on_card:
            annotation = getattr(event, 'is_user_annotation', False)  # it spans kernels
            if annotation or event.device_type == torch.autograd.DeviceType.CPU:
                continue
            t = getattr(event, 'self_device_time_total', None)
            t = event.self_cuda_time_total if t is None else t
        else:
            t = event.self_cpu_time_total
        if t > 0:
            found[event.key] = (t / 1e6, event.count)
    return found


# In this order: a kernel is of the first kind of which a word is in its name.
_KINDS = {
    'batch normalisation': ('batch_norm', 'bn_', 'batchnorm'),
    'changes of layout': ('nchwto', 'nhwcto'),
    'convolutions': ('conv', 'implicit', 'wgrad', 'dgrad', 'fprop', 'cudnn'),
    'products': ('gemm', 'cutlass', 'cublas', 'nvjet', '::mm', 'addmm', 'bmm'),
    'optimiser and moving average': ('multi_tensor', 'foreach', 'lerp', 'optimizer'),
    'sums and maxima': ('reduce', 'softmax', 'sum', 'amax'),
    'copies': ('memcpy', 'memset', 'copy', 'catarray', '::cat', 'fill'),
}


def kind_of(kernel: str) -> str:
    name = kernel.lower()
    return next((k for k, words in _KINDS.items() if any(w in name for w in words)), 'elementwise')


def parts_of_a_step(setting: Setting, model: nn.Module, report: Report) -> None:
    """Times of what surrounds the passes: is the moving average one launch per tensor?"""
    device, repeats = setting.device, setting.sized(50, 1)
    names = ('backbone', 'projector')
    average = [p for n in names for p in getattr(model, f'momentum_{n}').parameters()]
    online = [p for n in names for p in getattr(model, n).parameters()]
    weight = torch.zeros((), device=device)

    def lerp():
        torch._foreach_lerp_(average, online, [weight] * len(average))

    def three_kernels():
        change = torch._foreach_sub(online, average)
        torch._foreach_mul_(change, weight)
        torch._foreach_add_(average, change)

    with torch.no_grad():
        rows = [
            [what, 1000 * seconds_of(function, device, repeats)]
            for what, function in {
                'moving average, foreach lerp with weights on the device': lerp,
                'moving average, three foreach kernels': three_kernels,
                'look for a step': partial(model._steps.look, model._watched()),
            }.items()
        ]
    model._steps.forget()
    report.table('Parts of a step', ['part', 'ms'], rows)


def measure_loader(setting: Setting) -> Report:
    """Images per second of the loader on one core of this machine, decode included, with the
    augmentation in the loader and on the device; how many cores the fastest step needs; and the
    images per second of a whole loop with real batches."""
    report = Report()
    folder = str(photograph_folder(setting))
    size, count = setting.sized((224, 512), (32, 8))
    rows = report.table(
        f'Loader, {size} pixels',
        ['augmentation', 'images per second and core', 'cores that the fastest PLRC step needs'],
    )
    torch.set_num_threads(1)
    needed = {
        name: rate for name, rate in numbers_of(setting, 'speed').items() if name.startswith('PLRC')
    }
    fastest = max(needed.values(), default=0.0) or of_a_step(setting)
    for where in ('loader', 'device'):
        data = keyed_data(folder, size, where)
        keys = iter(KeyedSampler(data, seed=0))
        read = [next(keys) for _ in range(min(count, len(data)))]
        [data[key] for key in read[: setting.sized(16, 1)]]
        began = time.process_time()
        for key in read:
            data[key]
        rate = len(read) / (time.process_time() - began)
        report.numbers[where] = rate
        rows.append([where, rate, fastest / rate])
    workers = setting.sized(min(16, os.cpu_count() or 1), 0)
    batch = setting.sized(128, 4)
    loops = report.table(
        'PLRC with its loader, bfloat16, channels last',
        ['augmentation', 'workers', 'batch', 'images per second'],
    )
    for where in ('loader', 'device'):
        rate = whole_loop(setting, folder, size, where, workers, batch)
        loops.append([where, workers, batch, rate])
    return report


def of_a_step(setting: Setting) -> float:
    """Images per second of a step of PLRC, where the speed was not measured before."""
    size, count = setting.sized((224, 128), (32, 4))
    step = stepper('PLRC', setting, count, size, 'bfloat16', channels_last=True)
    rate = count / seconds_of(step, setting.device, setting.sized(10, 1), 1)
    step = None
    free(setting)
    return rate


def keyed_data(folder: str, size: int, where: str) -> ImageFolder:
    return ImageFolder(
        folder,
        pipeline=[
            dict(type='plrc_plugin.TwoViews', size=size, where=where),
            dict(type='plrc_plugin.SampleRegionPoints'),
        ],
    )


def whole_loop(setting, folder, size, where, workers, batch) -> float:
    """Images per second from files to steps, after the workers have started."""
    data = keyed_data(folder, size, where)
    data.full_init()
    config = configs(setting)['PLRC']
    model = build(config, setting.device, channels_last=True)
    optim = wrapper(model, 'bfloat16')
    loader = DataLoader(
        data, batch, sampler=_Endless(data), num_workers=workers, drop_last=True,
        collate_fn=collate_views, pin_memory=setting.device == 'cuda',
    )  # fmt: skip
    warm, steps = setting.sized((10, 40), (1, 2))
    began = 0.0
    for i, views in zip(range(warm + steps), loader):
        model.train_step(views, optim)
        if i + 1 == warm:
            began = time.perf_counter()
    if setting.device == 'cuda':
        torch.cuda.synchronize()
    return steps * batch / (time.perf_counter() - began)


class _Endless:
    """Keys of epoch after epoch, of few photographs too."""

    def __init__(self, data: ImageFolder):
        self.sampler = KeyedSampler(data, seed=0)

    def __iter__(self):
        epoch = 0
        while True:
            self.sampler.set_epoch(epoch)
            yield from self.sampler
            epoch += 1
