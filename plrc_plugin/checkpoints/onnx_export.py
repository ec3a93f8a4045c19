"""The trunk of a config as an ONNX graph."""

from pathlib import Path

import torch
from torch import Tensor, nn

from plrc_plugin.errors import SettingsError

NEEDS = "ONNX needs onnx and onnxscript: pip install 'plrc_plugin[onnx]'"


class _LastMap(nn.Module):
    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images)[-1]


def export_onnx(trunk: nn.Module, path: str, size: int, channels: int = 3) -> None:
    """Writes a trunk as an ONNX graph. Its input ``images`` (B, C, size, size) is normalised, its
    output ``map`` is the last map (B, D, h, w), and B is free.

    Raises:
        SettingsError: if the libraries are missing, or the trunk has an operation that ONNX lacks.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise SettingsError(NEEDS) from error
    images = torch.zeros(2, channels, size, size)
    batch = torch.export.Dim('batch', min=1)
    try:
        program = torch.onnx.export(
            _LastMap(trunk).eval(),
            (images,),
            input_names=['images'],
            output_names=['map'],
            dynamo=True,
            dynamic_shapes=dict(images={0: batch}),
            verbose=False,
        )
    except Exception as error:  # the exporter raises many kinds for what it does not know
        raise SettingsError(
            f'torch {torch.__version__} cannot write this trunk as ONNX: '
            f'{" ".join(str(error).split())[:300]}'
        ) from error
    if not Path(path).parent.is_dir():
        raise SettingsError(f'{path} cannot be written: there is no folder {Path(path).parent}')
    program.save(path, external_data=False)
