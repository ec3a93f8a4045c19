"""The augmentation against torchvision's, and what a view says of where it lies."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional as TF

from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey, stream
from plrc_plugin.views import augmentation as aug
from plrc_plugin.views.two_views import TwoViews


def rng(seed=0):
    return np.random.default_rng(seed)


def distance(ours, theirs):
    """Kolmogorov-Smirnov's, between two samples."""
    grid = np.concatenate([ours, theirs])
    below = [np.searchsorted(np.sort(x), grid, 'right') / len(x) for x in (ours, theirs)]
    return np.abs(below[0] - below[1]).max()


PLAIN = dict(jitter_prob=0, grey_prob=0, blur_prob=0)


@pytest.mark.parametrize('size', [(500, 375), (90, 400), (33, 31)])
def test_crop_boxes_follow_torchvision(size):
    """Area, ratio and position."""
    width, height = size
    ours = np.array([aug.random_crop_box(r, width, height) for r in [rng()] for _ in range(4000)])
    blank = Image.new('L', size)
    torch.manual_seed(0)
    params = [
        transforms.RandomResizedCrop.get_params(blank, [0.2, 1.0], [3 / 4, 4 / 3])
        for _ in range(4000)
    ]
    theirs = np.array(params)[:, [1, 0, 3, 2]]  # top, left, height, width
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 0] + ours[:, 2] <= width).all() and (ours[:, 1] + ours[:, 3] <= height).all()
    for measure in (
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 2] / b[:, 3],
        lambda b: b[:, 0],
        lambda b: b[:, 1],
    ):
        assert distance(measure(ours), measure(theirs)) < 0.044  # by chance once in 1000


@pytest.mark.parametrize('size', [(1, 1), (1, 5000), (5000, 1), (2, 3)])
def test_crop_boxes_of_tiny_and_thin_images(size):
    for _ in range(50):
        left, top, w, h = aug.random_crop_box(rng(), *size)
        assert w >= 1 and h >= 1 and 0 <= left <= size[0] - w and 0 <= top <= size[1] - h


@pytest.mark.parametrize(
    'ours, theirs, amounts, tolerance',
    [
        (aug.adjust_brightness, TF.adjust_brightness, (0.6, 1.0, 1.4), 1),
        (aug.adjust_contrast, TF.adjust_contrast, (0.6, 1.0, 1.4), 1),
        (aug.adjust_saturation, TF.adjust_saturation, (0.6, 1.0, 1.4), 1),
        (aug.adjust_hue, TF.adjust_hue, (-0.1, 0.0, 0.07), 12),  # 8-bit HSV, rounded differently
    ],
)
def test_adjustments_equal_torchvision_on_pillow(photo, ours, theirs, amounts, tolerance):
    for amount in amounts:
        expected = np.asarray(theirs(Image.fromarray(photo), amount)).astype(int)
        error = np.abs(ours(photo, amount).astype(int) - expected)
        assert error.max() <= tolerance and error.mean() < 1.5


def test_grey_and_blur_equal_torchvision(photo):
    expected = np.asarray(TF.to_grayscale(Image.fromarray(photo), 3)).astype(int)
    assert np.abs(aug.to_grey(photo).astype(int) - expected).max() <= 1
    image = torch.from_numpy(photo).permute(2, 0, 1)
    for sigma in (0.1, 0.7, 2.0):
        expected = TF.gaussian_blur(image, 23, sigma).permute(1, 2, 0).numpy().astype(int)
        assert np.abs(aug.gaussian_blur(photo, sigma).astype(int) - expected).max() <= 3


@pytest.mark.parametrize('box', [(0, 0, 120, 90), (7, 3, 97, 71), (10, 20, 49, 50)])
def test_shrinking_has_pillows_filter(photo, box):
    """And so the sharpness of its pixels, which a mean over areas does not have."""
    left, top, w, h = box
    expected = np.asarray(TF.resized_crop(Image.fromarray(photo), top, left, h, w, (48, 48)))
    assert np.abs(aug.crop_and_resize(photo, box, 48).astype(int) - expected).max() <= 1


@pytest.mark.parametrize('box', [(3, 5, 100, 80), (10, 10, 20, 30), (0, 0, 120, 90)])
def test_resized_crop_is_close_to_pillows(photo, box):
    left, top, w, h = box
    expected = np.asarray(TF.resized_crop(Image.fromarray(photo), top, left, h, w, (48, 48)))
    got = aug.crop_and_resize(photo, box, 48)
    assert np.abs(got.astype(int) - expected).mean() < 2


def test_drawn_strengths_follow_torchvision(tmp_path, photo, monkeypatch):
    """Factors of the jitter and widths of the blur, of 1500 views each."""
    path = tmp_path / 'a.png'
    Image.fromarray(photo).save(path)
    names = (
        'adjust_brightness',
        'adjust_contrast',
        'adjust_saturation',
        'adjust_hue',
        'gaussian_blur',
    )
    drawn = {name: [] for name in names}
    monkeypatch.setattr(aug, 'compiled_jitter', None)
    for name in names:
        monkeypatch.setattr(
            aug, name, lambda image, amount, kept=drawn[name]: (kept.append(amount), image)[1]
        )
    transform = TwoViews(size=8, jitter_prob=1, blur_prob=1)
    for i in range(750):
        transform(dict(img_path=str(path), sample_key=SampleKey(0, 0, i)))
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    torch.manual_seed(0)
    expected = zip(
        *(
            [
                float(x)
                for x in transforms.ColorJitter.get_params(
                    jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue
                )[1:]
            ]
            + [float(transforms.GaussianBlur.get_params(0.1, 2.0))]
            for _ in range(1500)
        )
    )
    for name, theirs in zip(names, expected):
        assert distance(drawn[name], theirs) < 0.071, name  # by chance once in 1000


def test_shares_and_orders_are_the_recipes():
    """Jitter, grey and blur as often as asked, independently, and jitter in any order."""
    count = 6000
    steps = TwoViews().steps
    drawn = [
        [step.draw(stream(SampleKey(0, 0, i), f'step {name}')) for name, step in steps.items()]
        for i in range(count)
    ]
    done = np.array([[what is not None for what in of_view] for of_view in drawn], dtype=float)
    expected = np.array([0.8, 0.2, 0.5])
    error = (expected * (1 - expected) / count) ** 0.5
    assert (np.abs(done.mean(0) - expected) < 4 * error).all()
    correlation = np.corrcoef(done.T)[np.triu_indices(3, 1)]
    assert np.abs(correlation).max() < 4 / count**0.5
    orders = Counter(tuple(name for name, _ in jitter) for jitter, _, _ in drawn if jitter)
    each = sum(orders.values()) / 24
    assert len(orders) == 24
    assert (
        sum((n - each) ** 2 / each for n in orders.values()) < 60
    )  # of 23 degrees: once in 30,000


@pytest.mark.parametrize('sigma', [0.3, 0.7, 1.3, 2.0])
def test_blur_is_as_wide_as_asked(sigma):
    """Second moment of a blurred point, beside torchvision's."""
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    expected = TF.gaussian_blur(torch.from_numpy(point).permute(2, 0, 1).float(), 23, sigma)[0]

    def width(image):
        row = np.asarray(image, dtype=float).sum(0)
        return (row @ (np.arange(41) - 20) ** 2 / row.sum()) ** 0.5

    # Rows of a brighter line, as eight bits cut the tails of a point.
    line = np.zeros((41, 41, 3), np.uint8)
    line[:, 20] = 255
    assert width(aug.gaussian_blur(line, sigma)[..., 0]) == pytest.approx(
        width(expected), rel=0.05, abs=0.05
    )


def check_statistics(path, size, count, sharper=0.02):
    """Mean and spread, over many views of a picture, of what the augmentation changes."""
    transform = TwoViews(size=size)
    ours = np.stack(
        [
            transform(dict(img_path=str(path), sample_key=SampleKey(0, 0, i)))['views'][0].pixels
            for i in range(count)
        ]
    ).astype(float)
    reference = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, scale=(0.2, 1.0)),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            transforms.RandomApply([transforms.GaussianBlur(23, (0.1, 2.0))], p=0.5),
            transforms.RandomHorizontalFlip(),
        ]
    )
    torch.manual_seed(0)
    image = Image.open(path).convert('RGB')
    theirs = np.stack([np.asarray(reference(image)) for _ in range(count)]).astype(float)
    measures = dict(
        brightness=lambda x: x.mean((1, 2, 3)),
        contrast=lambda x: x.std((1, 2)).mean(1),
        colour=lambda x: x.std(3).mean((1, 2)),
        sharpness=lambda x: np.abs(np.diff(x, axis=2)).mean((1, 2, 3)),
    )
    for name, measure in measures.items():
        a, b = measure(ours), measure(theirs)
        error = (a.var() / count + b.var() / count) ** 0.5
        allowed = sharper if name == 'sharpness' else 0.02
        assert abs(a.mean() - b.mean()) < 4 * error + allowed * b.mean(), name
        assert 0.85 - allowed < a.std() / b.std() < 1.16 + allowed, name
    grey = (measures['colour'](ours) == 0).mean()
    assert abs(grey - 0.2) < 4 * (0.2 * 0.8 / count) ** 0.5


def test_whole_recipe_has_torchvisions_statistics(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / 'a.png')
    check_statistics(tmp_path / 'a.png', size=32, count=600)


@pytest.mark.real_data
def test_whole_recipe_on_photographs(real_data):
    """Where one side of a crop shrinks and the other grows, ours is a little sharper."""
    for path in sorted((real_data / 'pretrain').rglob('*.jpg'))[:2]:
        check_statistics(path, size=112, count=400, sharper=0.12)


def coordinates_image(tmp_path, width=400, height=300):
    """A picture whose red is x and whose green is y, in 1/250 of its sides."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([(x + 0.5) / width * 250, (y + 0.5) / height * 250, 0 * x], -1)
    path = tmp_path / 'coordinates.png'
    Image.fromarray(image.round().astype(np.uint8)).save(path)
    return str(path)


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_affine_tells_where_each_pixel_comes_from(tmp_path, suffix):
    path = coordinates_image(tmp_path)
    if suffix == 'jpg':  # large enough to be decoded at half or quarter size
        Image.open(path).resize((1600, 1200)).save(tmp_path / 'c.jpg', quality=98, subsampling=0)
        path = str(tmp_path / 'c.jpg')
    transform = TwoViews(size=64, **PLAIN)
    flips = 0
    for i in range(20):
        results = transform(dict(img_path=path, sample_key=SampleKey(0, 0, i)))
        for view in results['views']:
            steps = (np.arange(64) + 0.5) / 64
            x, y = np.meshgrid(steps, steps)
            position = view.affine @ np.stack([x.ravel(), y.ravel(), np.ones(64 * 64)])
            error = np.abs(view.pixels.reshape(-1, 3).T[:2] / 250 - position)
            assert error[:, 64 * 4 : -64 * 4].max() < 0.012  # three grey levels
            flips += view.affine[0, 0] < 0
    assert 8 < flips < 32


def test_views_are_a_function_of_seed_epoch_image_and_view(tmp_path):
    path = coordinates_image(tmp_path)
    transform = TwoViews(size=32)

    def make(*key):
        views = transform(dict(img_path=path, sample_key=SampleKey(*key)))['views']
        return [view.pixels for view in views]

    first = make(3, 5, 7)
    np.random.seed(99)
    torch.manual_seed(99)
    assert all(np.array_equal(a, b) for a, b in zip(first, make(3, 5, 7)))
    assert not np.array_equal(*first)
    for other in [(4, 5, 7), (3, 6, 7), (3, 5, 8)]:
        assert not np.array_equal(first[0], make(*other)[0])


def test_streams_of_different_purposes_differ():
    key = SampleKey(0, 0, 0)
    draws = [
        stream(key, *purpose).random()
        for purpose in [('view', 0), ('view', 1), ('points', 0), ('points', 1)]
    ]
    assert len(set(draws)) == 4


@pytest.mark.parametrize(
    'setting',
    [
        dict(size=0),
        dict(size=2.5),
        dict(scale=(0, 1)),
        dict(scale=(0.5, 0.2)),
        dict(scale=(0.2, 1.1)),
        dict(ratio=(2, 1)),
        dict(jitter=(0.4, 0.4, 0.4)),
        dict(jitter=(0.4, 0.4, 0.4, 0.6)),
        dict(jitter=(-1, 0, 0, 0)),
        dict(blur_sigma=(0, 1)),
        dict(flip_prob=1.5),
        dict(grey_prob=-0.1),
        dict(jitter_prob=2),
        dict(blur_prob=-1),
        dict(photometric='gpu'),
    ],
)
def test_settings_that_cannot_work(setting):
    with pytest.raises(SettingsError, match=f'TwoViews: {next(iter(setting))}'):
        TwoViews(**setting)
