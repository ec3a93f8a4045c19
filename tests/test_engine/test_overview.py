"""What a run says before its first iteration and after its last."""

from types import SimpleNamespace

import pytest
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn

from plrc_plugin.engine.overview import first_screen, last_screen


class Loader:
    dataset, batch_size, num_workers = range(40), 8, 3

    def __len__(self):
        return 5


def runner_of(loop, tmp_path, hooks=(), **more):
    model = nn.Linear(2, 2)
    model.queue = SimpleNamespace(bank=range(16))
    known = dict(
        train_loop=object.__new__(loop),
        train_dataloader=Loader(),
        model=model,
        hooks=list(hooks),
        cfg={},
        iter=0,
        epoch=0,
        max_iters=30,
        max_epochs=6,
        work_dir=str(tmp_path),
        log_dir=str(tmp_path / 'log'),
        message_hub=MessageHub(str(tmp_path)),
    )
    return SimpleNamespace(**{**known, **more})


def test_how_much_there_is_to_do_with_what_and_where_it_goes(tmp_path):
    said = first_screen(runner_of(EpochBasedTrainLoop, tmp_path))
    for line in (
        'Linear begins',
        'images      40',
        'batch       8\n',
        'length      6 epochs of 5 iterations: 30 iterations',
        'queue       16 keys',
        'device      cpu, 3 loader workers per process',
        'checkpoints none: there is no checkpoint hook',
        f'log         {tmp_path / "log"}',
    ):
        assert line in said
    assert 'goes on' not in said


def test_of_a_run_that_counts_iterations_and_goes_on(tmp_path):
    said = first_screen(runner_of(IterBasedTrainLoop, tmp_path, iter=12, epoch=2))
    assert 'length      30 iterations' in said
    assert 'goes on     from iteration 12 (epoch 3); 18 are left' in said


@pytest.mark.parametrize(
    'options, rhythm',
    [
        (dict(interval=2, max_keep_ckpts=3), 'every 2 epochs, the last 3 are kept, in '),
        (dict(interval=1, by_epoch=False), 'every iteration, in '),
        (dict(interval=-1), 'after the last epoch, in '),
        (dict(interval=-1, save_last=False), 'never, in '),
    ],
)
def test_when_checkpoints_are_written(options, rhythm, tmp_path):
    said = first_screen(runner_of(EpochBasedTrainLoop, tmp_path, [CheckpointHook(**options)]))
    assert f'checkpoints {rhythm}{tmp_path}\n' in said


def test_the_last_screen_names_what_was_made_and_what_to_type_next(tmp_path):
    runner = runner_of(EpochBasedTrainLoop, tmp_path, iter=30, epoch=6)
    assert last_screen(runner, 3725.0, 30) == (
        'finished: epoch 6, iteration 30; 30 iterations in 01:02:05'
    )
    (tmp_path / 'last_checkpoint').write_text('/w/epoch_6.pth')
    runner.message_hub.update_info('best_ckpt', '/w/best.pth')
    runner.model.backbone = runner.model.momentum_backbone = nn.Linear(1, 1)
    said = last_screen(runner, 200000.0, 30)
    assert '2.3 days' in said
    assert 'checkpoint  /w/epoch_6.pth' in said and 'best        /w/best.pth' in said
    assert 'export_checkpoint /w/epoch_6.pth trunk.pth --to mmdet' in said
    assert 'pretrained=/w/epoch_6.pth' in said
