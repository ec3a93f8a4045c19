"""The rules that give the settings of a run from the scale of its data.

Each is a pure function from facts to a :class:`Value`: the value, and a sentence that says why. For
the paper's two settings (images, batch and first weights) they give the paper's values.
docs/recipe.md names the runs or the source behind each rule.
"""

import math
from typing import Any, NamedTuple, Optional

from plrc_plugin.errors import SettingsError, check_positive

# The paper's two settings: images, and epochs (Section 4.1).
IMAGENET, IMAGENET_EPOCHS = 1_281_167, 200
COCO, COCO_EPOCHS = 118_287, 800
QUEUE = 65_536
BATCH, BATCH_CPU = 256, 32
FEWEST_IMAGES = 8
# GB that an image takes in a step of a ResNet-50 at 224 pixels, in float32, on the CPU.
GB_PER_IMAGE = 0.2
BUDGETS = ('epochs', 'hours', 'images')


class Value(NamedTuple):
    """A value, and the rule that gave it as a sentence."""

    value: Any
    rule: str


class Facts(NamedTuple):
    """The facts that a recipe starts from.

    Attributes:
        images: N, the number of images.
        side: median of the images' shorter sides, in pixels; None if it is not known.
        processes: number of processes of the whole run.
        gpu: whether the run is on a GPU or another accelerator.
        cores: processor cores for each process.
        memory: main memory for each process, in GB.
        half: the dtype in which this device computes faster than in float32; None if there is none.
        weights: whether the run starts from weights.
        budget: dict with one of ``epochs``, ``hours`` or ``images``; empty to let the rule decide.
    """

    images: int
    side: Optional[int] = None
    processes: int = 1
    gpu: bool = False
    cores: int = 1
    memory: Optional[float] = None
    half: Optional[str] = None
    weights: bool = False
    budget: dict = {}  # noqa: RUF012 (never changed)


def view_size(facts: Facts) -> Value:
    """Returns the side of a view in pixels, a multiple of 32 and at least 64."""
    usual = 224 if facts.gpu else 112
    where = '224 as in the paper' if facts.gpu else '112 without a GPU: a quarter of the work'
    if facts.side is None or facts.side >= usual:
        return Value(usual, where)
    size = max(64, facts.side // 32 * 32)
    if size > facts.side:
        return Value(size, f'the smallest; it enlarges images of mostly {facts.side} pixels')
    return Value(size, f'not more than the shorter sides of the images, mostly {facts.side}')


def resolution(size: int) -> Value:
    """Returns R, the number of cells along each side of a view of ``size`` pixels."""
    return Value(size // 4, 'a cell for each 4 x 4 pixels, as 56 of 224')


def points_per_region(size: int) -> Value:
    """Returns P, the number of points per region."""
    if size >= 224:
        return Value(16, '16 as in the paper')
    return Value(8, '8 in views below 224 pixels, whose regions have fewer cells')


def workers(facts: Facts) -> Value:
    """Returns the number of loader workers of each process."""
    if facts.gpu:
        return Value(min(8, facts.cores), f'one per core of {facts.cores}, at most 8')
    return Value(min(8, facts.cores // 4), f'one per 4 cores of {facts.cores}: the others train')


def precision(facts: Facts) -> Value:
    """Returns the dtype of the passes; None is float32."""
    if facts.half is None:
        return Value(None, 'float32: this device is not faster in half precision')
    return Value(facts.half, f'this device computes {facts.half} faster; losses stay float32')


def batch_size(facts: Facts, size: int, fits: Optional[int] = None) -> Value:
    """Returns the number of images per process.

    Args:
        facts: facts of the run.
        size: side of the views in pixels.
        fits: number of images that fit the memory of the device, as measured; None on the CPU.

    Raises:
        SettingsError: if there are too few images to contrast.
    """
    if facts.images < FEWEST_IMAGES:
        raise SettingsError(
            f'{facts.images} images are too few: each is contrasted with others, and at least '
            f'{FEWEST_IMAGES} are needed to compute a batch (some hundred to learn from). Add '
            'images, or set train_dataloader.batch_size'
        )
    usual = BATCH if facts.gpu else BATCH_CPU
    wanted = max(8, usual // facts.processes)
    several = f': {wanted} in each of {facts.processes} processes' if facts.processes > 1 else ''
    value = Value(wanted, f'{usual} images a step{"" if facts.gpu else " without a GPU"}{several}')
    quarter = max(2, _power_below(facts.images / 4 / facts.processes))
    if quarter < value.value:
        value = Value(quarter, f'at least four steps in an epoch of {facts.images} images')
    how = 'the most that fits the memory of the device, as measured'
    if fits is None and not facts.gpu and facts.memory is not None:
        each = GB_PER_IMAGE * (size / 224) ** 2
        fits = max(2, _power_below(facts.memory / 2 / each))
        how = f'half of {facts.memory:.1f} GB of free memory, at {each:.2g} GB an image'
    if fits is not None and fits < value.value:
        value = Value(fits, how)
    return value


def iterations_per_epoch(images: int, processes: int, batch: int) -> int:
    """Returns the iterations of an epoch. Samplers give each process the same number of images, and
    the last batch is dropped if it is not full."""
    return -(-images // processes) // batch


def epochs(facts: Facts, per_epoch: int, seconds: Optional[float] = None) -> Value:
    """Returns the length of the run in epochs.

    Args:
        facts: facts of the run.
        per_epoch: iterations in an epoch.
        seconds: measured time of an iteration, for a budget in hours.

    Raises:
        SettingsError: if the budget is less than an epoch, or not valid.
    """
    check_budget(facts.budget)
    for unit, amount in facts.budget.items():
        if unit == 'epochs':
            return Value(int(amount), f'budget.epochs={amount}')
        if unit == 'images':
            paid, cost = amount / facts.images, f'{facts.images} images'
            note = f'budget.images={amount} of {facts.images}'
            least: float = facts.images
        else:
            assert seconds is not None
            paid, cost = amount * 3600 / (seconds * per_epoch), _hours(seconds * per_epoch)
            note = f'budget.hours={amount:.3g} at {seconds:.2g} s an iteration, as measured'
            least = _rounded_up(seconds * per_epoch / 3600)
        if paid < 1:
            raise SettingsError(
                f'budget.{unit}={amount:.6g} is less than one epoch ({per_epoch} iterations, '
                f'{cost}): give at least budget.{unit}={least}, or fewer images '
                f'(train_dataloader.dataset.indices={max(FEWEST_IMAGES, int(facts.images * paid))})'
            )
        return Value(int(paid), note)
    if facts.weights:
        most = IMAGENET * IMAGENET_EPOCHS // 10 // facts.images
        value = max(1, min(20, most))
        if value * per_epoch < 300:
            value = -(-300 // max(per_epoch, 1))
            return Value(value, f'300 iterations from weights, {per_epoch} in an epoch')
        return Value(value, '20 epochs from weights, fewer of more than a million images')
    if facts.images <= COCO:
        return Value(COCO_EPOCHS, "800 up to COCO's number of images, as in the paper")
    if facts.images <= IMAGENET:
        slope = math.log(COCO_EPOCHS / IMAGENET_EPOCHS) / math.log(IMAGENET / COCO)
        value = round(IMAGENET_EPOCHS * (IMAGENET / facts.images) ** slope)
        return Value(value, "between 800 at COCO's size and 200 at ImageNet's, by a power law")
    value = max(1, round(IMAGENET * IMAGENET_EPOCHS / facts.images))
    return Value(value, 'as many images in all as in 200 epochs of ImageNet')


def queue_size(images: int, seen: int) -> Value:
    """Returns K, the size of the queue, a power of two.

    Args:
        images: N, the number of images.
        seen: images that the run sees in total, N times epochs.
    """
    half = 2 ** round(math.log2(max(images / 2, 1)))
    turned_over = _power_below(seen / 8)
    value = max(16, min(QUEUE, half, turned_over))
    if value == turned_over < min(half, QUEUE):
        return Value(value, f'replaced 8 times by the {_number(seen)} images that the run sees')
    if value == half < QUEUE:
        return Value(value, f'the power of two nearest to half of {_number(images)} images')
    return Value(value, 'as in the paper' if value == QUEUE else 'the shortest')


def momentum(steps: int) -> Value:
    """Returns the momentum m of the moving average, which averages over the last 1 / (1 - m)
    steps."""
    over = min(1000, max(steps / 20, min(100, steps / 3)), max(steps, 2))
    value = 0.999 if over == 1000 else round(1 - 1 / max(2, over), 4)
    note = ', as in the paper' if value == 0.999 else f' of {_number(steps)}'
    return Value(value, f'averages over {round(1 / (1 - value))} iterations{note}')


def warmup_epochs(epochs: int, weights: bool) -> Value:
    """Returns the number of epochs without L_a."""
    if weights:
        return Value(0, 'L_a from the start: weights know objects already')
    value = min(30, -(-epochs * 3 // 20)) if epochs > 1 else 0
    rule = '30 epochs as in the paper' if value == 30 else f'15% of {epochs} epochs'
    return Value(value, f'L_a begins after {rule}')


def keep(weights: bool) -> Value:
    """Returns what is kept of the first weights, see :class:`~plrc_plugin.models.keep.Keep`."""
    if weights:
        return Value(dict(norm_eval=True), 'batch norm keeps the statistics of the weights')
    return Value(None, 'random weights have nothing to keep')


def learning_rate(batch: int, weights: bool) -> Value:
    """Returns the learning rate of SGD for ``batch`` images over all processes."""
    if weights:
        return Value(
            _rounded(0.01 * batch / 32), f'0.01 per 32 images from weights, {batch} in a step'
        )
    return Value(
        _rounded(0.03 * batch / 256), f'0.03 per 256 images as in the paper, {batch} in a step'
    )


def lr_warmup(steps: int, weights: bool) -> Value:
    """Returns the number of iterations over which the learning rate rises; 0 for none."""
    if not weights:
        return Value(0, 'from random weights none, as in the paper')
    value = min(1000, steps // 20)
    if value < 2:  # mmengine's LinearLR of one iteration stays at its first value
        return Value(0, f'none in a run of {steps} iterations')
    return Value(value, '5% of the iterations from weights, at most 1000')


def checkpoint_interval(epochs: int, per_epoch: int, gpu: bool) -> Value:
    """Returns the number of epochs between checkpoints."""
    wanted = 5000 if gpu else 200
    value = max(1, min(wanted // max(per_epoch, 1), max(1, epochs // 10)))
    return Value(value, f'about every {wanted} iterations, and ten times in a run')


def log_interval(steps: int, gpu: bool) -> Value:
    """Returns the number of iterations between lines of the log."""
    usual = 50 if gpu else 10
    return Value(max(1, min(usual, steps // 20)), f'every {usual} iterations, at least 20 lines')


def check_budget(budget: dict) -> None:
    """Raises SettingsError unless a budget is empty or has one positive number."""
    if not budget:
        return
    unknown = [name for name in budget if name not in BUDGETS]
    if unknown or len(budget) > 1:
        raise SettingsError(
            f'budget={dict(budget)} must be one of {", ".join(BUDGETS)}, e.g. budget.hours=2'
        )
    check_positive('budget', **budget)
    if isinstance(budget.get('epochs'), float) and not budget['epochs'].is_integer():
        raise SettingsError(f'budget: epochs must be an integer, got {budget["epochs"]}')


def _power_below(number: float) -> int:
    return 2 ** int(math.log2(number)) if number >= 1 else 1


def _rounded(rate: float) -> float:
    return float(f'{rate:.4g}')


def _rounded_up(hours: float) -> float:
    unit = 10 ** (math.floor(math.log10(hours)) - 1)
    return float(f'{math.ceil(hours / unit) * unit:.3g}')


def _hours(seconds: float) -> str:
    return f'{seconds / 3600:.1f} h' if seconds >= 5400 else f'{seconds / 60:.1f} min'


def _number(count: int) -> str:
    return f'{count:,}'
