"""A step on a GPU that is not there: wrong devices and hidden synchronisations fail."""

import copy
from contextlib import contextmanager

import pytest
import torch
from mmengine.registry import MODELS
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import plrc_plugin  # noqa: F401
from plrc_plugin.models import shuffled_batch
from plrc_plugin.regions.sampling import sample_region_points
from plrc_plugin.views.device_augmentation import DeviceAugmentation
from plrc_plugin.views.photometric import ColorJitter, GaussianBlur, Greyscale

pretends_a_gpu = pytest.mark.skipif(
    not (torch.cuda.is_available() or hasattr(torch, 'get_autocast_dtype')),
    reason='before torch 2.4 a GPU can only be pretended where there is one',
)
TRUNK = dict(type='plrc_plugin.ResNet', depth=18, base_channels=8, strides=(1, 2, 2, 1))
PLRC = dict(type='plrc_plugin.PLRC', backbone=TRUNK, queue_size=64, warmup_epochs=0)
CONFIGS = {
    'mocov2': dict(type='plrc_plugin.MomentumContrast', backbone=TRUNK, queue_size=64),
    'plrc': PLRC,
    'strategy_2': dict(PLRC, strategy=2),
    'strategy_3': dict(PLRC, strategy=3),
    'symmetric': dict(PLRC, symmetric=True),
    'negatives_image': dict(PLRC, negatives='image'),
    'negatives_queue': dict(PLRC, negatives='queue', point_queue_size=512),
    'region_level': dict(type='plrc_plugin.RegionContrast', backbone=TRUNK, queue_size=64),
    'dense_cl': dict(type='plrc_plugin.DenseCL', backbone=TRUNK, queue_size=64),
    'pix_pro': dict(type='plrc_plugin.PixPro', backbone=TRUNK),
    'channels_last': dict(
        PLRC, data_preprocessor=dict(type='plrc_plugin.ViewsPreprocessor', channels_last=True)
    ),
}


def view(device, batch=4, size=64, points=32):
    return dict(
        pixels=torch.zeros(batch, size, size, 3, dtype=torch.uint8, device=device),
        affine=torch.rand(batch, 2, 3, device=device),
        points=torch.rand(batch, points, 2, device=device),
        regions=torch.arange(points, device=device).expand(batch, -1) // 4,
        region_map=torch.randint(0, 8, (batch, 14, 14), device=device),
        size=torch.full((batch, 2), 64.0, device=device),
        augmentation=DeviceAugmentation(
            (ColorJitter.on_device, Greyscale.on_device, GaussianBlur.on_device),
            (
                torch.rand(batch, 7, 3, device=device),
                torch.rand(batch, 3, device=device),
                torch.full((batch, 7), 1 / 13, device=device),
            ),
        ),
    )


class NoCopies(TorchDispatchMode):
    """Raises where a tensor is copied from one device to another, for which the host may wait."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if 'copy' in func.__name__ and isinstance(result, torch.Tensor):
            devices = {x.device.type for x in (*args, result) if isinstance(x, torch.Tensor)}
            if len(devices) > 1:
                raise RuntimeError(f'{func} copies between {" and ".join(sorted(devices))}')
        return result


def step(model, device):
    """Two steps' forwards, and what the optimiser does to them between, without the backward."""
    batch = model.data_preprocessor(
        dict(query=view(device), key=view(device), paths=['a']), training=True
    )
    for _ in range(2):
        with NoCopies():
            losses = model(**batch, mode='loss')
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.sub_(0.1)
    return losses


@contextmanager
def half_precision(enabled):
    """``torch.autocast('cuda', torch.bfloat16)``, which turns itself off where there is no GPU."""
    if not hasattr(torch, 'get_autocast_dtype'):  # before torch 2.4
        pytest.skip('this torch has no autocast of a GPU that is not there')
    before = torch.get_autocast_dtype('cuda')
    torch.set_autocast_dtype('cuda', torch.bfloat16)
    torch.set_autocast_enabled('cuda', enabled)
    try:
        yield
    finally:
        torch.set_autocast_enabled('cuda', False)
        torch.set_autocast_dtype('cuda', before)
        torch.clear_autocast_cache()


def dtypes_of(model):
    """Fills with the types of what the trunk's modules give."""
    seen = set()
    for module in model.backbone.modules():
        module.register_forward_hook(lambda m, i, o: seen.add(getattr(o, 'dtype', None)))
    return seen


def on_fake_cuda(model, mode):
    """As the runner does: built on the CPU, then moved."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model._apply(lambda tensor: mode.from_tensor(tensor).to('cuda'))
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    model._set_device(torch.device('cuda'))
    return model


@pretends_a_gpu
@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('amp', [False, True])
def test_forward_of_a_step_on_fake_cuda(name, amp):
    model = MODELS.build(copy.deepcopy(CONFIGS[name])).train()
    # Not under torch.device('cuda'): what the code makes without a device must fail.
    with FakeTensorMode() as mode:
        model = on_fake_cuda(model, mode)
        with half_precision(amp):
            dtypes = dtypes_of(model)
            losses = step(model, 'cuda')
    assert 'loss' in losses
    assert (torch.bfloat16 in dtypes) == amp
    for value in losses.values():
        assert isinstance(value, FakeTensor) and value.device.type == 'cuda'
        assert value.dtype == torch.float32 and value.shape == ()
    assert losses['loss'].requires_grad
    assert all(x.device.type == 'cuda' for x in (*model.parameters(), *model.buffers()))


@pretends_a_gpu
def test_regions_and_points_are_drawn_on_fake_cuda():
    with FakeTensorMode():
        regions, points = sample_region_points(
            torch.zeros(3, 14, 14, dtype=torch.int32, device='cuda'), 16, 4
        )
    assert regions.device.type == points.device.type == 'cuda'
    assert regions.shape == (3, 16) and points.shape == (3, 16, 4, 2)


def test_shuffling_over_processes_waits_for_no_copy(monkeypatch):
    copies = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._to_copy.default:
                copies.append((args[0].device.type, kwargs.get('non_blocking')))
            return func(*args, **(kwargs or {}))

    monkeypatch.setattr(shuffled_batch, 'get_rank', lambda: 0)
    monkeypatch.setattr(shuffled_batch, 'get_world_size', lambda: 2)
    monkeypatch.setattr(torch.distributed, 'all_to_all_single', lambda *args, **kwargs: None)
    with Copies():
        arrived = shuffled_batch.redistribute(
            torch.empty(4, 3, device='meta'), shuffled_batch.draw_order(8)
        )
    assert arrived.shape == (4, 3) and len(copies) == 2
    assert set(copies) == {('cpu', True)}


@pretends_a_gpu
@pytest.mark.parametrize(
    'fault, error',
    [
        (lambda x: x.sum().item(), DataDependentOutputException),
        (lambda x: bool((x > 0).any()), DataDependentOutputException),
        (lambda x: x + torch.ones(3), RuntimeError),
        (lambda x: torch.ones(3).to(x), RuntimeError),
        (lambda x: x.cpu(), RuntimeError),
        (lambda x: x.copy_(torch.ones(3)), RuntimeError),
    ],
)
def test_faults_are_noticed(fault, error):
    with FakeTensorMode(), NoCopies(), pytest.raises(error):
        fault(torch.ones(3, device='cuda'))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('name', CONFIGS)
def test_step_on_cuda_as_on_cpu(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(CONFIGS[name])).train()
    twin = copy.deepcopy(model).cuda()
    batch = dict(query=view('cpu'), key=view('cpu'), paths=['a'])
    losses = [m(**m.data_preprocessor(batch, training=True), mode='loss') for m in (model, twin)]
    for term in losses[0]:
        torch.testing.assert_close(losses[1][term].cpu(), losses[0][term], rtol=1e-3, atol=1e-4)
    for loss in losses:
        loss['loss'].backward()
    for a, b in zip(model.parameters(), twin.parameters()):
        if a.grad is not None:
            torch.testing.assert_close(b.grad.cpu(), a.grad, rtol=1e-2, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')
@pytest.mark.parametrize('name', CONFIGS)
def test_forward_and_backward_do_not_synchronise(name):
    model = MODELS.build(copy.deepcopy(CONFIGS[name])).cuda().train()
    batch = model.data_preprocessor(
        dict(query=view('cuda'), key=view('cuda'), paths=['a']), training=True
    )
    model(**batch, mode='loss')['loss'].backward()  # cuDNN and the allocator settle
    torch.cuda.set_sync_debug_mode('error')
    try:
        model(**batch, mode='loss')['loss'].backward()
    finally:
        torch.cuda.set_sync_debug_mode('default')
