"""Affinity maps over time: what is drawn, where it goes, and that training does not notice."""

from types import SimpleNamespace
from typing import ClassVar

import cv2
import numpy as np
import pytest
from mmengine.registry import VISBACKENDS
from mmengine.visualization import BaseVisBackend
from runs import assert_same_run, make_images, tiny_config, train

from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.engine.hooks import affinity as module
from plrc_plugin.engine.hooks.affinity import AffinityHook
from plrc_plugin.errors import SettingsError


@VISBACKENDS.register_module(force=True)
class KeepBackend(BaseVisBackend):
    """A second backend, as TensorBoard or WandB would be."""

    kept: ClassVar[list] = []

    def _init_env(self):
        pass

    @property
    def experiment(self):
        return self

    def add_image(self, name, image, step=0, **kwargs):
        self.kept.append((name, step, image))


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images', count=8)


def run(images, work_dir, *hooks, **options):
    cfg = tiny_config(images, work_dir, **{'train_cfg.max_epochs': 3, **options})
    cfg.experiment_name = str(work_dir)
    cfg.visualizer = dict(
        type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='KeepBackend')]
    )
    cfg.custom_hooks.extend(hooks)
    return train(cfg)


def test_pictures_reach_every_backend_and_training_stays_the_same(images, tmp_path, monkeypatch):
    drawn = []

    def note(shown, points, models, labels, size):
        drawn.append((shown, points, labels, size, any(m.training for m in models[0].modules())))
        return gallery(shown, points, models, labels, size)

    gallery = module.affinity_gallery
    monkeypatch.setattr(module, 'affinity_gallery', note)
    monkeypatch.setattr(KeepBackend, 'kept', [])
    files = sorted(str(p) for p in images.glob('*.png'))[:2]
    hook = dict(
        type='plrc_plugin.AffinityHook',
        images=files,
        points=[(0.2, 0.3), (0.5, 0.5)],
        interval=2,
        size=64,
    )
    run(images, tmp_path / 'plain')
    KeepBackend.kept.clear()
    run(images, tmp_path / 'drawn', hook)
    assert_same_run(tmp_path / 'drawn', tmp_path / 'plain')

    steps = [0, 2, 3]  # before the first epoch, every second, and the last
    assert [labels for _, _, labels, _, _ in drawn] == [[f'epoch {step}'] for step in steps]
    for shown, points, _, size, training in drawn:
        assert all(np.array_equal(i, cv2.imread(f)[..., ::-1]) for i, f in zip(shown, files))
        assert (points, size, training) == ([(0.2, 0.3), (0.5, 0.5)], 64, False)
    assert [(name, step) for name, step, _ in KeepBackend.kept] == [('affinity', s) for s in steps]
    for _, step, picture in KeepBackend.kept:
        (file,) = (tmp_path / 'drawn').glob(f'*/vis_data/vis_image/affinity_{step}.png')
        assert np.array_equal(cv2.imread(str(file))[..., ::-1], picture)
    # The maps change with training, the photographs do not.
    first, last = KeepBackend.kept[0][2], KeepBackend.kept[-1][2]
    assert first.shape == last.shape and (first != last).any()


def test_a_resumed_run_does_not_draw_the_start_again(images, tmp_path, monkeypatch):
    file = str(next(images.glob('*.png')))
    hook = dict(type='plrc_plugin.AffinityHook', images=[file], interval=9, size=64)
    run(images, tmp_path, hook, **{'train_cfg.max_epochs': 1})
    monkeypatch.setattr(KeepBackend, 'kept', [])
    run(images, tmp_path, hook, resume=True)
    assert [step for _, step, _ in KeepBackend.kept] == [3]


def test_points_in_objects_of_masks(tmp_path):
    root = make_scenes(tmp_path / 'scenes', 1, 3, progress=False)
    hook = AffinityHook(
        count=2,
        data=dict(
            type='plrc_plugin.COCOMasks',
            images=str(root / 'val'),
            annotations=str(root / 'annotations/instances_val.json'),
        ),
    )
    hook.before_run(None)
    assert len(hook.images) == len(hook.points) == 2
    for i, (x, y) in enumerate(hook.points):
        semantic = cv2.imread(str(root / f'semantic/val/scene_{i:06}.png'), cv2.IMREAD_UNCHANGED)
        assert semantic[int(y * semantic.shape[0]), int(x * semantic.shape[1])] > 0


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(), 'either images or data'),
        (dict(images=['a.png'], data=dict(type='x')), 'either images or data'),
        (dict(images=['a.png'], interval=0), 'interval must be a positive integer'),
        (dict(images=['a.png'], points=[(0, 0), (1, 1)]), '2 points for 1 images'),
    ],
)
def test_settings_that_cannot_work(settings, message):
    with pytest.raises(SettingsError, match=message):
        AffinityHook(**settings)


@pytest.mark.parametrize(
    'files, points, message',
    [
        (['nowhere.png'], None, 'AffinityHook: images: .*nowhere.png'),
        (['00.png'], [(0, 2)], 'outside the image'),
    ],
)
def test_images_that_cannot_be_drawn_end_the_run_before_training(
    files, points, message, images, tmp_path
):
    with pytest.raises(SettingsError, match=message):
        run(
            images,
            tmp_path,
            dict(
                type='plrc_plugin.AffinityHook',
                points=points,
                size=64,
                images=[str(images / name) for name in files],
            ),
        )
    assert not (tmp_path / 'losses_0.txt').exists()


def test_points_and_sizes_are_checked_before_the_run_whoever_draws(images, tmp_path):
    runner = SimpleNamespace(cfg={})
    with pytest.raises(SettingsError, match='outside the image'):
        AffinityHook(images=[str(images / '00.png')], points=[(0, 2)]).before_run(runner)
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((20, 40, 3), np.uint8))
    with pytest.raises(SettingsError, match='40 x 20 pixels is too small'):
        AffinityHook(images=[str(tmp_path / 'small.png')]).before_run(runner)
