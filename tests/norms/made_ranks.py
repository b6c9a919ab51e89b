"""One of two processes that hold norm `sync` against `batch` in one process: RANK RENDEZVOUS ANSWERS."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function, gradcheck, gradgradcheck
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from bncli.norms import norm
from bncli.norms.sync import alone

SHARES = {  # examples of each rank
    "equal": (6, 6),
    "unequal": (9, 3),
    "a single example in one": (11, 1),
    "none in one": (12, 0),
}


def union(*locations, examples=12, channels=4):
    """(N, C, *locations) in float64, away from mean 0 and variance 1; the same in every process."""
    shape = (examples, channels, *locations)
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return 2 * x + x.roll(1, 1) + torch.arange(channels).view(-1, *[1] * len(locations))


def share(x, sizes):
    """This rank's examples."""
    return x.split(sizes)[dist.get_rank()]


def summed(tensor):
    """Over ranks."""
    dist.all_reduce(found := tensor.detach().clone())
    return found


def make(name, channels=4, **options):
    """A norm in float64 with parameters off their start."""
    made = norm(name, channels, **options).double()
    with torch.no_grad():
        made.weight.copy_(torch.linspace(-1, 2, channels))
        made.bias.copy_(torch.linspace(0.3, -0.2, channels))
    return made


def train(made, x, weights, reduce):
    """Outputs, gradients and second gradients of two training steps, by example or not, and the statistics."""
    of_examples, others = {}, {}
    for step in range(2):
        leaf = (x * (1 + step)).requires_grad_()
        y = made(leaf)
        loss = (y * weights + y.pow(3) * weights.flip(1)).sum()
        gx, gw, gb = torch.autograd.grad(loss, [leaf, made.weight, made.bias], create_graph=True)
        ggx, ggw = torch.autograd.grad(gx.square().sum(), [leaf, made.weight])
        of_examples |= {f"y{step}": y, f"gx{step}": gx, f"ggx{step}": ggx}
        others |= {f"{key}{step}": reduce(g) for key, g in (("gw", gw), ("gb", gb), ("ggw", ggw))}
    return of_examples, {**others, **dict(made.named_buffers())}


def largest_difference(locations, sizes, **options):
    """Of `sync` in two processes from `batch` in one, over all that training gives, as a share of the largest value."""
    x, weights = union(*locations), union(*locations).sin()
    whole, shared = train(make("batch", **options), x, weights, Tensor.detach)
    own, common = train(make("sync", **options), share(x, sizes), share(weights, sizes), summed)
    pairs = [(value, share(whole[key], sizes)) for key, value in own.items()]
    pairs += [(value, shared[key]) for key, value in common.items()]
    return max(float((found - wanted).abs().max() / wanted.abs().max()) for found, wanted in pairs if found.numel())


class Copied(Function):
    """From what all ranks have alike to what each uses by itself."""

    @staticmethod
    def forward(ctx, x):
        """x."""
        return x.clone()

    @staticmethod
    def backward(ctx, gy):
        """What all ranks say of it together."""
        return Added.apply(gy)


class Added(Function):
    """From what each rank has by itself to the sum that all have."""

    @staticmethod
    def forward(ctx, x):
        """The sum of all ranks' x."""
        return summed(x)

    @staticmethod
    def backward(ctx, gy):
        """All ranks say it alike: it counts once."""
        return Copied.apply(gy)


def agrees_with_finite_differences(check):
    """Whether both ranks together, as one function of the whole batch, have the gradients of finite differences."""
    sizes, made = (3, 1), make("sync", 2)

    def output(x, weight, bias):
        weight, bias = Copied.apply(weight), Copied.apply(bias)
        own = torch.func.functional_call(made, {"weight": weight, "bias": bias}, (share(Copied.apply(x), sizes),))
        padded = torch.cat([own, own.new_zeros(1, 2)] if dist.get_rank() == 0 else [own.new_zeros(3, 2), own])
        return Added.apply(padded)

    torch.manual_seed(0)
    inputs = (union(examples=4, channels=2), made.weight, made.bias)
    return check(output, tuple(t.detach().clone().requires_grad_() for t in inputs))


def wrapped_differs():
    """A network in DistributedDataParallel, the loss scaled by ranks * own / total, from one process: largest."""
    sizes, x, y = SHARES["unequal"], union(3, 3), torch.arange(12) % 5

    def build(name):
        torch.manual_seed(1)
        layers = nn.Conv2d(4, 4, 2), norm(name, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)
        return nn.Sequential(*layers).double()

    plain, ours = build("batch"), build("sync")
    own = share(y, sizes)
    for model, inputs, targets, scale in (
        (plain, x, y, 1.0),
        (DistributedDataParallel(ours), share(x, sizes), own, 2 * len(own) / len(y)),
    ):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            (nn.functional.cross_entropy(model(inputs), targets) * scale).backward()
            optimizer.step()
    return max(
        float((a - b).abs().max()) for a, b in zip(ours.state_dict().values(), plain.state_dict().values(), strict=True)
    )


def checkpointed_differs():
    """Gradient checkpointing from none: the largest difference of gradients and statistics."""
    found = []
    for passes in (lambda made, x: made(x), lambda made, x: checkpoint(made, x, use_reentrant=False)):
        made, x = make("sync"), share(union(), SHARES["unequal"]).requires_grad_()
        passes(made, x).pow(3).sum().backward()
        found.append([x.grad, made.weight.grad, *made.buffers()])
    return max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))


def alone_differs():
    """A pass that one rank does not run, from `batch`: the largest difference; it would wait for ever."""
    if dist.get_rank():
        return 0.0
    with alone():
        return float((make("sync")(union()) - make("batch")(union())).abs().max())


def refusal():
    """What a union of one value is told."""
    try:
        make("sync")(share(union(examples=1), (1, 0)))
    except ValueError as error:
        return str(error)
    return ""


def main(rank, rendezvous, answers):
    """Run every check, and leave what was seen in a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    seen = {
        f"{kind} {locations}": largest_difference(locations, sizes)
        for kind, sizes in SHARES.items()
        for locations in ((), (3, 2))
    }
    seen |= {
        "cumulative": largest_difference((3,), SHARES["unequal"], momentum="cumulative"),
        "gradcheck": agrees_with_finite_differences(gradcheck),
        "gradgradcheck": agrees_with_finite_differences(gradgradcheck),
        "wrapped": wrapped_differs(),
        "checkpointed": checkpointed_differs(),
        "alone": alone_differs(),
        "refusal": refusal(),
    }
    dist.destroy_process_group()
    Path(answers).write_text(json.dumps(seen))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
