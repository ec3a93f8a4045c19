"""Puts values in place of every ``'auto'`` of a config, and records where each came from."""

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mmengine.registry import DefaultScope

from plrc_plugin.auto import AUTO, Place, places, unresolved
from plrc_plugin.errors import SettingsError
from plrc_plugin.recipe import rules, trial
from plrc_plugin.recipe.facts import gather
from plrc_plugin.recipe.rules import Facts, Value

RECORD = 'recipe.json'
_MIXED = 'plrc_plugin.MixedPrecisionOptimWrapper'
# A resumed run may be on another machine. These settings do not change its results.
_OF_THE_MACHINE = (
    'train_dataloader.num_workers',
    'train_dataloader.persistent_workers',
    'train_dataloader.pin_memory',
)
BY_RULE, BY_HAND, BY_RUN = 'rule', 'by hand', 'as before'


class Row(NamedTuple):
    """A line of the table: a setting, its value, where it comes from and why."""

    setting: str
    value: Any
    source: str
    rule: str


class Recipe(NamedTuple):
    """The settings that were resolved, and the facts that they follow from."""

    facts: Facts
    rows: list[Row]

    def table(self) -> str:
        """Returns a table for people: the facts in one line, then a line for each setting."""
        f = self.facts
        said = [
            f'{f.images:,} images' + (f', shorter side mostly {f.side}' if f.side else ''),
            f'{"GPU" if f.gpu else "CPU"}, {f.processes} process{"es" * (f.processes > 1)}',
            'starts from weights' if f.weights else 'starts from random weights',
            *(f'budget {name} = {amount:.6g}' for name, amount in f.budget.items()),
        ]
        lines = [(row.setting, _shown(row.value), row.source, row.rule) for row in self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(3)]
        return '\n'.join(
            [
                'Settings that depend on the data (docs/recipe.md):',
                f'  {"; ".join(said)}',
                *(
                    '  ' + '  '.join(f'{text:<{w}}' for text, w in zip(line, [*widths, 0])).rstrip()
                    for line in lines
                ),
            ]
        )

    def write(self, folder: str) -> None:
        """Writes the record from which a resumed run takes its values."""
        record = dict(facts=self.facts._asdict(), settings=[row._asdict() for row in self.rows])
        path = Path(folder) / RECORD
        path.write_text(json.dumps(record, indent=1) + '\n')


def resolve(
    cfg: Any, processes: int = 1, processes_here: int = 1, record: Any = None, say: Any = print
):
    """Replaces every ``'auto'`` in ``cfg``, in place.

    Some steps are tried if a budget in hours or the memory of a GPU makes it necessary.

    Args:
        cfg (Config): the config of a pre-training run.
        processes (int): number of processes of the whole run.
        processes_here (int): number of those on this machine.
        record (dict, optional): what :func:`earlier_record` returned, for a run that is resumed.
        say (callable, optional): is called with a line before something is tried. Defaults to
            ``print``.

    Returns:
        Recipe | None: None if nothing is ``'auto'``.

    Raises:
        SettingsError: if the images, the budget or a setting cannot be used.
    """
    if cfg.get('budget') and _value(cfg, 'train_cfg.max_epochs') != AUTO:
        raise SettingsError(
            f'budget={dict(cfg.budget)} decides train_cfg.max_epochs only if that is auto, and it '
            f'is '
            f'{_value(cfg, "train_cfg.max_epochs")}: set train_cfg.max_epochs=auto, or leave the '
            'budget out'
        )
    if not unresolved(cfg):
        return None
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        facts = gather(cfg, processes, processes_here)
        return _Resolver(cfg, facts, record, say or (lambda line: None)).recipe()


def earlier_record(cfg: Any) -> Optional[dict]:
    """Returns the record of a run that is resumed, from beside its checkpoint or from its work
    dir."""
    if not cfg.get('resume'):
        return None
    folders = [cfg.work_dir]
    if cfg.get('load_from'):
        folders.insert(0, str(Path(cfg.load_from).parent))
    path = next((p for f in folders if (p := Path(f) / RECORD).is_file()), None)
    if path is None:
        return None
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise SettingsError(
            f'{path} is damaged ({error}): resume with the *_resolved.py beside it'
        ) from error


class _Resolver:
    """Goes through the settings in an order in which each rule has the values that it needs."""

    def __init__(self, cfg: Any, facts: Facts, record: Optional[dict], say: Any):
        self.cfg, self.facts, self.say = cfg, facts, say
        self.rows: list[Row] = []
        self.before = {row['setting']: row for row in (record or {}).get('settings', [])}
        facts_before = (record or {}).get('facts', {})
        self.processes_before = facts_before.get('processes', facts.processes)
        if facts_before.get('budget', facts.budget) != facts.budget:
            self.before.pop('train_cfg.max_epochs', None)

    def recipe(self) -> Recipe:
        facts = self.facts
        size = self.set('TwoViews.size', lambda: rules.view_size(facts)) or 224
        self.set('SampleRegionPoints.resolution', lambda: rules.resolution(size))
        self.set('SampleRegionPoints.points_per_region', lambda: rules.points_per_region(size))
        workers = self.set('train_dataloader.num_workers', lambda: rules.workers(facts)) or 0
        self.set(
            'train_dataloader.persistent_workers',
            lambda: Value(workers > 0, f'with {workers} workers'),
        )
        self.set(
            'train_dataloader.pin_memory', lambda: Value(facts.gpu, 'for copies to a GPU alone')
        )
        self.precision()
        batch = self.set('train_dataloader.batch_size', lambda: self.batch(size)) or 1
        per_epoch = rules.iterations_per_epoch(facts.images, facts.processes, batch)
        epochs = self.set('train_cfg.max_epochs', lambda: self.epochs(per_epoch))
        steps = self.cfg.train_cfg.get('max_iters') or (epochs or 1) * per_epoch
        epochs = epochs or max(1, steps // max(per_epoch, 1))
        seen = steps * batch * facts.processes
        self.set('model.queue_size', lambda: rules.queue_size(facts.images, seen))
        self.set('model.momentum', lambda: rules.momentum(steps))
        self.set('model.warmup_epochs', lambda: rules.warmup_epochs(epochs, facts.weights))
        self.set('model.keep', lambda: rules.keep(facts.weights))
        self.learning_rate(batch * facts.processes)
        self.set('param_scheduler.end', lambda: rules.lr_warmup(steps, facts.weights))
        self.drop_empty_schedules()
        self.checkpoints(epochs, per_epoch)
        lines = rules.log_interval(steps, facts.gpu)
        interval = self.set('default_hooks.logger.interval', lambda: lines) or 0
        self.set(
            'log_processor.window_size',
            lambda: Value(max(10, interval), 'the iterations of a line, at least 10'),
        )
        if self.cfg.get('budget'):
            self.cfg.budget = dict()  # the budget is spent; max_epochs follows from it
        return Recipe(facts, self.rows)

    def set(self, name: str, compute) -> Any:
        """Resolves the places of a setting. Returns its value, or None if the config has no such
        place."""
        found = [place for place in places(self.cfg) if place.name == name]
        if not found:
            return None
        asked = [place for place in found if place.value == AUTO]
        if not asked:
            self.rows.append(Row(found[0].path, found[0].value, BY_HAND, ''))
            return found[0].value
        value, source = self.chosen(asked[0], compute)
        for place in asked:
            place.holder[place.key] = value.value
        self.rows.append(Row(asked[0].path, value.value, source, value.rule))
        return value.value

    def chosen(self, place: Place, compute) -> tuple[Value, str]:
        before = self.before.get(place.path)
        if before is None or place.name in _OF_THE_MACHINE:
            return compute(), BY_RULE
        value, rule = before['value'], before['rule']
        if place.name == 'train_dataloader.batch_size':
            value = max(2, value * self.processes_before // self.facts.processes)
        return Value(value, rule), BY_RUN

    def precision(self) -> None:
        def compute() -> Value:
            dtype, rule = rules.precision(self.facts)
            return Value(f'{_MIXED}.{dtype}' if dtype else 'OptimWrapper', rule)

        chosen = self.set('optim_wrapper.type', compute)
        if isinstance(chosen, str) and chosen.startswith(f'{_MIXED}.'):
            self.cfg.optim_wrapper.type = _MIXED
            self.cfg.optim_wrapper.setdefault('dtype', chosen.rpartition('.')[2])

    def batch(self, size: int) -> Value:
        """Sets the batch by the rule. On a GPU that batch is tried, and halved until it fits."""
        value = rules.batch_size(self.facts, size)
        if not self.facts.gpu:
            return value
        self.say('recipe: trying which batch fits the memory of the GPU')
        fits = trial.largest_batch(self.provisional(value.value))
        return rules.batch_size(self.facts, size, fits)

    def epochs(self, per_epoch: int) -> Value:
        seconds = None
        if 'hours' in self.facts.budget:
            self.say('recipe: timing some steps, to see how many epochs the budget pays for')
            seconds = trial.try_steps(self.provisional()).seconds
        if not per_epoch:
            raise SettingsError(
                f'the {self.facts.images} images of train_dataloader.dataset do not fill one batch '
                f'of {self.cfg.train_dataloader.batch_size} per process: lower '
                'train_dataloader.batch_size'
            )
        return rules.epochs(self.facts, per_epoch, seconds)

    def provisional(self, batch: Optional[int] = None) -> Any:
        """Returns the config with provisional values for settings that are not resolved yet."""
        cfg = copy.deepcopy(self.cfg)
        if batch is not None:
            cfg.train_dataloader.batch_size = batch
        guesses = {
            'model.queue_size': rules.queue_size(self.facts.images, 8 * rules.QUEUE).value,
            'model.momentum': 0.99,
            'model.warmup_epochs': 0,
            'model.keep': None,
            'optim_wrapper.optimizer.lr': 1e-6,
        }
        for place in unresolved(cfg):
            place.holder[place.key] = guesses.get(place.name, 1)
        return cfg

    def learning_rate(self, batch: int) -> None:
        asked = _value(self.cfg, 'optim_wrapper.optimizer.lr') == AUTO
        rate = lambda: rules.learning_rate(batch, self.facts.weights)  # noqa: E731
        self.set('optim_wrapper.optimizer.lr', rate)
        if asked and self.cfg.get('auto_scale_lr'):
            self.cfg.auto_scale_lr.base_batch_size = batch  # otherwise it would be scaled once more

    def drop_empty_schedules(self) -> None:
        """Removes schedules of no iteration, which mmengine would refuse."""
        schedules = self.cfg.get('param_scheduler')
        if isinstance(schedules, (list, tuple)):
            self.cfg.param_scheduler = [entry for entry in schedules if entry.get('end') != 0]

    def checkpoints(self, epochs: int, per_epoch: int) -> None:
        """Sets checkpoints within epochs that are too long to lose."""
        hook = (self.cfg.get('default_hooks') or {}).get('checkpoint') or {}
        asked = hook.get('interval') == AUTO
        by_epoch = hook.get('by_epoch', True)
        most = 5000 if self.facts.gpu else 200

        def compute() -> Value:
            if by_epoch and per_epoch <= 2 * most:
                return rules.checkpoint_interval(epochs, per_epoch, self.facts.gpu)
            return Value(most, f'iterations, because an epoch has {per_epoch:,}')

        interval = self.set('default_hooks.checkpoint.interval', compute)
        if asked and by_epoch and per_epoch > 2 * most and interval == most:
            hook['by_epoch'] = False


def _value(cfg: Any, path: str) -> Any:
    return next((place.value for place in places(cfg) if place.path == path), None)


def _shown(value: Any) -> str:
    return str(value).replace(f'{_MIXED}.', '')
