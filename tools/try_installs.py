"""Try README's lines of installation: python tools/try_installs.py --pythons python3.10 python3.12.

Each line is run in a fresh environment, with a clean clone of this checkout, for each Python. An
installation works if `python -m plrc_plugin doctor` says so and two iterations of the demo train.
Every result is a row of a table, printed as soon as it is known. An environment takes up to 9 GB
and is removed before the next one is made. mmcv is not compiled.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# README's line for OpenMMLab's own packages names a torch that only some Pythons have.
NEWEST_TORCH = "pip install -e '.[openmmlab]'"
VERSIONS = """
from importlib.metadata import version
import torch, numpy
print(f'torch {torch.__version__}, numpy {numpy.__version__}', end='')
"""
TWO_ITERATIONS = (
    'train_dataloader.dataset.num_train=8',
    'train_dataloader.dataset.num_val=2',
    'train_dataloader.batch_size=4',
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'model.warmup_epochs=0',
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=2',
)


def lines_of_readme() -> list[str]:
    """The lines of README that install the package, without their comments, and one without a
    version of torch."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    lines = [
        line.split('#')[0].strip() for line in re.findall(r'^pip install .*$', text, re.MULTILINE)
    ]
    return [*lines, *([] if NEWEST_TORCH in lines else [NEWEST_TORCH])]


def try_line(line: str, interpreter: str, folder: Path) -> tuple[str, str]:
    """Installs by ``line`` in a fresh environment in ``folder``, and trains.

    Returns:
        The versions of torch and numpy that came, and 'yes', or what failed in one line.
    """
    checkout, python = folder / 'checkout', folder / 'venv' / 'bin' / 'python'
    steps = {
        'no clone': ['git', 'clone', '-q', str(ROOT), str(checkout)],
        'no environment': [interpreter, '-m', 'venv', str(folder / 'venv')],
        'does not install': f'{python} -m {line} --no-cache-dir --no-compile',
        'doctor says no': [str(python), '-W', 'ignore', '-m', 'plrc_plugin', 'doctor'],
        'does not train': [
            str(python),
            'tools/train.py',
            'configs/plrc_demo.py',
            '--work-dir',
            str(folder / 'run'),
            '--cfg-options',
            *TWO_ITERATIONS,
        ],
    }
    result = 'yes'
    for failure, command in steps.items():
        done = subprocess.run(
            command,
            shell=isinstance(command, str),
            cwd=checkout if checkout.exists() else folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.stderr.write(done.stdout[-4000:] + done.stderr[-4000:])
            result = f'{failure}: {reason_in(done.stdout + done.stderr)}'
            break
    done = subprocess.run(
        [python, '-W', 'ignore', '-c', VERSIONS], capture_output=True, text=True, check=False
    )
    return done.stdout, result


def reason_in(output: str) -> str:
    """The line of a command's output that says most about its failure."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [line for line in lines if re.match(r'(?i)(\w+)?error', line)]
    said = [line for line in said if 'ResolutionImpossible' not in line] or said or lines
    return (said or ['it says nothing'])[-1][:160].replace('|', '/')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        '--pythons',
        nargs='+',
        default=[name for minor in range(9, 14) if shutil.which(name := f'python3.{minor}')],
        help='interpreters (those of Python 3.9 to 3.13 on the PATH)',
    )
    parser.add_argument(
        '--lines',
        nargs='+',
        type=int,
        default=range(len(lines_of_readme())),
        help='numbers of the lines to try, from 0: ' + '; '.join(lines_of_readme()),
    )
    parser.add_argument('--folder', help='where environments are made (the temporary folder)')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    lines = lines_of_readme()
    print('| Python | line | what came | pre-trains |\n|---|---|---|---|', flush=True)
    for interpreter in args.pythons:
        asked = subprocess.run([interpreter, '-V'], capture_output=True, text=True, check=True)
        version = asked.stdout.split()[-1]
        for number in args.lines:
            with tempfile.TemporaryDirectory(dir=args.folder) as folder:
                came, result = try_line(lines[number], interpreter, Path(folder))
            print(f'| {version} | `{lines[number]}` | {came} | {result} |', flush=True)


if __name__ == '__main__':
    main()
