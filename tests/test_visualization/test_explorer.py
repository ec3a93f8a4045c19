"""The explorer shows the network's cosines, in a real browser, to mouse, touch and keyboard."""

import re
import runpy
import sys

import cv2
import matplotlib
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch import nn
from torch.nn import functional as F

from plrc_plugin.errors import SettingsError
from plrc_plugin.models.plrc import PLRC
from plrc_plugin.models.views_preprocessor import ViewsPreprocessor
from plrc_plugin.visualization import explorer

LABELS = ['one', 'two']
STAGE = '#stage figure:nth-child({}) .frame'  # 1 the image, 2 and 3 the networks
SECOND = '#stage figure:nth-child({}) .maps > :nth-child(2) .frame'  # its other kind of map
OTHER = '#gallery article:nth-child(2) figure:nth-child({}) .frame'


def network(seed):
    torch.manual_seed(seed)
    trunk = dict(type='plrc_plugin.ResNet', depth=18, base_channels=4)
    return PLRC(backbone=trunk, embedding_dim=8, queue_size=8).eval()


def pictures():
    """Three smooth random pictures."""
    rng = np.random.default_rng(0)
    return [
        (f'{name}.png', cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (120, 90)))
        for name in 'abc'
    ]


def exact_cosine(model, point, place):
    """Between two (image, row, column), from the tensors."""
    features = []
    for image, row, column in (point, place):
        pixels = cv2.resize(pictures()[image][1], (448, 448), interpolation=cv2.INTER_AREA)
        with torch.no_grad():
            images = model.data_preprocessor.normalise(torch.from_numpy(pixels)[None])
            features.append(model.backbone(images)[-1][0, :, row, column])
    return F.cosine_similarity(*features, dim=0).item()


# ---- the codes


def test_codes_keep_cosines_and_the_error_is_the_largest():
    features = F.normalize(torch.rand(50, 24) + 0.5, dim=1)
    for dims, bound in ((24, 0.01), (12, 0.2)):
        codes, scale = explorer.quantise(features, dims)
        assert codes.shape == (50, dims) and codes.dtype == torch.int8
        worst = max(
            abs(
                float(features[i] @ features[j])
                - int((codes[i].int() * codes[j].int()).sum()) * scale**2
            )
            for i in range(50)
            for j in range(50)
        )
        assert explorer.largest_error(features, codes, scale) == pytest.approx(worst, abs=1e-6)
        assert worst < bound


class _Noise(nn.Module):
    """A network of stride 32 whose features, 512 independent numbers, cannot be compressed."""

    stride = 32
    data_preprocessor = ViewsPreprocessor()

    def backbone(self, images):
        return torch.randn(1, 512, images.shape[2] // 32, images.shape[3] // 32)


def test_forty_images_and_three_checkpoints_stay_below_25_megabytes(tmp_path):
    rng = np.random.default_rng(0)
    noise = [(f'{i}.png', rng.integers(0, 256, (240, 320, 3), np.uint8)) for i in range(40)]
    written = explorer.write_explorer(tmp_path / 'page.html', noise, [_Noise()] * 3, list('abc'))
    assert (tmp_path / 'page.html').stat().st_size < 25e6
    assert all(0 < c['error'] < explorer.TOLERANCE for c in written)


class _SlowDecay(_Noise):
    """512 channels whose variances fall as 1 / rank, a quarter of a ResNet-50's."""

    def backbone(self, images):
        return super().backbone(images) * torch.arange(1, 513).pow(-0.5)[:, None, None]


def test_features_of_many_channels_get_fewer_cells_until_their_cosines_are_true(
    tmp_path, monkeypatch, browser
):
    # A quarter of the channels, images and dimensions that 40 images of a ResNet-50's three have.
    monkeypatch.setattr(explorer, 'FEATURE_BYTES', explorer.FEATURE_BYTES // 16)
    images = [(f'{i}.png', pictures()[0][1]) for i in range(10)]
    written = explorer.write_explorer(
        tmp_path / 'page.html', images, [_SlowDecay()] * 3, list('abc')
    )
    assert {c['rows'] for c in written} <= {10, 7}
    assert all(c['error'] < explorer.TOLERANCE for c in written)
    browser.open(tmp_path / 'page.html')
    side = written[0]['rows']
    assert browser.evaluate('document.getElementById("cells").textContent') == f'{side} × {side}'
    with pytest.raises(SettingsError, match='of 512 dimensions fit'):  # a size given is kept
        explorer.write_explorer(tmp_path / 'p.html', images, [_SlowDecay()] * 3, list('abc'), 448)


def test_components_are_the_main_directions_of_the_features():
    # Along three directions of known order the cells differ, and along no other.
    strengths = torch.tensor([9.0, 3.0, 1.0, 0.0])
    basis = torch.linalg.qr(torch.randn(4, 4)).Q
    cells = torch.rand(2, 5, 5, 4).pow(2) * strengths  # skewed: so a direction has a sign
    colours = explorer.component_colours(cells @ basis.T + 7)
    assert colours.shape == (2, 5, 5, 3) and colours.dtype == torch.uint8
    for channel in range(3):
        pair = torch.stack([colours[..., channel].flatten().float(), cells[..., channel].flatten()])
        assert torch.corrcoef(pair)[0, 1].abs() > 0.9
        assert (colours[..., channel].min(), colours[..., channel].max()) == (0, 255)
    assert explorer.component_colours(torch.ones(1, 2, 2, 2)).shape == (1, 2, 2, 3)  # none


def test_levels_are_the_quantiles_of_cosines_within_images():
    features = F.normalize(torch.randn(3, 2, 4, 6), dim=-1)
    cells = features.flatten(1, 2)
    cosines = torch.cat([(image @ image.T).flatten() for image in cells]).clamp(max=1)
    levels = explorer.cosine_levels(features)
    assert len(levels) == 101 and levels == sorted(levels) and levels[-1] <= 1
    for percent in (0, 10, 50, 99):
        expected = torch.quantile(cosines, percent / 100).item()
        assert levels[percent] == pytest.approx(expected, abs=2e-4)


def test_progress_is_shown_while_features_are_taken(monkeypatch):
    told = []
    monkeypatch.setattr(explorer, 'tqdm', lambda items, name, **_: told.append(name) or items)
    explorer.cell_features(network(0), [image for _, image in pictures()], 64, 'features of one')
    assert told == ['features of one']


# ---- mistakes


def test_mistakes_end_in_one_line(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(
            sys, 'argv', ['explorer.py', str(ROOT / 'configs/plrc_demo.py'), *map(str, arguments)]
        )
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(ROOT / 'tools/explorer.py'), run_name='__main__')
        assert exit_.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith('error: ') and message.count('\n') == 1
        return message

    folder = tmp_path / 'images'
    folder.mkdir()
    assert 'holds no images' in run(folder, '--checkpoints', 'random')
    Image.fromarray(pictures()[0][1]).save(folder / 'a.png')
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(folder / 'b.png')
    assert 'b.png is too small, 40 x 20 pixels' in run(folder, '--checkpoints', 'random')
    (folder / 'b.png').write_bytes(b'broken')
    assert 'b.png: not an image' in run(folder, '--checkpoints', 'random')
    (folder / 'b.png').unlink()
    torch.save(dict(state_dict={'head.weight': torch.zeros(1)}), tmp_path / 'head.pth')
    assert 'holds no trunk' in run(folder, '--checkpoints', tmp_path / 'head.pth')
    assert 'the images of the run are not here' in run('--cfg-options', 'train_dataloader=None')
    assert '1 labels for 2' in run(folder, '--checkpoints', 'random', 'random', '--labels', 'a')
    assert 'count must be' in run(folder, '--checkpoints', 'random', '--count', 0)
    assert 'no checkpoint at' in run(folder, '--checkpoints', tmp_path / 'none.pth')
    assert 'size must be a positive integer' in run(folder, '--checkpoints', 'random', '--size', -5)
    assert 'size=16 is too small' in run(folder, '--checkpoints', 'random', '--size', 16)
    out = tmp_path / 'missing' / 'page.html'
    assert 'cannot be written' in run(folder, '--checkpoints', 'random', '--out', out)


def test_too_many_cells_for_true_cosines_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, 'FEATURE_BYTES', 2 * 3 * 7 * 7 * 2)  # two numbers a cell
    with pytest.raises(SettingsError, match='only 2 of 32 dimensions fit .* fewer images'):
        explorer.write_explorer(tmp_path / 'p.html', pictures(), [network(0), network(1)], LABELS)


# ---- in the browser


@pytest.fixture(scope='module')
def networks():
    return [network(0), network(1)]


@pytest.fixture(scope='module')
def path(tmp_path_factory, networks):
    path = tmp_path_factory.mktemp('explorer') / 'page.html'
    explorer.write_explorer(path, pictures(), networks, LABELS)
    return path


@pytest.fixture
def page(browser, path):
    """The page in a window of 1200 x 1800; nothing may be complained of or fetched."""
    browser.open(path, height=1800)
    yield browser
    assert browser.complaints == []
    assert all(url.startswith((path.as_uri(), 'data:')) for url in browser.requests)


def shown(page):
    """{label: (cosine, affinity)} of the table; (image, row, column) of circle and cross."""
    rows = page.evaluate('[...document.querySelectorAll("tbody tr")].map(r => r.innerText)')
    values = {
        label: (float(cosine), float(share[:-1]))
        for label, cosine, share in (row.split('\t') for row in rows)
    }
    places = re.findall(
        r'(\w)\.png, row (\d+), column (\d+)',
        page.evaluate('document.getElementById("where").textContent'),
    )
    return values, *[
        ('abc'.index(name), int(row) - 1, int(column) - 1) for name, row, column in places
    ]


def pixels(page, selector):
    """(rows, cols, 3) colours of a map."""
    values, width = page.evaluate(f"""(() => {{
        const {{width, height}} = document.querySelector('{selector} canvas');
        const copy = new OffscreenCanvas(width, height)
            .getContext('2d', {{willReadFrequently: true}});
        copy.drawImage(document.querySelector('{selector} canvas'), 0, 0);
        return [[...copy.getImageData(0, 0, width, height).data], width];
    }})()""")
    return np.array(values).reshape(-1, width, 4)[..., :3]


def cosine_map(model, point, image):
    return np.array(
        [
            [exact_cosine(model, point, (image, row, column)) for column in range(14)]
            for row in range(0, 14, 13)
        ]
    )  # the first and the last row


def test_values_shown_are_the_tensors_cosines(page, networks):
    stated = float(page.evaluate('document.getElementById("error").textContent'))
    assert 0 < stated < explorer.TOLERANCE
    for at, to in (((0.1, 0.2), (0.9, 0.7)), ((0.55, 0.95), (0.45, 0.05))):
        page.mouse(STAGE.format(1), *at, click=True)
        page.mouse(OTHER.format(2), *to)
        values, point, place = shown(page)
        assert point == (0, int(14 * at[1]), int(14 * at[0]))
        assert place == (1, int(14 * to[1]), int(14 * to[0]))
        for label, model in zip(LABELS, networks):
            assert values[label][0] == pytest.approx(
                exact_cosine(model, point, place), abs=stated + 0.0006
            )


def test_affinity_is_the_softmax_of_cosines(page, networks):
    page.mouse(STAGE.format(1), 0.52, 0.52, click=True)
    page.mouse(STAGE.format(2), 0.24, 0.76)
    values, point, place = shown(page)
    temperature = 0.1
    for label, model in zip(LABELS, networks):
        features = explorer.cell_features(model, [pictures()[0][1]], 448)[0]
        cosines = torch.einsum('d,hwd->hw', features[point[1:]], features)
        shares = 100 * (cosines / temperature).flatten().softmax(0).view(14, 14)
        assert values[label][1] == pytest.approx(shares[place[1:]].item(), rel=0.03)


def test_hover_and_click_change_the_map_here_and_in_other_images(page, networks):
    before = pixels(page, STAGE.format(2)), pixels(page, OTHER.format(3))
    page.mouse(STAGE.format(1), 0.1, 0.1)  # the circle follows
    hovered = pixels(page, STAGE.format(2)), pixels(page, OTHER.format(3))
    page.mouse(STAGE.format(3), 0.8, 0.3, click=True)
    clicked = pixels(page, STAGE.format(2)), pixels(page, OTHER.format(3))
    page.mouse(STAGE.format(1), 0.1, 0.9)  # the circle stays
    assert shown(page)[1] == (0, 4, 11)
    for one, other in ((before, hovered), (hovered, clicked)):
        assert all((a != b).any() for a, b in zip(one, other))
    for selector, model, image in (
        (STAGE.format(2), networks[0], 0),
        (OTHER.format(3), networks[1], 1),
    ):
        low, high = page.evaluate(f'range(checkpoints[{networks.index(model)}])')
        brightness = np.clip((cosine_map(model, (0, 4, 11), image) - low) / (high - low), 0, 1)
        expected = viridis(brightness)
        assert np.abs(pixels(page, selector)[[0, -1]] - expected).max() < 9


def set_slider(page, name, value):
    page.evaluate(f"""(() => {{ const slider = document.getElementById('{name}');
        slider.value = {value};
        slider.dispatchEvent(new Event('input', {{bubbles: true}})); }})()""")
    page.settle()


def viridis(brightness):
    return matplotlib.colormaps['viridis'](brightness)[..., :3] * 255


def test_each_network_has_a_range_of_its_own_and_the_slider_moves_its_dark_end(page, networks):
    features = [
        explorer.cell_features(model, [image for _, image in pictures()], 448) for model in networks
    ]
    for percent in (10, 60):
        set_slider(page, 'dark', percent)
        for index, of_network in enumerate(features):
            levels = explorer.cosine_levels(of_network)
            ends = page.evaluate(f"""[...document.querySelectorAll(
                '#stage figure:nth-child({index + 2}) .maps > :first-child .legend')]
                .map(p => p.textContent)""")
            assert ends == [f'{levels[percent]:.2f}{levels[95]:.2f}']
    before = pixels(page, STAGE.format(2))
    set_slider(page, 'dark', 10)
    assert pixels(page, STAGE.format(2)).sum() > before.sum()


def test_affinities_are_brightness_by_temperature(page, networks):
    page.mouse(STAGE.format(1), 0.52, 0.52, click=True)
    assert page.evaluate('document.getElementById("temperature").parentElement.hidden')
    page.evaluate('document.getElementById("by-affinity").click()')
    page.settle()
    assert page.evaluate('document.getElementById("dark").parentElement.hidden')
    for exponent in (-1, -0.3):
        set_slider(page, 'temperature', exponent)
        brightness = np.exp((cosine_map(networks[0], (0, 7, 7), 0) - 1) / 10**exponent)
        shown_map = pixels(page, STAGE.format(2))
        assert np.abs(shown_map[[0, -1]] - viridis(brightness)).max() < 12
        assert shown_map[..., 1].argmax() == 7 * 14 + 7  # the circled cell is the brightest


def test_cosines_never_exceed_one(page):
    page.evaluate('checkpoints.forEach(c => { c.scale *= 1.01; c.ofCell = -1; })')
    page.mouse(STAGE.format(1), 0.3, 0.3)
    assert page.evaluate('Math.max(...checkpoints.map(c => Math.max(...c.cosines)))') == 1
    captions = page.evaluate(
        '[...document.querySelectorAll("#gallery figcaption")].map(c => c.textContent)'
    )
    assert max(float(c) for c in captions if c[0] in '01') == 1


def test_the_slider_lets_the_photograph_show_through(page):
    opacity = f'getComputedStyle(document.querySelector("{STAGE.format(2)} canvas")).opacity'
    assert page.evaluate(opacity) == '0.75'
    set_slider(page, 'overlay', 20)
    assert page.evaluate(opacity) == '0.2'
    background = f'getComputedStyle(document.querySelector("{STAGE.format(2)}")).backgroundImage'
    assert page.evaluate(background).startswith('url("data:image/jpeg')


def test_components_stand_beside_the_affinities(page, networks):
    for image in (0, 2):
        page.evaluate(f'select({image})')
        page.settle()
        for index, model in enumerate(networks):
            features = explorer.cell_features(model, [i for _, i in pictures()], 448)
            expected = explorer.component_colours(features)[image].numpy()
            assert np.array_equal(pixels(page, SECOND.format(index + 2)), expected)


def test_nearest_places_are_the_best_of_each_other_image(page, networks):
    page.mouse(STAGE.format(1), 0.2, 0.3, click=True)
    _, point, _ = shown(page)
    for index, model in enumerate(networks):
        features = explorer.cell_features(model, [i for _, i in pictures()], 448)
        cosines = torch.einsum('d,nhwd->nhw', features[point], features).flatten(1)
        best = sorted(((cosines[i].max().item(), i) for i in (1, 2)), reverse=True)
        names = page.evaluate(f"""[...document.querySelectorAll(
            '#stage figure:nth-child({index + 2}) .nearest button')]
            .map(b => b.getAttribute('aria-label'))""")
        assert len(names) == 2
        for name, (value, image) in zip(names, best):
            found = re.fullmatch(r'(\w)\.png, row (\d+), column (\d+), cosine ([\d.]+)', name)
            assert found[1] == 'abc'[image]
            cell = 14 * (int(found[2]) - 1) + int(found[3]) - 1
            assert cosines[image, cell].item() == pytest.approx(value, abs=0.01)
            assert float(found[4]) == pytest.approx(value, abs=0.011)
    page.mouse('#stage figure:nth-child(2) .nearest button', 0.5, 0.5, click=True)
    _, still, place = shown(page)  # its image is large, the circle stays, the cross is there
    assert still == point and place[0] == page.evaluate('state.selected') != 0


def test_regions_are_a_fixed_point_of_k_means(page, networks):
    page.evaluate('document.getElementById("with-regions").click()')
    page.settle()
    page.settle()
    features = explorer.cell_features(networks[0], [pictures()[0][1]], 448).flatten(0, 2)
    colours = pixels(page, SECOND.format(2)).reshape(-1, 3)
    hues = np.array(page.evaluate('HUES'))
    labels = torch.from_numpy((colours[:, None] == hues).all(2).argmax(1))
    assert np.array_equal(hues[labels], colours)
    assert sorted(labels.unique().tolist()) == list(range(6))
    centres = torch.stack([F.normalize(features[labels == k].mean(0), dim=0) for k in range(6)])
    assert ((features @ centres.T).argmax(1) == labels).float().mean() > 0.98


def test_a_click_below_shows_the_image_large(page):
    page.mouse(OTHER.format(1), 0.52, 0.52, click=True)
    assert shown(page)[1] == (1, 7, 7)
    assert page.evaluate('document.querySelector("#stage figcaption").textContent') == 'b.png'


def test_keyboard_alone(page):
    def focused():
        return page.evaluate('document.activeElement.getAttribute("aria-label")')

    for _ in range(20):
        page.press('Tab')
        if focused() == 'Image a.png':
            break
    assert focused() == 'Image a.png'
    assert page.evaluate('getComputedStyle(document.activeElement).outlineStyle') == 'solid'
    _, point, place = shown(page)
    for key in ('ArrowRight', 'ArrowRight', 'ArrowDown'):
        page.press(key)
    page.press('ArrowUp', modifiers=page.SHIFT)
    _, moved_point, moved_place = shown(page)
    assert moved_point == (0, point[1] + 1, point[2] + 2)
    assert moved_place == (0, place[1] - 1, place[2])
    status = page.evaluate('document.querySelector("[role=status]").textContent')
    assert all(f'{label} {cosine:.3f}' in status for label, (cosine, _) in shown(page)[0].items())
    page.press('2')
    assert focused() == 'Affinities in a.png by two'
    page.press('PageUp')
    assert focused() == 'Affinities in c.png by two' and shown(page)[1] == (2, *moved_point[1:])


def test_fits_a_phone_and_answers_a_finger(page, path):
    page.open(path, width=360, height=700, mobile=True)
    assert page.evaluate('document.documentElement.scrollWidth') == 360
    assert page.evaluate('document.querySelector("#stage .frame").clientWidth') > 140
    before = pixels(page, STAGE.format(2))
    page.tap(STAGE.format(3), 0.2, 0.3)
    assert shown(page)[1] == (0, 4, 2)
    assert (pixels(page, STAGE.format(2)) != before).any()
    page.evaluate('document.getElementById("moves-place").click()')
    page.tap(STAGE.format(1), 0.9, 0.9)
    assert shown(page)[1:] == ((0, 4, 2), (0, 12, 12))


def test_every_slider_button_and_canvas_has_a_name(page):
    page.evaluate('document.getElementById("with-regions").click()')
    page.settle()
    nameless = page.evaluate("""[...document.querySelectorAll('input, canvas, button, .frame')]
        .filter(e => !(e.getAttribute('aria-label') || e.closest('label')?.textContent.trim()
            || e.textContent.trim()) && !e.closest('[hidden]') && !e.closest('#gallery'))
        .map(e => e.outerHTML.slice(0, 80))""")
    assert nameless == []
    for canvas in page.evaluate("""[...document.querySelectorAll('canvas')]
            .map(c => c.getAttribute('aria-label'))"""):
        assert re.match(r'(Affinities|Components or regions) in \w\.png by (one|two)$', canvas)


LONG = 'a_checkpoint_with_a_name_without_any_space_in_it_' * 3


@pytest.mark.parametrize('width', [390, 1280])
@pytest.mark.parametrize('count', [1, 4])
def test_long_names_overflow_no_screen(browser, tmp_path, networks, width, count):
    images = [(f'{LONG}.png', pictures()[0][1]), ('b.png', pictures()[1][1])]
    models = [networks[i % 2] for i in range(count)]
    labels = [f'{LONG}{i}' for i in range(count)]
    explorer.write_explorer(tmp_path / 'page.html', images, models, labels)
    browser.open(tmp_path / 'page.html', width=width, mobile=width < 500)
    assert browser.evaluate('document.documentElement.scrollWidth') <= width
    sides = browser.evaluate("""[...document.querySelectorAll('#stage .frame')]
        .map(f => [f.clientWidth, f.getBoundingClientRect().right])""")
    assert min(side for side, _ in sides) > 140 and max(right for _, right in sides) <= width
    if width == 1280 and count == 1:  # the width of the screen is used
        assert max(right for _, right in sides) > 1200
    assert browser.complaints == []


def test_a_trained_map_shows_structure_at_once(page):
    """No field of one colour: half of the cells or more are brighter than the darkest tenth."""
    for index in (2, 3):
        shares = page.evaluate(f"""(() => {{ const c = checkpoints[{index - 2}];
            return [...cosines(c, 0)].map(brightness(c)); }})()""")
        assert np.mean(np.array(shares) > 0.1) > 0.5 and np.std(shares) > 0.1
