"""Affinity maps equal cosines; curves show what was logged."""
import json

import pytest
import torch
from torch.nn import functional as F

from plrc_plugin.errors import SettingsError
from plrc_plugin.models import PLRC
from plrc_plugin.visualization.affinity import affinity_gallery, affinity_map, object_centres
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


def test_point_outside_is_an_error(net, photo):
    with pytest.raises(SettingsError, match='outside the image'):
        affinity_map(net, photo, (1.2, 0.5), size=64)


def test_gallery_has_a_picture_and_a_map_per_model(net, photo):
    figure = affinity_gallery([photo] * 3, [(.5, .5)] * 3, [net, net], ['a', 'b'], size=64)
    assert sum(len(axes.images) for axes in figure.axes) == 9


def test_points_lie_in_the_largest_object():
    annotations = dict(images=[dict(id=1, file_name='a', width=100, height=50)], annotations=[
        dict(image_id=1, area=4, bbox=[0, 0, 2, 2]), dict(image_id=1, area=200, bbox=[40, 10, 20, 10])])
    assert object_centres(annotations, ['a', 'b']) == [(0.5, 0.3), (0.5, 0.5)]


def test_curves_of_resumed_runs_are_joined(tmp_path):
    for run, steps in (('1', (1, 2, 3)), ('2', (3, 4))):
        folder = tmp_path / run / 'vis_data'
        folder.mkdir(parents=True)
        (folder / 'scalars.json').write_text('\n'.join(json.dumps(
            dict(step=s, loss=s * float(run), l_m=1., top1=0.)) for s in steps))
    assert read_scalars(tmp_path)['loss'] == [(1, 1.), (2, 2.), (3, 6.), (4, 8.)]
    labels = [line.get_label() for axes in plot_curves(tmp_path).axes for line in axes.lines]
    assert labels == ['total', 'L_m, image', 'top-1 in the queue']
    with pytest.raises(SettingsError, match='scalars.json'):
        read_scalars(tmp_path / 'none')
