"""Affinity maps equal cosines; curves show what was logged."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.plrc import PLRC
from plrc_plugin.visualization.affinity import affinity_gallery, affinity_map, object_centre
from plrc_plugin.visualization.curves import plot_curves, read_scalars


@pytest.fixture
def net():
    trunk = dict(type='plrc_plugin.ResNet', depth=18, base_channels=4)
    return PLRC(backbone=trunk, embedding_dim=8, queue_size=8).eval()


def test_affinity_map_is_the_cosine_to_the_point(net, photo):
    # A 64-pixel input has a map of 2 x 2; at resolution 2 nothing is interpolated.
    got = affinity_map(net, photo, (0.75, 0.25), size=64, resolution=2)
    import cv2

    pixels = torch.from_numpy(cv2.resize(photo, (64, 64), interpolation=cv2.INTER_AREA))
    with torch.no_grad():
        features = net.backbone(net.data_preprocessor.normalise(pixels[None]))[-1][0]
    for y in range(2):
        for x in range(2):
            expected = F.cosine_similarity(features[:, 0, 1], features[:, y, x], dim=0)
            torch.testing.assert_close(got[y, x], expected)
    assert got[0, 1] == pytest.approx(1)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(point=(1.2, 0.5)), 'outside the image'),
        (dict(point=(0.5, -0.1)), 'outside the image'),
        (dict(size=32), 'size=32 is too small'),
        (dict(image=np.zeros((20, 300, 3), np.uint8)), '300 x 20 pixels is too small'),
    ],
)
def test_what_cannot_be_drawn_is_one_error(net, photo, change, message):
    arguments = dict(image=photo, point=(0.5, 0.5), size=64)
    arguments.update(change)
    with pytest.raises(SettingsError, match=message):
        affinity_map(net, **arguments)


def test_gallery_shows_the_maps_of_each_model(net, photo):
    other = PLRC(
        backbone=dict(type='plrc_plugin.ResNet', depth=18, base_channels=8),
        embedding_dim=8,
        queue_size=8,
    ).eval()
    images, points = [photo, photo[::-1], photo[:60]], [(0.5, 0.5), (0.1, 0.9), (0, 1)]
    figure = affinity_gallery(images, points, [net, other], ['a', 'b'], size=64)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown[:6]] == ['image', 'a', 'b'] * 2
    for i, (image, point) in enumerate(zip(images, points)):
        group = shown[3 * i : 3 * i + 3]
        assert np.array_equal(group[0].images[0].get_array(), image)
        circle, (height, width) = group[0].patches[0], image.shape[:2]
        assert circle.center == (point[0] * width, point[1] * height)
        for axes, model in zip(group[1:], (net, other)):
            expected = affinity_map(model, image, point, 64).numpy()
            assert np.array_equal(axes.images[0].get_array(), expected)
            assert expected.shape == (56, 56)


def test_object_centre_lies_in_the_largest_object():
    instances = np.zeros((8, 10), int)
    instances[0, :3] = 1
    instances[2:7, 3:8] = 2
    instances[3:6, 4:7] = 0  # a ring around a hole
    instances[0, 5:] = -1
    x, y = object_centre(instances)
    assert instances[int(y * 8), int(x * 10)] == 2
    centroid = np.argwhere(instances == 2).mean(0)
    nearest = min(np.argwhere(instances == 2), key=lambda p: ((p - centroid) ** 2).sum())
    assert (y * 8 - 0.5, x * 10 - 0.5) == pytest.approx(tuple(nearest))
    assert object_centre(np.zeros((4, 4), int)) == (0.5, 0.5)


def test_curves_of_resumed_runs_are_joined(tmp_path):
    for run, steps in (('1', (1, 2, 3)), ('2', (3, 4))):
        folder = tmp_path / run / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text(
            '\n'.join(
                json.dumps(dict(step=s, loss=s * float(run), l_m=1.0, top1=0.0)) for s in steps
            )
        )
    assert read_scalars(tmp_path)['loss'] == [(1, 1.0), (2, 2.0), (3, 6.0), (4, 8.0)]
    labels = [line.get_label() for axes in plot_curves(tmp_path).axes for line in axes.lines]
    assert labels == ['total', 'L_m, image', 'top-1 in the queue']
    with pytest.raises(SettingsError, match='scalars.json'):
        read_scalars(tmp_path / 'none')


def test_terms_and_indicators_of_any_model_are_drawn(tmp_path):
    file = tmp_path / '1' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    logged = dict(l_birds=2.0, loss_extra=1.0, seen=0.5, lr=0.1, time=1.0, memory=900, epoch=1)
    lines = [dict(logged, step=s, iter=s, loss=s + 0.5) for s in (1, 2)]
    file.write_text('\n'.join(map(json.dumps, lines)))
    panels = [[line.get_label() for line in axes.lines] for axes in plot_curves(tmp_path).axes]
    assert [set(panel) for panel in panels if panel] == [
        {'total', 'l_birds', 'loss_extra'},
        {'seen'},
    ]


def test_a_last_line_cut_short_is_left_out_another_is_named(tmp_path):
    file = tmp_path / '1' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    lines = [json.dumps(dict(step=s, loss=s + 0.5)) for s in (1, 2, 3)]
    file.write_text('\n'.join([*lines[:2], lines[2][:9]]))
    with pytest.warns(UserWarning, match='scalars.json: the last line is cut short'):
        assert read_scalars(tmp_path)['loss'] == [(1, 1.5), (2, 2.5)]
    file.write_text('\n'.join([lines[0], lines[1][:9], lines[2]]))
    with pytest.raises(SettingsError, match='scalars.json: line 2 is damaged: remove it'):
        read_scalars(tmp_path)
