"""Time and memory of training on the same images: lightly's building blocks, and ours."""
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
from lightly.transforms import MoCoV2Transform
from mmengine.optim import OptimWrapper
from torch import nn
from torch.utils.data import DataLoader

import plrc_plugin  # noqa: F401
from plrc_plugin.datasets import ImageFolder, KeyedSampler, collate_views
from plrc_plugin.registry import MODELS

from report import Cost, arguments, cost_of, median, paired_ratio, photos, table, write

TRUNK = dict(type='plrc_plugin.ResNet', depth=18)
QUEUE = 4096


class LightlyEncoder(nn.Module):
    """Trunk, global head and, for DenseCL, dense head."""

    def __init__(self, dense: bool):
        super().__init__()
        self.trunk = MODELS.build(TRUNK)
        self.head = MoCoProjectionHead(512, 512, 128)
        self.dense_head = DenseCLProjectionHead(512, 512, 128) if dense else None

    def forward(self, images):
        features = self.trunk(images)[-1]
        vector = self.head(features.mean((2, 3)))
        if self.dense_head is None:
            return vector, None, None
        return vector, features.flatten(2).mT, self.dense_head(features.flatten(2).mT)


def train_lightly(folder, args, dense):
    """MoCo v2, or DenseCL, of lightly's losses, heads, transform, data set and moving average."""
    encoder = LightlyEncoder(dense)
    key_encoder = copy.deepcopy(encoder)
    deactivate_requires_grad(key_encoder)
    criteria = [NTXentLoss(temperature=0.2, memory_bank_size=(QUEUE, 128)) for _ in range(2)]
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.03, momentum=0.9, weight_decay=1e-4)
    data = LightlyDataset(folder, transform=MoCoV2Transform(input_size=args.size))
    data = torch.utils.data.Subset(data, range(args.images))
    for views, *_ in DataLoader(data, args.batch, shuffle=True, drop_last=True):
        update_momentum(encoder, key_encoder, 0.999)
        vector, features, positions = encoder(views[0])
        with torch.no_grad():
            key, key_features, key_positions = key_encoder(views[1])
        loss = criteria[0](vector, key)
        if dense:
            matched = select_most_similar(features, key_features, key_positions)
            loss = (loss + criteria[1](positions.flatten(0, 1), matched.flatten(0, 1))) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train_ours(folder, args, kind, **settings):
    """A model of the plug-in, with its loader."""
    model = MODELS.build(dict(type=f'plrc_plugin.{kind}', backbone=TRUNK, queue_size=QUEUE,
                              **settings))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9,
                                           weight_decay=1e-4))
    pipeline = [dict(type='plrc_plugin.TwoViews', size=args.size),
                dict(type='plrc_plugin.SampleRegionPoints')]
    data = ImageFolder(folder, pipeline=pipeline, indices=args.images)
    for batch in DataLoader(data, args.batch, sampler=KeyedSampler(data), drop_last=True,
                            collate_fn=collate_views):
        model.train_step(batch, wrapper)


CASES = {
    'lightly: MoCo v2': lambda *a: train_lightly(*a, dense=False),
    'plrc_plugin: MoCo v2': lambda *a: train_ours(*a, 'MomentumContrast'),
    'lightly: DenseCL': lambda *a: train_lightly(*a, dense=True),
    'plrc_plugin: DenseCL': lambda *a: train_ours(*a, 'DenseCL'),
    'plrc_plugin: PLRC': lambda *a: train_ours(*a, 'PLRC', warmup_epochs=0),
}


def in_own_process(case: str) -> tuple:
    """Cost of training, imports left out, and peak memory of the process in MB."""
    output = subprocess.run([sys.executable, __file__, *sys.argv[1:], '--case', case], check=True,
                            text=True, stdout=subprocess.PIPE).stdout
    *cost, peak = json.loads(output.splitlines()[-1])
    return Cost(*cost), peak


def main() -> None:
    parser = arguments(__doc__, rounds=3)
    parser.add_argument('--images', type=int, default=128)
    parser.add_argument('--batch', type=int, default=32)
    parser.add_argument('--size', type=int, default=128)
    parser.add_argument('--case', choices=list(CASES), help=argparse.SUPPRESS)
    args = parser.parse_args()
    folder = photos(args.photos)
    if args.case:
        torch.manual_seed(0)
        cost = cost_of(lambda: CASES[args.case](folder, args))
        print(json.dumps([*cost, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000]))
        return
    costs, peaks = {}, {}
    for _ in range(args.rounds):
        for case in CASES:
            cost, peak = in_own_process(case)
            costs.setdefault(case, []).append(cost)
            peaks.setdefault(case, []).append(peak)
    rows = [[case, *median(costs[case]), paired_ratio(costs[case], costs['lightly: MoCo v2']).cpu,
             round(max(peaks[case]))] for case in CASES]
    write('peers', 'Peers: a fixed number of images',
          f'{args.images} photographs, ResNet-18, views of {args.size}, batch {args.batch}, queue '
          f'{QUEUE}, loading and training in one process of its own per run; medians of '
          f'{args.rounds} in turns. lightly ships the parts of DenseCL and no loss of it: its rows '
          'put NTXentLoss on the global vectors and on matched positions, as DenseCL does.',
          table(['training', 'wall, s', 'CPU, s', 'CPU ÷ lightly MoCo v2', 'peak memory, MB'],
                rows))


if __name__ == '__main__':
    main()
