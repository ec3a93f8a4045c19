"""The whole command on tiny pictures: a page from a folder of photographs and labels."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from runs import make_images

from plrc_plugin.commands import worth
from plrc_plugin.errors import SettingsError
from plrc_plugin.worth import comparing, timing
from plrc_plugin.worth.comparing import Asked, compare
from plrc_plugin.worth.heads import finetuned_trunk, head_config, set_length
from plrc_plugin.worth.planning import Timing, Work, divide

SMALL = {
    'model.backbone.base_channels': 4,
    'train_dataloader.dataset.pipeline.0.size': 64,
    'train_dataloader.batch_size': 8,
    'visualizer': dict(type='Visualizer'),
}


@pytest.fixture
def photos(tmp_path):
    return make_images(tmp_path / 'photos', count=24)


@pytest.fixture
def labels(tmp_path):
    """Twelve pictures with a bright and a dark rectangle, as masks."""
    folder = tmp_path / 'labelled'
    (folder / 'masks').mkdir(parents=True)
    (folder / 'images').mkdir()
    rng = np.random.default_rng(1)
    for i in range(12):
        mask = np.zeros((64, 64), np.uint8)
        x, y = rng.integers(4, 30, 2)
        mask[y : y + 20, x : x + 12], mask[50:60, 5:55] = 1, 2
        pixels = np.choose(mask[..., None], [120, 230, 20]) + rng.integers(0, 20, (64, 64, 3))
        Image.fromarray(mask).save(folder / 'masks' / f'{i}.png')
        Image.fromarray(pixels.astype(np.uint8)).save(folder / 'images' / f'{i}.jpg')
    return folder / 'masks'


@pytest.fixture
def quick(monkeypatch):
    """No timing: of its seconds nothing may depend here."""
    monkeypatch.setattr(comparing, 'epoch_seconds', lambda cfg, processes: (1.0, 2))
    monkeypatch.setattr(comparing, 'probe_seconds', lambda *args: 1.0)
    monkeypatch.setattr(comparing, 'finetuning_seconds', lambda cfg, folder: (0.1, 1.0))
    monkeypatch.setattr(comparing, 'startup_seconds', lambda module: 1.0)


def asked(photos, labels, **change):
    given = dict(photos=photos, labels=labels, out=photos.parent / 'out', hours=1.0)
    given.update(backbone='resnet18', methods=['plrc'], percents=[50, 100], seeds=[0])
    return Asked(**{**given, 'only': 'frozen', 'options': SMALL, **change})


@pytest.mark.slow
def test_frozen_trunks_are_compared_on_one_page(photos, labels, quick, capsys):
    page = compare(asked(photos, labels))
    text = page.read_text()
    assert 'There is one seed for each number' in text and 'continued by PLRC' in text
    content = json.loads((page.parent / 'results.json').read_text())
    kinds = [(p['kind'], p['method']) for p in content['parts']]
    assert kinds == [('frozen', 'start'), ('pretrain', 'plrc'), ('frozen', 'plrc')]
    numbers = content['parts'][-1]['numbers']
    assert set(numbers) == {'50', '100'} and 0 < numbers['100']['linear mIoU'] <= 100
    assert '| continued' not in (page.parent / 'table.md').read_text()
    said = capsys.readouterr().out
    assert '9 labelled images train (50% are 4, 100% are 9), 3 test' in said
    assert 'pre-training by plrc, 2 epochs' in said and '[3/3] frozen-plrc-seed0' in said
    # the config of pre-training is there to go on with, and the page's numbers are those measured
    assert 'budget = dict(epochs=2)' in (page.parent / 'configs/plrc.py').read_text()
    shown = f'{numbers["100"]["linear mIoU"]:.2f}'
    assert shown in re.search(r'<table id="results">.*?</table>', text, re.S)[0]
    # once more: nothing is left to do; other settings are refused
    stamps = {p: p.stat().st_mtime_ns for p in page.parent.rglob('*.pth')}
    compare(asked(photos, labels))
    assert stamps == {p: p.stat().st_mtime_ns for p in page.parent.rglob('*.pth')}
    assert '[' not in capsys.readouterr().out
    with pytest.raises(SettingsError, match='a comparison with other backbone'):
        compare(asked(photos, labels, backbone='resnet34'))


@pytest.mark.slow
def test_what_is_measured_for_a_plan_is_finite(photos, labels, tmp_path):
    from plrc_plugin.recipe.own_config import config_of
    from plrc_plugin.worth.frozen import encoder, probe_cells
    from plrc_plugin.worth.labels import read_labels
    from plrc_plugin.worth.splits import split_labels
    from plrc_plugin.worth.writing import write_labels

    cfg = config_of(photos, 'resnet18', None, tmp_path, None, None, SMALL)
    seconds, epochs = timing.epoch_seconds(cfg, 1)
    assert seconds > 0 and epochs == 800 and cfg.train_cfg.max_epochs == 'auto'
    found = read_labels(labels)
    write_labels(tmp_path / 'out', found, split_labels(found), [100], [0])
    cells = probe_cells('masks', tmp_path / 'out', found.classes)
    model = encoder(cfg.model.backbone, 'random')
    assert timing.probe_seconds(model, cells, {100: list(range(9))}) > 0


def as_boxes(masks):
    """The rectangles of the masks, as COCO's json."""
    images, annotations = [], []
    for i, file in enumerate(sorted(masks.glob('*.png'))):
        mask = np.asarray(Image.open(file))
        images.append(dict(id=i, file_name=f'{file.stem}.jpg', width=64, height=64))
        for label in (1, 2):
            y, x = np.nonzero(mask == label)
            box = [int(v) for v in (x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1)]
            annotations.append(
                dict(id=2 * i + label, image_id=i, category_id=label, bbox=box, iscrowd=0)
            )
    categories = [dict(id=1, name='box'), dict(id=2, name='line')]
    path = masks.parent / 'labels.json'
    content = dict(images=images, annotations=annotations, categories=categories)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['boxes', 'masks'])
def test_detectors_and_segmenters_are_fine_tuned_and_kept(kind, photos, labels, quick):
    pytest.importorskip('mmcv._ext')
    pytest.importorskip(dict(boxes='mmdet.models', masks='mmseg.models')[kind])
    given = as_boxes(labels) if kind == 'boxes' else labels
    page = compare(asked(photos, given, methods=[], only='finetuned', percents=[100]))
    content = json.loads((page.parent / 'results.json').read_text())
    (part,) = content['parts']
    metric = dict(boxes='box AP', masks='mIoU')[kind]
    assert 0 <= part['numbers'][metric] <= 100
    folder = page.parent / 'finetuned/start/100/seed0'
    (detector,) = folder.glob('iter_*.pth')
    text = page.read_text()
    assert str(detector.relative_to(page.parent)) in text and metric in text
    assert 'Nothing can be said yet' in text


def test_test_images_among_the_photographs_are_left_out_with_their_count(
    photos, labels, quick, capsys
):
    for file in (labels.parent / 'images').iterdir():
        (photos / f'copy{file.name}').write_bytes(file.read_bytes())
    page = compare(asked(photos, labels, plan_only=True))
    said = capsys.readouterr().out
    assert 'warning: 3 photographs are test images, byte by byte' in said
    listed = (page.parent / 'photographs.txt').read_text().split()
    assert len(listed) == 24 + 12 - 3
    assert 'ann_file' in (page.parent / 'configs/plrc.py').read_text()
    assert 'nothing was begun' in said and not list(page.parent.rglob('*.pth'))
    again = asked(
        photos, labels, plan_only=True, keep_test_images=True, out=photos.parent / 'other'
    )
    compare(again)
    assert '--keep-test-images leaves them there' in capsys.readouterr().out
    assert not (photos.parent / 'other/photographs.txt').exists()


@pytest.mark.parametrize('kind', ['boxes', 'masks'])
def test_heads_fit_any_trunk_and_any_classes(kind, tmp_path):
    package = dict(boxes='mmdet', masks='mmseg')[kind]
    pytest.importorskip('mmcv._ext')
    pytest.importorskip(f'{package}.models')
    from mmengine.registry import MODELS as ROOT_MODELS
    from mmengine.registry import DefaultScope

    trunk = finetuned_trunk(dict(type='plrc_plugin.ResNet', depth=18, base_channels=4))
    assert (trunk.channels, trunk.stride) == (32, 16)
    options = {'train_dataloader.batch_size': 2}
    cfg = head_config(kind, tmp_path, ('a', 'b', 'c'), trunk, side=250, gpu=False, options=options)
    set_length(cfg, 40)
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[-1].end == 40
    assert cfg.train_dataloader.batch_size == 2
    assert cfg.custom_hooks[-1].type == 'plrc_plugin.KeepTrunkStatistics'
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = ROOT_MODELS.build(cfg.model)
    assert model.backbone.out_channels == 32
    scales = [step.scale for step in cfg.train_dataloader.dataset.pipeline if 'Resize' in step.type]
    assert [min(scale) for scale in scales] == [224]


def test_labels_that_changed_are_refused(photos, labels, quick):
    compare(asked(photos, labels, plan_only=True))
    file = next(labels.glob('*.png'))
    Image.fromarray(np.ones((64, 64), np.uint8)).save(file)
    with pytest.raises(SettingsError, match='a comparison with other split'):
        compare(asked(photos, labels, plan_only=True))


def test_a_new_method_does_not_change_the_lengths_of_the_others(photos, labels, quick):
    first = compare(asked(photos, labels, plan_only=True)).parent / 'plan.json'
    before = json.loads(first.read_text())
    compare(asked(photos, labels, plan_only=True, methods=['plrc', 'mocov2'], hours=9.0))
    after = json.loads(first.read_text())
    assert after['epochs'] == before['epochs'] and 'mocov2' in after['seconds']


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(hours=1 / 60), 'does not pay for one epoch'),
        (dict(hours=0), '--hours must be positive'),
        (dict(percents=[0]), '--fractions are percentages'),
        (dict(percents=[101]), '--fractions are percentages'),
        (dict(seeds=[-1]), '--seeds are integers'),
        (dict(weights='none.pth'), 'there is no file none.pth'),
        (dict(photos='nowhere'), 'is not a folder of photographs'),
        (dict(methods=['dino']), "there is no 'dino'"),
        (dict(backbone='resnet51'), 'backbone resnet51'),
        (dict(labels='nowhere'), 'neither a json nor a folder'),
    ],
)
def test_mistakes_are_one_line(change, message, photos, labels, monkeypatch):
    monkeypatch.setattr(
        comparing,
        '_planned',
        lambda asked, *args: divide(
            asked.hours,
            Work(['plrc'], [0], [100], 20, 0),
            Timing(10, dict(plrc=100), 30, None, None),
        ),
    )
    change = {k: photos.parent / v if k in ('photos', 'labels') else v for k, v in change.items()}
    out = photos.parent / 'out'
    with pytest.raises(SettingsError, match=message):
        compare(Asked(**{**asked(photos, labels)._asdict(), **change}))
    assert not list(out.rglob('*.pth'))


def test_three_photographs_are_one_line(labels, tmp_path, capsys):
    photos = make_images(tmp_path / 'few', count=3)
    with pytest.raises(SystemExit) as ended:
        worth.main(
            [
                *(str(photos), '--labels', str(labels), '--out', str(tmp_path / 'out')),
                *('--hours', '1', '--only', 'frozen', '--backbone', 'resnet18'),
            ]
        )
    assert ended.value.code == 2
    assert '3 images are too few' in capsys.readouterr().err
