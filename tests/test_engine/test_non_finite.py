"""A loss that is not finite stops the run, names the images and leaves what replays the step."""

import pytest
import torch
from mmengine.hooks import Hook
from runs import SERVER, make_images, run_processes, tiny_config, train

from plrc_plugin.checkpoints.safe_reading import load_tensors
from plrc_plugin.checkpoints.work_dir import newest_intact_checkpoint
from plrc_plugin.engine.non_finite import NonFiniteLossError, replay
from plrc_plugin.registry import HOOKS


@HOOKS.register_module(force=True)
class PoisonHook(Hook):
    """Spoils the third batch of a rank (or another), the weights before it or its gradients."""

    def __init__(self, what, rank=0, iteration=2):
        self.what, self.rank, self.iteration = what, rank, iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if (runner.iter, runner.rank) != (self.iteration, self.rank):
            return
        if self.what == 'gradient':
            runner.model.projector[0].weight.register_hook(lambda gradient: gradient * torch.inf)
            return
        if self.what == 'batch':
            data_batch['query']['affine'][1] = float('nan')
        else:
            model = getattr(runner.model, 'module', runner.model)
            model.projector[0].weight.data[0] = float('inf')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return make_images(tmp_path_factory.mktemp('data') / 'images')


def config(images, work_dir, what, rank=0, iteration=2, **options):
    cfg = tiny_config(
        images,
        work_dir,
        **{'model.warmup_epochs': 0, 'default_hooks.checkpoint.by_epoch': False, **options},
    )
    cfg.experiment_name = str(work_dir)
    cfg.custom_hooks.append(dict(type='PoisonHook', what=what, rank=rank, iteration=iteration))
    return cfg


def test_run_stops_names_the_images_and_leaves_a_dump(images, tmp_path):
    with pytest.raises(NonFiniteLossError) as caught:
        cfg = config(images, tmp_path, 'batch')
        train(cfg)
    message = str(caught.value)
    assert 'loss and l_a not finite at iteration 3 (epoch 1)' in message
    assert 'The weights were finite.' in message
    # Neither the weights nor the checkpoints have met the loss.
    kept = torch.load(newest_intact_checkpoint(str(tmp_path)), weights_only=False)
    dump = torch.load(tmp_path / 'non_finite_iter_3_rank_0.pt', weights_only=True)
    assert kept['meta']['iter'] == dump['iteration'] == 2
    for name, value in kept['state_dict'].items():
        if name.startswith('backbone') and 'running' not in name and 'num_' not in name:
            assert torch.equal(value, dump['state_dict'][name])
    assert all(path in message for path in dump['batch']['paths'])
    losses = replay(str(tmp_path / 'non_finite_iter_3_rank_0.pt'), cfg)
    assert losses['l_a'].isnan()
    assert {name: float(losses[name].detach()) for name in ('l_m', 'l_c', 'std')}.items() <= (
        dump['losses'].items()
    )


@pytest.mark.stack
@pytest.mark.parametrize(
    'wrapper',
    [{}, {'optim_wrapper.type': 'plrc_plugin.MixedPrecisionOptimWrapper'}],
    ids=['float32', 'bfloat16'],
)
def test_replay_in_a_fresh_process_after_the_warm_up(wrapper, images, tmp_path):
    cfg = config(images, tmp_path, 'batch', iteration=5, **{'model.warmup_epochs': 1, **wrapper})
    with pytest.raises(NonFiniteLossError):
        train(cfg)
    dump = str(tmp_path / 'non_finite_iter_6_rank_0.pt')
    cfg.dump(str(tmp_path / 'config.py'))
    child = SERVER.Process(
        target=write_replay, args=(dump, str(tmp_path / 'config.py'), tmp_path / 'losses.pt')
    )
    child.start()
    child.join(300)
    losses = torch.load(tmp_path / 'losses.pt')
    expected = load_tensors(dump)['losses']
    assert set(losses) == set(expected) and losses['l_a'].isnan()
    for name in ('l_m', 'l_c', 'std', 'top1'):
        assert losses[name].item() == expected[name]


def write_replay(dump, config, out):
    torch.set_num_threads(1)
    torch.save({name: value.detach() for name, value in replay(dump, config).items()}, out)


def test_replay_runs_nothing_of_the_dump(images, tmp_path):
    cfg = config(images, tmp_path, 'batch')
    with pytest.raises(NonFiniteLossError):
        train(cfg)
    path = tmp_path / 'non_finite_iter_3_rank_0.pt'
    dump = torch.load(path, weights_only=True)
    dump['model'] = f'open({str(tmp_path / "ran")!r}, "w")\n'
    torch.save(dump, path)
    assert replay(str(path), cfg)['l_a'].isnan()
    assert not (tmp_path / 'ran').exists()


def test_what_is_known_is_logged_though_the_dump_cannot_be_written(images, tmp_path, monkeypatch):
    save = torch.save

    def full(step, file):
        if 'non_finite' not in str(file):
            return save(step, file)
        open(file, 'wb').close()
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full)
    with pytest.raises(NonFiniteLossError, match='cannot be kept .*No space left') as caught:
        train(config(images, tmp_path, 'batch'))
    log = next(tmp_path.rglob('*.log')).read_text()
    for text in (str(caught.value), log):
        assert 'not finite at iteration 3 (epoch 1)' in text
        assert text.count(f'  {images}/') >= 4  # the batch
    assert not list(tmp_path.glob('non_finite*'))


def test_weights_that_are_not_finite_reach_no_checkpoint(images, tmp_path):
    cfg = config(
        images, tmp_path, 'gradient', iteration=1, **{'default_hooks.checkpoint.interval': 1}
    )
    with pytest.raises(FloatingPointError, match='not finite after iteration 2, first projector.0'):
        train(cfg)
    assert newest_intact_checkpoint(str(tmp_path)) == str(tmp_path / 'iter_1.pth')


def test_weights_that_were_spoilt_before_are_named(images, tmp_path):
    with pytest.raises(NonFiniteLossError, match='not finite before, first projector.0.weight'):
        train(config(images, tmp_path, 'weights'))


def test_all_processes_stop(images, tmp_path):
    cfg = config(images, tmp_path, 'batch', rank=1)
    cfg.custom_imports.imports.append('test_non_finite')  # children register the hook
    errors = run_processes(cfg, 2)
    assert all('NonFiniteLossError' in error and 'iteration 3' in error for error in errors)
    assert {p.name for p in tmp_path.glob('*.pt')} == {
        f'non_finite_iter_3_rank_{r}.pt' for r in range(2)
    }
