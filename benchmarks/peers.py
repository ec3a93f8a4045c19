"""Time and memory of training on the same images: lightly's code as its examples put it together,
and ours."""

import argparse
import copy
import json
import resource
import subprocess
import sys

import torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import DenseCLProjectionHead, MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, select_most_similar, update_momentum
from lightly.transforms import DenseCLTransform, MoCoV2Transform
from mmengine.optim import OptimWrapper
from report import Cost, arguments, bars, cost_of, median, paired_ratio, photos, table, write
from torch import nn
from torch.utils.data import DataLoader

import plrc_plugin  # noqa: F401
from plrc_plugin.datasets.collate import collate_views
from plrc_plugin.datasets.image_folder import ImageFolder
from plrc_plugin.datasets.samplers import KeyedSampler
from plrc_plugin.registry import MODELS

TRUNK = dict(type='plrc_plugin.ResNet', depth=18)
QUEUE = 4096


class LightlyMoCo(nn.Module):
    """Trunk and head; the loss of a batch of two views."""

    transform = MoCoV2Transform

    def __init__(self):
        super().__init__()
        self.trunk = MODELS.build(TRUNK)
        self.head = MoCoProjectionHead(512, 512, 128)
        self.criterion = NTXentLoss(temperature=0.2, memory_bank_size=(QUEUE, 128))

    def forward(self, images):
        return self.head(self.trunk(images)[-1].mean((2, 3)))

    def loss(self, query, key):
        return self.criterion(query, key)


class LightlyDenseCL(LightlyMoCo):
    """With a head that keeps the positions, and the contrast of the most similar ones."""

    transform = DenseCLTransform

    def __init__(self):
        super().__init__()
        self.head = DenseCLProjectionHead(512, 512, 128)
        self.dense_head = DenseCLProjectionHead(512, 512, 128)
        self.dense_criterion = NTXentLoss(temperature=0.2, memory_bank_size=(QUEUE, 128))

    def forward(self, images):
        features = self.trunk(images)[-1]
        positions = features.flatten(2).transpose(1, 2)
        return self.head(features.mean((2, 3))), positions, self.dense_head(positions)

    def loss(self, query, key):
        (query, features, dense), (key, key_features, key_dense) = query, key
        matched = select_most_similar(features, key_features, key_dense)
        dense_loss = self.dense_criterion(dense.flatten(0, 1), matched.flatten(0, 1))
        return (self.criterion(query, key) + dense_loss) / 2


def train_lightly(folder, args, kind):
    """The loop of lightly's examples."""
    model = kind()
    momentum_model = copy.deepcopy(model)
    deactivate_requires_grad(momentum_model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    data = LightlyDataset(folder, transform=kind.transform(input_size=args.size))
    data = torch.utils.data.Subset(data, range(args.images))
    total_loss = 0
    for (query, key), *_ in DataLoader(data, args.batch, shuffle=True, drop_last=True):
        update_momentum(model, momentum_model, m=0.999)
        loss = model.loss(model(query), momentum_model(key))
        total_loss += loss.detach()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def train_ours(folder, args, kind, **settings):
    """A model of the plug-in, with its loader."""
    model = MODELS.build(
        dict(type=f'plrc_plugin.{kind}', backbone=TRUNK, queue_size=QUEUE, **settings)
    )
    wrapper = OptimWrapper(
        torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    )
    pipeline = [dict(type='plrc_plugin.TwoViews', size=args.size)]
    if kind == 'PLRC':
        pipeline.append(dict(type='plrc_plugin.SampleRegionPoints'))
    data = ImageFolder(folder, pipeline=pipeline, indices=args.images)
    for batch in DataLoader(
        data, args.batch, sampler=KeyedSampler(data), drop_last=True, collate_fn=collate_views
    ):
        model.train_step(batch, wrapper)


CASES = {
    'lightly: MoCo v2': lambda *a: train_lightly(*a, LightlyMoCo),
    'plrc_plugin: MoCo v2': lambda *a: train_ours(*a, 'MomentumContrast'),
    'lightly: DenseCL': lambda *a: train_lightly(*a, LightlyDenseCL),
    'plrc_plugin: DenseCL': lambda *a: train_ours(*a, 'DenseCL'),
    'plrc_plugin: PLRC': lambda *a: train_ours(*a, 'PLRC', warmup_epochs=0),
}


def peak_memory() -> float:
    """Of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def in_own_process(case: str) -> tuple:
    """Cost of training and its peak memory in MB, both without the imports."""
    output = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], '--case', case],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
    ).stdout
    *cost, peak = json.loads(output.splitlines()[-1])
    return Cost(*cost), peak


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument('--images', type=int, default=192)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--size', type=int, default=128)
    parser.add_argument('--case', choices=list(CASES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = photos(args.photos)
    if args.case:
        torch.manual_seed(0)
        before = peak_memory()
        cost = cost_of(lambda: CASES[args.case](folder, args))
        print(json.dumps([*cost, peak_memory() - before]))
        return
    costs, peaks = {}, {}
    for _ in range(args.rounds):
        for case in CASES:
            cost, peak = in_own_process(case)
            costs.setdefault(case, []).append(cost)
            peaks.setdefault(case, []).append(peak)
    ratios = {case: paired_ratio(costs[case], costs['lightly: MoCo v2']) for case in CASES}
    rows = [[case, *median(costs[case]), *ratios[case], round(max(peaks[case]))] for case in CASES]
    write(
        'peers',
        'Peers: a fixed number of images',
        f'{args.images} images, ResNet-18, views of {args.size}, batch {args.batch}, queue '
        f'{QUEUE}, SGD with momentum; loading and training in one process of its own per run, '
        f'imports left out; medians of {args.rounds} rounds in turns.',
        "lightly's rows are its own transforms, data set, heads, matching, loss and moving "
        'average, put together and looped over as in its examples `moco.py` and `densecl.py`, '
        "with the paper's temperature and optimiser. One thing differs: its DenseCL example "
        'sends the key view through the online encoder, with gradient; here it passes through '
        'the momentum encoder, which is less work.',
        table(
            [
                'training',
                'wall, s',
                'CPU, s',
                'wall ÷ lightly MoCo v2',
                'CPU ÷ lightly MoCo v2',
                'peak memory, MB',
            ],
            rows,
        ),
        bars(
            'peers',
            {case: ratio.cpu for case, ratio in ratios.items()},
            'CPU seconds for the same images, times lightly MoCo v2',
        ),
    )


if __name__ == '__main__':
    main()
