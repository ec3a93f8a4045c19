"""What the check imports, and the wheels of it for a machine without a network.

python -m benchmarks.gpu --missing                  # there: names what is missing
python -m benchmarks.gpu.wheels --python 3.12       # here: fills gpu-wheels/
"""

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Optional

# Import name to its distribution. mmengine, cv2 and yaml have other names there.
NEEDED = {
    'torch': 'torch',
    'torchvision': 'torchvision',
    'numpy': 'numpy',
    'PIL': 'pillow',
    'cv2': 'opencv-python-headless',
    'matplotlib': 'matplotlib',
    'contourpy': 'contourpy',
    'cycler': 'cycler',
    'dateutil': 'python-dateutil',
    'fontTools': 'fonttools',
    'kiwisolver': 'kiwisolver',
    'pyparsing': 'pyparsing',
    'six': 'six',
    'scipy': 'scipy',
    'skimage': 'scikit-image',
    'imageio': 'imageio',
    'networkx': 'networkx',
    'tifffile': 'tifffile',
    'lazy_loader': 'lazy-loader',
    'tqdm': 'tqdm',
    'safetensors': 'safetensors',
    'requests': 'requests',
    'certifi': 'certifi',
    'charset_normalizer': 'charset-normalizer',
    'idna': 'idna',
    'urllib3': 'urllib3',
    'filelock': 'filelock',
    'jinja2': 'jinja2',
    'packaging': 'packaging',
    'yaml': 'pyyaml',
    'lightly': 'lightly',
    'pytorch_lightning': 'pytorch-lightning',  # which lightly's k-NN imports
    'lightning_utilities': 'lightning-utilities',
    'torchmetrics': 'torchmetrics',
    'fsspec': 'fsspec',
    'mmengine': 'onedl-mmengine',
    'addict': 'addict',
    'yapf': 'yapf',
    'platformdirs': 'platformdirs',
    'termcolor': 'termcolor',
    'rich': 'rich',
    'pygments': 'pygments',
    'markdown_it': 'markdown-it-py',
    'mdurl': 'mdurl',
    'pytest': 'pytest',
    'iniconfig': 'iniconfig',
    'pluggy': 'pluggy',
}
# Of these an environment with PyTorch has everything but, mostly:
USUAL = (
    *('lightly', 'pytorch-lightning', 'lightning-utilities', 'torchmetrics'),
    *('onedl-mmengine', 'addict', 'yapf', 'platformdirs', 'termcolor'),
    *('rich', 'pygments', 'markdown-it-py', 'mdurl'),
)
PINS = Path(__file__).resolve().parents[2] / 'requirements' / 'constraints.txt'


def missing() -> list[str]:
    """The distributions whose modules cannot be found here."""
    return sorted(name for module, name in NEEDED.items() if not _there(module))


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def pinned(name: str) -> str:
    """The tested version of a distribution; the name alone where none was."""
    for line in PINS.read_text().splitlines():
        if re.sub(r'[-_.]+', '-', line.split('==')[0]).lower() == name:
            return line
    return name


def collect(name: str, python: str, folder: Path) -> Optional[str]:
    """Puts the wheel of a distribution into the folder; why not, in one line, if it cannot."""
    glibc = (39, 35, 34, 31, 28, 27, 24, 17, 12, 5)
    tags = [f'--platform=manylinux_2_{minor}_x86_64' for minor in glibc]
    command = [
        *(sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps'),
        *('--only-binary=:all:', f'--python-version={python}', '--implementation=cp', *tags),
        *('--platform=manylinux2014_x86_64', '--platform=manylinux1_x86_64'),
        *('--dest', str(folder), pinned(name)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.startswith('ERROR')] or ['no reason']
    return f'{pinned(name)} for Python {python}: {lines[-1]}'


def main(arguments: Optional[list[str]] = None) -> None:
    parser = argparse.ArgumentParser(description='Collect wheels for a machine without a network')
    parser.add_argument('names', nargs='*', help=f'distributions ({" ".join(USUAL)})')
    parser.add_argument('--python', default='3.12', help='of that machine (3.12)')
    parser.add_argument('--out', type=Path, default=Path('gpu-wheels'), help='folder (gpu-wheels)')
    args = parser.parse_args(arguments)
    if not re.fullmatch(r'3\.\d+', args.python):
        parser.error(f'--python must be like 3.12, got {args.python}')
    args.out.mkdir(parents=True, exist_ok=True)
    problems = [collect(name, args.python, args.out) for name in args.names or USUAL]
    wheels = sorted(args.out.glob('*.whl'))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    print(f'{args.out}: {len(wheels)} wheels, {size:.1f} MB')
    if any(problems):
        sys.exit('\n'.join(filter(None, problems)))


if __name__ == '__main__':
    main()
