"""Distribution metadata; mim_backend.py adds what `mim` looks for."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = {}
exec((ROOT / 'plrc_plugin/version.py').read_text(encoding='utf-8'), VERSION)
README = ROOT / 'README.md'

# mmengine, mmcv, mmdet, mmseg and mim exist twice under the same import names (OneDL's and
# OpenMMLab's): pip would lay one over the other, so neither is a hard requirement.
# No console script may be added: its `../../../bin/...` would lead the installed file list, whose
# first entry is where onedl-mim looks for the package.
setup(
    name='plrc_plugin',
    version=VERSION['__version__'],
    description='Point-Level Region Contrast pre-training for OpenMMLab',
    long_description=README.read_text(encoding='utf-8') if README.exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    packages=find_packages(include=['plrc_plugin', 'plrc_plugin.*']),
    package_data={'plrc_plugin.visualization': ['*.html']},
    python_requires='>=3.9',
    install_requires=[
        'jinja2>=3',
        'lightly>=1.5.13,<2',
        'matplotlib>=3.7',
        'numpy>=1.24',
        'opencv-python-headless>=4.8',  # opencv-python needs libGL, which servers lack
        'pillow>=9.5',
        'safetensors>=0.4',
        'scikit-image>=0.21',
        'tensorboard>=2.13',
        'torch>=2.1',
        'torchvision>=0.16',
    ],
    extras_require={
        'onedl': ['onedl-mmengine>=0.10.8', 'onedl-mim>=0.5'],
        'onedl-det': ['onedl-mmcv>=2.3', 'onedl-mmdetection>=3.5'],
        'onedl-seg': ['onedl-mmcv>=2.3', 'onedl-mmsegmentation>=1.4'],
        'openmmlab': ['mmengine>=0.10.4', 'openmim>=0.3.9', 'setuptools<81'],  # pkg_resources
        'openmmlab-det': ['mmcv>=2.0.0,<2.2', 'mmdet>=3.3'],
        'openmmlab-seg': ['mmcv>=2.0.0,<2.2', 'mmsegmentation>=1.2'],
        'timm': ['timm>=1.0'],
        'tests': ['hypothesis>=6.80', 'pytest>=7.4', 'timm>=1.0', 'websocket-client>=1.6'],
    },
)
