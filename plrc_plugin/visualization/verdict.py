"""Sums up a run in three sentences: its losses, whether it collapsed, and what its probes say."""

from collections.abc import Mapping
from typing import Optional

from plrc_plugin.checkpoints.work_dir import RANDOM
from plrc_plugin.visualization.curves import is_term
from plrc_plugin.visualization.run import Run

MIN_STD = 0.02  # of CollapseHook
NAMES = dict(l_m='the image loss L_m', l_c='the point loss L_c', loss='the loss')
SHARE = 0.01  # share of its value by which a number must change to count as changed


def verdict(run: Run) -> list[str]:
    """Returns three sentences about a run."""
    return [about_losses(run), about_collapse(run), about_probes(run)]


def about_losses(run: Run) -> str:
    """Says whether the losses fell, between the means over the first and the last tenth of the log.

    The image loss is followed from its peak, because the queue starts with random vectors. Affinity
    distillation is left out, because its teacher changes and its value alone tells nothing.
    """
    terms = [name for name in run.scalars if is_term(name) and name not in ('loss', 'l_a')]
    terms = sorted(terms, key=lambda name: name != 'l_c') or ['loss']
    told = []
    for name in terms:
        values = [value for _, value in run.scalars[name]]
        first, last = tenth(values), tenth(values[::-1])
        peak = max(values)
        if name == 'l_m' and peak > first and last < (1 - SHARE) * peak:
            told.append(f'{NAMES[name]} {change(peak, last)} since its peak')
        else:
            told.append(f'{NAMES.get(name, name)} {change(first, last)}')
    sentence = ', and '.join([', '.join(told[:-1]), told[-1]] if len(told) > 1 else told)
    return f'{sentence[0].upper()}{sentence[1:]}.'


def about_collapse(run: Run) -> str:
    """Says whether the embeddings still differ at the end."""
    if 'std' not in run.scalars:
        return 'The run logged no spread of its embeddings (std): a collapse would not show here.'
    hooks = [hook for hook in run.cfg.get('custom_hooks', []) if 'min_std' in hook]
    least = hooks[0]['min_std'] if hooks else MIN_STD
    std = tenth([value for _, value in run.scalars['std']][::-1])
    if std >= least:
        return f'The embeddings have not collapsed: their spread is {std:.2g}, not below {least}.'
    return (
        f'The embeddings have collapsed: their spread is {std:.2g}, below {least}; lower '
        'optim_wrapper.optimizer.lr or raise model.momentum, and start anew.'
    )


def about_probes(run: Run) -> str:
    """Compares the frozen features with those of the start, and says what to do next."""
    probed = {name: numbers for name, numbers in run.probes.items() if name != RANDOM}
    if run.probes.get(RANDOM) and probed:
        checkpoint, numbers = list(probed.items())[-1]
        name = main_metric(run, numbers)
        if name is not None and name in run.probes[RANDOM]:
            before, after = run.probes[RANDOM][name], numbers[name]
            what = f'{name} {change(before, after)} from the untrained network to {checkpoint}'
            return f'{what}: {advice(run, after > before)}.'
    name = main_metric(run, run.metrics)
    if name is None:
        return (
            'Nothing here tells whether the features got better: compare them with the start by '
            f'python tools/probe.py {run.work_dir}, and make this page again.'
        )
    curve = run.metrics[name]
    if len(curve) == 1:
        return (
            f'{name} was measured once, {curve[0][1]:.4g}: compare it with the start by python '
            f'tools/probe.py {run.work_dir}, and make this page again.'
        )
    step, best = max(curve, key=lambda point: point[1])
    first, last = curve[0][1], curve[-1][1]
    if best <= first:
        what = f'{name} was never above {first:.4g}, its first value (iteration {curve[0][0]})'
    elif step == curve[-1][0]:
        what = f'{name} {change(first, last)} since its first value and is at its best'
    else:
        what = f'{name} rose from {first:.4g} to {best:.4g} at iteration {step}, and ended at '
        what += f'{last:.4g}'
    return f'{what}: {advice(run, best > first)}.'


def advice(run: Run, better: bool) -> str:
    """Says what to do."""
    if not better:
        return 'more training of this kind will not help; look at docs/curves.md'
    if not run.finished:
        return 'go on with --resume'
    kept = run.best or (run.checkpoints[-1] if run.checkpoints else None)
    return f'fine-tune from {kept.name}' if kept else 'it kept no checkpoint to fine-tune from'


def main_metric(run: Run, names: Mapping) -> Optional[str]:
    """Returns the metric of ``save_best``, or else the first one; None if there is none."""
    wanted = run.cfg.get('default_hooks', {}).get('checkpoint', {}).get('save_best')
    return wanted if wanted in names else next((name for name in names if '/' in name), None)


def tenth(values: list[float]) -> float:
    """Returns the mean of the first tenth."""
    count = max(1, len(values) // 10)
    return sum(values[:count]) / count


def change(before: float, after: float) -> str:
    """Returns 'fell from 7 to 6', 'rose from ... to ...', or 'stayed at ...'."""
    if abs(after - before) <= SHARE * max(abs(before), abs(after)):
        return f'stayed at {after:.4g}'
    return f'{"fell" if after < before else "rose"} from {before:.4g} to {after:.4g}'
