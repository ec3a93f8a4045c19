"""model-index.yml names configs that are there, and gives every number as the paper's."""

import re

import pytest
import yaml
from conftest import ROOT
from mmengine.config import Config

INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())


def test_configs_and_pages_are_there():
    assert [model['Name'] for model in INDEX['Models']] == ['plrc_in1k', 'plrc_coco']
    for model in INDEX['Models']:
        cfg = Config.fromfile(ROOT / model['Config'])
        assert cfg.train_cfg.max_epochs == model['Metadata']['Epochs']
        assert cfg.auto_scale_lr.base_batch_size == model['Metadata']['Batch Size']
        assert model['In Collection'] == INDEX['Collections'][0]['Name']
        assert 'Weights' not in model  # there are none
    assert (ROOT / INDEX['Collections'][0]['README']).is_file()


def test_every_number_is_the_papers_and_says_so():
    for model in INDEX['Models']:
        published = (ROOT / model['Config']).read_text().split('Cost:')[0]
        numbers = re.findall(r'\b\d+\.\d\b', published)
        metrics = [item for result in model['Results'] for item in result['Metrics'].items()]
        assert [f'{value:.1f}' for _, value in metrics] == numbers
        assert all(name.endswith(' (paper)') for name, _ in metrics)


def test_the_library_of_openmmlab_reads_it():
    modelindex = pytest.importorskip('modelindex.load_model_index', reason='it comes with mim')
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    assert [model.name for model in index.models] == ['plrc_in1k', 'plrc_coco']
    assert index.models[0].results[0].metrics['AP (paper)'] == 59.4
