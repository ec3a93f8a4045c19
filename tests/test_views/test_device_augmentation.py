"""The photometric steps of a batch on a device: the view that the loader would have made."""

import numpy as np
import pytest
import torch

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.scenes.writing import make_scenes
from plrc_plugin.models.views_preprocessor import ViewsPreprocessor
from plrc_plugin.randomness import SampleKey
from plrc_plugin.regions.sample_points import SampleRegionPoints
from plrc_plugin.views.device_augmentation import DeviceAugmentation, augment, stack
from plrc_plugin.views.photometric import ColorJitter, GaussianBlur, Greyscale
from plrc_plugin.views.two_views import TwoViews


def to_images(pixels):
    return torch.as_tensor(pixels).permute(0, 3, 1, 2).float()


def on_device(step, drawn):
    """One step for a batch, from what was drawn for each of its images."""
    each = [DeviceAugmentation((step.on_device,), (step.coefficients(d),)) for d in drawn]
    return stack(each)


def differences(pixels, step, drawn):
    """In levels, (B, 3, H, W), from what the loader makes of pixels (B, H, W, 3)."""
    expected = to_images(np.stack([step.apply(p, d) for p, d in zip(pixels, drawn)]))
    return (augment(to_images(pixels), on_device(step, drawn)) - expected).abs()


def batch_of(paths, photometric, size=96, views=TwoViews):
    """The collated views of files, with points."""
    steps = views(size=size, photometric=photometric), SampleRegionPoints(resolution=14)
    samples = []
    for i, path in enumerate(paths):
        sample = dict(img_path=str(path), sample_key=SampleKey(3, 1, i), skipped=[])
        for step in steps:
            sample = step(sample)
        samples.append(sample)
    return collate_views(samples)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('scenes')
    make_scenes(str(folder), num_train=40, num_val=1)
    return sorted((folder / 'train').rglob('*.jpg'))


@pytest.fixture(scope='module')
def views(scenes):
    return batch_of(scenes, 'device')['query']


@pytest.mark.parametrize(
    'name, amounts, largest, mean',
    [
        ('brightness', (0.6, 1.0, 1.37), 1, 0.01),
        ('contrast', (0.6, 1.0, 1.37), 1, 0.011),
        ('saturation', (0.6, 1.0, 1.37), 1, 0.15),
        ('hue', (-0.1, 0.0, 0.07, 0.1), 7, 0.05),
    ],
)
def test_an_adjustment_is_the_loaders(views, name, amounts, largest, mean):
    for amount in amounts:
        drawn = [[(name, amount)]] * len(views['pixels'])
        error = differences(views['pixels'].numpy(), ColorJitter(), drawn)
        assert error.max() <= largest and error.mean() < mean


def test_hue_of_every_colour():
    """Also those of faint or no colour, where hue and saturation are coarse; all turns."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 18, 3)
    for shift in (-0.5, -0.1, 0.013, 0.3):
        error = differences(colours, ColorJitter(), [[('hue', shift)]])
        assert error.max() <= 7 and error.mean() < 0.05


def test_grey_is_the_loaders(views):
    error = differences(views['pixels'].numpy(), Greyscale(), [True] * len(views['pixels']))
    assert error.max() <= 1 and error.mean() < 0.01


@pytest.mark.parametrize('sigma', [0.1, 0.17, 0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize('height, width', [(40, 56), (7, 5), (2, 3), (1, 1)])
def test_blur_is_the_loaders(photo, sigma, height, width):
    """Also where the kernel is wider than the picture, mirrored several times over."""
    error = differences(photo[None, :height, :width], GaussianBlur(), [sigma])
    assert error.max() <= 1 and error.mean() < 0.02


def test_nothing_drawn_leaves_every_level(views):
    images = to_images(views['pixels'])
    for step in (ColorJitter(), Greyscale(), GaussianBlur()):
        assert torch.equal(augment(images, on_device(step, [None] * len(images))), images)


def check_whole_recipe(paths, size):
    """The same views, up to rounding, and the same of everything else."""
    loader, device = (batch_of(paths, where, size) for where in ('loader', 'device'))
    for name in ('query', 'key'):
        expected, given = loader[name], device[name]
        for field in ('affine', 'size', 'regions', 'points'):
            assert torch.equal(expected[field], given[field])
        before = to_images(given['pixels'])
        after = augment(before, given['augmentation'])
        assert torch.equal(after, after.round()) and after.min() >= 0 and after.max() <= 255
        error = (after - to_images(expected['pixels'])).abs()
        assert error.mean() < 0.1 and error.max() <= 12
        assert error.mean((1, 2, 3)).max() < 0.5 and (error > 2).float().mean() < 2e-3
        changed = (before - to_images(expected['pixels'])).abs().mean((1, 2, 3))
        assert changed.median() > 5  # there was something to do


def test_whole_recipe_makes_the_loaders_views(scenes):
    check_whole_recipe(scenes, size=64)


@pytest.mark.real_data
def test_whole_recipe_makes_the_loaders_views_of_photographs(real_data):
    check_whole_recipe(sorted((real_data / 'pretrain').rglob('*.jpg'))[:24], size=224)


def some(augmentation, rows):
    numbers = tuple(of_step[rows] for of_step in augmentation.coefficients)
    return augmentation._replace(coefficients=numbers)


def test_an_image_does_not_depend_on_its_batch(views):
    """To the bit: alone, in another order, under autocast, and channels last."""
    images, augmentation = to_images(views['pixels']), views['augmentation']
    whole = augment(images, augmentation)
    for i in range(0, len(images), 7):
        part = slice(i, i + 1 + i // 7)
        alone = augment(images[part], some(augmentation, part))
        assert torch.equal(alone, whole[part])
    order = torch.randperm(len(images))
    assert torch.equal(augment(images[order], some(augmentation, order)), whole[order])
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(augment(images, augmentation), whole)
    last = augment(images.contiguous(memory_format=torch.channels_last), augmentation)
    assert torch.equal(last, whole)


@pytest.mark.parametrize('channels_last', [False, True])
def test_preprocessor_augments_then_normalises(scenes, channels_last):
    batch = batch_of(scenes[:4], 'device')
    preprocessor = ViewsPreprocessor(channels_last=channels_last)
    for _ in range(2):  # the loader's batch is left as it was
        view = preprocessor(batch, training=True)['key']
        assert view.augmentation is None and view.pixels is None
        images = augment(to_images(batch['key']['pixels']), batch['key']['augmentation'])
        assert torch.equal(view['image'], (images - preprocessor.mean) / preprocessor.std)
        assert view['image'].is_contiguous(memory_format=preprocessor.memory_format)


def test_strengths_of_the_settings_reach_the_device(scenes):
    """A kernel as long as the setting's widest blur; no blur, jitter or grey where they are off."""

    def views(size, photometric):
        return TwoViews(
            size,
            jitter_prob=0,
            grey_prob=0,
            blur_sigma=(3, 4),
            blur_prob=1,
            photometric=photometric,
        )

    batch = batch_of(scenes[:4], 'device', views=views)
    augmentation = batch['query']['augmentation']
    jitter, grey, blur = augmentation.coefficients
    assert blur.shape == (4, 13)
    assert (jitter[:, 3, 0] < 0).all() and (grey == torch.tensor([1.0, 0, 0])).all()
    expected = to_images(batch_of(scenes[:4], 'loader', views=views)['query']['pixels'])
    error = (augment(to_images(batch['query']['pixels']), augmentation) - expected).abs()
    assert error.max() <= 1
