"""Does the parts of a comparison one after the other, as long as the budget pays for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

import torch

from plrc_plugin.checkpoints.encoder import RANDOM
from plrc_plugin.checkpoints.start import SCRATCH
from plrc_plugin.checkpoints.work_dir import POINTER
from plrc_plugin.config_files import shipped
from plrc_plugin.evaluation.cells import ProbeCells
from plrc_plugin.worth.frozen import encoder, frozen_quality
from plrc_plugin.worth.heads import part_option
from plrc_plugin.worth.ledger import FINETUNED, FROZEN, PRETRAIN, Done, Ledger, Part
from plrc_plugin.worth.methods import START
from plrc_plugin.worth.planning import Plan, duration
from plrc_plugin.worth.runs import OUTPUT, check_settings, run_command, train_command, trained
from plrc_plugin.worth.splits import drawn
from plrc_plugin.worth.writing import part_name


class Setting(NamedTuple):
    """The settings that all parts of a comparison share.

    Attributes:
        out: folder of the comparison.
        weights: the first weights; None for random ones.
        backbone: config of the trunk.
        kind: of the labels.
        percents: percentages of the labels that are compared.
        configs: files of pre-training by method, and that of fine-tuning under 'finetuned'.
        cells: images for the probes; None if no probes are asked for.
        gpus: processes of a run.
        hours: the budget in hours.
    """

    out: Path
    weights: Optional[str]
    backbone: dict
    kind: str
    percents: Sequence[float]
    configs: dict[str, Path]
    cells: Optional[ProbeCells]
    gpus: int
    hours: float


def all_parts(
    methods: Sequence[str], seeds: Sequence[int], percents: Sequence[float], kinds: Sequence[str]
) -> list[Part]:
    """Returns all parts in the order in which they are done: seed by seed, so that methods can be
    compared at any time."""
    parts = []
    for seed in seeds:
        for method in (START, *methods):
            if method != START:
                parts.append(Part(PRETRAIN, method, seed))
            if FROZEN in kinds:
                parts.append(Part(FROZEN, method, seed))
        if FINETUNED in kinds:
            for percent in sorted(percents, reverse=True):
                parts += [Part(FINETUNED, method, seed, percent) for method in (START, *methods)]
    return parts


def checkpoint_of(setting: Setting, part: Part) -> Optional[str]:
    """Returns the trunk that a part uses; None if it is not there yet."""
    if part.method == START:
        return setting.weights or SCRATCH
    pointer = pretraining_folder(setting.out, part) / POINTER
    return pointer.read_text().strip() if pointer.is_file() else None


def pretraining_folder(out: Path, part: Part) -> Path:
    """Returns the folder of a method's run with a seed."""
    return out / PRETRAIN / part.method / f'seed{part.seed}'


def finetuning_folder(out: Path, part: Part) -> Path:
    """Returns the folder of a fine-tuning."""
    assert part.percent is not None
    return out / FINETUNED / part.method / f'{part.percent:g}' / f'seed{part.seed}'


def do_parts(
    setting: Setting,
    plan: Plan,
    parts: Sequence[Part],
    ledger: Ledger,
    after: Callable[[list[Done], list[Part]], None],
    say: Callable[[str], None] = print,
) -> list[Part]:
    """Does the parts that are not done yet and fit the budget.

    Args:
        setting: what the parts share.
        plan: how the budget is divided.
        parts: what :func:`all_parts` returned.
        ledger: the record of finished parts.
        after: is called after each part with all finished parts and those left out.
        say: is called with a line before each part.

    Returns:
        The parts that were left out, because the budget does not pay for them.
    """
    done = [d for part in parts if (d := finished(ledger, part, setting.percents)) is not None]
    left_out: list[Part] = []
    known = {each.part for each in done}
    for number, part in enumerate(parts, 1):
        if part in known:
            continue
        expected = plan.seconds[part.estimate_key] * _pace(done, plan, part)
        missing = Part(PRETRAIN, part.method, part.seed) in left_out
        begun = ledger.seconds(part.name)
        remaining = setting.hours * 3600 - ledger.seconds()
        if missing or (max(0.0, expected - begun) > remaining and done):
            left_out.append(part)
            continue
        say(
            f'[{number}/{len(parts)}] {part.name}: about {duration(max(0.0, expected - begun))}; '
            f'{duration(max(0.0, remaining))} of the budget are left'
        )
        done.append(_do(setting, part, ledger))
        after(done, left_out)
    return left_out


def finished(ledger: Ledger, part: Part, percents: Sequence[float]) -> Optional[Done]:
    """Returns the result of a part if it has all that is asked of it; None if something is still to
    be done."""
    found = ledger.result(part)
    if found is not None and part.kind == FROZEN:
        return found if {f'{p:g}' for p in percents} <= found.numbers.keys() else None
    return found


def _pace(done: Sequence[Done], plan: Plan, part: Part) -> float:
    """Returns how many times longer than planned parts of this kind took."""
    alike = [d for d in done if d.part.estimate_key == part.estimate_key]
    alike = alike or [d for d in done if d.part.kind == part.kind]
    planned = sum(plan.seconds[d.part.estimate_key] for d in alike)
    return sum(d.seconds for d in alike) / planned if planned else 1.0


def _do(setting: Setting, part: Part, ledger: Ledger) -> Done:
    folders = {PRETRAIN: pretraining_folder, FINETUNED: finetuning_folder}
    output = folders[part.kind](setting.out, part) / OUTPUT if part.kind in folders else None
    if torch.cuda.is_initialized():  # the run gets what probes and timings left
        torch.cuda.empty_cache()
    with ledger.clock(part.name, output):
        numbers = _WORK[part.kind](setting, part)
    return ledger.write(part, numbers)


def _probe(setting: Setting, part: Part) -> dict[str, Any]:
    cells = setting.cells
    assert cells is not None
    path = checkpoint_of(setting, part)
    model = encoder(setting.backbone, RANDOM if path in (None, SCRATCH) else str(path))
    count = len(cells.parts[0])
    places = {percent: drawn(count, percent, part.seed) for percent in setting.percents}
    return frozen_quality(model, cells, places).numbers


def _pretrain(setting: Setting, part: Part) -> dict[str, Any]:
    folder = pretraining_folder(setting.out, part)
    config = setting.configs[part.method]
    check_settings(folder, dict(config=config.read_text(), seed=part.seed))
    options = [f'randomness.seed={part.seed}']
    train = shipped('tools', 'train.py')
    run_command(train_command(train, str(config), folder, options, setting.gpus), folder)
    return dict(checkpoint=(folder / POINTER).read_text().strip())


def _finetune(setting: Setting, part: Part) -> dict[str, Any]:
    assert part.percent is not None
    folder = finetuning_folder(setting.out, part)
    config = setting.configs[FINETUNED]
    path = checkpoint_of(setting, part)
    name = part_name(part.percent, part.seed)
    numbers = trained(
        shipped('tools', 'train.py'),
        str(config),
        folder,
        dict(config=config.read_text(), seed=part.seed, pretrained=path, labels=name),
        [part_option(setting.kind, name), f'pretrained={path}', f'randomness.seed={part.seed}'],
        setting.gpus,
    )
    if part.percent < 100:  # detectors of all labels may be useful, and are kept
        for file in folder.glob('*.pth'):
            file.unlink()
    return numbers


_WORK = {PRETRAIN: _pretrain, FROZEN: _probe, FINETUNED: _finetune}
