"""Any sampler and any wrapper of data sets: new views each epoch, the same for any workers."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from mmengine.dataset import ConcatDataset, DefaultSampler
from mmengine.registry import DATA_SAMPLERS as MMENGINE_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Sampler, Subset

from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.keys import KeyedDataset
from plrc_plugin.datasets.samplers import KeyedIndices, KeyedSampler
from plrc_plugin.engine.runner import PretrainRunner
from plrc_plugin.errors import SettingsError
from plrc_plugin.randomness import SampleKey, stream

PIPELINE = [
    dict(type='plrc_plugin.TwoViews', size=16),
    dict(type='plrc_plugin.SampleRegionPoints', num_regions=2, points_per_region=2, resolution=8),
]


@MMENGINE_SAMPLERS.register_module(force=True)
class DrawnWithReplacement(Sampler):
    """Hands out plain indices, some several times in an epoch, as class-aware samplers do."""

    def __init__(self, dataset, seed=None):
        self.dataset, self.seed, self.epoch = dataset, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 12

    def __iter__(self):
        return iter(np.random.default_rng(self.epoch).integers(len(self.dataset), size=12).tolist())


@MMENGINE_SAMPLERS.register_module(force=True)
class NoEpochs(Sampler):
    """Knows nothing of seeds and epochs."""

    def __init__(self, dataset, seed=None):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __iter__(self):
        return iter(range(len(self.dataset)))


@MMENGINE_SAMPLERS.register_module(force=True)
class OddEven(Sampler):
    """A batch sampler that looks at the records of the images, as mmdet's aspect ratios do."""

    def __init__(self, sampler, batch_size):
        self.sampler, self.batch_size = sampler, batch_size

    def __len__(self):
        return len(self.sampler) // self.batch_size

    def __iter__(self):
        waiting = {0: [], 1: []}
        for index in self.sampler:
            record = self.sampler.dataset.get_data_info(index)
            group = waiting[record['sample_idx'] % 2]
            group.append(index)
            if len(group) == self.batch_size:
                yield list(group)
                group.clear()


@MMENGINE_DATASETS.register_module(force=True)
class Folds(Subset):
    """Looks its indices up in a list, as mmpretrain's ``KFoldDataset`` does."""

    def __init__(self, dataset):
        super().__init__(MMENGINE_DATASETS.build(dataset), [4, 2, 0, 5])


def folder(root, **kwargs):
    return dict(type='plrc_plugin.ImageFolder', data_root=str(root), pipeline=PIPELINE, **kwargs)


def config(dataset, sampler, workers=0, **kwargs):
    return dict(
        dataset=dataset,
        sampler=dict(type=sampler) if isinstance(sampler, str) else sampler,
        batch_size=2,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=dict(type='plrc_plugin.collate_views'),
        **kwargs,
    )


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope('plrc_plugin')


def views_of(loader, epochs=2, batches=None):
    """(path, query pixels) of each sample, epoch by epoch; ``batches`` of one endless pass."""
    seen = []
    if batches:
        for batch in itertools.islice(loader, batches):
            seen += zip(batch['paths'], batch['query']['pixels'])
        return seen
    for epoch in range(epochs):
        for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(epoch)
        for batch in loader:
            seen += zip(batch['paths'], batch['query']['pixels'])
    return seen


def assert_all_new(seen, images):
    """Every image came at least twice, and no two of its views are the same."""
    by_path = {}
    for path, pixels in seen:
        by_path.setdefault(path, []).append(pixels)
    assert len(by_path) == images
    for several in by_path.values():
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(several, 2))
    assert max(map(len, by_path.values())) > 1


def assert_same(one, two):
    assert [path for path, _ in one] == [path for path, _ in two]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(one, two))


SAMPLERS = [
    'DefaultSampler',
    'mmengine.DefaultSampler',
    'InfiniteSampler',
    'mmengine.InfiniteSampler',
    'plrc_plugin.KeyedSampler',
    'DrawnWithReplacement',
    'NoEpochs',
]


@pytest.mark.parametrize('sampler', SAMPLERS)
def test_any_sampler_gives_new_views_whatever_the_workers(sampler, image_folder):
    batches = 9 if 'Infinite' in sampler else None
    loaders = [
        PretrainRunner.build_dataloader(config(folder(image_folder), sampler, workers), seed=3)
        for workers in (0, 2)
    ]
    one, two = (views_of(loader, batches=batches) for loader in loaders)
    assert_all_new(one, 6)
    assert_same(one, two)
    assert_all_new(one + views_of(loaders[0], 4, batches)[len(one) :], 6)


@pytest.mark.parametrize('name', ['DefaultSampler', 'InfiniteSampler'])
def test_samplers_of_mmengine_by_their_names_under_its_own_runner(name, image_folder):
    loader = Runner.build_dataloader(config(folder(image_folder), name), seed=3)
    assert_all_new(views_of(loader, batches=9 if name[0] == 'I' else None), 6)


def test_default_sampler_equals_the_keyed_one(image_folder):
    one, two = (
        views_of(PretrainRunner.build_dataloader(config(folder(image_folder), name), seed=3))
        for name in ('mmengine.DefaultSampler', 'plrc_plugin.KeyedSampler')
    )
    assert_same(one, two)


@pytest.mark.parametrize('told', [True, False])
def test_passes_count_as_epochs_for_who_does_not_set_them(told, image_folder):
    dataset = ImageFolder(str(image_folder), pipeline=PIPELINE)
    sampler = KeyedSampler(dataset, seed=1)
    epochs = []
    for epoch in range(3):
        if told:
            sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert [keys[0].epoch for keys in epochs] == [0, 1, 2]
    sampler.set_epoch(1)
    assert list(sampler) == epochs[1]


@pytest.mark.parametrize('processes', [1, 2])
def test_infinite_sampler_counts_passes_over_all_processes(processes, image_folder, monkeypatch):
    from mmengine.dataset import sampler as module

    from plrc_plugin.datasets.samplers import KeyedInfiniteSampler

    dataset = ImageFolder(str(image_folder), pipeline=PIPELINE)
    keys = []
    for rank in range(processes):
        monkeypatch.setattr(module, 'get_dist_info', lambda rank=rank: (rank, processes))
        sampler = KeyedInfiniteSampler(dataset, seed=2)
        keys.append(list(itertools.islice(sampler, 18 // processes)))
        if hasattr(sampler, 'skip'):
            sampler.skip(4)
            assert list(itertools.islice(sampler, 5)) == keys[-1][4:9]
    merged = [key for group in zip(*keys) for key in group]
    assert sorted(merged) == sorted(SampleKey(2, e, i) for e in range(3) for i in range(6))


def test_batch_samplers_get_indices_and_the_images_keys(image_folder):
    loaders = [
        PretrainRunner.build_dataloader(
            config(
                folder(image_folder),
                dict(type='DefaultSampler', shuffle=True),
                workers,
                batch_sampler=dict(type='OddEven'),
            ),
            seed=3,
        )
        for workers in (0, 2)
    ]
    one, two = map(views_of, loaders)
    assert_all_new(one + views_of(loaders[0], 4)[len(one) :], 6)
    assert_same(one, two)


def wrapped(kind, root, tmp_path):
    inner = folder(root)
    return {
        'ConcatDataset': dict(type='ConcatDataset', datasets=[inner, folder(root)]),
        'RepeatDataset': dict(type='RepeatDataset', dataset=inner, times=2),
        'ClassBalancedDataset': dict(
            type='ClassBalancedDataset', dataset=inner, oversample_thr=0.9
        ),
        'Folds': dict(type='Folds', dataset=inner),
        'nested': dict(
            type='ConcatDataset',
            datasets=[inner, dict(type='RepeatDataset', dataset=folder(root), times=3)],
        ),
    }[kind]


@pytest.mark.parametrize('sampler', ['plrc_plugin.KeyedSampler', 'mmengine.DefaultSampler'])
@pytest.mark.parametrize(
    'kind', ['ConcatDataset', 'RepeatDataset', 'ClassBalancedDataset', 'Folds', 'nested']
)
def test_wrappers_repeat_images_and_no_views(kind, sampler, image_folder, tmp_path):
    loaders = [
        PretrainRunner.build_dataloader(
            config(wrapped(kind, image_folder, tmp_path), sampler, workers), seed=3
        )
        for workers in (0, 2)
    ]
    one, two = map(views_of, loaders)
    assert_all_new(one, 4 if kind == 'Folds' else 6)
    assert_same(one, two)


def test_the_first_of_joined_folders_is_as_it_would_be_alone(image_folder):
    dataset = KeyedDataset(
        ConcatDataset([ImageFolder(str(image_folder), pipeline=PIPELINE) for _ in range(2)])
    )
    alone = ImageFolder(str(image_folder), pipeline=PIPELINE)
    for index in range(6):
        key = SampleKey(1, 2, index)
        same, other = dataset[key], dataset[SampleKey(1, 2, index + 6)]
        assert same['img_path'] == other['img_path'] == alone[key]['img_path']
        assert np.array_equal(same['views'][0].pixels, alone[key]['views'][0].pixels)
        assert not np.array_equal(same['views'][0].pixels, other['views'][0].pixels)
    assert len(pickle.loads(pickle.dumps(dataset))) == 12 and dataset.metainfo == alone.metainfo


@pytest.mark.parametrize('workers', [0, 1])
def test_a_plain_loader_is_told_what_to_do(workers, image_folder):
    dataset = ImageFolder(str(image_folder), pipeline=PIPELINE)
    for plain in (dataset, Subset(dataset, [1, 2]), KeyedDataset(dataset)):
        loader = DataLoader(plain, 2, shuffle=True, num_workers=workers, collate_fn=collate_views)
        with pytest.raises(SettingsError, match='came without seed and epoch.*KeyedSampler') as e:
            next(iter(loader))
        assert '\n' not in str(e.value)


def test_a_plain_loader_works_as_the_message_says(image_folder):
    dataset = ImageFolder(str(image_folder), pipeline=PIPELINE)
    loader = DataLoader(dataset, 2, sampler=KeyedSampler(dataset), collate_fn=collate_views)
    seen = [x for _ in range(3) for x in views_of(loader, batches=3)]
    assert_all_new(seen, 6)
    part = KeyedDataset(Subset(dataset, [1, 4]))
    sampler = KeyedIndices(torch.utils.data.RandomSampler(part, num_samples=4, replacement=True))
    loader = DataLoader(part, 2, sampler=sampler, collate_fn=collate_views)
    assert_all_new([x for _ in range(5) for x in views_of(loader, batches=2)], 2)


@pytest.mark.parametrize('wrapper', [lambda d: ConcatDataset([d]), lambda d: Subset(d, [0])])
def test_keys_for_who_cannot_take_them_are_refused_before_the_run(wrapper, image_folder):
    dataset = wrapper(ImageFolder(str(image_folder), pipeline=PIPELINE))
    for sampler in (KeyedSampler, lambda d: KeyedIndices(DefaultSampler(d), d)):
        with pytest.raises(SettingsError, match='computes with indices.*KeyedDataset'):
            sampler(dataset)


def test_loaders_of_other_data_sets_stay(image_folder):
    loader = Runner.build_dataloader(
        dict(dataset=[1, 2, 3], sampler=dict(type='DefaultSampler'), batch_size=1), seed=0
    )
    assert type(loader.sampler) is DefaultSampler
    assert list(loader.sampler) and all(isinstance(i, int) for i in loader.sampler)


def test_looking_at_a_sample(image_folder):
    dataset = ImageFolder(str(image_folder), pipeline=PIPELINE)
    sample = dataset.look(2, epoch=1, seed=4)
    assert sample['sample_key'] == SampleKey(4, 1, 2)
    assert dataset.look(-1)['sample_key'].index == 5
    still = ImageFolder(str(image_folder), pipeline=PIPELINE, test_mode=True)
    assert np.array_equal(still[2]['views'][0].pixels, still[2]['views'][0].pixels)


def test_each_visit_in_an_epoch_has_a_stream_of_its_own():
    assert stream(SampleKey(3, 1, 4, 1), 'view', 1).random() != (
        stream(SampleKey(3, 1, 4), 'view', 1).random()
    )
