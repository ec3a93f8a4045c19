"""Parts are done once, go on after a kill, and keep the budget. A script stands for train.py."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from plrc_plugin.errors import SettingsError
from plrc_plugin.worth import parts as module
from plrc_plugin.worth.ledger import FINETUNED, FROZEN, PRETRAIN, Ledger, Part
from plrc_plugin.worth.methods import chosen_methods
from plrc_plugin.worth.parts import Setting, all_parts, do_parts
from plrc_plugin.worth.planning import Plan

TRAIN = """
import json, os, pathlib, sys, time
args = sys.argv[1:]
options = dict(x.split('=', 1) for x in args[args.index('--cfg-options') + 1:])
work = pathlib.Path(args[args.index('--work-dir') + 1])
with open(work / 'calls', 'a') as calls:
    calls.write('x')
time.sleep(float(os.environ.get('SLOW', 0)))
if 'pretrained' not in options:
    (work / 'last_checkpoint').write_text(str(work / 'epoch_1.pth'))
    sys.exit()
if os.environ.get('FAIL'):
    sys.exit('this run fails')
(work / 'iter_20.pth').write_text('a detector')
log = work / '2026' / 'vis_data' / 'scalars.json'
log.parent.mkdir(parents=True)
value = (0.2 if 'plrc' in options['pretrained'] else 0.1) + int(options['randomness.seed']) / 100
log.write_text(json.dumps({'coco/bbox_mAP': value, 'step': 20}))
"""
PLAN = Plan(epochs=1, iterations=20, seconds=dict(plrc=100, mocov2=100, finetuned=10, frozen=1))


@pytest.fixture
def setting(tmp_path, monkeypatch):
    (tmp_path / 'train.py').write_text(TRAIN)
    monkeypatch.setattr(module, 'shipped', lambda *names: tmp_path / 'train.py')
    configs = {name: tmp_path / f'{name}.py' for name in ('plrc', 'mocov2', FINETUNED)}
    for path in configs.values():
        path.write_text(f'name = {path.stem!r}')
    (tmp_path / 'out').mkdir()
    return Setting(
        tmp_path / 'out', 'start.pth', {}, 'boxes', [10, 100], configs, None, 1, hours=10
    )


def calls(setting):
    return {
        str(path.parent.relative_to(setting.out)): path.read_text()
        for path in setting.out.rglob('calls')
    }


def do(setting, parts, plan=PLAN):
    reports = []
    ledger = Ledger(setting.out)
    left_out = do_parts(
        setting,
        plan,
        parts,
        ledger,
        lambda done, left: reports.append(len(done)),
        lambda line: None,
    )
    return left_out, reports


def test_everything_is_done_once_in_an_order_that_can_be_compared_early(setting):
    parts = all_parts(['plrc', 'mocov2'], [0, 1], [10, 100], [FINETUNED])
    names = [part.name for part in parts]
    assert names.index('finetuned-mocov2-10-seed0') < names.index('pretrain-plrc-seed1')
    left_out, reports = do(setting, parts)
    assert not left_out and reports == list(range(1, 17))
    assert len(calls(setting)) == 16 and set(calls(setting).values()) == {'x'}
    ledger = Ledger(setting.out)
    values = {p: ledger.result(p).numbers for p in parts if p.kind == FINETUNED}
    assert values[Part(FINETUNED, 'plrc', 1, 10)] == {'box AP': pytest.approx(21)}
    assert values[Part(FINETUNED, 'start', 0, 100)] == {'box AP': pytest.approx(10)}
    # detectors of all labels stay
    assert {p.parts[-3] for p in setting.out.rglob('iter_20.pth')} == {'100'}
    # more seeds and methods do what is missing, and nothing twice
    assert do(setting, all_parts(['plrc', 'mocov2'], [0, 1, 2], [10, 100], [FINETUNED]))[1][0] == 17
    assert len(calls(setting)) == 24 and set(calls(setting).values()) == {'x'}


def test_the_budget_is_kept_and_more_hours_go_on(setting):
    parts = all_parts(['plrc', 'mocov2'], [0, 1], [10, 100], [FINETUNED])
    plan = PLAN._replace(seconds=dict(PLAN.seconds, mocov2=1e9))
    left_out, _ = do(setting._replace(hours=1), parts, plan)
    assert {p.method for p in left_out} == {'mocov2'}  # what needs its checkpoint is left out too
    assert len(left_out) == 6 and len(calls(setting)) == 10
    left_out, _ = do(setting, parts)
    assert not left_out and len(calls(setting)) == 16


def test_estimates_follow_what_was_measured(setting, monkeypatch):
    monkeypatch.setenv('SLOW', '0.5')
    plan = PLAN._replace(seconds=dict(PLAN.seconds, plrc=0.01, finetuned=0.001))
    parts = all_parts(['plrc'], [0, 1], [100], [FINETUNED])
    left_out, _ = do(setting._replace(hours=2.2 / 3600), parts, plan)
    assert left_out and left_out[-1].seed == 1  # by the plan all of it would have fitted


def test_a_killed_part_goes_on_and_its_time_counts(setting):
    script = f"""
import sys, pathlib
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests/test_worth')!r}]
from plrc_plugin.worth import parts
from plrc_plugin.worth.ledger import Ledger
from plrc_plugin.worth.parts import Setting, all_parts, do_parts
from plrc_plugin.worth.planning import Plan
from pathlib import Path
out = Path({str(setting.out)!r})
parts.shipped = lambda *names: out.parent / 'train.py'
configs = {{n: out.parent / f'{{n}}.py' for n in ('plrc', 'finetuned')}}
setting = Setting(out, 'start.pth', {{}}, 'boxes', [100], configs, None, 1, hours=10)
todo = all_parts(['plrc'], [0], [100], ['finetuned'])
do_parts(setting, Plan(1, 20, dict(plrc=1, finetuned=1)), todo, Ledger(out), lambda *a: None)
"""
    child = subprocess.Popen(
        [sys.executable, '-c', script], env={**os.environ, 'SLOW': '30'}, stdout=subprocess.DEVNULL
    )
    begun = setting.out / 'pretrain/plrc/seed0/calls'
    deadline = time.monotonic() + 200
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    child.send_signal(signal.SIGKILL)
    child.wait()
    running = json.loads((setting.out / 'results/running.json').read_text())
    os.utime(running['output'], (running['begun'] + 7,) * 2)  # when it wrote for the last time
    ledger = Ledger(setting.out)
    assert ledger.seconds() == pytest.approx(7, abs=0.1)
    do(setting, all_parts(['plrc'], [0], [100], [FINETUNED]))
    assert calls(setting)['pretrain/plrc/seed0'] == 'xx'
    assert Ledger(setting.out).result(Part(PRETRAIN, 'plrc', 0)).seconds > 7


@pytest.mark.skipif(sys.platform != 'linux', reason='the kernel of Linux ends the children')
def test_no_run_outlives_the_command(tmp_path):
    script = (
        'import sys; sys.path[:0] = [sys.argv[2]]\n'
        'from pathlib import Path\n'
        'from plrc_plugin.worth.runs import run_command\n'
        "child = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
        "run_command([sys.executable, '-c', child], Path(sys.argv[1]))"
    )
    parent = subprocess.Popen([sys.executable, '-c', script, str(tmp_path), str(ROOT)])
    output = tmp_path / 'output.txt'
    deadline = time.monotonic() + 200
    while (
        not (output.exists() and output.read_text().count('\n') > 1) and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    child = int(output.read_text().splitlines()[-1])
    parent.kill()
    parent.wait()
    while os.path.exists(f'/proc/{child}') and time.monotonic() < deadline:
        with open(f'/proc/{child}/stat') as file:
            if file.read().rpartition(')')[2].split()[0] == 'Z':
                break
        time.sleep(0.1)
    else:
        assert not os.path.exists(f'/proc/{child}')


def test_a_run_that_fails_is_one_error_and_is_done_again(setting, monkeypatch):
    parts = all_parts(['plrc'], [0], [100], [FINETUNED])
    monkeypatch.setenv('FAIL', '1')
    with pytest.raises(SettingsError, match='(?s)output.txt.*this run fails'):
        do(setting, parts)
    monkeypatch.delenv('FAIL')
    assert do(setting, parts)[0] == []


def test_probes_of_a_new_fraction_are_made_though_others_are_there(setting, monkeypatch):
    asked = []

    def probe(setting, part):
        asked.append(part)
        return {f'{p:g}': {'linear mIoU': p} for p in setting.percents}

    monkeypatch.setitem(module._WORK, FROZEN, probe)
    parts = all_parts([], [0], [10, 100], [FROZEN])
    for percents in ([100], [100], [10, 100]):
        do(setting._replace(percents=percents), parts)
    assert len(asked) == 2


@pytest.mark.parametrize(
    'given, message',
    [
        (['plrc', 'byol'], "there is no 'byol'"),
        (['mine=none.py'], 'there is no config none.py'),
        (['plrc', 'plrc'], 'two methods are called plrc'),
    ],
)
def test_methods_that_cannot_be(given, message):
    with pytest.raises(SettingsError, match=message):
        chosen_methods(given)


def test_the_start_may_be_named_and_a_config_of_ones_own_too(tmp_path):
    (tmp_path / 'mine.py').touch()
    assert list(chosen_methods(['start', 'region', f'mine={tmp_path}/mine.py'])) == [
        'region',
        'mine',
    ]
