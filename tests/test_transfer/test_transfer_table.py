import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Stands for tools/train.py: logs one evaluation, whose value tells config, checkpoint and seed.
TRAIN = """
import json, pathlib, sys
args = sys.argv[1:]
options = dict(x.split('=') for x in args[args.index('--cfg-options') + 1:])
work = pathlib.Path(args[args.index('--work-dir') + 1])
assert '--resume' in args
with open(work / 'calls', 'a') as calls:
    calls.write('x')
if options.get('fail'):
    sys.exit('this run fails')
value = (10 if options['pretrained'] == 'scratch' else 20) + int(options['randomness.seed'])
name = options.get('metric', 'mIoU' if 'seg' in args[0] else 'coco/bbox_mAP')
log = work / '2026' / 'vis_data' / 'scalars.json'
log.parent.mkdir(parents=True)
log.write_text(json.dumps({'loss': 1.}) + chr(10) + json.dumps({name: 0., 'step': 1}) + chr(10) +
               json.dumps({name: value / (100 if 'coco' in name else 1), 'step': 2}) + chr(10))
"""


@pytest.fixture
def table(tmp_path, monkeypatch, capsys):
    """Calls the tool with a work dir; gives the files that it wrote."""
    spec = importlib.util.spec_from_file_location(
        'transfer_table', ROOT / 'tools' / 'transfer_table.py'
    )
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    (tmp_path / 'train.py').write_text(TRAIN)
    monkeypatch.setattr(tool, 'TRAIN', tmp_path / 'train.py')
    monkeypatch.chdir(tmp_path)
    for name in ('det.py', 'seg.py', 'epoch_1.pth'):
        Path(name).touch()

    def call(*more, checkpoints=('scratch', 'plrc=epoch_1.pth')):
        monkeypatch.setattr(
            sys,
            'argv',
            [
                'transfer_table.py',
                '--work-dir',
                'out',
                '--configs',
                'det.py',
                'seg.py',
                '--seeds',
                '0',
                '2',
                '--checkpoints',
                *checkpoints,
                *more,
            ],
        )
        tool.main()
        return Path('out')

    return call


def test_rows_are_means_over_seeds(table):
    out = table()
    markdown = (out / 'table.md').read_text()
    assert '## det' in markdown and '| checkpoint | box AP |' in markdown
    assert '| scratch | 11.00 ± 1.41 |' in markdown and '| plrc | 21.00 ± 1.41 |' in markdown
    with open(out / 'table.csv') as lines:
        rows = {(row['config'], row['checkpoint']): row for row in csv.DictReader(lines)}
    assert len(rows) == 4 and rows['seg', 'plrc']['metric'] == 'mIoU'
    assert float(rows['seg', 'plrc']['mean']) == 21
    assert float(rows['det', 'scratch']['std']) == pytest.approx(2**0.5)
    assert (out / 'table.png').stat().st_size > 5000


def test_finished_runs_are_not_repeated(table):
    out = table('--jobs', '2')
    table(checkpoints=('scratch', 'plrc=epoch_1.pth', 'again=epoch_1.pth'))
    calls = {str(path.parent.relative_to(out)): path.read_text() for path in out.rglob('calls')}
    assert len(calls) == 12 and set(calls.values()) == {'x'}
    assert '| again | 21.00' in (out / 'table.md').read_text()


def test_a_failed_run_stops_and_goes_on_later(table, capsys):
    with pytest.raises(SystemExit, match='2'):
        table('--cfg-options', 'fail=1')
    told = capsys.readouterr().err
    assert 'output.txt' in told and 'this run fails' in told
    with pytest.raises(SystemExit, match='2'):
        table()
    assert 'other settings' in capsys.readouterr().err


def test_settings_that_cannot_work(table, capsys):
    with pytest.raises(SystemExit, match='2'):
        table(checkpoints=['plrc=nothing.pth'])
    assert 'no file nothing.pth' in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        table(checkpoints=['epoch_1.pth', 'epoch_1.pth'])
    assert 'two checkpoints are called epoch_1' in capsys.readouterr().err


def test_one_seed_has_no_deviation(table):
    out = table('--seeds', '1')
    assert '| scratch | 11.00 |' in (out / 'table.md').read_text()
    assert json.loads((out / 'det/scratch/seed1/metrics.json').read_text()) == {
        'box AP': pytest.approx(11)
    }


def test_metrics_of_an_own_evaluator_are_shown_as_logged(table):
    out = table('--cfg-options', 'metric=birds/found')
    text = (out / 'table.md').read_text()
    assert 'over 2 seeds, as logged.' in text and '| checkpoint | birds/found |' in text
    assert '| plrc | 21.00 ± 1.41 |' in text


def test_a_detector_that_finds_nothing_has_an_ap_of_0(tmp_path):
    """mmdet gives no number then, and says so in its log."""
    from plrc_plugin.errors import SettingsError
    from plrc_plugin.worth.runs import last_metrics

    (tmp_path / 'a').mkdir()
    log = tmp_path / 'a' / 'a.log'
    log.write_text('mmengine - ERROR - The testing results of the whole dataset is empty.')
    assert last_metrics(tmp_path) == {'box AP': 0, 'box AP50': 0, 'box AP75': 0}
    log.write_text('cut off')
    with pytest.raises(SettingsError, match='logged no evaluation'):
        last_metrics(tmp_path)
