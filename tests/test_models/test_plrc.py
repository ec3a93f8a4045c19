"""The model: it composes the terms as Eq. 5 and 6 say, and moves its parts at the right time."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper  # noqa: F401
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from plrc_plugin.errors import SettingsError
from plrc_plugin.losses.image_contrast import image_contrast
from plrc_plugin.losses.point_affinity_distillation import point_affinity_distillation
from plrc_plugin.losses.point_region_contrast import point_region_contrast
from plrc_plugin.models.key_queue import KeyQueue
from plrc_plugin.models.moco import MomentumContrast
from plrc_plugin.models.plrc import PLRC
from plrc_plugin.regions.grid import GridRegions
from plrc_plugin.regions.sampling import region_map_of_view, sample_region_points
from plrc_plugin.registry import MODELS
from plrc_plugin.views.geometry import crop_affine

TRUNK = dict(type='plrc_plugin.ResNet', depth=18, base_channels=4, strides=(1, 2, 2, 1))


def model(**kwargs):
    return PLRC(**{**dict(backbone=TRUNK, embedding_dim=8, queue_size=16), **kwargs})


def view(boxes, seed, size=48):
    g = torch.Generator().manual_seed(seed)
    affine = torch.stack([torch.from_numpy(crop_affine(*box)) for box in boxes])
    maps = torch.stack(
        [region_map_of_view(torch.as_tensor(GridRegions(4)({})), a, 14) for a in affine]
    )
    regions, points = sample_region_points(maps, 8, 3, g)
    return dict(
        pixels=torch.randint(0, 256, (len(boxes), size, size, 3), generator=g, dtype=torch.uint8),
        affine=affine.float(),
        regions=regions.repeat_interleave(3, 1),
        points=points.flatten(1, 2),
    )


def batch():
    """Three images: overlapping views, views without overlap, and one view inside the other."""
    query = view([(0, 0, 0.6, 0.6, False), (0, 0, 0.24, 0.24, True), (0.1, 0.1, 0.8, 0.8, True)], 1)
    key = view(
        [(0.3, 0.3, 0.6, 0.7, True), (0.7, 0.7, 0.3, 0.3, False), (0.3, 0.3, 0.2, 0.2, False)], 2
    )
    return dict(query=query, key=key, paths=['a', 'b', 'c'], skipped=[])


@pytest.fixture(autouse=True)
def first_epoch():
    MessageHub.get_current_instance().update_info('epoch', 0)


def run(net, data=None):
    return net(**net.data_preprocessor(data or batch(), training=True), mode='loss')


@torch.no_grad()
def optimiser_step(net):
    net.projector[-1].bias.add_(1e-3)


def test_default_hyper_parameters_are_the_papers():
    net = MODELS.build(dict(type='plrc_plugin.PLRC', backbone=TRUNK))
    assert (net.alpha, net.beta, net.warmup_epochs, net.strategy) == (0.5, 0.7, 30, 1)
    assert (net.momentum, net.temperature) == (0.999, 0.2)
    assert net.queue.bank.shape == (65536, 128)
    assert net.region_contrast.temperature == 0.2
    assert net.affinity_distillation.student_temperature == 0.1
    assert net.affinity_distillation.teacher_temperature == 0.07


def by_hand(net, data, strategy):
    """The terms from up-sampled R x R maps, anchor by anchor."""
    R = 14

    def embed(feature_map, points):
        up = F.interpolate(feature_map, (R, R), mode='bilinear', align_corners=False)
        cells = (points * R - 0.5).round().long()
        return F.normalize(
            torch.stack([up[b, :, cells[b, :, 1], cells[b, :, 0]].T for b in range(len(up))]), dim=2
        )

    query, key = data['query'], data['key']
    with torch.no_grad():
        key_map = net.momentum_projector(net.momentum_backbone(key['image'])[-1])
        momentum_query_map = net.momentum_projector(net.momentum_backbone(query['image'])[-1])
    query_map = net.projector(net.backbone(query['image'])[-1])
    p, p_key = embed(query_map, query['points']), embed(key_map, key['points'])
    # The image position of each anchor, in the other view, one number at a time.
    other = torch.empty_like(query['points'])
    for b in range(len(other)):
        for i, (x, y) in enumerate(query['points'][b]):
            a, c = query['affine'][b], key['affine'][b]
            image_x, image_y = a[0, 0] * x + a[0, 2], a[1, 1] * y + a[1, 2]
            other[b, i, 0] = (image_x - c[0, 2]) / c[0, 0]
            other[b, i, 1] = (image_y - c[1, 2]) / c[1, 1]
    seen = ((other >= 0) & (other <= 1)).all(2)
    in_key = F.normalize(
        F.grid_sample(
            key_map, other.unsqueeze(2) * 2 - 1, padding_mode='border', align_corners=False
        )[..., 0].transpose(1, 2),
        dim=2,
    )
    everywhere = torch.ones_like(seen)
    p_momentum = embed(momentum_query_map, query['points'])
    l_a = {
        1: lambda: point_affinity_distillation(p, p_key, in_key, p_key, seen),
        2: lambda: point_affinity_distillation(p, p, p, in_key, seen, key_valid=seen),
        3: lambda: point_affinity_distillation(p, p, p_momentum, p_momentum, everywhere),
    }[strategy]()
    l_m, _ = image_contrast(
        F.normalize(query_map.mean((2, 3)), dim=1),
        F.normalize(key_map.mean((2, 3)), dim=1),
        net.queue.bank,
        0.2,
    )
    l_c = point_region_contrast(p, p_key, query['regions'], key['regions'])
    return l_m, l_c, l_a, seen


@pytest.mark.parametrize('strategy', [1, 2, 3])
def test_terms_and_total_by_hand(strategy):
    net = model(warmup_epochs=0, strategy=strategy, alpha=0.3, beta=0.6).eval()
    for parameter in net.momentum_backbone.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)  # a teacher that is not the student
    data = net.data_preprocessor(batch(), training=True)
    l_m, l_c, l_a, seen = by_hand(net, data, strategy)
    assert seen.any() and not seen.all() and not seen[1].any()
    out = net(**data, mode='loss')
    torch.testing.assert_close(out['l_m'], l_m)
    torch.testing.assert_close(out['l_c'], l_c)
    torch.testing.assert_close(out['l_a'], l_a)
    torch.testing.assert_close(out['loss'], 0.6 * (0.3 * l_c + 0.7 * l_a) + 0.4 * l_m)
    assert out['no_common_region'] == pytest.approx(1 / 3)
    out['loss'].backward()
    mine = [p.grad.clone() for p in net.backbone.parameters()]
    net.zero_grad()
    (0.6 * (0.3 * l_c + 0.7 * l_a) + 0.4 * l_m).backward()
    for a, b in zip(mine, net.backbone.parameters()):
        torch.testing.assert_close(a, b.grad, rtol=1e-3, atol=1e-5)
    assert all(p.grad is None for p in net.momentum_backbone.parameters())


def embeddings(net, query, key):
    """Points of v by the encoder and of v' by the momentum encoder."""
    with torch.no_grad():
        key_map = net.momentum_projector(net.momentum_backbone(key['image'])[-1])
    query_map = net.projector(net.backbone(query['image'])[-1])
    return net.embed(query_map, query), net.embed(key_map, key)


def l_c_by_hand(p, p_key, query, key, contrasted):
    """Eq. 2 pair by pair; ``contrasted(b)`` are the points j of queries of image b."""
    images = []
    for b in range(len(p)):
        pairs = []
        for i, k in (query['regions'][b].unsqueeze(1) == key['regions'][b]).nonzero().tolist():
            if query['regions'][b, i] >= 0:
                total = sum((p[b, i] @ other / 0.2).exp() for other in contrasted(b))
                pairs.append(total.log() - p[b, i] @ p_key[b, k] / 0.2)
        images += [sum(pairs) / len(pairs)] if pairs else []
    return sum(images) / len(images)


def batch_with_void_points():
    data = batch()
    for side in ('query', 'key'):
        data[side] = {
            name: value[:, ::2] if name in ('regions', 'points') else value
            for name, value in data[side].items()
        }
        data[side]['regions'][:, ::5] = -1
    return data


@pytest.mark.parametrize('negatives', ['image', 'batch', 'ranks', 'queue'])
def test_negatives_by_hand(negatives):
    net = model(alpha=1.0, beta=1.0, negatives=negatives, point_queue_size=40).eval()
    for parameter in net.momentum_backbone.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.05)
    data = net.data_preprocessor(batch_with_void_points(), training=True)
    query, key = data['query'], data['key']
    p, p_key = embeddings(net, query, key)
    earlier = []
    if negatives == 'queue':
        net.point_queue.bank[3:7] = 0  # void points of an earlier batch
        earlier = [row for row in net.point_queue.bank.clone() if row.norm() > 0]
        assert len(earlier) == 36

    def contrasted(b):
        images = [b] if negatives == 'image' else range(3)
        own = [p_key[c, j] for c in images for j in range(12) if key['regions'][c, j] >= 0]
        return own + earlier

    expected = l_c_by_hand(p, p_key, query, key, contrasted)
    out = net(**data, mode='loss')
    torch.testing.assert_close(out['l_c'], expected)
    torch.testing.assert_close(
        torch.autograd.grad(out['loss'], list(net.projector.parameters())),
        torch.autograd.grad(expected, list(net.projector.parameters())),
        rtol=1e-3,
        atol=1e-6,
    )


def test_the_point_queue_takes_the_key_points_in_their_order():
    net = model(negatives='queue', point_queue_size=40).eval()
    data = net.data_preprocessor(batch_with_void_points(), training=True)
    _, p_key = embeddings(net, data['query'], data['key'])
    bank = net.point_queue.bank.clone()
    net(**data, mode='loss')
    assert torch.equal(net.point_queue.bank, bank)  # until the optimiser has stepped
    rows = [
        p_key[b, j] if data['key']['regions'][b, j] >= 0 else torch.zeros(8)
        for b in range(3)
        for j in range(12)
    ]
    assert int(net.state_dict()['point_queue.bank_ptr']) == 0
    optimiser_step(net)
    state = net.state_dict()
    assert not all(row.any() for row in rows) and int(state['point_queue.bank_ptr']) == 36
    torch.testing.assert_close(state['point_queue.bank'][:36], torch.stack(rows))
    assert torch.equal(state['point_queue.bank'][36:], bank[36:])


@pytest.mark.parametrize('strategy', [1, 2, 3])
def test_symmetric_is_the_mean_of_both_directions(strategy):
    settings = dict(warmup_epochs=0, strategy=strategy, negatives='queue', point_queue_size=200)
    one_way = model(**settings).eval()
    both = model(**settings, symmetric=True).eval()
    both.load_state_dict(one_way.state_dict())
    data = one_way.data_preprocessor(batch(), training=True)
    forth = one_way(data['query'], data['key'], mode='loss')
    back = one_way(data['key'], data['query'], mode='loss')
    out = both(**data, mode='loss')
    assert set(out) == set(forth) and {'l_m', 'l_c', 'l_a'} < set(out)
    assert forth['loss'] != back['loss']
    for name in out:
        torch.testing.assert_close(out[name], (forth[name] + back[name]) / 2)
    # The point queue takes 24 keys of each of 3 images of v', then those of v; the queue 1 of each.
    with torch.no_grad():
        maps = [both.encode_key(data[side]['image']) for side in ('key', 'query')]
    optimiser_step(both), optimiser_step(one_way)
    state, other = both.state_dict(), one_way.state_dict()
    assert int(state['queue.bank_ptr']) == 6 and int(state['point_queue.bank_ptr']) == 144
    for name in ('queue.bank', 'point_queue.bank'):
        torch.testing.assert_close(state[name], other[name])
    keys = torch.cat([F.normalize(m.mean((2, 3)), dim=1) for m in maps])
    torch.testing.assert_close(state['queue.bank'][:6], keys)


def test_warm_up_leaves_out_l_a_and_nothing_else():
    net = model(warmup_epochs=2)
    for epoch, expected in [(0, False), (1, False), (2, True), (9, True)]:
        MessageHub.get_current_instance().update_info('epoch', epoch)
        out = run(net)
        assert ('l_a' in out) == expected
        l_p = 0.5 * out['l_c'] + (0.5 * out['l_a'] if expected else 0)
        torch.testing.assert_close(out['loss'], 0.7 * l_p + 0.3 * out['l_m'])
    assert 'l_a' not in run(model(alpha=1.0, warmup_epochs=0))


def test_no_overlap_at_all_keeps_every_gradient():
    data = batch()
    data['query'] = view([(0, 0, 0.24, 0.24, False)] * 3, 3)
    data['key'] = view([(0.7, 0.7, 0.3, 0.3, False)] * 3, 4)
    net = model(warmup_epochs=0)
    out = run(net, data)
    out['loss'].backward()
    assert out['l_c'] == 0 and out['l_a'] == 0 and out['no_common_region'] == 1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.backbone.parameters())
    assert all(p.grad is not None for p in net.projector.parameters())


def test_momentum_encoder_starts_as_a_copy_whatever_initialises():
    net = model()
    net.init_weights()
    for a, b in zip(
        net.backbone.state_dict().values(), net.momentum_backbone.state_dict().values()
    ):
        assert torch.equal(a, b)
    assert not any(p.requires_grad for p in net.momentum_backbone.parameters())
    assert not any(p.requires_grad for p in net.momentum_projector.parameters())


class Storages(TorchDispatchMode):
    """Keeps the storages of tensors of at least some size that operators return."""

    def __init__(self, size):
        super().__init__()
        self.size, self.found = size, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.note, result)
        return result

    def note(self, tensor):
        if tensor.numel() >= self.size:
            self.found.add(tensor.untyped_storage().data_ptr())


@pytest.mark.parametrize(
    'kind, kwargs',
    [
        (PLRC, {}),
        (PLRC, dict(negatives='queue', point_queue_size=2**15, warmup_epochs=0)),
        (MomentumContrast, {}),
    ],
)
def test_no_step_copies_the_queue(kind, kwargs):
    net = kind(TRUNK, embedding_dim=32, queue_size=2**15, **kwargs)
    wrapper = OptimWrapper(torch.optim.SGD(net.parameters(), 0.1))
    banks = {queue.bank.data_ptr() for queue in net.children() if isinstance(queue, KeyQueue)}
    net.train_step(batch(), wrapper)
    with Storages(2**15 * 32) as large:
        net.train_step(batch(), wrapper)
    assert large.found == banks


def test_a_copy_of_the_queue_is_noticed():
    bank = torch.randn(16, 4)
    with Storages(16 * 4) as large:
        bank.T @ torch.ones(16, 1)
        assert large.found == {bank.data_ptr()}
        bank.clone()
    assert len(large.found) == 2


def test_mocov2_pools_before_its_projector():
    net = MomentumContrast(TRUNK, embedding_dim=8, queue_size=16).eval()
    data = net.data_preprocessor(batch(), training=True)
    features = net.backbone(data['query']['image'])[-1].mean((2, 3), keepdim=True)
    torch.testing.assert_close(net.encode(data['query']['image']), net.projector(features))
    out = net(**data, mode='loss')
    assert set(out) == {'loss', 'l_m', 'top1', 'std'} and out['loss'] == out['l_m']


def test_log_shows_every_term_and_optimises_the_total_once():
    net = model(warmup_epochs=0)
    out = run(net)
    total, logged = net.parse_losses(out)
    assert total is out['loss']
    assert list(logged) == ['loss', 'l_m', 'top1', 'std', 'l_c', 'l_a', 'no_common_region']
    assert all(isinstance(value, float) for value in logged.values())


def test_std_tells_spread_from_collapse():
    net = model(embedding_dim=64)
    spread = net.image_terms(torch.randn(256, 64, 1, 1), torch.randn(256, 64, 1, 1))['std']
    assert spread == pytest.approx(1, abs=0.05)
    same = torch.randn(1, 64, 1, 1).expand(8, -1, -1, -1)
    assert net.image_terms(same, same)['std'] < 1e-6


def test_projected_map_for_looking():
    net = model().eval()
    assert net(dict(image=torch.zeros(2, 3, 64, 64)), mode='tensor').shape == (2, 8, 4, 4)
    with pytest.raises(ValueError, match="mode must be 'loss' or 'tensor'"):
        net(dict(image=torch.zeros(2, 3, 64, 64)), mode='predict')


@pytest.mark.parametrize(
    'setting',
    [
        dict(alpha=-0.1),
        dict(alpha=1.1),
        dict(beta=2),
        dict(warmup_epochs=-1),
        dict(warmup_epochs=0.5),
        dict(strategy=4),
        dict(strategy=True),
        dict(strategy=1.0),
        dict(momentum=1.5),
        dict(temperature=0),
        dict(queue_size=0),
        dict(embedding_dim=-1),
        dict(queue_size=1.5),
    ],
)
def test_settings_that_cannot_work(setting):
    with pytest.raises(SettingsError, match=f'PLRC: {next(iter(setting))} must'):
        model(**setting)


def test_preprocessor_normalises_rgb():
    net = model()
    data = batch()
    image = net.data_preprocessor(data)['query']['image']
    assert image.shape == (3, 3, 48, 48) and image.dtype == torch.float32
    expected = (
        data['query']['pixels'][1, 5, 7].float() - torch.tensor([123.675, 116.28, 103.53])
    ) / torch.tensor([58.395, 57.12, 57.375])
    torch.testing.assert_close(image[1, :, 5, 7], expected)
    assert 'pixels' in data['query']  # the loader's batch is left as it was


@pytest.mark.parametrize('strategy, passes', [(1, 1), (2, 1), (3, 2)])
def test_only_strategy_3_has_a_further_momentum_pass_and_only_once_it_distills(strategy, passes):
    net = model(warmup_epochs=1, strategy=strategy)
    count = []
    net.momentum_backbone.register_forward_hook(lambda *_: count.append(1))
    for epoch, expected in [(0, 1), (1, passes)]:
        MessageHub.get_current_instance().update_info('epoch', epoch)
        count.clear()
        run(net)
        assert len(count) == expected


@pytest.mark.parametrize('strategy', [1, 2, 3])
def test_teacher_gets_no_gradient_from_l_a(strategy):
    """The gradient is that of a cross entropy whose teacher is a constant."""
    net = model(warmup_epochs=0, strategy=strategy, alpha=0.0).eval()

    def gradients(distillation):
        net.affinity_distillation.forward = distillation
        net.zero_grad()
        run(net)['l_a'].backward()
        assert all(p.grad is None for n, p in net.named_parameters() if n.startswith('momentum_'))
        return [p.grad.clone() for p in net.backbone.parameters()]

    def affinity(queries, keys, temperature, key_valid):
        weights = (queries @ keys.transpose(1, 2) / temperature).exp() * key_valid.unsqueeze(1)
        return weights / weights.sum(2, keepdim=True).clamp(min=1e-9)

    def by_hand(queries, keys, teacher_queries, teacher_keys, valid, key_valid, constant=True):
        teacher = affinity(teacher_queries, teacher_keys, 0.07, key_valid)
        if constant:
            teacher = torch.tensor(teacher.tolist())
        student = affinity(queries, keys, 0.1, key_valid).clamp(min=1e-9).log()
        values = -(teacher * student).sum(2)
        images = [values[b][valid[b]].mean() for b in range(3) if valid[b].any()]
        return sum(images) / len(images)

    own = net.affinity_distillation.forward
    expected = gradients(by_hand)
    for got, wanted in zip(gradients(own), expected):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)
    leaking = gradients(lambda *args: by_hand(*args, constant=False))
    differs = any(not torch.allclose(a, b, rtol=1e-2, atol=1e-4) for a, b in zip(leaking, expected))
    assert differs == (strategy == 2)  # the one whose teacher holds embeddings of f^E
