"""What a model keeps of its start: stages, statistics, a first phase of the projector, anchors."""

import copy
import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from plrc_plugin.errors import SettingsError
from plrc_plugin.models import DenseCL, MomentumContrast, PixPro, ViewBatch
from plrc_plugin.models.step_watch import UNNOTICED_STEPS

TRUNK = dict(type='plrc_plugin.ResNet', depth=18, base_channels=4, strides=(1, 2, 2, 1))


def model(kind=MomentumContrast, keep=None, **kwargs):
    options = {} if kind is PixPro else dict(queue_size=16)
    net = kind(TRUNK, embedding_dim=8, keep=keep, **options, **kwargs)
    for module in net.modules():  # statistics of a start, which no fresh norm has
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    net.momentum_backbone.load_state_dict(net.backbone.state_dict())
    if hasattr(net, 'anchor_backbone'):
        net.anchor_backbone.load_state_dict(net.backbone.state_dict())
    net.train()
    return net


def batch(count=3):
    affine = torch.tensor([[0.5, 0, 0.25], [0, 0.5, 0.25]]).repeat(count, 1, 1)
    return {
        name: ViewBatch(
            pixels=torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8),
            affine=affine,
            size=torch.full((count, 2), 60.0),
        )
        for name in ('query', 'key')
    }


def train(net, epochs, make=lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.1)):
    """One step in each of these epochs; the losses of each."""
    optimizer = make(net.parameters())
    seen = []
    for epoch in epochs:
        inputs = net.data_preprocessor(batch(), training=True)
        losses = net(**inputs, mode='loss', epoch=epoch)
        seen.append({name: value.item() for name, value in losses.items()})
        net.parse_losses(losses)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    return seen


def changed(net, start, part):
    """The tensors of a part that differ from those of the start."""
    now = net.state_dict()
    return {
        name[len(part) + 1 :]
        for name in now
        if name.startswith(f'{part}.') and not torch.equal(now[name], start[name])
    }


KINDS = [MomentumContrast, DenseCL, PixPro]


@pytest.mark.parametrize('kind', KINDS)
def test_frozen_stages_keep_weights_and_statistics_in_both_encoders(kind):
    net = model(kind, dict(frozen_stages=1), momentum=0.5)
    start = copy.deepcopy(net.state_dict())
    train(net, [0, 0])
    for part in ('backbone', 'momentum_backbone'):
        parts = {name.partition('.')[0] for name in changed(net, start, part)}
        assert parts == {'layer2', 'layer3', 'layer4'}
    still = [net.backbone.bn1, net.momentum_backbone.layer1[0].bn1]
    assert not any(module.training for module in still)
    assert net.backbone.layer2[0].bn1.training


def test_a_trunk_can_be_frozen_as_a_whole_for_as_long_as_one_likes():
    net = model(keep=dict(frozen_stages=4), momentum=0.5)
    start = copy.deepcopy(net.state_dict())
    train(net, [0] * 3)
    assert not net.backbone.training
    assert not changed(net, start, 'backbone') and not changed(net, start, 'momentum_backbone')
    assert changed(net, start, 'projector') and changed(net, start, 'momentum_projector')
    assert int(net.queue.bank_ptr) == 9
    net.loss = lambda query, key: dict(loss=net.projector[-1].weight.square().mean())
    for _ in range(UNNOTICED_STEPS + 5):
        train(net, [0], lambda p: torch.optim.SGD(p, 0.1))


def test_norm_eval_uses_and_keeps_the_statistics_of_the_start():
    net = model(keep=dict(norm_eval=True))
    start = copy.deepcopy(net.state_dict())
    images = torch.randn(2, 3, 32, 32)
    expected = copy.deepcopy(net.backbone).eval()(images)[0]
    torch.testing.assert_close(net.backbone(images)[0], expected)
    torch.testing.assert_close(net.momentum_backbone(images)[0], expected)
    train(net, [0, 0])
    for part in ('backbone', 'momentum_backbone'):
        assert not any('running' in name for name in changed(net, start, part))
        assert 'layer4.1.bn2.weight' in changed(net, start, part)  # it learns all the same
    net.train(False)
    net.train()
    assert not any(m.training for m in net.backbone.modules() if isinstance(m, nn.BatchNorm2d))
    assert net.backbone.training


def test_norms_of_the_projector_learn_with_norm_eval():
    net = model(PixPro, dict(norm_eval=True, frozen_stages=4))
    assert net.projector[1].training and net.momentum_projector[1].training


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('momentum', [0.0, 0.5])
def test_first_the_projector_alone_learns(kind, momentum):
    """Weight decay and momentum buffers of the optimiser do not reach the trunk either."""
    net = model(kind, dict(projector_epochs=2, norm_eval=True), momentum=momentum)
    start = copy.deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    train(net, [0, 1], lambda _: optimizer)
    assert not changed(net, start, 'backbone') and not changed(net, start, 'momentum_backbone')
    assert changed(net, start, 'projector')
    if kind is not MomentumContrast:
        extra = 'propagation' if kind is PixPro else 'dense_projector'
        assert changed(net, start, extra)
    assert all(parameter not in optimizer.state for parameter in net.backbone.parameters())
    assert net.step_is_finished
    train(net, [2, 3], lambda _: optimizer)
    assert 'conv1.weight' in changed(net, start, 'backbone')
    if momentum:
        assert 'conv1.weight' in changed(net, start, 'momentum_backbone')
    if kind is not PixPro:
        assert int(net.queue.bank_ptr) == 12


def test_the_first_phase_may_last_longer_than_steps_may_go_unnoticed():
    net = model(keep=dict(projector_epochs=1))
    net.backbone.forward = lambda images: (images.new_ones(3, 32, 1, 1),)
    net.loss = lambda query, key: dict(loss=net.encode(query.image).square().mean())
    train(net, [0] * (UNNOTICED_STEPS + 5), lambda p: torch.optim.SGD(p, 1e-3))


def test_frozen_stages_stay_frozen_after_the_first_phase():
    net = model(keep=dict(projector_epochs=1, frozen_stages=0))
    start = copy.deepcopy(net.state_dict())
    train(net, [0, 1, 1])
    assert not {n for n in changed(net, start, 'backbone') if n.startswith(('conv1', 'bn1'))}
    assert any(n.startswith('layer1') for n in changed(net, start, 'backbone'))


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('symmetric', [False, True])
def test_distillation_from_the_start(kind, symmetric):
    net = model(kind, dict(norm_eval=True, anchor=dict(distillation=2.0)), symmetric=symmetric)
    start = copy.deepcopy(net.state_dict())
    first, *_, last = train(net, [0] * 4)
    assert abs(first['l_anchor']) < 1e-6 and last['l_anchor'] > 1e-4
    assert not changed(net, start, 'anchor_backbone')
    inputs = net.data_preprocessor(batch(), training=True)
    frozen = copy.deepcopy(net)
    frozen.load_state_dict(net.state_dict())
    losses = net(**inputs, mode='loss')
    without = copy.deepcopy(frozen)
    without.keep.distillation = 0
    plain = without(**inputs, mode='loss')['loss']
    expected = []
    for name in ('query', 'key')[: 1 + symmetric]:
        ours = frozen.backbone(inputs[name].image)[-1]
        theirs = frozen.anchor_backbone(inputs[name].image)[-1]
        ours, theirs = (F.normalize(features, dim=1) for features in (ours, theirs))
        expected.append(1 - (ours * theirs).sum(1).mean())
    expected = torch.stack(expected).mean()
    torch.testing.assert_close(losses['l_anchor'], expected)
    torch.testing.assert_close(losses['loss'], plain + 2 * expected)


def test_distillation_holds_the_trunk_near_the_start():
    distances = []
    for weight in (1e-9, 2.0):
        torch.manual_seed(3)
        net = model(keep=dict(norm_eval=True, anchor=dict(distillation=weight)))
        seen = train(net, [0] * 30, lambda p: torch.optim.SGD(p, 0.03))
        distances.append(seen[-1]['l_anchor'])
    assert distances[1] < distances[0] / 2


def test_averaging_moves_the_weights_back_once_per_step():
    net, share = model(keep=dict(anchor=dict(averaging=0.25)), momentum=0.5), 0.25
    start = copy.deepcopy(net.backbone.conv1.weight.detach())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    average = start.clone()
    for micro in range(6):  # two micro-batches to a step
        inputs = net.data_preprocessor(batch(), training=True)
        losses = net(**inputs, mode='loss')
        before = net.backbone.conv1.weight.detach().clone()
        if micro and micro % 2 == 0:
            expected = learned + share * (start - learned)  # noqa: F821
            torch.testing.assert_close(before, expected)
            average = (average + expected) / 2
        torch.testing.assert_close(net.momentum_backbone.conv1.weight, average)
        net.parse_losses(losses)[0].backward()
        assert torch.equal(net.backbone.conv1.weight, before)
        if micro % 2:
            optimizer.step()
            optimizer.zero_grad()
            learned = net.backbone.conv1.weight.detach().clone()
            assert net.step_is_finished
            torch.testing.assert_close(
                net.backbone.conv1.weight.detach(), learned + share * (start - learned)
            )
    assert int(net.state_dict()['queue.bank_ptr']) == 18 % 16
    again = net.state_dict()  # its own pull is no step
    assert all(torch.equal(again[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize('keep', [dict(anchor=dict(distillation=1.0)), dict(projector_epochs=1)])
def test_an_objective_whose_passes_of_the_trunk_are_not_seen_is_refused(keep):
    net = model(keep=keep)
    net.loss = lambda query, key: dict(loss=net.projector[-1].weight.sum())
    with pytest.raises(SettingsError, match='neither encode nor trunk_map'):
        train(net, [0])


@pytest.mark.slow
@pytest.mark.parametrize('backend', ['eager', 'aot_eager'])
@pytest.mark.parametrize(
    'keep',
    [
        dict(projector_epochs=1, frozen_stages=1),
        dict(projector_epochs=1, norm_eval=True, anchor=dict(distillation=1.0)),
        dict(norm_eval=True, anchor=dict(distillation=1.0, averaging=0.1)),
    ],
)
def test_compiled_trunks_keep_the_same(keep, backend):
    plain = model(keep=keep, momentum=0.5)
    compiled = copy.deepcopy(plain)
    for trunk in (compiled.backbone, compiled.momentum_backbone):
        trunk.compile(backend=backend)
    states = []
    for net in (plain, compiled):
        torch.manual_seed(7)
        train(net, [0, 0, 1, 1])
        states.append(net.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, msg=name, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'keep, message',
    [
        (dict(frozen_stages=5), 'up to 4, which is all'),
        (dict(frozen_stages=-2), 'frozen_stages'),
        (dict(norm_eval=1), 'norm_eval'),
        (dict(projector_epochs=0.5), 'projector_epochs'),
        (dict(anchor=0.5), 'anchor'),
        (dict(anchor=dict(distilation=1)), 'anchor'),
        (dict(anchor=dict(averaging=2)), 'at most 1'),
        (dict(anchor={}), 'anchor'),
        (dict(anchor=dict(averaging=0.1), frozen_stages=4), 'needs no anchor'),
        (dict(frozen=1), "got 'frozen'"),
        ('norms', "got 'norms'"),
    ],
)
def test_settings_that_cannot_work(keep, message):
    with pytest.raises(SettingsError, match=message):
        model(keep=keep)


def test_nothing_is_kept_by_default():
    net = model()
    assert net.keep is None
    assert all(p.requires_grad for p in itertools.chain(net.backbone.parameters()))
    assert net.backbone.bn1.training and not hasattr(net, 'anchor_backbone')
