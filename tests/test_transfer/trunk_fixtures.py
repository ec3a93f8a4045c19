"""Fixtures: a trunk and a checkpoint that holds it (conftest.py is the name of another module)."""
import pytest
import torch
import torchvision


@pytest.fixture(scope='session')
def trunk18():
    """A ResNet-18 trunk in which no tensor equals another or its initial value."""
    generator = torch.Generator().manual_seed(3)
    model = torchvision.models.resnet18()
    state = {key: value for key, value in model.state_dict().items() if not key.startswith('fc.')}
    return {
        key: torch.rand(value.shape, generator=generator) * 0.1 + ('var' in key) +
        (0.5 if 'bn' in key and 'weight' in key else 0) if value.is_floating_point() else value + 7
        for key, value in state.items()
    }


@pytest.fixture
def plrc_checkpoint(tmp_path, trunk18):
    """The trunk as pre-training saves it, with a momentum twin that differs."""
    state = {f'backbone.{key}': value for key, value in trunk18.items()}
    state.update({f'momentum_backbone.{key}': value + 1 for key, value in trunk18.items()})
    state.update({'projector.0.weight': torch.ones(2, 2), 'queue.bank': torch.ones(4, 2)})
    path = tmp_path / 'plrc.pth'
    torch.save(dict(meta=dict(epoch=1), state_dict=state), path)
    return path
