"""Where quality turns down while the loss still falls."""

import json

import pytest
from conftest import ROOT
from mmengine.config import Config

from plrc_plugin.visualization.report import write_report
from plrc_plugin.visualization.turning_point import turning_point, turning_points

FALLING = [(i, 8 - i / 100) for i in range(0, 501, 10)]


def curve(*values):
    return [(100 * (i + 1), value) for i, value in enumerate(values)]


def test_the_best_validation_before_a_fall_is_found():
    point = turning_point('dse/score', curve(1, 3, 2.5, 2, 1.5), FALLING)
    assert (point.step, point.best, point.last) == (200, 3, 1.5)
    assert point.loss_then == pytest.approx(6) and point.loss_last == pytest.approx(3.05)
    assert 'best at iteration 200 (3) and fell to 1.5' in point.sentence()
    assert "save_best='dse/score'" in point.sentence()


@pytest.mark.parametrize(
    'quality, loss',
    [
        (curve(1, 2, 3, 4), FALLING),  # it rises to the end
        (curve(1, 2, 4, 3), FALLING),  # one worse validation may be noise
        (curve(4, 3), FALLING),
        (curve(1, 3, 2, 3), FALLING),  # it comes back
        (curve(1, 3, 2, 1), [(i, 5.0) for i in range(0, 401, 10)]),  # the loss stands still
        (curve(1, 3, 2, 1), [(i, i / 100) for i in range(0, 401, 10)]),  # and so both get worse
        (curve(1, 3, 2, 1), []),
        ([], FALLING),
    ],
)
def test_where_the_two_do_not_part_nothing_is_said(quality, loss):
    assert turning_point('dse/score', quality, loss) is None


def test_noise_of_single_lines_of_the_log_has_little_say():
    noisy = [(s, v + (0.05 if s % 20 else -0.05)) for s, v in FALLING]
    assert turning_point('dse/score', curve(1, 3, 2, 1), noisy).loss_then > 5.5


def test_of_what_a_run_logs_the_known_qualities_are_looked_at():
    metrics = {
        'dse/score': curve(1, 3, 2, 1),
        'affinity/auc': curve(1, 3, 2, 1),
        'knn_seg/mIoU': curve(1, 2, 3, 4),
        'linear_seg/mIoU': curve(9, 8, 7, 6),
    }
    found = turning_points(metrics, FALLING)
    assert [(p.metric, p.step) for p in found] == [('linear_seg/mIoU', 100), ('dse/score', 200)]


def test_the_report_says_it_in_one_sentence(tmp_path):
    data = tmp_path / 'run' / '20260101_000000' / 'vis_data'
    data.mkdir(parents=True)
    lines = [dict(loss=8 - s / 10, time=1.0, epoch=1 + s // 10, step=s) for s in range(1, 51)]
    scores = [dict(step=epoch, **{'dse/score': v}) for epoch, v in enumerate((1, 3, 2, 1), 1)]
    (data / 'scalars.json').write_text('\n'.join(map(json.dumps, [*lines, *scores])))
    cfg = Config.fromfile(ROOT / 'configs/mocov2_in1k.py')
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'none')
    cfg.dump(data / 'config.py')
    write_report(tmp_path / 'report.html', [tmp_path / 'run'])
    page = (tmp_path / 'report.html').read_text()
    assert page.count('dse/score was best at iteration 19 (3) and fell to 1') == 1
