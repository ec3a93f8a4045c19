"""What an environment of the plug-in is made of; all else about it is in pyproject.toml."""

from setuptools import setup

# mmengine, mmcv, mmdet, mmseg and mim exist twice under the same import names (OneDL's and
# OpenMMLab's): pip would lay one over the other, so neither is a hard requirement.
setup(
    install_requires=[
        'filelock>=3.9',
        'jinja2>=3',
        'lightly>=1.5.13,<2',
        'matplotlib>=3.7',
        'numpy>=1.24',
        # IMREAD_COLOR_RGB is of 4.11; opencv-python needs libGL, which servers lack.
        'opencv-python-headless>=4.11',
        'pillow>=9.5',
        'safetensors>=0.4',
        'scikit-image>=0.21',
        'scipy>=1.9',
        'tensorboard>=2.13',
        'torch>=2.1',
        'torchvision>=0.16',
        'tqdm>=4.62',
    ],
    extras_require={
        # mim's Slurm launcher stops with an AttributeError under click 8.3.1 and later.
        'onedl': ['click<8.3.1', 'onedl-mmengine>=0.10.8', 'onedl-mim>=0.5'],
        'onedl-det': ['onedl-mmcv>=2.3', 'onedl-mmdetection>=3.5'],
        'onedl-seg': ['onedl-mmcv>=2.3', 'onedl-mmsegmentation>=1.4'],
        'onedl-pretrain': ['onedl-mmcv>=2.3', 'onedl-mmpretrain>=1.3'],
        # torch 2.1 and 2.2, mmcv 2.1 and mmdet 3.3 are of before numpy 2, and openmim imports
        # pkg_resources. onedl asks for Python 3.10 and torch 2.3, openmmlab for neither.
        'openmmlab': [
            'click<8.3.1',
            'mmengine>=0.10.4',
            "numpy<2; python_version<'3.13'",
            'openmim>=0.3.9',
            'setuptools<81',
        ],
        'openmmlab-det': ['mmcv>=2.0.0,<2.2', 'mmdet>=3.3'],
        'openmmlab-seg': ['ftfy', 'mmcv>=2.0.0,<2.2', 'mmsegmentation>=1.2', 'regex'],
        'openmmlab-pretrain': ['mmcv>=2.0.0,<2.2', 'mmpretrain>=1.2'],
        'onnx': ['onnx>=1.16', 'onnxscript>=0.1'],
        'speed': ['numba>=0.59', 'simplejpeg>=1.7'],  # the same pixels in less time
        'timm': ['timm>=1.0'],
        # Depths and formats of docs/depth.md; tifffile comes with scikit-image.
        'rasters': ['imagecodecs>=2023.9', 'tifffile>=2023.4'],
        'dicom': ["pydicom>=3; python_version>='3.10'"],
        'heif': ['pillow-heif>=0.16'],
        # Images in tables, and at addresses; Google's store needs gcsfs beside it.
        'parquet': ['pyarrow>=14'],
        'remote': ['aiohttp>=3.9', 'fsspec>=2023.6', 's3fs>=2023.6'],
        'tests': [
            'flask>=2.3',
            'flask-cors>=4',
            'hypothesis>=6.80',
            'imagecodecs>=2023.9',
            'moto[s3]>=5',  # the S3 server that tests run
            'numba>=0.59',
            'pillow-heif>=0.16',
            'pyarrow>=14',
            "pydicom>=3; python_version>='3.10'",
            'pytest>=7.4',
            'pytest-xdist>=3.5',
            's3fs>=2023.6',
            'simplejpeg>=1.7',
            'timm>=1.0',
            'websocket-client>=1.6',
        ],
    },
)
