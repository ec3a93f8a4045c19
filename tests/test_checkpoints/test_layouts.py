"""A file of every known layout fills a ResNet tensor by tensor; other files get one line."""

import json
import pickle
import re

import pytest
import torch
import torchvision

from plrc_plugin.checkpoints.input_style import META_KEY
from plrc_plugin.checkpoints.layouts import LAYOUTS, Layout, register_layout
from plrc_plugin.checkpoints.resnet import detectron2_name
from plrc_plugin.checkpoints.trunk import fill_model, find_trunk, read_file, read_trunk
from plrc_plugin.errors import SettingsError
from plrc_plugin.models.backbones import ResNet
from plrc_plugin.registry import MODELS

HEADS = {
    'fc.weight': (3, 3),
    'projection_head.0.weight': (3, 3),
    'prototypes.weight': (3, 3),
    'head.mlp.0.weight': (3, 3),
}


def under(prefix, trunk, **others):
    return {
        **{f'{prefix}{key}': value for key, value in trunk.items()},
        **{key: torch.ones(3, 3) for key in others.values()},
    }


def twin(trunk):
    return {key: value + 1 if value.is_floating_point() else value for key, value in trunk.items()}


def children(trunk):
    """Names of ``nn.Sequential(*list(resnet.children())[:-1])``."""
    numbers = {'conv1': '0', 'bn1': '1', **{f'layer{i}': str(i + 3) for i in range(1, 5)}}
    parts = ((key.partition('.'), value) for key, value in trunk.items())
    return {f'{numbers[root]}.{rest}': value for (root, _, rest), value in parts}


def caffe2(trunk):
    """Detectron's names, of a ResNet-18: two convolutions a block."""
    names = {}
    kinds = dict(weight='s', bias='b', running_mean='rm', running_var='riv')
    for key, value in trunk.items():
        module, _, kind = key.rpartition('.')
        if kind == 'num_batches_tracked':
            continue
        parts = module.split('.')
        if parts[0] in ('conv1', 'bn1'):
            name = 'conv1_w' if parts[0] == 'conv1' else f'res_conv1_bn_{kinds[kind]}'
        else:
            stage, block = int(parts[0][-1]) + 1, parts[1]
            branch = (
                'branch1' if parts[2] == 'downsample' else f'branch2{"ab"[int(parts[2][-1]) - 1]}'
            )
            is_norm = parts[2].startswith('bn') or (parts[-1] == '1' and len(parts) == 4)
            tail = f'_bn_{kinds[kind]}' if is_norm else '_w'
            name = f'res{stage}_{block}_{branch}{tail}'
        names[name] = value
    return names


def hugging_face(trunk):
    """Names of transformers.ResNetModel."""
    kinds = dict(conv='convolution', bn='normalization')
    names = {}
    for key, value in trunk.items():
        *path, module, kind = key.split('.')
        if not path:
            name = f'embedder.embedder.{kinds[module[:-1]]}'
        elif module.isdigit():
            name = f'shortcut.{("convolution", "normalization")[int(module)]}'
        else:
            name = f'layer.{int(module[-1]) - 1}.{kinds[module[:-1]]}'
        if path:
            name = f'encoder.stages.{int(path[0][-1]) - 1}.layers.{path[1]}.{name}'
        names[f'{name}.{kind}'] = value
    return names


def layouts(trunk):
    """Every layout: the content of the file."""
    average = twin(trunk)
    detectron2 = {detectron2_name(key): value for key, value in trunk.items()}
    return {
        'plrc': dict(
            state_dict={**under('backbone.', trunk), **under('momentum_backbone.', average)}
        ),
        'plrc, momentum first': dict(
            state_dict={**under('momentum_backbone.', average), **under('backbone.', trunk)}
        ),
        'moco v2': dict(
            epoch=200,
            state_dict={
                **under('module.encoder_q.', trunk, head='module.encoder_q.fc.0.weight'),
                **under('module.encoder_k.', average),
                'module.queue': torch.ones(4, 8),
            },
            optimizer=dict(state={0: dict(momentum_buffer=torch.ones(3))}),
        ),
        'moco v3': dict(
            state_dict={
                **under('module.base_encoder.', trunk, head='module.base_encoder.fc.0.weight'),
                **under('module.momentum_encoder.', average),
                'module.predictor.0.weight': torch.ones(3, 3),
            }
        ),
        'densecl': dict(
            state_dict={
                **under('encoder_q.0.', trunk, head='encoder_q.1.mlp.0.weight'),
                **under('encoder_k.0.', average),
            }
        ),
        'densecl, extracted': dict(state_dict=trunk, author='DenseCL'),
        'pixpro': dict(
            model={
                **under('module.encoder.', trunk, head='module.projector.linear1.weight'),
                **under('module.encoder_k.', average),
            }
        ),
        'authors of plrc': dict(state_dict=under('module.encoder_q.enc.', trunk)),
        'torchvision': {**trunk, 'fc.weight': torch.ones(3, 3), 'fc.bias': torch.ones(3)},
        'timm, training': dict(state_dict=average, state_dict_ema=trunk, arch='resnet18'),
        'mmdet': dict(
            meta=dict(epoch=12),
            state_dict={**under('backbone.', trunk), 'neck.convs.0.weight': torch.ones(3, 3)},
        ),
        'mmpretrain, teacher': dict(
            state_dict={
                **under('backbone.', trunk, head='neck.fc.weight'),
                **under('target_generator.module.backbone.', average),
            }
        ),
        'detectron2 zoo': dict(model=detectron2, matching_heuristics=True),
        'detectron2 fpn': dict(
            model={
                **under('backbone.bottom_up.', detectron2),
                'backbone.fpn_lateral2.weight': torch.ones(3, 3),
                'roi_heads.box_head.fc1.weight': torch.ones(3, 3),
            }
        ),
        'lightly': dict(
            state_dict={
                **under('backbone.', children(trunk), head='projection_head.layers.0.weight'),
                **under('backbone_momentum.', children(average)),
            }
        ),
        'lightly, torchvision': dict(state_dict=under('backbone.', trunk)),
        'lightly, dino': dict(
            state_dict={
                **under('teacher_backbone.', trunk),
                **under('student_backbone.', average),
            }
        ),
        'lightly-train': dict(
            state_dict={
                **under('student_embedding_model.wrapped_model._model.', trunk),
                'student_projection_head.0.weight': torch.ones(3, 3),
            }
        ),
        'solo-learn': dict(
            state_dict={
                **under('backbone.', trunk, head='projector.0.weight'),
                **under('momentum_backbone.', average),
                'classifier.weight': torch.ones(3, 3),
            }
        ),
        'lightly-train, torchvision': dict(
            state_dict={
                **under('student_embedding_model.wrapped_model._features.', average),
                **under('teacher_embedding_model.wrapped_model._features.', trunk),
                'teacher_projection_head.layers.0.weight': torch.ones(3, 3),
            }
        ),
        'lightly-train, distillation': dict(
            state_dict={
                **under('teacher_embedding_model.wrapped_model._features.', average),
                **under('student_embedding_model.wrapped_model._features.', trunk),
                'student_projection_head.weight': torch.ones(3, 3),
            }
        ),
        'lightly-train, densecl': dict(
            state_dict={
                **under('key_encoder.embedding_model.wrapped_model._features.', average),
                **under('query_encoder.embedding_model.wrapped_model._features.', trunk),
            }
        ),
        'mmselfsup, moco v3': dict(
            state_dict={
                **under('momentum_encoder.module.0.', average),
                **under('base_encoder.0.', trunk, head='base_encoder.1.fc0.weight'),
            }
        ),
        'mmselfsup, byol': dict(
            state_dict={
                **under('target_net.0.', average),
                **under('online_net.0.', trunk, head='online_net.1.fc0.weight'),
            }
        ),
        'mmselfsup, simsiam': dict(
            state_dict=under('encoder.0.', trunk, head='encoder.1.fc0.weight')
        ),
        'hugging face': {**hugging_face(trunk), 'classifier.1.weight': torch.ones(3, 3)},
        'hugging face, classifier': {
            **under('resnet.', hugging_face(trunk)),
            'classifier.1.weight': torch.ones(3, 3),
        },
        'solo-learn, old': dict(state_dict=under('encoder.', trunk, head='projector.0.weight')),
        'swav': under(
            'module.', trunk, head='module.projection_head.0.weight', p='module.prototypes.weight'
        ),
        'dino': dict(
            student=under('module.backbone.', average, head='module.head.mlp.0.weight'),
            teacher=under('backbone.', trunk, head='head.mlp.0.weight'),
            optimizer=dict(state={0: dict(exp_avg=torch.ones(3))}),
        ),
        'vissl': dict(
            classy_state_dict=dict(
                base_model=dict(
                    model=dict(
                        trunk=under('_feature_blocks.', trunk),
                        heads={'0.clf.0.weight': torch.ones(3, 3)},
                    )
                )
            )
        ),
        'vissl, extracted': dict(model_state_dict=under('_feature_blocks.', trunk)),
        'simsiam': dict(
            state_dict=under('module.encoder.', trunk, head='module.encoder.fc.0.weight')
        ),
        'byol': dict(
            state_dict={**under('online_encoder.', trunk), **under('target_encoder.', average)}
        ),
        'compiled': dict(model=under('_orig_mod.', trunk)),
        'compiled inside ddp': dict(state_dict=under('module.backbone._orig_mod.', trunk)),
        'nested twice': dict(state_dict=dict(model=dict(state_dict=trunk))),
        'unheard of': dict(weights=under('my.very.own.', trunk, other='my.thing')),
    }


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.momentum_backbone = ResNet(18), ResNet(18)
        self.projector = torch.nn.Conv2d(512, 8, 1)
        self.momentum_projector = torch.nn.Conv2d(512, 8, 1)


@pytest.fixture(scope='module')
def pair():
    return Pair()


def filled(module, trunk):
    return all(
        torch.equal(value, trunk[key])
        for key, value in module.state_dict().items()
        if 'num_batches' not in key
    )


@pytest.mark.parametrize('name', layouts({}) or ())
def test_fills_both_encoders(name, pair, trunk18, tmp_path):
    torch.save(layouts(trunk18)[name], tmp_path / 'weights.pth')
    lines = fill_model(pair, str(tmp_path / 'weights.pth'))
    assert lines[1:3] == [
        'backbone: 100 of 100 tensors loaded',
        'momentum_backbone: 100 of 100 tensors loaded',
    ]
    assert filled(pair.backbone, trunk18) and filled(pair.momentum_backbone, trunk18)
    assert 'ImageNet' in lines[-1] or 'RGB' in lines[-1]


@pytest.mark.parametrize('name', ['model.safetensors', 'model.bin', '0f3a'])
def test_safetensors_under_any_name(name, pair, trunk18, tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    path = tmp_path / name
    safetensors.save_file(under('backbone.', trunk18), path)
    fill_model(pair, str(path))
    assert filled(pair.backbone, trunk18)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SettingsError, match=f'{name} is damaged'):
        fill_model(pair, str(path))


def test_the_note_in_a_safetensors_file_tells_what_the_trunk_expects(trunk18, tmp_path):
    safetensors = pytest.importorskip('safetensors.torch')
    note = json.dumps(dict(mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0], order='RGB'))
    safetensors.save_file(trunk18, tmp_path / '0f3a', metadata={META_KEY: note})
    style = find_trunk(read_file(str(tmp_path / '0f3a'))).style
    assert style.mean == (1, 2, 3)


def test_detectron2_pickle(pair, trunk18, tmp_path):
    """detectron2's own container: a plain pickle of arrays."""
    content = dict(
        model={detectron2_name(key): value.numpy() for key, value in trunk18.items()},
        __author__='torchvision',
        matching_heuristics=True,
    )
    (tmp_path / 'R-18.pkl').write_bytes(pickle.dumps(content))
    fill_model(pair, str(tmp_path / 'R-18.pkl'))
    assert filled(pair.backbone, trunk18)


def test_caffe2_models_are_recognised_and_their_input_is_refused(pair, trunk18, tmp_path):
    torch.save(dict(model=caffe2(trunk18)), tmp_path / 'weights.pth')
    trunk, _ = read_trunk(str(tmp_path / 'weights.pth'), like=pair.backbone.state_dict())
    assert filled(pair.backbone.__class__(18), trunk) is False
    assert all(torch.equal(trunk[key], trunk18[key]) for key in trunk) and len(trunk) == 100
    pair.data_preprocessor = None
    line = fill_model(pair, str(tmp_path / 'weights.pth'))[-1]
    assert 'BGR, mean [103.53, 116.28, 123.675], std [1, 1, 1]' in line


def test_a_layout_from_outside(pair, trunk18, tmp_path):
    names = {key: f'{i:03}' for i, key in enumerate(trunk18)}
    back = {number: key for key, number in names.items()}
    try:
        register_layout(
            Layout('numbers', r'numbered\.', str.isdigit, lambda key: back.get(key, key))
        )
        state = {f'numbered.{names[key]}': value for key, value in trunk18.items()}
        torch.save(state, tmp_path / 'weights.pth')
        assert 'numbers' in fill_model(pair, str(tmp_path / 'weights.pth'))[0]
        assert filled(pair.backbone, trunk18)
    finally:
        LAYOUTS.pop()


@pytest.mark.parametrize(
    'model, expected',
    [
        ('resnet34', 'ResNet-34 of width 64: model.backbone.depth=34'),
        ('resnet50', 'ResNet-50 of width 64: model.backbone.depth=50'),
        ('convnext_tiny', "TorchvisionTrunk', name='convnext_tiny'"),
        ('squeezenet1_1', "TorchvisionTrunk', name='squeezenet1_1'"),
        ('regnet_y_400mf', "TorchvisionTrunk', name='regnet_y_400mf'"),
    ],
)
def test_another_depth_or_family(model, expected, pair, tmp_path):
    torch.save(torchvision.models.get_model(model).state_dict(), tmp_path / 'other.pth')
    before = {key: value.clone() for key, value in pair.state_dict().items()}
    with pytest.raises(SettingsError) as error:
        fill_model(pair, str(tmp_path / 'other.pth'))
    lines = str(error.value).splitlines()
    assert len(lines) <= 8 and expected in lines[-1], error.value
    assert all(torch.equal(value, before[key]) for key, value in pair.state_dict().items())


def test_a_resnet_for_another_kind_of_trunk_comes_with_its_config(tmp_path):
    """``model.backbone.depth`` would be no setting of that trunk."""
    model = torch.nn.Module()
    model.backbone = MODELS.build(dict(type='plrc_plugin.TorchvisionTrunk', name='squeezenet1_1'))
    torch.save(ResNet(18).state_dict(), tmp_path / 'r18.pth')
    with pytest.raises(SettingsError) as error:
        fill_model(model, str(tmp_path / 'r18.pth'))
    line = str(error.value).splitlines()[-1]
    given = re.search(r'model = dict\(.*\)', line)[0]
    found = eval(given.partition('=')[2])['backbone']  # as in a config
    assert found.pop('_delete_') and MODELS.build(found).state_dict().keys()


def test_another_width(pair, tmp_path):
    torch.save(ResNet(18, base_channels=32).state_dict(), tmp_path / 'narrow.pth')
    with pytest.raises(SettingsError, match='model.backbone.base_channels=32 would fit'):
        fill_model(pair, str(tmp_path / 'narrow.pth'))


def bad_files(trunk):
    quantised = torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8)
    return {
        'head.pth': (
            {'fc.weight': torch.ones(3, 3), 'fc.bias': torch.ones(3)},
            'only a head .fc.weight .3, 3.',
        ),
        'head_of_mmpretrain.pth': (
            dict(state_dict={'head.fc.weight': torch.ones(3, 3)}),
            'only a head',
        ),
        'projector.pth': (
            {'momentum_projector.0.weight': torch.ones(3, 3), 'queue.bank': torch.ones(3, 3)},
            'only a head .momentum_projector.0.weight',
        ),
        'half.pth': ({k: v.half() for k, v in trunk.items()}, 'half precision.*--float32'),
        'bf16.pth': ({k: v.bfloat16() for k, v in trunk.items()}, 'half precision'),
        'int8.pth': ({**trunk, 'layer1.0.conv1.weight': quantised}, 'quantised'),
        'qint8.pth': ({'weight': quantised}, 'is quantised: training needs the float32'),
        'uint8.pth': ({**trunk, 'layer1.0.conv1.weight': quantised.int_repr()}, 'quantised'),
        'float8.pth': (
            {**trunk, 'layer1.0.conv1.weight': torch.ones(4, 4).to(torch.float8_e4m3fn)},
            'quantised .layer1.0.conv1.weight is float8',
        ),
        'holes.pth': (
            {k: v for k, v in trunk.items() if k != 'layer4.1.bn2.bias'},
            'as the model is, but not all of it',
        ),
        'sparse.pth': (
            {**trunk, 'layer1.0.conv1.weight': torch.eye(4).to_sparse()},
            'conv1.weight: not in the checkpoint',
        ),
        'other_names.pth': (
            {f'x.{i}': value for i, value in enumerate(trunk.values())},
            'whose tensors begin with x.0, x.1, x.2',
        ),
        'module.pth': (torch.nn.Conv2d(3, 3, 1), r'only code can build .*model.state_dict\(\)'),
        'tensor.pth': (torch.ones(3), 'holds a Tensor, not a state dict'),
        'model-00001-of-00003.pth': (trunk, 'piece of a model.*give its .index.json'),
        'optimizer.pth': (dict(optimizer=dict(state={}), epoch=3), 'no trunk: there is no tensor'),
        'detector.pth': ({'roi_heads.box_head.fc1.weight': torch.ones(3, 3)}, 'does not fit'),
        'list.pth': ([1, 2], 'not a state dict'),
    }


@pytest.mark.parametrize('name', bad_files({}))
def test_bad_files_are_one_short_error(name, pair, trunk18, tmp_path):
    content, expected = bad_files(trunk18)[name]
    torch.save(content, tmp_path / name)
    with pytest.raises(SettingsError, match=expected) as error:
        fill_model(pair, str(tmp_path / name))
    assert len(str(error.value)) < 700 and str(tmp_path / name) in str(error.value)
