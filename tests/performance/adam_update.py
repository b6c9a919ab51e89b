"""One update by Adam of a small transformer's 41 parameters, in three ways in turn: `python tests/performance/adam_update.py`.

Parameter by parameter, one call an operation for all of them (what bncli does), and on one flat buffer, into which the
gradients are copied first. Milliseconds, the least of eleven, on one thread; for one run, and for 5 and 10 in lanes.
"""

import time
from collections.abc import Callable

import torch

BLOCK = [(32,), (32,), (96, 32), (96,), (32, 32), (32,), (32,), (32,), (128, 32), (128,), (32, 128), (32,)]
SHAPES = [(100, 32), (32, 32), *BLOCK * 3, (32,), (100, 32), (100,)]
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def ways(lanes: int) -> dict[str, Callable[[], None]]:
    several = (lanes,) if lanes > 1 else ()
    parameters = [torch.randn(*several, *shape) for shape in SHAPES]
    grads = [torch.randn_like(p) for p in parameters]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    rate, root = torch.full(several, 1e-3), torch.tensor(0.9)
    rates = [rate.view(*several, *(1,) * len(shape)) for shape in SHAPES]
    flat = torch.cat([p.reshape(*several, -1) for p in parameters], -1)
    flat_first, flat_second = torch.zeros_like(flat), torch.zeros_like(flat)

    def by_parameter() -> None:
        for p, g, m, v, r in zip(parameters, grads, first, second, rates, strict=True):
            m.mul_(BETA1).add_(g, alpha=1 - BETA1)
            v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            p.addcmul_(m / (v.sqrt() / root).add_(EPS), r, value=-1)

    def together() -> None:
        torch._foreach_mul_(first, BETA1)
        torch._foreach_add_(first, grads, alpha=1 - BETA1)
        torch._foreach_mul_(second, BETA2)
        torch._foreach_addcmul_(second, grads, grads, value=1 - BETA2)
        below = torch._foreach_sqrt(second)
        torch._foreach_div_(below, root)
        torch._foreach_add_(below, EPS)
        torch._foreach_addcmul_(parameters, torch._foreach_div(first, below), rates, value=-1)

    def on_one_buffer() -> None:
        g = torch.cat([each.reshape(*several, -1) for each in grads], -1)
        flat_first.mul_(BETA1).add_(g, alpha=1 - BETA1)
        flat_second.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
        flat.addcmul_(flat_first / (flat_second.sqrt() / root).add_(EPS), rate.view(*several, 1), value=-1)

    return {way.__name__: way for way in (by_parameter, together, on_one_buffer)}


def main() -> None:
    torch.set_num_threads(1)
    for lanes in (1, 5, 10):
        seconds: dict[str, list[float]] = {}
        for _ in range(11):
            for name, update in (each := ways(lanes)).items():
                update()
                start = time.perf_counter()
                for _ in range(20):
                    update()
                seconds.setdefault(name, []).append((time.perf_counter() - start) / 20)
            del each
        print(f"{lanes} runs: " + ", ".join(f"{name} {1000 * min(found):.2f}" for name, found in seconds.items()))


if __name__ == "__main__":
    main()
