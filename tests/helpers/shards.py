"""The images of a folder in every other place that they can be in."""

import tarfile
import zipfile
from pathlib import Path


def names_in(folder: Path) -> list[str]:
    """Paths of all files below it, sorted as Python sorts them."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob('*') if p.is_file())


def make_tar(folder: Path, path: Path, names=None) -> Path:
    with tarfile.open(path, 'w') as archive:
        for name in names_in(folder) if names is None else names:
            archive.add(folder / name, arcname=name)
    return path


def make_tars(folder: Path, path: Path, count: int = 3) -> Path:
    """Several shards, as WebDataset numbers them, in an order of their own."""
    path.mkdir()
    for number in range(count):
        make_tar(folder, path / f'{number:06}.tar', names_in(folder)[::-1][number::count])
    return path


def make_zip(folder: Path, path: Path, method=zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, 'w', method) as archive:
        for name in names_in(folder):
            archive.write(folder / name, name)
    return path


def table_of(folder: Path):
    """As Hugging Face's `datasets` writes images."""
    import pyarrow as pa

    rows = [dict(bytes=(folder / n).read_bytes(), path=n) for n in names_in(folder)[::-1]]
    return pa.table({'label': list(range(len(rows))), 'image': rows})


def make_parquet(folder: Path, path: Path) -> Path:
    from pyarrow import parquet

    parquet.write_table(table_of(folder), path, row_group_size=4)
    return path


def make_arrow(folder: Path, path: Path) -> Path:
    import pyarrow as pa

    table = table_of(folder)
    with pa.OSFile(str(path), 'wb') as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


# Each makes one beside the folder, and returns its path.
LOCAL = {
    'tar': lambda folder: make_tar(folder, folder.parent / f'{folder.name}.tar'),
    'zip': lambda folder: make_zip(folder, folder.parent / f'{folder.name}.zip'),
    'deflated zip': lambda folder: make_zip(
        folder, folder.parent / f'{folder.name}.zip', zipfile.ZIP_DEFLATED
    ),
    'tars': lambda folder: make_tars(folder, folder.parent / 'shards'),
    'parquet': lambda folder: make_parquet(folder, folder.parent / f'{folder.name}.parquet'),
    'arrow': lambda folder: make_arrow(folder, folder.parent / f'{folder.name}.arrow'),
}
