"""The report shows the numbers that were logged, and says what is missing."""

import dataclasses
import html
import json
import re
import runpy
import shutil
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from PIL import Image

from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import MODELS
from plrc_plugin.visualization import report
from plrc_plugin.visualization.images import training_images
from plrc_plugin.visualization.meanings import meaning
from plrc_plugin.visualization.run import read_run, read_runs
from plrc_plugin.visualization.verdict import verdict

LOSSES = [
    dict(
        loss=5 - s / 7,
        l_m=6.1 + s / 3,
        top1=s / 100,
        time=0.5 + 0.1 * (s % 2),
        data_time=0.01,
        epoch=1 + (s - 1) // 4,
        iter=s,
        step=s,
    )
    for s in range(1, 9)
]
METRICS = [dict(mIoU=4.5 + s, time=1.0, data_time=0.1, step=s) for s in (1, 2)]
SCREEN = """2026/01/01 00:00:05 - mmengine - INFO - MomentumContrast begins
  images      144
  batch       16 in each of 2 processes, 32 together
  length      2 epochs of 5 iterations: 10 iterations
  device      cuda:0 (NVIDIA Example), 3 loader workers per process
2026/01/01 01:10:00 - mmengine - INFO - Saving checkpoint at 10 iterations, epoch 2
2026/01/01 01:10:05 - mmengine - INFO - finished: epoch 2, iteration 10; 10 iterations in 01:10:00
"""
ENVIRONMENT = 'System environment:\n    PyTorch: 2.10\n    GPU number: 2'


@pytest.fixture(scope='module')
def work_dir(tmp_path_factory):
    """A run as mmengine leaves it, two epochs of four iterations, with its checkpoints."""
    folder = tmp_path_factory.mktemp('runs') / 'first'
    data = folder / '20260101_000000' / 'vis_data'
    (data / 'vis_image').mkdir(parents=True)
    lines = [*LOSSES[:4], METRICS[0], *LOSSES[4:], METRICS[1]]
    (data / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    cfg = Config.fromfile(ROOT / 'configs/mocov2_in1k.py')
    cfg.merge_from_dict(
        {
            'model.backbone.depth': 18,
            'model.backbone.base_channels': 4,
            'model.queue_size': 8,
            'train_dataloader.batch_size': 16,
            'train_dataloader.dataset.data_root': str(folder.parent / 'images'),
        }
    )
    cfg.dump(data / 'config.py')
    for epoch in (1, 2, 10):
        torch.save(
            dict(state_dict=MODELS.build(cfg.model).state_dict()), folder / f'epoch_{epoch}.pth'
        )
    rule = '-' * 60
    head = f'INFO - \n{rule}\n{ENVIRONMENT}\n{rule}\n\nINFO - Config:\n'
    (data.parent / 'a.log').write_text(head + SCREEN)
    (folder.parent / 'images').mkdir()
    rng = np.random.default_rng(0)
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(
            folder.parent / 'images' / f'{i}.png'
        )
    for step in (0, 2):
        picture = np.full((8, 9, 3), 100 * step, np.uint8)
        Image.fromarray(picture).save(data / 'vis_image' / f'hooked_{step}.png')
    return folder


@pytest.fixture
def other(work_dir, tmp_path):
    """A second run, without checkpoints, at another learning rate."""
    folder = tmp_path / 'second'
    shutil.copytree(work_dir, folder, ignore=shutil.ignore_patterns('*.pth'))
    config = next(folder.rglob('config.py'))
    config.write_text(config.read_text().replace('lr=0.03', 'lr=0.06'))
    return folder


def table(page, identity):
    """{row: [exact value or text of each cell]}."""
    body = re.search(rf'<table id="{identity}">.*?<tbody>(.*?)</tbody>', page, re.S)[1]
    rows = {}
    for name, cells in re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', body, re.S):
        cells = re.findall(r'<td>(.*?)</td>', cells, re.S)
        values = [re.search(r'<data value="([^"]*)"', cell) for cell in cells]
        rows[html.unescape(name)] = [v[1] if v else c for v, c in zip(values, cells)]
    return rows


def test_numbers_are_those_logged(work_dir, tmp_path):
    report.write_report(tmp_path / 'page.html', [work_dir])
    page = (tmp_path / 'page.html').read_text()
    rows = table(page, 'results')
    assert set(rows) == {'loss', 'l_m', 'top1', 'data_time', 'mIoU', 'images per second'}
    for name in ('loss', 'l_m', 'top1', 'data_time'):
        assert float(rows[name][0]) == LOSSES[-1][name]
    assert float(rows['mIoU'][0]) == 6.5
    assert float(rows['images per second'][0]) == 2 * 16 / 0.5
    least, greatest = min(e['loss'] for e in LOSSES), max(e['loss'] for e in LOSSES)
    assert f'<small>{least:.4g} to {greatest:.4g}</small>' in page
    assert ENVIRONMENT in page and 'base_channels=4' in html.unescape(page)
    assert page.count('<img') == 2  # maps by the checkpoints, and those of a hook
    assert not re.search(r'(?:src|href)="(?!data:)', page)


def test_the_head_says_what_the_run_was(work_dir, tmp_path):
    report.write_report(tmp_path / 'page.html', [work_dir])
    head = table((tmp_path / 'page.html').read_text(), 'runs')
    assert head == {
        'finished': ['yes'],
        'iterations': ['10'],  # the last one logged was the eighth
        'began': ['2026-01-01 00:00'],
        'ended': ['2026-01-01 01:10'],
        'at work': ['1 h 10 min'],
        'images': ['144'],
        'device': ['2 x cuda:0 (NVIDIA Example)'],
        'last checkpoint': [str(work_dir / 'epoch_10.pth')],
        'best checkpoint': ['none is kept'],
    }


def test_a_run_that_was_ended_or_resumed(work_dir, other, tmp_path):
    log = next(other.glob('*/*.log'))
    whole = log.read_text()
    log.write_text(whole.split('2026/01/01 01:10:00')[0])
    run = read_run(other)
    assert (run.iterations, run.planned, run.finished) == (8, 10, False)
    again = other / '20260102_000000' / 'b.log'
    again.parent.mkdir()
    again.write_text(whole.replace('2026/01/01 0', '2026/01/02 0'))
    run = read_run(other)
    assert (run.iterations, run.finished, run.seconds) == (10, True, 4200)
    assert (run.began.day, run.ended.day) == (1, 2)
    log.unlink()
    again.write_text('')
    report.write_report(tmp_path / 'page.html', [other])
    assert 'the log does not say' in (tmp_path / 'page.html').read_text()


def test_curves_are_the_scalars_over_iterations(work_dir, other):
    panels, constant = report.curve_panels([read_run(work_dir), read_run(other)])
    panels = {panel['name']: panel for panel in panels}
    for line in panels['loss']['lines']:
        assert line == [(e['step'], e['loss']) for e in LOSSES]
    # Validation is logged by epoch: its values stand at the epochs' last iterations.
    assert panels['mIoU']['lines'][0] == [(4, 5.5), (8, 6.5)]
    assert constant == {'data_time': 0.01} and 'data_time' not in panels
    assert 'real keys replace the random queue' in panels['l_m']['meaning']
    assert panels['mIoU']['meaning'] == ''


@pytest.mark.parametrize(
    'values, ends',
    [
        ([6.91, 6.9], (6, 8)),  # a hundredth of change fills no plot
        ([3.0, 5.0], (3, 5)),
        ([0.0, 0.001], (0, 0.001)),
        ([-1.0, 1.0], (-1, 1)),
        ([0.0, 0.0], (0, 0)),
        ([5.0, float('nan')], (4.5, 5.5)),
    ],
)
def test_axes_do_not_dramatise(values, ends):
    found = report.ticks(values)
    assert found[0] <= ends[0] and found[-1] >= ends[1]
    assert found == sorted(found) and len(found) < 8
    finite = [value for value in values if value == value]
    assert found[-1] - found[0] >= 0.2 * max(map(abs, finite))
    assert found[-1] - found[0] <= 2.1 * (ends[1] - ends[0]) or ends == (0, 0)


def test_a_probe_from_outside_is_explained_by_its_docstring():
    evaluators = [dict(type='plrc_plugin.OverClustering')]
    assert meaning('clusters/mIoU', evaluators).startswith('mIoU in percent of k-means clusters')
    assert meaning('clusters/other', ()) == ''


# ---- the verdict


def told(work_dir, **changes):
    return verdict(dataclasses.replace(read_run(work_dir), **changes))


def test_the_verdict_says_whether_losses_fell_and_what_is_next(work_dir):
    losses, collapse, probes = told(work_dir)
    assert losses == 'The image loss L_m rose from 6.433 to 8.767.'
    assert 'logged no spread' in collapse
    assert f'python tools/probe.py {work_dir}' in probes
    falling = dict(l_c=[(1, 7.0), (2, 6.0)], l_m=[(1, 4.0), (2, 6.0), (3, 5.0)], step=[(1, 1)])
    assert told(work_dir, scalars=falling)[0] == (
        'The point loss L_c fell from 7 to 6, and the image loss L_m fell from 6 to 5 since its '
        'peak.'
    )


def test_the_verdict_on_a_collapse(work_dir):
    step = dict(step=[(1, 1)], loss=[(1, 2.0)])
    assert (
        'have not collapsed: their spread is 0.5'
        in told(work_dir, scalars=dict(step, std=[(1, 0.1), (2, 0.5)]))[1]
    )
    assert (
        'have collapsed: their spread is 0.01, below 0.02; lower'
        in told(work_dir, scalars=dict(step, std=[(1, 0.9), (2, 0.01)]))[1]
    )


@pytest.mark.parametrize(
    'curve, sentence',
    [
        ([3.0], 'knn/mIoU was measured once, 3: compare'),
        ([3.0, 4.0], 'rose from 3 to 4 since its first value and is at its best: fine-tune from'),
        ([3.0, 4.0, 3.5], 'rose from 3 to 4 at iteration 2, and ended at 3.5: fine-tune from'),
        ([3.0, 2.0], 'was never above 3, its first value (iteration 1): more training'),
    ],
)
def test_the_verdict_on_validation(work_dir, curve, sentence):
    metrics = {'knn/mIoU': list(enumerate(curve, 1))}
    assert sentence in told(work_dir, metrics=metrics)[2]
    if 'fine-tune' in sentence:
        assert told(work_dir, metrics=metrics)[2].endswith('fine-tune from epoch_10.pth.')
        assert 'go on with --resume' in told(work_dir, metrics=metrics, finished=False)[2]


def test_probes_of_the_work_dir_are_set_against_the_start(work_dir, other, tmp_path):
    start = {'knn_seg/mIoU': 5.0, 'seconds': 1.0}
    results = {'random': start, 'x/epoch_2.pth': {'knn_seg/mIoU': 9}}
    (other / 'probes.json').write_text(json.dumps(dict(settings={}, results=results)))
    sentence = verdict(read_run(other))[2]
    assert 'knn_seg/mIoU rose from 5 to 9 from the untrained network to x/epoch_2.pth' in sentence
    report.write_report(tmp_path / 'page.html', [work_dir, other])
    page = (tmp_path / 'page.html').read_text()
    assert 'Probes against the start' in page
    assert table(page.replace('class="probes"', 'id="probes"'), 'probes') == {
        'knn_seg/mIoU': ['5.0', '9']
    }
    (other / 'probes.json').write_text('{}')
    with pytest.raises(SettingsError, match='probes.json is not what'):
        read_run(other)


def test_several_runs_are_compared(work_dir, other, tmp_path):
    report.write_report(tmp_path / 'page.html', [work_dir, other])
    page = (tmp_path / 'page.html').read_text()
    assert [float(v) for v in table(page, 'results')['loss']] == [LOSSES[-1]['loss']] * 2
    assert table(page, 'differences') == {'optim_wrapper.optimizer.lr': ['0.03', '0.06']}
    assert 'No checkpoint is kept' in page


def test_what_differs_in_every_two_runs_is_no_setting():
    one = dict(work_dir='a', launcher='none', load_from=None, hooks=[dict(type='A', x=1)], n=[1, 2])
    other = dict(work_dir='b', launcher='pytorch', n=[1, 3])
    other['hooks'] = [dict(type='New'), dict(type='A', x=2)]
    assert report.differing_settings([Config(one), Config(other)]) == {
        'hooks.A.x': [1, 2],
        'hooks.New.type': [None, 'New'],
        'n.1': [2, 3],
    }


def test_runs_in_folders_of_one_name_are_told_apart(work_dir, tmp_path):
    folders = [
        tmp_path / 'plrc' / 'seed0',
        tmp_path / 'moco' / 'seed0',
        tmp_path / 'moco' / 'seed1',
    ]
    for folder in folders:
        shutil.copytree(work_dir, folder, ignore=shutil.ignore_patterns('*.pth'))
    assert [run.name for run in read_runs(folders[1:])] == ['seed0', 'seed1']
    names = ['plrc/seed0', 'moco/seed0', 'moco/seed1']
    assert [run.name for run in read_runs(folders)] == names
    report.write_report(tmp_path / 'page.html', folders)
    head = re.search(r'<table id="results">.*?</thead>', (tmp_path / 'page.html').read_text(), re.S)
    assert re.findall('<th scope="col">(.*?)</th>', head[0]) == names
    with pytest.raises(SettingsError, match='seed0 is given twice'):
        read_runs([folders[0], folders[0] / '..' / 'seed0'])


def test_maps_go_through_the_checkpoints_kept(work_dir):
    run = read_run(work_dir)
    images = [image for _, image in training_images(run.cfg, 4)]
    assert len(images) == 4 and images[0].shape == (40, 60, 3)
    steps = report.affinity_over_time(run, images[:1])
    assert [label for label, _ in steps] == ['start', 'epoch 1', 'epoch 2', 'epoch 10']
    assert len({address for _, address in steps}) == 4  # weights of their own


def test_pictures_that_a_hook_drew_of_affinities_take_their_place(other, tmp_path):
    data = next(other.rglob('vis_image'))
    for step in (0, 2):
        (data / f'hooked_{step}.png').rename(data / f'affinity_{step}.png')
    ((series,), reason) = report._pictures(read_run(other), None)
    assert [label for label, _ in series['steps']] == ['epoch 0', 'epoch 2'] and reason == ''


def test_images_that_are_gone_leave_the_rest(work_dir, other, tmp_path):
    config = next(other.rglob('config.py'))
    config.write_text(config.read_text().replace(str(work_dir.parent / 'images'), 'gone'))
    shutil.copy(work_dir / 'epoch_1.pth', other)
    report.write_report(tmp_path / 'page.html', [other])
    assert 'give others with --images' in (tmp_path / 'page.html').read_text()


def test_mistakes_end_in_one_line(other, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['report.py', *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(ROOT / 'tools/report.py'), run_name='__main__')
        assert exit_.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith('error: ') and message.count('\n') == 1
        return message

    assert 'cannot be written' in run(other, '--out', tmp_path / 'missing' / 'page.html')
    Image.fromarray(np.zeros((9, 40, 3), np.uint8)).save(tmp_path / 'a.png')
    assert 'a.png is too small, 40 x 9 pixels' in run(other, '--images', tmp_path)
    torch.save(dict(state_dict={'head.weight': torch.zeros(1)}), other / 'epoch_1.pth')
    assert 'epoch_1.pth holds no trunk' in run(other)
    next(other.rglob('config.py')).unlink()
    assert 'vis_data/config.py' in run(other)
    next(other.rglob('scalars.json')).unlink()
    assert 'vis_data/scalars.json with losses' in run(other)


# ---- in the browser


@pytest.fixture
def page(browser, work_dir, other, tmp_path):
    """The page of two runs in a window of 1200 x 900; nothing may be complained of or fetched."""
    path = tmp_path / 'page.html'
    report.write_report(path, [work_dir, other])
    browser.path = path
    browser.open(path)
    yield browser
    assert browser.complaints == []
    assert all(url.startswith((path.as_uri(), 'data:')) for url in browser.requests)


CURVE = '#curves figure:nth-child({})'


def read(page, number):
    return page.evaluate(f'document.querySelector("{CURVE.format(number)} .read").textContent')


def test_values_stand_under_the_pointer_and_at_the_arrow_keys(page):
    titles = page.evaluate('[...document.querySelectorAll("#curves h3")].map(h => h.textContent)')
    assert titles == ['loss', 'l_m', 'mIoU', 'top1', 'images per second']
    for number, name in ((1, 'loss'), (2, 'l_m')):
        for share in (0.3, 0.8):
            page.mouse(f'{CURVE.format(number)} svg', share, 0.5)
            step = round(8 * (320 * share - 38) / (312 - 38))
            value = float(f'{LOSSES[step - 1][name]:.4g}')
            assert read(page, number) == f'iteration {step}: first {value:g}, second {value:g}'
    page.evaluate(f'document.querySelector("{CURVE.format(2)} svg").focus()')
    before = int(re.search(r'\d+', read(page, 2))[0])
    for key, move in (('ArrowLeft', -1), ('ArrowLeft', -2), ('ArrowRight', -1)):
        page.press(key)
        assert read(page, 2).startswith(f'iteration {before + move}:')
    focus = page.evaluate('getComputedStyle(document.activeElement).outlineStyle')
    assert focus == 'solid'
    names = page.evaluate(
        '[...document.querySelectorAll("svg")].map(s => s.getAttribute("aria-label"))'
    )
    assert all(re.search(r'over iterations, axis from \S+ to \S+$', name) for name in names)


def test_a_curve_passes_through_its_values(page):
    points = page.evaluate(
        f"""[...document.querySelector('{CURVE.format(1)} polyline').points].map(p => [p.x, p.y])"""
    )
    low, *_, high = report.ticks([entry['loss'] for entry in LOSSES])
    for (x, y), entry in zip(points, LOSSES, strict=True):
        assert x == pytest.approx(38 + (312 - 38) * entry['step'] / 8, abs=0.01)
        assert y == pytest.approx(130 - (130 - 8) * (entry['loss'] - low) / (high - low), abs=0.01)


def test_a_slider_goes_through_the_epochs(page):
    assert page.evaluate('document.querySelectorAll(".over-time").length') == 3
    shown = []
    for value in range(4):
        page.evaluate(f"""(() => {{ const s = document.querySelector('.over-time input');
            s.value = {value}; s.dispatchEvent(new Event('input')); }})()""")
        page.settle()
        shown.append(
            page.evaluate("""(() => { const f = document.querySelector('.over-time');
                return [f.querySelector('output').value, f.querySelector('img').src,
                        f.querySelector('img').naturalWidth > 100]; })()""")
        )
    assert [label for label, _, _ in shown] == ['start', 'epoch 1', 'epoch 2', 'epoch 10']
    assert len({source for _, source, _ in shown}) == 4 and all(whole for *_, whole in shown)


def test_it_fits_a_phone_and_the_dark(page):
    page.open(page.path, width=390, height=800, mobile=True)
    assert page.evaluate('document.documentElement.scrollWidth') == 390
    widths = page.evaluate('[...document.querySelectorAll("svg")].map(s => s.clientWidth)')
    assert min(widths) > 340
    colour = 'getComputedStyle(document.documentElement).colorScheme'
    assert page.evaluate(colour) == 'light dark'
    page.send(
        'Emulation.setEmulatedMedia',
        features=[dict(name='prefers-color-scheme', value='dark')],
    )
    try:
        text = page.evaluate('getComputedStyle(document.querySelector("svg text")).fill')
        assert text == 'rgb(255, 255, 255)'
    finally:
        page.send('Emulation.setEmulatedMedia', features=[])
