"""Optimisers with hyperparameters by lane, and what multiplies the learning rate at each step.

Parameters are (*lanes, *shape) with lanes () or (S,); a hyperparameter is a tensor of shape lanes. Whatever changes
from step to step is a tensor, changed in place, so that an update can be traced once and repeated.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bncli.optim import SCHEDULES

Params = Sequence[Tensor]
State = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Hyper:
    """What one lane may have otherwise than its neighbour, each of shape lanes, and what all lanes share."""

    lr: Tensor
    weight_decay: Tensor
    momentum: Tensor
    decays: Sequence[bool]  # of each parameter, whether weight decay acts on it in any lane
    options: Mapping[str, float | bool]  # the optimiser's other options

    def like(self, value: Tensor, parameter: Tensor) -> Tensor:
        """`value` (lanes) with as many trailing axes as broadcasting against `parameter` needs."""
        return value.view((*value.shape, *(1,) * (parameter.dim() - value.dim())))


@dataclass(frozen=True)
class Optimizer:
    """`init(params, hyper)` gives the state; `update(params, grads, state, hyper)` changes both in place."""

    init: Callable[[Params, Hyper], State]
    update: Callable[[Params, Params, State, Hyper], None]


def _sgd_init(params: Params, hyper: Hyper) -> State:
    moving = bool(hyper.momentum.any())
    return {"velocity": [torch.zeros_like(p) for p in params] if moving else []}


def _sgd(params: Params, grads: Params, state: State, hyper: Hyper) -> None:
    """v <- momentum v + g; p <- p - lr v, or - lr (g + momentum v) with Nesterov. As torch.optim.SGD, dampening 0."""
    grads = _with_decay(params, grads, hyper)
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        direction = g
        if state["velocity"]:
            momentum = hyper.like(hyper.momentum, p)
            velocity = state["velocity"][i].mul_(momentum).add_(g)
            direction = g + momentum * velocity if hyper.options["nesterov"] else velocity
        p.addcmul_(direction, hyper.like(hyper.lr, p), value=-1)


def _with_decay(params: Params, grads: Params, hyper: Hyper) -> Params:
    return [
        g.addcmul(p, hyper.like(hyper.weight_decay, p)) if decays else g
        for p, g, decays in zip(params, grads, hyper.decays, strict=True)
    ]


def _adam_init(params: Params, hyper: Hyper) -> State:
    exact = torch.float32 if hyper.lr.device.type == "mps" else torch.float64
    steps = torch.zeros((), dtype=exact, device=hyper.lr.device)
    return {"steps": [steps], **{moment: [torch.zeros_like(p) for p in params] for moment in ("first", "second")}}


def _adam(params: Params, grads: Params, state: State, hyper: Hyper) -> None:
    """Kingma & Ba 2015, algorithm 1; bias-corrected as torch.optim.Adam does."""
    beta1, beta2, eps = (float(hyper.options[key]) for key in ("beta1", "beta2", "eps"))
    (steps,) = state["steps"]
    steps += 1
    correction1, correction2 = (_correction(beta, steps) for beta in (beta1, beta2))
    rate, root = hyper.lr / correction1.to(hyper.lr.dtype), correction2.sqrt().to(hyper.lr.dtype)
    first, second = state["first"], state["second"]
    params, grads = list(params), list(grads)  # each operation is of all at once: of small ones the calls are the cost
    torch._foreach_mul_(first, beta1)
    torch._foreach_add_(first, grads, alpha=1 - beta1)
    torch._foreach_mul_(second, beta2)
    torch._foreach_addcmul_(second, grads, grads, value=1 - beta2)
    denominators = torch._foreach_sqrt(second)
    torch._foreach_div_(denominators, root)
    torch._foreach_add_(denominators, eps)
    rates = {p.dim(): hyper.like(rate, p) for p in params}
    torch._foreach_addcmul_(params, torch._foreach_div(first, denominators), [rates[p.dim()] for p in params], value=-1)


def _correction(beta: float, steps: Tensor) -> Tensor:
    """1 - beta^steps, without cancellation."""
    return -torch.expm1(steps * (math.log(beta) if beta else -math.inf))


def _adam_l2(params: Params, grads: Params, state: State, hyper: Hyper) -> None:
    _adam(params, _with_decay(params, grads, hyper), state, hyper)


def _adam_decoupled(params: Params, grads: Params, state: State, hyper: Hyper) -> None:
    """Loshchilov & Hutter 2019, algorithm 2, as torch.optim.AdamW: p <- p (1 - lr decay) first."""
    for p, decays in zip(params, hyper.decays, strict=True):
        if decays:
            p.mul_(hyper.like(1 - hyper.lr * hyper.weight_decay, p))
    _adam(params, grads, state, hyper)


def clipped(grads: Params, limit: float, lanes: int) -> Params:
    """Gradients scaled so that their common L2 norm is at most `limit` in each of the lanes (so many leading axes)."""
    squares = [g.square().flatten(lanes).sum(-1) if g.dim() > lanes else g.square() for g in grads]
    scale = (limit / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp(max=1)  # 1e-6: as torch's clip_grad_norm_
    return [g * scale.view((*scale.shape, *(1,) * (g.dim() - lanes))) for g in grads]


SGD = Optimizer(_sgd_init, _sgd)
ADAM = Optimizer(_adam_init, _adam_l2)
ADAMW = Optimizer(_adam_init, _adam_decoupled)


def factor_of(schedule: str, options: Mapping[str, Any], steps: int) -> Callable[[int], float]:
    """What multiplies the learning rate before step 0, 1, ... of `steps`, by a schedule with its options.

    The first `warmup` steps rise evenly to 1, which the last of them has; the schedule's own steps count from there.
    """
    own = dict(options)
    warmup: int = own.pop("warmup")
    main = partial(SCHEDULES.load(schedule), steps=steps - warmup, **own)
    return lambda step: (step + 1) / warmup if step < warmup else main(step - warmup)


def constant(step: int, steps: int) -> float:
    """1."""
    return 1.0


def steps(step: int, steps: int, every: int, factor: float) -> float:
    """Times `factor` after every so many steps."""
    return float(factor ** (step // every))


def exponential(step: int, steps: int, every: int, factor: float, faster: float) -> float:
    """Times `factor` in every so many steps, a little each step; `faster` = 6 needs a sixth of the steps."""
    return float(factor ** (faster * step / every))


def cosine(step: int, steps: int, final: float) -> float:
    """Half a cosine from 1 to `final`, which would be reached after the last step (Loshchilov & Hutter 2017)."""
    return final + (1 - final) * (1 + math.cos(math.pi * step / steps)) / 2
