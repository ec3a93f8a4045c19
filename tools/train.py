"""Train what a config describes: pre-training, or any mmdet or mmseg model. Run by `mim train`."""

import argparse
import os
import os.path as osp


def parse_args():
    """Reads the command line; mim's launchers pass the local rank in either spelling."""
    parser = argparse.ArgumentParser(
        description='Train what a config describes',
    )
    parser.add_argument(
        'config', help='config file, or the work dir of a run that is to go on with --resume'
    )
    parser.add_argument('--work-dir', help='folder of logs and checkpoints (work_dirs/<config>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint, or without a value from the latest one in the work dir',
    )
    parser.add_argument(
        '--overwrite',
        action='store_true',
        help='start anew in a work dir that holds checkpoints, which are removed',
    )
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate to the batch size (the config's auto_scale_lr)",
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        metavar='KEY=VALUE',
        help='settings that replace those of the config, e.g. train_cfg.max_epochs=100',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what starts the processes (default: %(default)s)',
    )
    parser.add_argument(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        help='of this process, by launchers (default: %(default)s)',
    )
    args = parser.parse_args()
    if not osp.exists(args.config):
        parser.error(f'config {args.config!r} does not exist')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args):
    """Reads the config and lays the command line over it."""
    from plrc_plugin.config_files import config_from_file, config_of_work_dir, parse_options
    from plrc_plugin.errors import SettingsError

    if osp.isdir(args.config):
        args.work_dir = args.work_dir or args.config
        args.config = str(config_of_work_dir(args.config))
    cfg = config_from_file(args.config)
    cfg.merge_from_dict(parse_options(args.cfg_options))
    cfg.launcher = args.launcher

    name = osp.splitext(osp.basename(args.config))[0]
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = osp.join('work_dirs', name)
    if cfg.get('experiment_name') is None:
        cfg.experiment_name = name
    # The runner saves the config under its own base name. In a checkout mim would then find that
    # name twice and refuse both, so the copy in the work dir gets another one.
    resolved = f'{name.removesuffix("_resolved")}_resolved.py'
    object.__setattr__(cfg, '_filename', resolved)

    if args.amp:
        kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
        if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
            raise SettingsError(f'--amp needs optim_wrapper.type OptimWrapper, not {kind}')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise SettingsError('--auto-scale-lr needs auto_scale_lr.base_batch_size in the config')
        cfg.auto_scale_lr.enable = True
    if args.overwrite:
        cfg.overwrite = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    return cfg


def what_remains(folders) -> str:
    """For a run that was interrupted: what is there, and how it goes on."""
    from plrc_plugin.checkpoints.claim import checkpoints_in

    for folder in reversed(folders):  # the one for checkpoints alone comes last
        found = checkpoints_in(folder, folders)
        if found:
            return f'The newest checkpoint is {osp.join(folder, found[0])}: go on with --resume.'
    return 'There is no checkpoint yet: the same command starts anew.'


def main():
    """Builds the runner and trains; a setting that cannot work ends in one line, exit code 2."""
    args = parse_args()  # before the slow imports: mim asks for the help first
    from mmengine.registry import RUNNERS

    import plrc_plugin  # noqa: F401  registers everything, whatever the config imports
    from plrc_plugin.checkpoints.claim import check_unused, folders_of
    from plrc_plugin.checkpoints.mmengine_loader import read_without_running
    from plrc_plugin.terminal import one_line_errors

    folders = []
    with one_line_errors(lambda: what_remains(folders)):
        read_without_running()
        cfg = load_config(args)
        folders += folders_of(cfg)
        if not cfg.get('resume') and not cfg.get('overwrite'):
            check_unused(folders)  # before anything is written there
        cfg.setdefault('runner_type', 'plrc_plugin.PretrainRunner')
        RUNNERS.build(cfg).train()


if __name__ == '__main__':
    main()
