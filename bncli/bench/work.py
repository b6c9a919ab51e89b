"""What a pass has to do: the bytes that it must move and the products that it must form, counted by rule.

Speed of light: every tensor of the input's size is read or written once. Algorithmic: a norm whose statistics are taken
over the batch can normalise no value before it has read all, so each of its passes in training reads its inputs twice;
what normalises each example by itself finds it in the cache, and reads it once. Parameters and statistics are left out:
they are C values where the tensors have C times the examples and locations.

Shapes: N examples, C channels, d channels of a group, G groups, m values of a channel.
"""

from dataclasses import dataclass

from bncli.bench.cases import Case
from bncli.norms import NORMS

# pass -> tensors of the input's size: (read, written)
_TENSORS = {
    "train-forward": (1, 1),  # x; y
    "train-backward": (2, 1),  # x and the gradient of y; the gradient of x
    "train-both": (3, 2),  # both: y is handed over before its gradient exists
    "eval-forward": (1, 1),
}
# Products of (d, d) and (d, m): covariance and application; in the backward pass the gradients of both, of which that
# of the application has two.
_PRODUCTS = {"train-forward": 2, "train-backward": 3, "train-both": 5, "eval-forward": 1}
# Products of (d, d) and (d, d) for each Newton-Schulz step.
_STEPS = {"train-forward": 3, "train-backward": 6, "train-both": 9, "eval-forward": 0}


@dataclass(frozen=True)
class Work:
    """What one pass has to do."""

    least_byte: int  # speed of light
    algorithmic_byte: int
    products: int | None  # floating-point operations of matrix products, for norms that decorrelate; else None


def work_of(case: Case) -> Work:
    """The work of a case, by the rules above; a kernel from the command line counts as a batch norm."""
    read, written = _TENSORS[case.pass_]
    twice = read if _over_batch(case) and case.pass_ != "eval-forward" else 0
    least = (read + written) * case.size_byte
    return Work(least, least + twice * case.size_byte, _products(case))


def least_tensors(pass_: str) -> int:
    """How many tensors of the input's size a pass reads or writes at least."""
    return sum(_TENSORS[pass_])


def _over_batch(case: Case) -> bool:
    return case.is_kernel or NORMS[case.norm].batch_statistics or "examples" in NORMS[case.norm].over


def _products(case: Case) -> int | None:
    """Of planes and roots: 2 m C d a product of planes, 2 G d^3 one of roots; eigh and cholesky are none."""
    if case.is_kernel or not NORMS[case.norm].whitens:
        return None
    options = {key: option.default for key, option in NORMS[case.norm].options.items()} | dict(case.options)
    channels = case.shape[1]
    d = min(int(options["group_size"]), channels)
    groups = -(-channels // d)
    values = 1
    for size in case.shape:
        values *= size
    steps = int(options.get("T", 1)) - 1  # the first step multiplies by the identity
    return 2 * values * d * _PRODUCTS[case.pass_] + 2 * groups * d**3 * steps * _STEPS[case.pass_]
