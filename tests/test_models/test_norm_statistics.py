"""Batch-norm statistics of photographs: against a loop by hand, and whatever the loaders do."""

import pytest
import torch
from torch import nn

from plrc_plugin.datasets.clean_photographs import CleanPhotographs
from plrc_plugin.errors import SettingsError
from plrc_plugin.models.norm_statistics import (
    estimate_statistics,
    read_statistics,
    statistics_restored,
)


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*layers, nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.BatchNorm2d(5, 0.1))


def test_statistics_are_those_of_all_inputs_of_a_norm():
    net, images = network(), 3 * torch.randn(12, 3, 9, 9) + 100
    counters = [m.num_batches_tracked.clone() for m in net.modules() if hasattr(m, 'momentum')]
    net.train()
    estimate_statistics(net, images.split([5, 5, 2]))
    inputs = net[0](images).transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(net[1].running_mean.double(), inputs.mean(1), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(net[1].running_var.double(), inputs.var(1), rtol=1e-4, atol=0)
    # Deeper norms get what the groups' own statistics made of theirs.
    deep = torch.cat([net[4](torch.relu(own_norm(net[1], net[0](g)))) for g in images.split(5)])
    deep = deep.transpose(0, 1).flatten(1)
    torch.testing.assert_close(net[5].running_mean, deep.mean(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net[5].running_var, deep.var(1), rtol=1e-4, atol=1e-5)
    assert all(module.training for module in net.modules())
    after = [m.num_batches_tracked for m in net.modules() if hasattr(m, 'momentum')]
    assert after == counters and net[1].momentum == 0.1


def own_norm(norm, inputs):
    return nn.functional.batch_norm(inputs, None, None, norm.weight, norm.bias, True, 0, norm.eps)


def test_statistics_of_equal_groups_do_not_depend_on_their_order():
    groups = torch.randn(3, 4, 3, 9, 9) + torch.arange(3).view(3, 1, 1, 1, 1)
    found = []
    for order in (0, 1, 2), (2, 0, 1):
        net = network()
        estimate_statistics(net, groups[list(order)])
        found.append(read_statistics(net))
    for one, other in zip(*found):
        torch.testing.assert_close(one, other)


def test_statistics_come_back_bit_for_bit():
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(KeyboardInterrupt), statistics_restored(net):
        estimate_statistics(net, [torch.randn(4, 3, 9, 9)])
        assert not torch.equal(net[1].running_mean, before['1.running_mean'])
        raise KeyboardInterrupt
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_compiled_networks_are_counted_too():
    net, images = network(), torch.randn(4, 3, 9, 9)
    net.compile(backend='eager')
    net(images)
    estimate_statistics(net, [images])
    mean = net[0](images).mean((0, 2, 3))
    torch.testing.assert_close(net[1].running_mean, mean, rtol=1e-4, atol=1e-5)


def folder(root, **settings):
    return dict(type='plrc_plugin.ImageFolder', data_root=str(root), **settings)


def test_photographs_are_spread_evenly_and_whole(image_folder, photo):
    two_views = [dict(type='plrc_plugin.TwoViews', size=32)]
    images = CleanPhotographs(folder(image_folder, pipeline=two_views), 3, size=90)
    (group,) = images.groups()
    assert group.shape == (3, 90, 90, 3) and group.dtype == torch.uint8
    everything = torch.cat(list(CleanPhotographs(folder(image_folder), 6, size=90).groups()))
    assert torch.equal(group, everything[::2])
    joined = dict(type='ConcatDataset', datasets=[folder(image_folder, pipeline=two_views)] * 20)
    groups = list(CleanPhotographs(joined, 100, size=16).groups())
    assert [len(group) for group in groups] == [25, 25, 25, 25]


def test_broken_photographs_are_replaced_and_counted(image_folder):
    (image_folder / 'a.png').write_bytes(b'broken')
    images = CleanPhotographs(folder(image_folder), 6, size=16)
    assert sum(map(len, images.groups())) == 6 and images.replaced == 1


@pytest.mark.parametrize(
    ('count', 'message'),
    [(7, 'there are 6'), (1, '2 photographs or more'), (0, 'photographs'), (2.5, 'photographs')],
)
def test_numbers_that_cannot_be(image_folder, count, message):
    with pytest.raises(SettingsError, match=message):
        CleanPhotographs(folder(image_folder), count)
