"""`python -m benchmarks.gpu`: every piece runs on a CPU at a tiny size, and the page is honest."""

import json
import os
import subprocess
import sys
import tarfile
import time
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(ROOT))  # where `python -m benchmarks.gpu` is run
from benchmarks.gpu import __main__ as command
from benchmarks.gpu import (
    cases,
    catalogue,
    correct,
    denominators,
    evidence,
    pack,
    page,
    pieces,
    speed,
    wheels,
)
from benchmarks.gpu.pieces import Piece, Report, Setting
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.masked_images import VOCMasks

# These start further programs; they have tests of their own.
APART = ('tests', 'evidence')


def gpu_check(*arguments, seconds=900):
    return subprocess.run(
        [sys.executable, '-m', 'benchmarks.gpu', *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
    )


@pytest.fixture(scope='module')
def checked(tmp_path_factory):
    """A whole check on the CPU: its output and the folder of its JSONs."""
    folder = tmp_path_factory.mktemp('check')
    names = [name for name in catalogue.PIECES if name not in APART]
    done = gpu_check(
        *names, '--device', 'cpu', '--small', '--out', folder / 'gpu', '--work', folder / 'work',
        '--minutes', 14,
    )  # fmt: skip
    return done, folder / 'gpu'


@pytest.mark.slow
@pytest.mark.parametrize('name', [name for name in catalogue.PIECES if name not in APART])
def test_a_piece_runs_on_the_cpu(checked, name):
    _, folder = checked
    record = json.loads((folder / f'{name}.json').read_text())
    assert record['status'] == 'done', record['problem'] or record['checks']
    assert (record['device'], record['small'], record['card']) == ('cpu', True, None)
    assert record['checks'] or record['tables']
    for check in record['checks']:
        assert check['ok'] or check['found'] == 'needs CUDA', check


@pytest.mark.slow
def test_the_check_ends_well_and_its_page_says_that_no_gpu_was_there(checked):
    done, folder = checked
    assert done.returncode == 0, done.stdout
    text = folder.with_suffix('.md').read_text()
    assert 'Not yet run on a GPU' in text and 'its numbers mean nothing' in text
    for piece in catalogue.PIECES.values():
        assert f'## {piece.title}' in text


@pytest.mark.slow
def test_evidence_goes_on_where_a_piece_ended(tmp_path, monkeypatch):
    setting = Setting('cpu', True, tmp_path / 'gpu', tmp_path / 'work', seconds=600)
    run = evidence.python
    monkeypatch.setattr(  # the time is over
        evidence, 'python', lambda *a, **k: subprocess.CompletedProcess(a, pieces.TIME_IS_OVER, '')
    )
    report = evidence.check_evidence(setting)
    assert not report.finished and not report.checks
    monkeypatch.setattr(evidence, 'python', run)
    report = evidence.check_evidence(setting)
    assert report.finished and not report.checks, report.checks
    names = [row[0] for row in report.tables[0]['rows']]
    assert names == ['plrc_in1k-scratch, its start', 'plrc_in1k-scratch, end']
    assert all(isinstance(row[3], float) for row in report.tables[0]['rows'])


def test_evidence_says_what_went_wrong(tmp_path, monkeypatch):
    setting = Setting('cpu', True, tmp_path / 'gpu', tmp_path / 'work', seconds=60)
    failed = subprocess.CompletedProcess((), 2, 'error: no such setting')
    monkeypatch.setattr(evidence, 'python', lambda *a, **k: failed)
    report = evidence.check_evidence(setting)
    assert [check['ok'] for check in report.checks] == [False]
    assert 'no such setting' in report.checks[0]['found']


@pytest.mark.faults
@pytest.mark.parametrize(
    'code, said',
    [(-9, 'was ended by SIGKILL, as the system does where memory is short; its last words: no'),
     (-11, 'was ended by SIGSEGV, a fault in compiled code'), (3, 'died with exit code 3')],
)  # fmt: skip
def test_a_run_that_a_signal_ended_is_no_run_whose_time_is_over(code, said, tmp_path, monkeypatch):
    setting = Setting('cpu', True, tmp_path / 'gpu', tmp_path / 'work', seconds=60)
    ended = subprocess.CompletedProcess((), code, '')
    monkeypatch.setattr(evidence, 'python', lambda *a, **k: ended)
    report = evidence.check_evidence(setting)
    assert [check['ok'] for check in report.checks] == [False]
    assert said in report.checks[0]['found']


def test_a_program_whose_time_is_over_says_so():
    assert pieces.python('-c', 'import time; time.sleep(60)', seconds=1).returncode == 124
    done = pieces.python('-c', 'import os; os.kill(os.getpid(), 9)', seconds=60)
    assert done.returncode == -9


def test_every_method_and_start_of_the_evidence_has_a_config(tmp_path):
    from mmengine.config import Config

    weights = tmp_path / 'weights.pth'
    setting = Setting('cuda', False, tmp_path, tmp_path, photos=tmp_path, weights=weights)
    rows = evidence.rows_of(setting)
    assert len({row.name for row in rows}) == len(rows) == 6
    for row in rows:
        cfg = Config.fromstring(evidence.config_text(row, setting), '.py')
        trunk = 'plrc_plugin.TimmTrunk' if row.weights else 'plrc_plugin.ResNet'
        assert cfg.model.backbone.type == trunk
        assert cfg.pretrained == (str(weights) if row.weights else None)
        assert cfg.train_dataloader.dataset.pipeline[0].size == 160
        assert cfg.train_dataloader.dataset.pipeline[0].where == 'device'
        assert cfg.train_dataloader.dataset.data_root == str(tmp_path)


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
@pytest.mark.parametrize(
    'code, output, ok',
    [(0, '12 passed in 3 s', True), (0, '2 passed, 1 skipped in 3 s', False),
     (1, 'FAILED tests/a.py::b\n1 failed in 3 s', False)],
)  # fmt: skip
def test_cuda_tests_count_only_if_none_is_skipped(device, code, output, ok, monkeypatch):
    ran = []

    def python(*arguments, **kwargs):
        ran.extend(arguments)
        return subprocess.CompletedProcess(arguments, code, output)

    monkeypatch.setattr(correct, 'python', python)
    checks = correct.run_cuda_tests(Setting(device)).checks
    assert 'tests/test_reliability/test_fake_cuda.py' in ran
    if device == 'cuda':
        assert [check['ok'] for check in checks] == [ok]
    else:
        assert [check['ok'] for check in checks] == [code == 0, None]


def run_with(monkeypatch, tmp_path, arguments=(), **functions):
    """The exit code of the command, with other pieces."""
    found = {name: Piece(function, name, 1) for name, function in functions.items()}
    for module in (catalogue, page):
        monkeypatch.setattr(module, 'PIECES', found)
    common = ['--device', 'cpu', '--small', '--out', str(tmp_path / 'gpu')]
    monkeypatch.setattr(sys, 'argv', ['gpu', *common, *arguments])
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    return command.main()


def holds(setting):
    """Holds."""
    report = Report()
    report.at_most('small', 1.0, 2.0)
    return report


def fails(setting):
    """Does not hold."""
    report = Report()
    report.at_most('not a number', float('nan'), 2.0)
    return report


def dies(setting):
    """Dies, as of a fault on the device."""
    os._exit(7)


IMPORTED_BY = os.getpid()


def process_is_forked() -> bool:
    return os.getpid() != IMPORTED_BY


def hangs(setting):
    """Hangs."""
    time.sleep(600)


def hangs_later(setting):
    """Hangs after its second row."""
    report = Report()
    rows = report.table('A table', ['what', 'value'])
    rows.append(['first', 1.0])
    report.numbers['first'] = 1.0
    rows.append(['second', float('nan')])
    time.sleep(600)


def dies_later(setting):
    """Dies after its first check."""
    report = Report()
    report.at_most('small', 1.0, 2.0)
    os._exit(7)


def has_not_finished(setting):
    """Goes on with the next call."""
    report = Report()
    report.finished = False
    return report


@pytest.mark.faults
def test_a_piece_that_fails_takes_no_other_with_it(monkeypatch, tmp_path, capsys):
    code = run_with(monkeypatch, tmp_path, fails=fails, dies=dies, holds=holds)
    output = capsys.readouterr().out
    assert code == 1 and 'failed: fails, dies' in output
    records = {
        n: pieces.read_json(tmp_path / 'gpu' / f'{n}.json') for n in ('fails', 'dies', 'holds')
    }
    assert [record['status'] for record in records.values()] == ['failed', 'failed', 'done']
    assert 'exit code 7' in records['dies']['problem']
    text = (tmp_path / 'gpu.md').read_text()
    assert '| not a number | **no** | nan | 2 |' in text and '| small | yes | 1 | 2 |' in text


@pytest.mark.faults
def test_a_piece_that_hangs_is_ended(tmp_path):
    setting = Setting('cpu', True, tmp_path, tmp_path, seconds=0.5)
    record = pieces.run_piece('hangs', Piece(hangs, 'Hangs', 0.1), setting)
    assert record['status'] == 'failed' and 'was ended' in record['problem']


@pytest.mark.faults
def test_what_a_piece_had_found_when_it_was_cut_off_is_kept(tmp_path):
    setting = Setting('cpu', True, tmp_path, tmp_path, seconds=5)
    record = pieces.run_piece('later', Piece(hangs_later, 'Hangs', 60), setting)
    assert record['status'] == 'unfinished' and record['numbers'] == {'first': 1.0}
    assert record['tables'][0]['rows'] == [['first', 1.0], ['second', 'nan']]
    assert '| first | 1 |' in '\n'.join(page.found(record))
    record = pieces.run_piece('dead', Piece(dies_later, 'Dies', 60), setting)
    assert record['status'] == 'failed' and [c['ok'] for c in record['checks']] == [True]
    assert {p.name for p in tmp_path.iterdir()} == {'later.json', 'dead.json'}


def test_a_piece_is_done_for_one_card_and_one_code(tmp_path, monkeypatch):
    here = Setting('cuda', False, tmp_path, tmp_path, card='A card')
    record = dict(status='done', device='cuda', small=False, card='A card', code=pieces.code())
    record['numbers'] = dict(float32=1.0)
    pieces.write_json(tmp_path / 'machine.json', record)
    assert pieces.is_done(record, here) and pieces.numbers_of(here, 'machine')
    other = here._replace(card='Another card')
    assert not pieces.is_done(record, other) and not pieces.numbers_of(other, 'machine')
    assert not pieces.is_done(dict(record, status='unfinished'), here)
    monkeypatch.setattr(pieces, 'code', lambda: 'another')
    assert not pieces.is_done(record, here) and not pieces.numbers_of(here, 'machine')


def bytes_of(function):
    with speed.Bytes() as travelled:
        function()
    return travelled.count


def test_bytes_are_those_that_travel():
    a, b = torch.ones(10, 20), torch.ones(20, 5)
    like, row = torch.ones(10, 20), torch.ones(1, 20)
    assert bytes_of(lambda: torch.empty(1000)) == bytes_of(lambda: a.view(200)) == 0
    assert bytes_of(lambda: a @ b) == 4 * (200 + 100 + 50)
    assert bytes_of(lambda: a + 1) == bytes_of(lambda: a.add_(1)) == 4 * 400
    assert bytes_of(lambda: a.zero_()) == 4 * 200
    assert bytes_of(lambda: a.copy_(like)) == 4 * 400
    assert bytes_of(lambda: row.expand(10, 20) * a) == 4 * (20 + 400)
    assert bytes_of(lambda: torch._foreach_add_([a, b], 1.0)) == 4 * 2 * 300


def test_memory_that_runs_out_is_known_by_each_of_its_names():
    for error in (torch.cuda.OutOfMemoryError('x'), RuntimeError('CUDNN_STATUS_ALLOC_FAILED')):
        assert speed.is_out_of_memory(error)
    assert not speed.is_out_of_memory(RuntimeError('an illegal memory access'))


def test_a_process_for_a_gpu_is_not_forked():
    assert pieces.in_child(process_is_forked, seconds=120) == (False, None)
    assert pieces.in_child(process_is_forked, seconds=120, fork=True) == (True, None)


def test_what_is_left_is_said(monkeypatch, tmp_path, capsys):
    assert run_with(monkeypatch, tmp_path, goes_on=has_not_finished, holds=holds) == 3
    assert 'left: goes_on. Give the same command again.' in capsys.readouterr().out
    assert run_with(monkeypatch, tmp_path, ['--minutes', '0'], holds=holds, later=holds) == 3
    output = capsys.readouterr().out
    assert 'left: later' in output and 'holds' not in output  # which is done


def test_mistakes_end_in_one_line(monkeypatch, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run_with(monkeypatch, tmp_path, ['nothing'], holds=holds)
    assert 'there is no piece nothing; there are holds' in capsys.readouterr().err
    monkeypatch.setattr(wheels, '_there', lambda module: module != 'lightly')
    assert run_with(monkeypatch, tmp_path, holds=holds) == 2
    assert capsys.readouterr().out.startswith('missing here: lightly.')
    assert run_with(monkeypatch, tmp_path, ['--missing'], holds=holds) == 2
    assert capsys.readouterr().out == 'lightly\n'


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_without_a_gpu_one_line_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, 'argv', ['gpu', '--out', str(tmp_path / 'gpu')])
    assert command.main() == 2
    assert 'sees no GPU here' in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_the_page_in_the_docs_is_what_the_jsons_say():
    out = Setting().out
    assert out.with_suffix('.md').read_text() == page.page_text(out, price=2.5), (
        'python -m benchmarks.gpu --page'
    )


def test_the_page_of_a_gpu_names_it_and_counts_hours(tmp_path):
    assert page.NOT_RUN in page.page_text(tmp_path, 2.5)
    record = dict(
        status='done', device='cuda', small=False, card='A card', software='torch 9', seconds=3.0,
        problem=None, checks=[], tables=[], numbers={'PLRC, bfloat16, 32': 1000.0, 'PLRC, x': 10.0},
    )  # fmt: skip
    pieces.write_json(tmp_path / 'speed.json', record)
    text = page.page_text(tmp_path, price=2.0)
    assert page.NOT_RUN not in text and 'Run on A card (torch 9).' in text
    assert 'Not yet run, or not whole: machine' in text
    hours = 1_281_167 * 200 / 1000 / 3600
    assert f'| scratch | 1,281,167 | 200 | {hours:.3g} | {2 * hours:.3g} |' in text
    assert '[plrc_photos]' in text and '| weights | 5,000 | 20 |' in text
    assert '[plrc_vit_small]' not in text  # not measured
    pieces.write_json(tmp_path / 'trunks.json', dict(record, numbers={'ViT-S/16 by PLRC, b': 5.0}))
    assert '[plrc_vit_small](../configs/plrc_vit_small.py)' in page.page_text(tmp_path, price=2.0)


def test_every_config_of_pre_training_has_its_hours():
    """But those of rasters, of the demo, and of the paper's true regions."""
    known = {**page.FIXED, **page.OF_RECIPE}
    names = {path.relative_to(ROOT / 'configs').with_suffix('').as_posix()
             for pattern in ('*.py', 'ablations/*.py')
             for path in (ROOT / 'configs').glob(pattern)}  # fmt: skip
    assert names - known.keys() <= {
        'plrc_demo', 'plrc_rasters', 'ablations/plrc_coco_400e_truth',
        'ablations/regioncontrast_coco_400e_truth',
    }  # fmt: skip
    assert {name for name, *_ in page.lengths()} == known.keys()
    models = {*cases.configs(Setting()), *cases.other_trunks(Setting())}
    assert set(known.values()) <= models


@pytest.mark.faults
@pytest.mark.parametrize(
    'fault',
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: (x > 0).nonzero(),
        lambda x: x.unique(),
        lambda x: bool(x.any()),
    ],
)
def test_waits_are_noticed(fault):
    with correct.Waits() as waits:
        torch.ones(3) + 1
    assert not waits.found
    with correct.Waits() as waits:
        fault(torch.ones(3))
    assert waits.found


@pytest.mark.faults
def test_another_loss_is_noticed(monkeypatch):
    setting = Setting('cpu', True)
    original = correct.losses.image_contrast
    monkeypatch.setattr(
        correct.losses, 'image_contrast', lambda *a: original(*a, temperature=0.2 + (len(a[0]) < 0))
    )
    assert all(check['ok'] is not False for check in correct.check_losses(setting).checks)

    def wrong(queries, *others):  # in half precision, where the others are float64
        value, top1 = original(queries, *others)
        return value * (1.01 if queries.dtype == torch.float32 else 1), top1

    monkeypatch.setattr(correct.losses, 'image_contrast', wrong)
    failed = [c['name'] for c in correct.check_losses(setting).checks if c['ok'] is False]
    assert failed == ['float32: value', 'float32: gradient']


@pytest.fixture
def pretended(monkeypatch):
    """What of torch.cuda the pieces call, on a machine that has none."""
    if torch.cuda.is_available():
        return
    state = SimpleNamespace(mode='default', clock=0.0)

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            state.clock += 1
            self.time = state.clock

        def elapsed_time(self, other):
            return 1000 * (other.time - self.time)

    memory = iter([0, 3 * 2**20] * 100)
    for name, value in dict(
        synchronize=lambda: None,
        set_sync_debug_mode=lambda mode: setattr(state, 'mode', mode),
        memory_allocated=lambda: next(memory),
        max_memory_allocated=lambda: next(memory),
        reset_peak_memory_stats=lambda: None,
        Event=Event,
    ).items():
        monkeypatch.setattr(torch.cuda, name, value)
    return state


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_what_only_a_gpu_can_measure_is_asked_of_torch_as_it_is(pretended):
    assert cases.seconds_of(lambda: None, 'cuda', repeats=3) == 1
    assert cases.peak_memory(lambda: None, 'cuda') == 3

    setting = Setting('cpu', True)
    config = cases.configs(setting)['MoCo v2']
    model = cases.build(config, 'cpu')
    views = model.data_preprocessor(cases.batch_of(4, 32, 'cpu', per_region=2), training=True)
    assert correct.raised_by_waiting(model, views, 'float32') == ''
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())
    model.forward = lambda **_: (_ for _ in ()).throw(RuntimeError('called a  synchronizing op'))
    assert 'a synchronizing op' in correct.raised_by_waiting(model, views, 'float32')

    def step():
        assert pretended.mode == 'warn'
        warnings.warn('called a synchronizing CUDA operation', stacklevel=1)
        warnings.warn('something else', stacklevel=1)

    (found,) = correct.waits_of(step)
    assert found.startswith('test_gpu_check.py:') and pretended.mode == 'default'


@pytest.mark.skipif(
    torch.cuda.is_available() or not hasattr(torch, 'get_autocast_dtype'),
    reason='there is a GPU, or a torch before 2.4, which pretends none',
)
@pytest.mark.parametrize('kernel', [denominators.efficient, denominators.flash])
def test_fused_attention_takes_these_arguments(kernel):
    form = denominators.attention(kernel, torch.bfloat16)
    with FakeTensorMode():
        queries, keys = (torch.ones(n, 16, device='cuda') for n in (64, 256))
        lse, gradient = form(queries, keys)
    assert lse.shape == (64,) and gradient.shape == (64, 16)
    assert {lse.dtype, gradient.dtype} == {torch.float32} and lse.device.type == 'cuda'


def test_attention_whose_values_are_the_keys_gives_value_and_gradient(monkeypatch):
    pytest.importorskip('torch.nn.attention.flex_attention', exc_type=ImportError)
    monkeypatch.setattr(torch, 'compile', lambda function, **kwargs: function)
    queries, keys = (torch.nn.functional.normalize(torch.randn(n, 16), dim=1) for n in (64, 256))
    expected = denominators.in_double(queries, keys)
    for form in (
        denominators.attention(denominators.flex(), torch.float32),
        denominators.attention(denominators.flash_of_cpu, torch.float32),
        denominators.by_autograd(denominators.tiles),
        denominators.by_autograd(denominators.matrix),
    ):
        for found, exact in zip(form(queries, keys), expected):
            torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


def test_a_batch_has_the_geometry_of_crops():
    batch = cases.batch_of(4, 40, 'cpu', per_region=2, resolution=14)
    for view in batch.values():
        assert view.pixels.shape == (4, 40, 40, 3) and view.points.shape == (4, 32, 2)
        cells = (view.points * 14).long()
        read = view.region_map[torch.arange(4)[:, None], cells[..., 1], cells[..., 0]]
        assert torch.equal(read, view.regions)
    assert torch.equal(batch['query'].image_ids, batch['key'].image_ids)
    assert not torch.equal(batch['query'].affine, batch['key'].affine)


def test_packed_photographs_are_read(tmp_path, image_folder, capsys):
    pack.main([str(image_folder), str(tmp_path / 'p.tar'), '--side', '64', '--limit', '0.05'])
    assert (tmp_path / 'p.tar').stat().st_size <= 50_000
    assert '6 photographs, long side 64' in capsys.readouterr().out
    with tarfile.open(tmp_path / 'p.tar') as tar:
        tar.extractall(tmp_path / 'out', filter='data')
    data = ImageFolder(str(tmp_path / 'out'), pipeline=[lambda r: r['img_path']], test_mode=True)
    assert len(data) == 6 and max(Image.open(data[0]).size) == 64
    with pytest.raises(SystemExit, match='do not fit into'):
        pack.main([str(image_folder), str(tmp_path / 'q.tar'), '--limit', '0.001'])
    assert not (tmp_path / 'q.tar').exists()


def test_packed_masks_are_read(tmp_path, photo):
    voc = tmp_path / 'VOC2012'
    for folder in ('JPEGImages', 'SegmentationClass', 'ImageSets/Segmentation'):
        (voc / folder).mkdir(parents=True)
    labels = np.zeros(photo.shape[:2], np.uint8)
    labels[:40, :50], labels[60:, :] = 3, 255
    for name, split in (('a', 'train'), ('b', 'val')):
        Image.fromarray(photo).save(voc / 'JPEGImages' / f'{name}.jpg')
        mask = Image.fromarray(labels, 'P')
        mask.putpalette(list(range(256)) * 3)
        mask.save(voc / 'SegmentationClass' / f'{name}.png')
        (voc / 'ImageSets/Segmentation' / f'{split}.txt').write_text(f'{name}\n')
    pack.main([str(voc), str(tmp_path / 'v.tar'), '--voc', '--side', '60', '--limit', '0.1'])
    with tarfile.open(tmp_path / 'v.tar') as tar:
        tar.extractall(tmp_path / 'out', filter='data')
    sample = VOCMasks(str(tmp_path / 'out'), 'val')[0]
    assert max(sample.image.shape) == 60 and sample.semantic.shape == sample.image.shape[:2]
    assert set(np.unique(sample.semantic)) == {-1, 0, 3}


def test_wheels_take_the_tested_versions(tmp_path, monkeypatch):
    assert wheels.pinned('onedl-mmengine').startswith('onedl-mmengine==')
    assert wheels.pinned('nothing') == 'nothing'
    assert set(wheels.USUAL) <= set(wheels.NEEDED.values())
    asked = []

    def run(arguments, **kwargs):
        asked.append(arguments)
        return subprocess.CompletedProcess(arguments, 1, '', 'ERROR: No matching distribution')

    monkeypatch.setattr(wheels.subprocess, 'run', run)
    with pytest.raises(SystemExit, match=r'addict.* for Python 3\.12: ERROR: No matching'):
        wheels.main(['addict', '--python', '3.12', '--out', str(tmp_path)])
    assert '--python-version=3.12' in asked[0] and '--no-deps' in asked[0]
