"""Fine-tune FCN from the start and from trunks that continued it; started again, it goes on.

    export PLRC_START=efficientnet-lite0-57934424.pth PLRC_VOC=/path/to/VOCdevkit/VOC2012
    PYTHONPATH=. OMP_NUM_THREADS=1 python studies/starts/finetune.py work_dirs/starts

``work_dirs/starts/finetuned`` gets a JSON for each trunk, percentage of the labels and seed. A seed
draws the labelled images, the order, the crops and the head, and all trunks get the same. Every
layer learns; batch norm keeps the statistics of the trunk. Fitted on VOC's masks of train, scored
on those of val; nothing was chosen on either.
"""

import argparse
import json
import os
import time
from pathlib import Path

from probe import checkpoint_of
from run import HERE

import plrc_plugin  # noqa: F401  registers everything
from plrc_plugin.config_files import read_config
from plrc_plugin.outputs import publish
from plrc_plugin.worth.heads import finetuned_trunk, head_config, part_option, set_length
from plrc_plugin.worth.labels import MASKS, read_labels
from plrc_plugin.worth.runs import trained
from plrc_plugin.worth.splits import split_labels
from plrc_plugin.worth.writing import part_name, write_labels

# The pre-trained trunks are one run each: a spread is that of fine-tuning alone.
TRUNKS = ['start', 'plrc-kept/seed2', 'mocov2-kept/seed2']
SEEDS, PERCENTS = [0, 1, 2], [100, 5]
# Of 8 images. Crops have SIDE pixels, and so have the shorter sides of the test images.
ITERATIONS, SIDE = 200, 160
OPTIONS = {'train_dataloader.batch_size': 8}
TRAIN = HERE.parents[1] / 'tools' / 'train.py'


def written_config(folder: Path):
    """Writes labels and the config of fine-tuning, and returns the config's path."""
    voc = Path(os.environ['PLRC_VOC'])
    labels = read_labels(voc / 'SegmentationClass')
    split = split_labels(labels, voc / 'ImageSets/Segmentation/val.txt')
    write_labels(folder / 'labels', labels, split, PERCENTS, SEEDS)
    trunk = finetuned_trunk(read_config(HERE / 'configs' / 'start_plrc.py').model.backbone)
    cfg = head_config(
        MASKS, folder / 'labels', labels.classes, trunk, SIDE, gpu=False, options=OPTIONS
    )
    set_length(cfg, ITERATIONS)
    path = folder / 'fcn.py'
    publish(path, cfg.pretty_text)
    return path


def main():
    """Runs what is not done; a trunk that is not there is left for the next time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folder', type=Path, help="holds 'runs', gets 'finetuned'")
    folder = parser.parse_args().folder.resolve() / 'finetuned'
    folder.mkdir(parents=True, exist_ok=True)
    config = written_config(folder)
    for seed in SEEDS:
        for percent in PERCENTS:
            for name in TRUNKS:
                out = folder / f'{name.replace("/", "-")}-{percent}-seed{seed}.json'
                checkpoint = checkpoint_of(folder.parent, name)
                if out.exists() or not checkpoint.exists():
                    continue
                print(time.strftime('%F %T'), out.name, flush=True)
                part = part_name(percent, seed)
                before = os.times()
                numbers = trained(
                    TRAIN,
                    str(config),
                    folder / 'runs' / out.stem,
                    dict(config=config.read_text(), seed=seed, trunk=name, labels=part),
                    [
                        part_option(MASKS, part),
                        f'pretrained={checkpoint}',
                        f'randomness.seed={seed}',
                        'default_hooks.checkpoint.interval=100',
                    ],
                )
                after = os.times()
                used = after.children_user + after.children_system
                used -= before.children_user + before.children_system
                content = dict(trunk=name, percent=percent, seed=seed, numbers=numbers)
                content['processor_seconds'] = round(used, 1)
                out.write_text(json.dumps(content, indent=1))
                print(out.name, numbers, flush=True)
                for file in (folder / 'runs' / out.stem).glob('*.pth'):
                    file.unlink()


if __name__ == '__main__':
    main()
