import argparse
import os
import subprocess

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

from plrc_plugin.checkpoints.safe_reading import load_tensors
from plrc_plugin.checkpoints.trunk import read_trunk

pytestmark = pytest.mark.stack

FORMATS = {  # container, prefix, heads under the same prefix, something else
    'plrc': ('state_dict', 'backbone.', (), 'queue.bank'),
    'authors': (
        'state_dict',
        'module.encoder_q.enc.',
        ('fcs.0.weight', 'fcs_2.mlp.0.weight'),
        'module.encoder_k.enc.conv1.weight',
    ),
    'moco': ('state_dict', 'module.encoder_q.', ('fc.0.weight',), 'module.encoder_k.conv1.weight'),
    'densecl': ('state_dict', 'encoder_q.0.', (), 'encoder_q.1.mlp.0.weight'),
    'pixpro': ('model', 'module.encoder.', (), 'module.encoder_k.conv1.weight'),
    'torchvision': (None, '', ('fc.weight',), None),
    'compiled': ('state_dict', 'module._orig_mod.backbone.', (), 'queue.bank'),
}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize('name', FORMATS)
def test_reads_every_format(name, trunk18, tmp_path):
    container, prefix, heads, other = FORMATS[name]
    state = {prefix + key: value for key, value in trunk18.items()}
    state.update({prefix + head: torch.ones(3) for head in heads})
    if other:
        state[other] = torch.zeros(3)
    path = tmp_path / 'checkpoint.pth.tar'
    torch.save(
        {container: state, 'epoch': 200, 'opt': argparse.Namespace(lr=1)} if container else state,
        path,
    )
    trunk, found = read_trunk(path)
    assert same(trunk, trunk18)
    assert found == prefix.replace('module.', '').replace('_orig_mod.', '')


def test_reads_the_format_of_before_torch_1_6(trunk18, tmp_path):
    path = tmp_path / 'old.pth'
    torch.save(dict(state_dict=trunk18), path, _use_new_zipfile_serialization=False)
    assert same(read_trunk(path)[0], trunk18)


def test_reads_the_branch_asked_for(plrc_checkpoint, trunk18):
    trunk, _ = read_trunk(plrc_checkpoint, 'momentum_backbone.')
    assert torch.equal(trunk['conv1.weight'], trunk18['conv1.weight'] + 1)
    with pytest.raises(ValueError, match="no trunk under 'nothing.': its tensors begin with"):
        read_trunk(plrc_checkpoint, 'nothing.')


class Tiny(BaseModel):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Linear(2, 2)

    def forward(self, x, mode):
        return dict(loss=self.backbone(x).sum())


def test_reads_what_a_real_runner_saves(tmp_path):
    data = dict(
        dataset=[torch.ones(2)] * 4,
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=lambda items: dict(x=torch.stack(items)),
    )
    runner = Runner(
        Tiny(),
        str(tmp_path),
        train_dataloader=data,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1.0)),
        experiment_name='tiny',
    )
    runner.train()
    checkpoint = load_tensors(tmp_path / 'epoch_1.pth')
    assert checkpoint['message_hub']['log_scalars']  # objects, which are not built
    trunk, _ = read_trunk(tmp_path / 'epoch_1.pth')
    assert same(trunk, dict(runner.model.backbone.state_dict()))


class Evil:
    def __init__(self, call, path):
        self.call, self.path = call, path

    def __reduce__(self):
        return self.call, (f'touch {self.path}',)


@pytest.mark.parametrize('call', [os.system, subprocess.getoutput, eval])
def test_runs_nothing_of_a_checkpoint(call, tmp_path):
    touched = tmp_path / 'touched'
    path = tmp_path / 'evil.pth'
    torch.save({'conv1.weight': torch.ones(1), 'evil': Evil(call, touched)}, path)
    try:
        assert load_tensors(path)['conv1.weight'] == 1
    except ValueError as error:
        assert 'could run any code' in str(error)
    assert not touched.exists()


def test_what_is_no_checkpoint_is_refused_by_name(plrc_checkpoint, tmp_path):
    whole = plrc_checkpoint.read_bytes()
    for name, content in {
        'cut.pth': whole[: len(whole) // 2],
        'empty.pth': b'',
        'text.pth': b'hello',
        'text.safetensors': b'hello',
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_tensors(tmp_path / name)
    torch.save(torch.ones(2), tmp_path / 'tensor.pth')
    with pytest.raises(ValueError, match='tensor.pth holds a Tensor'):
        load_tensors(tmp_path / 'tensor.pth')
