"""Runs a comparison from beginning to end: reads the data, plans, does the parts, and writes the
page."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Optional

from mmengine.config import Config
from mmengine.device import get_device

from plrc_plugin.checkpoints.claim import claim, release
from plrc_plugin.checkpoints.encoder import RANDOM
from plrc_plugin.checkpoints.mmengine_loader import read_without_running
from plrc_plugin.datasets.unread_images import UnreadImages
from plrc_plugin.errors import SettingsError
from plrc_plugin.images.decoding import ImageFile
from plrc_plugin.outputs import publish
from plrc_plugin.recipe.own_config import config_of
from plrc_plugin.worth.frozen import encoder, probe_cells
from plrc_plugin.worth.heads import (
    BATCH,
    BATCH_CPU,
    PACKAGES,
    check_installed,
    finetuned_trunk,
    head_config,
    set_length,
)
from plrc_plugin.worth.labels import LabelledSet, read_labels
from plrc_plugin.worth.ledger import FINETUNED, FROZEN, Done, Ledger, Part
from plrc_plugin.worth.methods import chosen_methods
from plrc_plugin.worth.page import Facts, write_results
from plrc_plugin.worth.parts import Setting, all_parts, do_parts
from plrc_plugin.worth.planning import (
    LEAST_ITERATIONS,
    MOST_EPOCHS,
    Plan,
    Timing,
    Work,
    divide,
    plan_table,
)
from plrc_plugin.worth.splits import Split, content_key, drawn, same_content, split_labels
from plrc_plugin.worth.timing import (
    epoch_seconds,
    finetuning_seconds,
    probe_seconds,
    startup_seconds,
)
from plrc_plugin.worth.writing import write_labels

SETTINGS, PLAN = 'settings.json', 'plan.json'


class Asked(NamedTuple):
    """What a user asks for, see ``python -m plrc_plugin worth --help``."""

    photos: Path
    labels: Path
    out: Path
    hours: float
    backbone: str = 'resnet50'
    weights: Optional[Path] = None
    images: Optional[Path] = None
    test: Optional[Path] = None
    methods: Sequence[str] = ('plrc', 'mocov2', 'region')
    percents: Sequence[float] = (1, 10, 100)
    seeds: Sequence[int] = (0, 1, 2)
    only: Optional[str] = None
    keep_test_images: bool = False
    gpus: int = 1
    plan_only: bool = False
    options: Optional[dict] = None
    finetune_options: Optional[dict] = None


def compare(asked: Asked) -> Path:
    """Runs or continues a comparison, and returns the page.

    Raises:
        SettingsError: if something cannot be used, or the budget is too small.
    """
    read_without_running()
    methods = chosen_methods(asked.methods)
    _check(asked)
    out = Path(asked.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    claim(str(out))
    try:
        return _compare(asked, methods, out)
    finally:
        release(str(out))


def _compare(asked: Asked, methods: dict[str, str], out: Path) -> Path:
    kinds = [k for k in (FROZEN, FINETUNED) if asked.only in (None, k)]
    labels = read_labels(asked.labels, asked.images)
    split = split_labels(labels, asked.test, asked.images)
    if FINETUNED in kinds:
        check_installed(labels.kind)
    percents, seeds = sorted(set(asked.percents)), list(dict.fromkeys(asked.seeds))
    pretraining = {name: _pretraining(asked, config, out) for name, config in methods.items()}
    _check_same(out, asked, split)
    first = next(iter(pretraining.values()), None) or _pretraining(asked, 'plrc_photos.py', out)
    shared, listed = _photographs(asked, split, first, out)
    write_labels(out / 'labels', labels, split, percents, seeds)
    print(_counts(labels, split, percents), flush=True)
    for cfg in pretraining.values():
        if listed is not None:
            cfg.train_dataloader.dataset.ann_file = str(listed)
    backbone = first.model.backbone.to_dict()
    cells = probe_cells(labels.kind, out / 'labels', labels.classes) if FROZEN in kinds else None
    head = None
    if FINETUNED in kinds:
        head = _head(asked, labels, split, out, backbone)
    work = Work(list(methods), seeds, percents, 0, _most_iterations(split))
    ledger = Ledger(out)
    plan = _planned(asked, out, work, pretraining, head, cells, ledger, labels, split)
    print(plan_table(asked.hours, work, plan), flush=True)
    configs = _write_configs(out, pretraining, head, plan)
    setting = Setting(
        out,
        str(Path(asked.weights).resolve()) if asked.weights else None,
        backbone,
        labels.kind,
        percents,
        configs,
        cells,
        asked.gpus,
        asked.hours,
    )
    parts = all_parts(list(methods), seeds, percents, kinds)
    facts = Facts(asked, labels, split, shared, plan, work, list(methods), kinds)

    def after(done: list[Done], left_out: list[Part]) -> None:
        write_results(out, facts, done, left_out, parts, ledger)

    if asked.plan_only:
        print('--plan: nothing was begun')
        return out / 'page.html'
    left_out = do_parts(setting, plan, parts, ledger, after)
    done = [d for part in parts if (d := ledger.result(part)) is not None]
    after(done, left_out)
    if left_out:
        print(
            f'{len(left_out)} of {len(parts)} parts are left out, as the budget of {asked.hours:g} '
            'hours does not pay for them: the same command with more --hours does them'
        )
    return out / 'page.html'


def _check(asked: Asked) -> None:
    if not Path(asked.photos).is_dir():
        raise SettingsError(f'{asked.photos} is not a folder of photographs')
    if Path(asked.out).exists() and not Path(asked.out).is_dir():
        raise SettingsError(f'--out: {asked.out} is a file: give the name of a folder')
    if asked.weights is not None and not Path(asked.weights).is_file():
        raise SettingsError(f'--weights: there is no file {asked.weights}')
    if not asked.hours > 0:
        raise SettingsError(f'--hours must be positive, got {asked.hours}')
    if not all(0 < percent <= 100 for percent in asked.percents) or not asked.percents:
        raise SettingsError(f'--fractions are percentages above 0, at most 100: {asked.percents}')
    if not asked.seeds or min(asked.seeds) < 0:
        raise SettingsError(f'--seeds are integers from 0 on, got {list(asked.seeds)}')


def _pretraining(asked: Asked, config: str, out: Path) -> Config:
    return config_of(
        asked.photos,
        asked.backbone,
        asked.weights,
        out,
        None,
        None,
        asked.options,
        config,
    )


def _check_same(out: Path, asked: Asked, split: Split) -> None:
    """Raises SettingsError if the folder holds another comparison. Methods, seeds and hours may be
    added."""
    settings = dict(
        photos=str(Path(asked.photos).resolve()),
        labels=str(Path(asked.labels).resolve()),
        split=_digest(split),
        weights=str(Path(asked.weights).resolve()) if asked.weights else None,
        backbone=asked.backbone,
        keep_test_images=asked.keep_test_images,
        options=str(asked.options or {}),
        finetune_options=str(asked.finetune_options or {}),
    )
    record = out / SETTINGS
    if record.is_file():
        before = json.loads(record.read_text())
        other = [name for name, value in settings.items() if before.get(name) != value]
        if other:
            raise SettingsError(
                f'{out} holds a comparison with other {", ".join(other)}: give another --out, or '
                'remove it'
            )
    record.write_text(json.dumps(settings, indent=1))


def _digest(split: Split) -> str:
    """Returns a digest of the images that train and test, and of their labels."""
    told = hashlib.sha256()
    for side in (split.train, split.test):
        for image in side:
            mask = content_key(image.mask) if image.mask is not None else ''
            told.update(f'{image.path.resolve()}{image.objects}{mask}\n'.encode())
        told.update(b'test\n')
    return told.hexdigest()


def _photographs(asked: Asked, split: Split, cfg: Config, out: Path) -> tuple[int, Optional[Path]]:
    """Returns how many photographs are test images by their content, and a list without them, or
    None if all are used."""
    data = UnreadImages(cfg.train_dataloader.dataset)
    records = [data[i] for i in range(len(data))]
    names, paths = [r['name'] for r in records], [Path(r['img_path']) for r in records]
    shared = same_content([image.path for image in split.test], paths)
    if not shared:
        return 0, None
    if asked.keep_test_images:
        print(
            f'warning: {len(shared)} of the {len(split.test)} test images are among the '
            'photographs, and --keep-test-images leaves them there: the test images are seen '
            'before the test',
            flush=True,
        )
        return len(shared), None
    print(
        f'warning: {len(shared)} photographs are test images, byte by byte: pre-training leaves '
        'them out (--keep-test-images takes them)',
        flush=True,
    )
    listed = out / 'photographs.txt'
    kept = [name for name, path in zip(names, paths) if path not in shared]
    if not kept:
        raise SettingsError(
            f'all {len(paths)} photographs are test images: give photographs without labels, a '
            'split of your own by --test, or --keep-test-images'
        )
    listed.write_text('\n'.join(kept) + '\n', errors='surrogateescape')
    return len(shared), listed


def _counts(labels: LabelledSet, split: Split, percents: Sequence[float]) -> str:
    counts = [f'{p:g}% are {len(drawn(len(split.train), p, 0))}' for p in percents]
    return (
        f'{len(labels.classes)} classes, {labels.kind}; {len(split.train)} labelled images train '
        f'({", ".join(counts)}), {len(split.test)} test: {split.rule}'
    )


def _most_iterations(split: Split) -> int:
    batch = BATCH if get_device() != 'cpu' else BATCH_CPU
    return max(LEAST_ITERATIONS, MOST_EPOCHS * len(split.train) // batch)


def _head(asked: Asked, labels: LabelledSet, split: Split, out: Path, backbone: dict) -> Config:
    some = (*split.train, *split.test)[:: max(1, len(split.train) // 64)]
    side = int(median(min(ImageFile(str(image.path)).size) for image in some))
    return head_config(
        labels.kind,
        out / 'labels',
        labels.classes,
        finetuned_trunk(backbone),
        side,
        get_device() != 'cpu',
        asked.gpus,
        asked.weights is not None,
        asked.finetune_options,
    )


def _planned(
    asked: Asked,
    out: Path,
    work: Work,
    pretraining: dict[str, Config],
    head: Optional[Config],
    cells: Any,
    ledger: Ledger,
    labels: LabelledSet,
    split: Split,
) -> Plan:
    """Returns the plan of an earlier start, extended by new parts; or a new plan, after a
    timing."""
    path = out / PLAN
    before = Plan(**json.loads(path.read_text())) if path.is_file() else None
    known = before.seconds if before else {}
    wanted = [*work.methods, *([FROZEN] if cells else []), *([FINETUNED] if head else [])]
    if before is not None and all(name in known for name in wanted):
        return before
    print('timing some steps of each kind, to divide the budget', flush=True)
    with ledger.clock('timing'):
        epoch, longest = {}, before.epochs if before else 1
        for name, cfg in pretraining.items():
            epoch[name], own = epoch_seconds(cfg, asked.gpus)
            longest = before.epochs if before else max(longest, own)
        package = PACKAGES[labels.kind] if head else 'torch'
        probe = None
        if cells is not None:
            places = {p: drawn(len(split.train), p, 0) for p in work.percents}
            backbone = next(iter(pretraining.values()), None)
            trunk = (backbone or _pretraining(asked, 'plrc_photos.py', out)).model.backbone
            start = str(asked.weights) if asked.weights else RANDOM
            probe = probe_seconds(encoder(trunk.to_dict(), start), cells, places)
        iteration = evaluation = None
        if head is not None:
            iteration, evaluation = finetuning_seconds(head, out / 'timing')
        timing = Timing(startup_seconds(package), epoch, probe, iteration, evaluation)
    plan = divide(asked.hours, work._replace(epochs=longest), timing)
    if before is not None:
        iterations = before.iterations or plan.iterations
        epochs = before.epochs if any(m in known for m in work.methods) else plan.epochs
        plan = Plan(epochs, iterations, {**plan.seconds, **known})
    path.write_text(json.dumps(plan._asdict(), indent=1))
    return plan


def _write_configs(
    out: Path, pretraining: dict[str, Config], head: Optional[Config], plan: Plan
) -> dict[str, Path]:
    """Writes configs that a user can also run with ``mim train``."""
    folder = out / 'configs'
    folder.mkdir(exist_ok=True)
    files = {}
    for name, cfg in pretraining.items():
        cfg.budget = dict(epochs=plan.epochs)
        cfg.pop('work_dir', None)
        cfg.experiment_name = f'worth_{name}'
        files[name] = folder / f'{name}.py'
        publish(files[name], cfg.pretty_text)
    if head is not None:
        set_length(head, plan.iterations)
        files[FINETUNED] = folder / 'finetuned.py'
        publish(files[FINETUNED], head.pretty_text)
    return files
