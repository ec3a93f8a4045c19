"""Finds mistyped options before anything is built.

mmengine builds parts of a config late (the loaders of validation and test), swallows some options
(hooks with ``**kwargs`` that reach their use an epoch later) and reads others with ``get``, so that
a mistyped one has no effect. Here every option of every part is compared with the options that the
part takes. No option is refused that might work: if a class hands its ``**kwargs`` to something
unknown here, only its constructor can tell.
"""

import ast
import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from typing import Any, Optional

import torch
from mmengine import registry
from mmengine.dist import init_dist
from mmengine.hooks import CheckpointHook
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, TestLoop, ValLoop
from mmengine.utils.dl_utils import set_multi_processing
from torch.utils.data import DataLoader

from plrc_plugin.engine.option_types import check_types
from plrc_plugin.errors import SettingsError
from plrc_plugin.registry import REGIONS, SCOPE

# Keys that mmengine takes from a dict before it builds, or adds to it.
_ALWAYS = {'type', '_scope_', '_delete_'}
# Arguments that the runner gives, so that a config cannot.
_GIVEN = {'self', 'runner', 'optimizer', 'model', 'params'}
# Classes that hand their **kwargs to a function that takes only its own options.
_HANDED_ON = {CheckpointHook: (Runner.save_checkpoint, {'out_dir', 'filename', 'meta'})}
_LOADER = {
    'dataset',
    'sampler',
    'batch_sampler',
    'collate_fn',
    'worker_init_fn',
    'num_batch_per_epoch',
    'disable_subprocess_warning',
}
_UNUSABLE = dict(
    LBFGS='computes losses again within a step, which the training loop does not offer',
    SparseAdam='takes sparse gradients, and a network has dense ones',
)
_DEFAULT_TYPES = dict(visualizer='Visualizer', log_processor='LogProcessor')
_DEFAULT_HOOKS = [
    'runtime_info',
    'timer',
    'sampler_seed',
    'logger',
    'param_scheduler',
    'checkpoint',
]


def check_options(cfg: dict) -> None:
    """Raises SettingsError for the first option in a config that its part does not take.

    Top-level names are free: configs have variables of their own.
    """
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmengine'):
        _check_all(cfg)


def _check_all(cfg: dict) -> None:
    for where in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        _check_loader(cfg.get(where), where)
    for where, default in (
        ('train_cfg', EpochBasedTrainLoop),
        ('val_cfg', ValLoop),
        ('test_cfg', TestLoop),
    ):
        _check_loop(cfg.get(where), where, default)
    _check_hooks(cfg.get('default_hooks'), cfg.get('custom_hooks'))
    _check_optim_wrapper(cfg.get('optim_wrapper'))
    for where, root in (
        ('param_scheduler', registry.PARAM_SCHEDULERS),
        ('visualizer', registry.VISUALIZERS),
        ('log_processor', registry.LOG_PROCESSORS),
        ('val_evaluator', registry.METRICS),
        ('test_evaluator', registry.METRICS),
    ):
        _check_parts(cfg.get(where), where, root)
    _check_model(cfg.get('model'), 'model')
    _check_read_by_name(cfg)


def unmatched_keys(wrapper: Any, model: torch.nn.Module) -> list[str]:
    """Returns a line for each of ``paramwise_cfg.custom_keys`` that occurs in no parameter's name,
    and so changes nothing. This is no error, because configs for several models have such keys."""
    paramwise = wrapper.get('paramwise_cfg') if isinstance(wrapper, dict) else None
    keys = (paramwise.get('custom_keys') if isinstance(paramwise, dict) else None) or {}
    names = [name for name, _ in model.named_parameters()]
    parts = {part for name in names for part in name.split('.') if not part.isdigit()}
    lines = []
    for key in keys:
        if not any(key in name for name in names):
            near = difflib.get_close_matches(key, parts, n=1, cutoff=0.6)
            lines.append(
                f'optim_wrapper.paramwise_cfg.custom_keys.{key} is in the name of no parameter '
                'and changes nothing' + (f'; did you mean {near[0]}?' if near else '')
            )
    return lines


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ``'; did you mean x?'``, or the names that there are."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f'; did you mean {near[0]}?'
    return f'; there are: {", ".join(known)}' if known else '; it takes none'


def takes(builder: Callable) -> Optional[set]:
    """Returns the names of the options of a class or function, or None if it may take any.

    ``**kwargs`` are followed to the constructor of the base class, if that is the only use made of
    them, and to the function that a class names as its ``kwargs_of``.
    """
    if not inspect.isclass(builder):
        names, is_open = _names(builder)
        # The first argument is the object that the function works on.
        return None if is_open else names - set(list(inspect.signature(builder).parameters)[:1])
    names: set = set()
    for cls in builder.__mro__:
        if '__init__' not in vars(cls) or cls is object:
            continue
        own, is_open = _names(cls.__init__)
        names |= own
        if not is_open:
            return names - _GIVEN
        function, given = _HANDED_ON.get(cls, (getattr(cls, 'kwargs_of', None), set()))
        if function is not None:
            return (names | _names(function)[0] - given) - _GIVEN
        if not _only_for_the_base(cls):
            return None
    return names - _GIVEN if builder.__mro__ else None


def explain_unexpected(error: BaseException, *configs) -> Optional[str]:
    """Says where in the configs an option stands that a constructor did not take, and the nearest
    option that it takes. Returns None for other errors."""
    found = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    found = found or re.search(r"(\w+)\(\) got an unexpected keyword argument '(\w+)'", str(error))
    if not found:
        return None
    owner, option = found.groups()
    for path, part in _dicts(configs[0] if len(configs) == 1 else list(configs), ''):
        if option in part and ('type' in part or not path):
            builder = _resolve(part.get('type'))
            known = takes(builder) if builder is not None else None
            name = getattr(builder, '__name__', owner)
            return f'{path}.{option} is no option of {name}'.lstrip('.') + (
                nearest(option, known - {option}) if known else ''
            )
    return None


def _check(part: dict, where: str, builder: Optional[Callable], more: Iterable[str] = ()) -> None:
    if builder is not None:
        check_types(part, where, builder)
    known = takes(builder) if builder is not None else None
    if known is None:
        return
    for option in part:
        if option not in known | set(more) | _ALWAYS:
            raise SettingsError(
                f'{where}.{option} is no option of {getattr(builder, "__name__", builder)}'
                f'{nearest(option, known)}'
            )


def _check_parts(part: Any, where: str, root: Optional[Registry] = None, more=()) -> None:
    """Checks a part, the parts in its options, and those in theirs."""
    if isinstance(part, (list, tuple)):
        for i, entry in enumerate(part):
            _check_parts(entry, f'{where}.{i}', root, more)
    if not isinstance(part, dict):
        return
    kind = part.get('type', _DEFAULT_TYPES.get(where))
    if kind is not None:
        builder = _resolve(kind, root)
        extra = set(more)
        if root is registry.WEIGHT_INITIALIZERS:
            extra |= {'override', 'layer'}
        if root is registry.PARAM_SCHEDULERS:
            extra.add('convert_to_iter_based')
        _check(part, where, builder, extra)
    for name, value in part.items():
        if isinstance(value, (dict, list, tuple)):
            _check_parts(value, f'{where}.{name}')


def _check_loader(loader: Any, where: str) -> None:
    if not isinstance(loader, dict):
        return
    _check(loader, where, DataLoader, _LOADER)
    _check_parts(loader.get('dataset'), f'{where}.dataset', registry.DATASETS)
    for name in ('sampler', 'batch_sampler'):
        _check_parts(loader.get(name), f'{where}.{name}', registry.DATA_SAMPLERS)
    for name in ('collate_fn', 'worker_init_fn'):
        if isinstance(loader.get(name), dict):
            function = _resolve(loader[name].get('type'), registry.FUNCTIONS)
            _check(loader[name], f'{where}.{name}', function)


def _check_loop(loop: Any, where: str, default: type) -> None:
    if not isinstance(loop, dict):
        return
    builder = default
    if 'type' in loop:
        builder = _resolve(loop['type'], registry.LOOPS)
    elif where == 'train_cfg' and not loop.get('by_epoch', True):
        builder = IterBasedTrainLoop
    _check(loop, where, builder, {'by_epoch'} if 'type' not in loop else ())


def _check_hooks(default_hooks: Any, custom_hooks: Any) -> None:
    for name, hook in (default_hooks or {}).items():
        if isinstance(hook, dict) and 'type' not in hook:
            raise SettingsError(
                f'default_hooks.{name} has no type and so is no hook{nearest(name, _DEFAULT_HOOKS)}'
            )
        _check_parts(hook, f'default_hooks.{name}', registry.HOOKS, {'priority'})
    _check_parts(custom_hooks, 'custom_hooks', registry.HOOKS, {'priority'})


def _check_optim_wrapper(wrapper: Any) -> None:
    if not isinstance(wrapper, dict):
        return
    constructor = DefaultOptimWrapperConstructor
    if 'constructor' in wrapper:
        constructor = _resolve(wrapper['constructor'], registry.OPTIM_WRAPPER_CONSTRUCTORS)
    ours = inspect.isclass(constructor) and issubclass(constructor, DefaultOptimWrapperConstructor)
    if not ours:
        return  # a constructor of several wrappers may take anything
    builder = _resolve(wrapper.get('type', 'OptimWrapper'), registry.OPTIM_WRAPPERS)
    _check(wrapper, 'optim_wrapper', builder, {'optimizer', 'constructor', 'paramwise_cfg'})
    optimizer = wrapper.get('optimizer')
    _check_parts(optimizer, 'optim_wrapper.optimizer', registry.OPTIMIZERS)
    kind = optimizer.get('type') if isinstance(optimizer, dict) else None
    if kind in _UNUSABLE:
        raise SettingsError(
            f'optim_wrapper.optimizer.type={kind} {_UNUSABLE[kind]}: use SGD, AdamW or another one'
        )
    clip = wrapper.get('clip_grad')
    if isinstance(clip, dict):
        by = 'value' if clip.get('type') == 'value' else 'norm'
        function = getattr(torch.nn.utils, f'clip_grad_{by}_')
        _check(clip, 'optim_wrapper.clip_grad', function)
        name = 'clip_value' if by == 'value' else 'max_norm'
        limit = clip.get(name, 1)
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0:
            raise SettingsError(
                f'optim_wrapper.clip_grad.{name} must be a number above 0, got {limit!r}: '
                'otherwise gradients would vanish, or change their sign'
            )
    paramwise = wrapper.get('paramwise_cfg')
    if isinstance(paramwise, dict) and inspect.isclass(constructor):
        source = ''.join(_source(c) for c in constructor.__mro__ if c is not object)
        known = set(re.findall(r"'(\w+)'", source))
        parts = {'': paramwise}
        for name, part in (paramwise.get('custom_keys') or {}).items():
            parts[f'custom_keys.{name}.'] = part if isinstance(part, dict) else {}
        for place, option in [(place, name) for place, part in parts.items() for name in part]:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.6)
            if source and option not in known and near:
                raise SettingsError(
                    f'optim_wrapper.paramwise_cfg.{place}{option} is read by nothing; '
                    f'did you mean {near[0]}?'
                )


def _check_model(part: Any, where: str) -> None:
    """Checks the parts of this package. Models of others are built before the run begins, which
    reports options that they do not take. Some also remove options of their parts before they build
    these."""
    if isinstance(part, (list, tuple)):
        for i, entry in enumerate(part):
            _check_model(entry, f'{where}.{i}')
    if not isinstance(part, dict):
        return
    builder = _resolve(part.get('type'), registry.MODELS)
    if builder is not None and builder.__module__.startswith('plrc_plugin.'):
        _check(part, where, builder)
    for name, value in part.items():
        if name == 'init_cfg':
            _check_parts(value, f'{where}.init_cfg', registry.WEIGHT_INITIALIZERS)
        if not name.endswith('_cfg'):
            _check_model(value, f'{where}.{name}')


def _check_read_by_name(cfg: dict) -> None:
    """Checks dicts without a type, of which mmengine reads only the options that it knows."""
    env = cfg.get('env_cfg') or {}
    launcher = _names(init_dist)[0] - {'launcher'} | _names(torch.distributed.init_process_group)[0]
    for where, part, known in (
        ('env_cfg', env, {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'}),
        ('env_cfg.mp_cfg', env.get('mp_cfg'), _names(set_multi_processing)[0] - {'distributed'}),
        ('env_cfg.dist_cfg', env.get('dist_cfg'), launcher | {'port', 'init_backend'}),
        ('auto_scale_lr', cfg.get('auto_scale_lr'), {'base_batch_size', 'enable'}),
        ('randomness', cfg.get('randomness'), _names(Runner.set_randomness)[0] - _GIVEN),
        ('custom_imports', cfg.get('custom_imports'), {'imports', 'allow_failed_imports'}),
    ):
        for option in part or {}:
            near = difflib.get_close_matches(option, known, n=1, cutoff=0.6)
            if option not in known | _ALWAYS and near:
                raise SettingsError(f'{where}.{option} is read by nothing; did you mean {near[0]}?')
    compiled = cfg.get('compile')
    if isinstance(compiled, dict) and isinstance(compiled.get('backend'), str):
        _check_backend('compile.backend', compiled['backend'])
    wrapper = cfg.get('model_wrapper_cfg')
    if isinstance(wrapper, dict):
        builder = _resolve(wrapper.get('type'), registry.MODEL_WRAPPERS)
        more = ()
        if (builder in (None, MMDistributedDataParallel) and 'type' not in wrapper) or (
            builder is MMDistributedDataParallel
        ):
            builder = torch.nn.parallel.DistributedDataParallel
            more = ('detect_anomalous_params', 'module')
        _check(wrapper, 'model_wrapper_cfg', builder, more)


def _check_backend(where: str, backend: str) -> None:
    from torch._dynamo import list_backends  # importing it takes a second

    known = list_backends(exclude_tags=())
    if backend not in known:
        raise SettingsError(f'{where}={backend} is no compiler{nearest(backend, known)}')


def _resolve(kind: Any, root: Optional[Registry] = None) -> Optional[Callable]:
    """Returns the class or function that a config names, or None if there is none.

    Without ``root`` any registry may hold it. If two have the same name, neither is taken.
    """
    if inspect.isclass(kind) or inspect.isfunction(kind):
        return kind
    if not isinstance(kind, str):
        return None
    scope = DefaultScope.get_current_instance()
    names = [kind]
    if scope is not None and '.' not in kind and scope.scope_name != 'mmengine':
        names.insert(0, f'{scope.scope_name}.{kind}')
    if '.' not in kind:
        names.append(f'{SCOPE}.{kind}')
    found: list = []
    for entry in [root] if root is not None else _roots():
        for name in names:
            try:
                builder = entry.get(name)
            except Exception:  # for example a scope that is not installed; building reports it
                builder = None
            if builder is not None:
                found += [builder] if builder not in found else []
                break
    return found[0] if len(found) == 1 and callable(found[0]) else None


@lru_cache(maxsize=1)
def _roots() -> list[Registry]:
    roots = [value for value in vars(registry).values() if isinstance(value, Registry)]
    return [*roots, REGIONS]


@cache
def _names(function: Callable) -> tuple[set, bool]:
    """Returns the names of a function's options, and whether it takes others."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set(), True
    fixed = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return fixed, any(p.kind is p.VAR_KEYWORD for p in parameters)


@cache
def _only_for_the_base(cls: type) -> bool:
    """Whether ``__init__`` does nothing with its ``**kwargs`` but hand them to its base class."""
    try:
        tree = ast.parse(_source(cls.__init__)).body[0]
    except (SyntaxError, IndexError):
        return False
    if not isinstance(tree, ast.FunctionDef) or tree.args.kwarg is None:
        return False
    name = tree.args.kwarg.arg
    uses = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id == name]
    handed = [
        keyword.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == '__init__'
        for keyword in call.keywords
        if keyword.arg is None
    ]
    return bool(uses) and all(use in handed for use in uses)


def _source(thing: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        return ''


def _dicts(part: Any, where: str) -> Iterator[tuple[str, dict]]:
    if isinstance(part, dict):
        yield where, part
        entries: Iterable = part.items()
    elif isinstance(part, (list, tuple)):
        entries = enumerate(part)
    else:
        return
    for name, value in entries:
        yield from _dicts(value, f'{where}.{name}'.lstrip('.'))
