"""The momentum encoder and the queues move once for each optimiser step, in every training loop."""

import copy
import inspect

import pytest
import torch
from mmengine.optim import AmpOptimWrapper, OptimWrapper  # noqa: F401
from torch import nn

from plrc_plugin.errors import SettingsError
from plrc_plugin.models import MomentumContrast, PixPro, ViewBatch
from plrc_plugin.models.step_watch import MOST_UNSETTLED, UNNOTICED_STEPS

pytestmark = pytest.mark.stack
needs_fused = pytest.mark.skipif(
    'fused' not in inspect.signature(torch.optim.SGD).parameters,
    reason='SGD is fused, and float16 losses are scaled on the CPU, from torch 2.3 on',
)

TRUNK = dict(type='plrc_plugin.ResNet', depth=18, base_channels=4, strides=(1, 2, 2, 1))


def model(**kwargs):
    return MomentumContrast(**{**dict(backbone=TRUNK, embedding_dim=8, queue_size=64), **kwargs})


def batch():
    return {
        name: ViewBatch(pixels=torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8))
        for name in ('query', 'key')
    }


def losses_of(net):
    return net(**net.data_preprocessor(batch(), training=True), mode='loss')


@pytest.mark.parametrize('accumulate', [1, 3])
def test_moving_average_and_queue_once_per_optimiser_step_before_the_key_pass(accumulate):
    net = model(momentum=0.9, queue_size=64)
    wrapper = OptimWrapper(torch.optim.SGD(net.parameters(), 0.5), accumulative_counts=accumulate)
    wrapper.initialize_count_status(net, 0, 4 * accumulate)
    keys = []
    push = net.queue.push
    net.queue.push = lambda k, ids: (keys.append(k.clone()), push(k, ids))
    online = copy.deepcopy(net.projector.state_dict())
    average = copy.deepcopy(net.momentum_projector.state_dict())
    for step in range(3):
        bank = net.queue.bank.clone()
        for micro in range(accumulate):
            net.train_step(batch(), wrapper)
            if micro == 0:  # the average saw the weights of the last step
                average = {k: 0.9 * average[k] + 0.1 * online[k] for k in average}
                bank = net.queue.bank.clone()
            assert torch.equal(net.queue.bank, bank)
            for name, value in net.momentum_projector.state_dict().items():
                torch.testing.assert_close(value, average[name])
        online = copy.deepcopy(net.projector.state_dict())
        assert int(net.queue.bank_ptr) == step * accumulate * 3
    state = net.state_dict()  # finishes the last step
    assert torch.equal(state['queue.bank'][: 9 * accumulate], torch.cat(keys))
    assert int(state['queue.bank_ptr']) == 9 * accumulate
    for name, value in average.items():
        expected = 0.9 * value + 0.1 * online[name]
        torch.testing.assert_close(state[f'momentum_projector.{name}'], expected)
    again = net.state_dict()
    assert all(torch.equal(again[name], value) for name, value in state.items())


class DataSGD(torch.optim.SGD):
    """Writes to ``parameter.data``, as some optimisers do: version counters stay as they are."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group['params']:
                if parameter.grad is not None:
                    parameter.data -= group['lr'] * parameter.grad


class UnhookedSGD(torch.optim.SGD):
    """Calls no step hooks, as ``torch.compile`` of torch 2.1 and 2.2 makes of every optimiser."""

    def profile_hook_step(func):
        return func

    def register_step_post_hook(self, hook):
        raise AssertionError('nothing may rely on hooks')


@pytest.mark.parametrize(
    'make',
    [
        lambda p: torch.optim.SGD(p, 0.1),
        lambda p: torch.optim.SGD(p, 0.1, foreach=True),
        pytest.param(lambda p: torch.optim.SGD(p, 0.1, fused=True), marks=needs_fused),
        lambda p: torch.optim.AdamW(p, 1e-3),
        lambda p: DataSGD(p, 0.1),
        lambda p: UnhookedSGD(p, 0.1),
    ],
)
@pytest.mark.parametrize('fetches', [True, False])
def test_a_plain_loop_with_any_optimiser(make, fetches):
    """Whether or not the loop fetches the losses by ``parse_losses``."""
    net = model(momentum=0.5)
    optimizer = make([p for p in net.parameters() if p.requires_grad])
    for step in range(MOST_UNSETTLED + 3):
        before = copy.deepcopy(net.momentum_backbone.conv1.weight)
        online = net.backbone.conv1.weight.detach().clone()
        losses = losses_of(net)
        torch.testing.assert_close(net.momentum_backbone.conv1.weight, (before + online) / 2)
        assert int(net.queue.bank_ptr) == 3 * step % 64
        total = net.parse_losses(losses)[0] if fetches else losses['loss']
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert len(net.queue._waiting) <= (1 if fetches else MOST_UNSETTLED + 2)
    assert net.step_is_finished


@needs_fused
def test_skipped_steps_of_a_fused_optimiser_and_a_loss_scaler():
    net = model(momentum=0.5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler('cpu', init_scale=8.0)
    pointers = []
    for factor in (1.0, float('inf'), float('inf'), 1.0, 1.0):
        before = net.momentum_projector[0].weight.clone()
        scaler.scale(net.parse_losses(losses_of(net))[0] * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert net.step_is_finished == (factor == 1)
        assert torch.equal(net.momentum_projector[0].weight, before) == (factor != 1)
        pointers.append(int(net.queue.bank_ptr))
    assert pointers == [3, 3, 3, 12, 15]  # the keys of skipped steps enter with the next


def test_loaded_weights_are_no_step():
    net, other = model(momentum=0.5).eval(), model()
    losses_of(net)
    net.load_state_dict(other.state_dict())
    losses_of(net)
    state = net.state_dict()
    assert all(torch.equal(state[name], value) for name, value in other.state_dict().items())


@pytest.mark.parametrize('kind', [MomentumContrast, PixPro])
def test_a_model_whose_steps_go_unnoticed_stops(kind):
    settings = {} if kind is PixPro else dict(queue_size=16)
    net = kind(TRUNK, embedding_dim=8, symmetric=False, **settings)
    net.loss = lambda query, key: dict(loss=net.projector[-1].weight.square().mean())
    optimizer = torch.optim.SGD(copy.deepcopy(net).parameters(), lr=0.1)  # of another model

    def train(iterations):
        for _ in range(iterations):
            total, _ = net.parse_losses(net(ViewBatch(), ViewBatch(), mode='loss'))
            total.backward()
            optimizer.step()
            net.zero_grad()

    train(UNNOTICED_STEPS)
    with pytest.raises(SettingsError, match='give the optimiser the parameters of this model'):
        train(2)


def test_accumulation_and_mere_looking_are_no_unnoticed_steps():
    net = model()
    net.loss = lambda query, key: dict(loss=net.projector[-1].weight.square().mean())
    for _ in range(2 * UNNOTICED_STEPS):  # micro-batches of one step
        net.parse_losses(net(ViewBatch(), ViewBatch(), mode='loss'))[0].backward()
    net.zero_grad()
    for _ in range(2 * UNNOTICED_STEPS):
        net.parse_losses(net(ViewBatch(), ViewBatch(), mode='loss'))


@pytest.mark.parametrize('frozen', ['backbone', 'projector'])
def test_parts_of_the_encoder_may_be_frozen(frozen):
    net = model(momentum=0.5)
    getattr(net, frozen).requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        net.parse_losses(losses_of(net))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        assert net.step_is_finished
    assert int(net.queue.bank_ptr) == 6


def test_an_objective_need_not_train_the_projector():
    """One that learns by the trunk alone moves its momentum encoder all the same."""
    net = model(momentum=0.5)
    net.loss = lambda query, key: dict(loss=net.backbone(query.image)[-1].square().mean())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for step in range(3):
        before = net.momentum_backbone.layer4[1].bn2.bias.clone()
        losses = losses_of(net)
        moved = not torch.equal(net.momentum_backbone.layer4[1].bn2.bias, before)
        assert moved == (step > 0)
        net.parse_losses(losses)[0].backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.slow
def test_compiled_trunks():
    plain = model(momentum=0.5).eval()
    compiled = copy.deepcopy(plain)
    for trunk in (compiled.backbone, compiled.momentum_backbone):
        trunk.compile(backend='eager')
    data = [batch() for _ in range(3)]
    states = []
    for net in (plain, compiled):
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        for step in data:
            inputs = net.data_preprocessor(step, training=True)
            net.parse_losses(net(**inputs, mode='loss'))[0].backward()
            optimizer.step()
            optimizer.zero_grad()
        states.append(net.state_dict())
    assert int(states[1]['queue.bank_ptr']) == 9
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, msg=name)


def test_state_of_a_model_that_was_copied_or_moved():
    net = nn.Sequential(model())  # inside another module, as wrappers hold it
    losses_of(net[0])
    with torch.no_grad():
        net[0].projector[-1].bias.add_(1)
    twin = copy.deepcopy(net)
    assert int(net.state_dict()['0.queue.bank_ptr']) == 3
    assert int(twin.state_dict()['0.queue.bank_ptr']) == 3
