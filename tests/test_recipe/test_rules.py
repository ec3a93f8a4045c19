"""What each rule gives at five sizes, and the paper's values at the sizes of the paper."""

import pytest

from plrc_plugin.errors import SettingsError
from plrc_plugin.recipe import rules
from plrc_plugin.recipe.rules import COCO, IMAGENET, Facts

SIZES = (100, 5_000, 118_287, 1_281_167, 100_000_000)


def table(gpu: bool = True, processes: int = 8, weights: bool = False, side: int = 375):
    """{images: every value}, each rule given what those before it gave."""
    found = {}
    for images in SIZES:
        facts = Facts(images, side, processes, gpu, cores=8, memory=16.0, weights=weights)
        size = rules.view_size(facts).value
        batch = rules.batch_size(facts, size).value
        per_epoch = rules.iterations_per_epoch(images, processes, batch)
        epochs = rules.epochs(facts, per_epoch).value
        steps = epochs * per_epoch
        found[images] = dict(
            size=size,
            resolution=rules.resolution(size).value,
            points=rules.points_per_region(size).value,
            batch=batch,
            epochs=epochs,
            steps=steps,
            queue=rules.queue_size(images, steps * batch * processes).value,
            momentum=rules.momentum(steps).value,
            warmup=rules.warmup_epochs(epochs, weights).value,
            lr=rules.learning_rate(batch * processes, weights).value,
            lr_warmup=rules.lr_warmup(steps, weights).value,
            checkpoints=rules.checkpoint_interval(epochs, per_epoch, gpu).value,
            log=rules.log_interval(steps, gpu).value,
        )
    return found


EXPECTED = {
    # On eight GPUs from random weights; the third and the fourth row are the paper's settings.
    'scratch': dict(
        size=(224, 224, 224, 224, 224),
        resolution=(56, 56, 56, 56, 56),
        points=(16, 16, 16, 16, 16),
        batch=(2, 32, 32, 32, 32),
        epochs=(800, 800, 800, 200, 3),
        queue=(64, 2048, 65536, 65536, 65536),
        momentum=(0.9958, 0.9987, 0.999, 0.999, 0.999),
        warmup=(30, 30, 30, 30, 1),
        lr=(0.001875, 0.03, 0.03, 0.03, 0.03),
        lr_warmup=(0, 0, 0, 0, 0),
        checkpoints=(80, 80, 10, 1, 1),
        log=(50, 50, 50, 50, 50),
    ),
    'weights on a processor': dict(
        size=(112, 112, 112, 112, 112),
        resolution=(28, 28, 28, 28, 28),
        points=(8, 8, 8, 8, 8),
        batch=(16, 32, 32, 32, 32),
        epochs=(50, 20, 20, 20, 1),
        queue=(64, 2048, 65536, 65536, 65536),
        momentum=(0.99, 0.9936, 0.999, 0.999, 0.999),
        warmup=(0, 0, 0, 0, 0),
        lr=(0.005, 0.01, 0.01, 0.01, 0.01),
        lr_warmup=(15, 156, 1000, 1000, 1000),
        checkpoints=(5, 1, 1, 1, 1),
        log=(10, 10, 10, 10, 10),
    ),
}


@pytest.mark.parametrize('rule', EXPECTED['scratch'])
@pytest.mark.parametrize('start', EXPECTED)
def test_each_rule_at_each_size(start, rule):
    found = table() if start == 'scratch' else table(gpu=False, processes=1, weights=True)
    assert tuple(values[rule] for values in found.values()) == EXPECTED[start][rule]


def test_the_papers_settings_are_those_of_its_configs(monkeypatch):
    """Read from configs/plrc_in1k.py and plrc_coco.py, whose values were set by hand."""
    from conftest import ROOT
    from mmengine.config import Config

    for name, images in (('plrc_in1k', IMAGENET), ('plrc_coco', COCO)):
        cfg, found = Config.fromfile(ROOT / f'configs/{name}.py'), table()[images]
        views, points = cfg.train_dataloader.dataset.pipeline
        assert found['size'] == views['size']
        assert found['resolution'] == points.resolution
        assert found['points'] == points.points_per_region
        assert found['batch'] == cfg.train_dataloader.batch_size
        assert 8 * found['batch'] == cfg.auto_scale_lr.base_batch_size
        assert found['epochs'] == cfg.train_cfg.max_epochs
        assert found['queue'] == cfg.model.queue_size
        assert found['momentum'] == cfg.model.momentum
        assert found['warmup'] == cfg.model.warmup_epochs
        assert found['lr'] == cfg.optim_wrapper.optimizer.lr
        assert found['lr_warmup'] == 0 and len(cfg.param_scheduler) == 1
        assert found['checkpoints'] == cfg.default_hooks.checkpoint.interval
        assert found['log'] == cfg.default_hooks.logger.interval == cfg.log_processor.window_size
    facts = Facts(IMAGENET, 375, 8, gpu=True, cores=8)
    assert rules.workers(facts).value == cfg.train_dataloader.num_workers


def test_settings_of_the_studies_are_what_the_rules_give_for_them():
    """312 iterations of 32 of 5,000 photographs, and the demo's 12 epochs."""
    assert rules.momentum(312).value == 0.99
    assert rules.momentum(372).value == 0.99
    assert rules.queue_size(5000, 312 * 32).value == 1024
    assert rules.warmup_epochs(12, weights=False).value == 2


@pytest.mark.parametrize('steps', [1, 2, 5, 27, 300, 3_900, 10**6])
def test_the_momentum_encoder_never_averages_over_more_than_a_third_of_a_run(steps):
    momentum = rules.momentum(steps).value
    assert 0.5 <= momentum <= 0.999
    assert 1 / (1 - momentum) <= max(2, steps / 3) * 1.01


@pytest.mark.parametrize('images', [8, 40, 100, 999, 4000, 5000, 20_000, COCO, IMAGENET, 10**8])
@pytest.mark.parametrize('epochs', [1, 2, 50, 800])
def test_a_queue_is_short_enough_for_its_images_and_its_run(images, epochs):
    queue = rules.queue_size(images, images * epochs).value
    assert queue & (queue - 1) == 0 and 16 <= queue <= 65536
    if queue > 16:
        assert queue <= 0.71 * images and queue * 8 <= images * epochs


@pytest.mark.parametrize('images', [7, 3, 1])
def test_too_few_images_are_one_line(images):
    with pytest.raises(SettingsError, match=f'^{images} images are too few: .* at least 8'):
        rules.batch_size(Facts(images), 112)


@pytest.mark.parametrize('side, size', [(32, 64), (63, 64), (64, 64), (100, 96), (200, 192)])
def test_views_of_small_images(side, size):
    value = rules.view_size(Facts(100, side, gpu=True))
    assert value.value == size
    assert ('enlarges' in value.rule) == (side < 64)


def test_batches_fit_the_memory():
    assert rules.batch_size(Facts(5000, memory=2.0), 112).value == 16
    assert rules.batch_size(Facts(5000, memory=0.1), 224).value == 2
    on_gpu = Facts(5000, gpu=True, memory=2.0)
    assert rules.batch_size(on_gpu, 224).value == 256  # the processor's memory does not matter
    fitted = rules.batch_size(on_gpu, 224, fits=64)
    assert fitted.value == 64 and 'measured' in fitted.rule


@pytest.mark.parametrize('budget, epochs', [({'epochs': 7}, 7), ({'images': 1001}, 10)])
def test_budgets_in_epochs_and_images(budget, epochs):
    assert rules.epochs(Facts(100, budget=budget), 6).value == epochs


def test_a_budget_in_hours_pays_for_whole_epochs():
    facts = Facts(100, budget={'hours': 1})
    assert rules.epochs(facts, per_epoch=10, seconds=2.0).value == 180
    assert rules.epochs(facts, per_epoch=10, seconds=359.9).value == 1
    with pytest.raises(SettingsError) as caught:
        rules.epochs(facts, per_epoch=10, seconds=720.0)
    assert '\n' not in str(caught.value)
    least = float(str(caught.value).partition('at least budget.hours=')[2].partition(',')[0])
    assert rules.epochs(Facts(100, budget={'hours': least}), 10, 720.0).value == 1
    assert 'train_dataloader.dataset.indices=50' in str(caught.value)


@pytest.mark.parametrize(
    'budget, message',
    [
        ({'hour': 2}, 'must be one of epochs, hours, images'),
        ({'hours': 2, 'epochs': 3}, 'must be one of'),
        ({'hours': 0}, 'hours must be positive'),
        ({'hours': '2h'}, 'hours must be positive'),
        ({'epochs': 1.5}, 'epochs must be an integer'),
        ({'images': 99}, 'less than one epoch .* at least budget.images=100'),
    ],
)
def test_budgets_that_cannot_be(budget, message):
    with pytest.raises(SettingsError, match=message):
        rules.epochs(Facts(100, budget=budget), 6, 1.0)


def test_a_warm_up_has_at_least_two_iterations_or_none():
    """mmengine's LinearLR of one iteration would keep its first rate to the end."""
    for steps in range(1, 100):
        assert rules.lr_warmup(steps, weights=True).value != 1


def test_machines():
    assert rules.workers(Facts(100, cores=2)).value == 0
    assert rules.workers(Facts(100, cores=16)).value == 4
    assert rules.workers(Facts(100, gpu=True, cores=64)).value == 8
    assert rules.precision(Facts(100)).value is None
    assert rules.precision(Facts(100, half='float16')).value == 'float16'
    shared = Facts(IMAGENET, gpu=True, processes=64)
    assert rules.batch_size(shared, 224).value == 8


def test_what_is_kept_of_the_start():
    assert rules.keep(weights=True).value == dict(norm_eval=True)
    assert rules.keep(weights=False).value is None
