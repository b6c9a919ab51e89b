"""What a norm must stand beside: the layouts, wrappers and habits of other people's code, one function a habit.

Each takes `make`, which builds a new norm of `CHANNELS` channels and hands on `device=`, and raises where a norm falls
short. So a norm of somebody else's can be held against all of it: `HABITS` lists them.
"""

import copy
import os
import tempfile
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import update_bn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

Make = Callable[..., nn.Module]
CHANNELS = 8
SHAPE = (6, CHANNELS, 6, 6)


def batch(seed: int = 0) -> Tensor:
    """(N, C, H, W) with correlated channels, away from mean 0 and variance 1."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))
    return x + 0.5 * x.roll(1, 1) + torch.arange(CHANNELS).view(-1, 1, 1) / 4


def settled(make: Make) -> nn.Module:
    """A norm after two training batches and with parameters off their start."""
    torch.manual_seed(0)
    norm = make()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(0.2 * torch.rand_like(parameter))
        for seed in (1, 2):
            norm(batch(seed))
    return norm


def step(run: Callable[[Tensor], Tensor], modules: Iterable[nn.Module], x: Tensor, gy: Tensor | None = None) -> Tensor:
    """Gradients at x and at all parameters of the output (weighted by `gy`, else by fixed numbers), as one vector."""
    torch.manual_seed(3)  # of norms that draw
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = run(leaf)
    if gy is None:
        gy = torch.randn(y.shape, generator=torch.Generator().manual_seed(4)).to(y.dtype)
    for module in modules:
        module.zero_grad()
    y.backward(gy)
    parameters = [p.grad.flatten().float() for m in modules for p in m.parameters() if p.grad is not None]
    assert leaf.grad is not None
    return torch.cat([leaf.grad.flatten(), *parameters])


def draws(make: Make) -> bool:
    """Whether its training output is random."""
    norm = settled(make)
    return not torch.equal(copy.deepcopy(norm)(batch()), copy.deepcopy(norm)(batch()))


def assert_same_buffers(norm: nn.Module, other: nn.Module) -> None:
    """Equal but for rounding."""
    expected = dict(other.named_buffers())
    for key, buffer in norm.named_buffers():
        assert_close(buffer, expected[key], msg=lambda text, key=key: f"{key}: {text}")


def takes_gradients_of_any_layout(make: Make) -> None:
    """Behind it stand a transpose, channels_last, a slice or a sum, whose gradient has stride 0."""
    for training in (True, False):
        norm = settled(make).train(training)
        gy = torch.randn(SHAPE)
        wide = torch.zeros(*SHAPE[:-1], 2 * SHAPE[-1])
        wide[..., ::2] = gy
        strided = {
            "transposed": gy.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).view(SHAPE),
            "channels_last": gy.to(memory_format=torch.channels_last),
            "sliced": wide[..., ::2],
        }
        expected = step(copy.deepcopy(norm), [norm], batch(), gy)
        for how, gradient in strided.items():
            assert not gradient.is_contiguous()
            found = step(copy.deepcopy(norm), [norm], batch(), gradient)
            assert_close(found, expected, msg=lambda text, how=how: f"{how}: {text}")
        expected = step(copy.deepcopy(norm), [norm], batch(), torch.ones(SHAPE))
        found = step(copy.deepcopy(norm), [norm], batch(), torch.ones(1).expand(SHAPE))
        assert_close(found, expected)


def takes_inputs_of_any_layout(make: Make) -> None:
    """Outputs, gradients and running statistics are those of the contiguous input."""
    if draws(make):
        return  # other numbers at each place
    x, gy = batch(), torch.randn(SHAPE)
    wide = torch.zeros(*SHAPE[:-1], 2 * SHAPE[-1])
    wide[..., ::2] = x
    tokens = x.flatten(2).transpose(1, 2).contiguous()
    for training in (True, False):
        norm = settled(make).train(training)
        plain = copy.deepcopy(norm)
        torch.manual_seed(3)
        y = plain(x)
        for strided in (wide[..., ::2], tokens.transpose(1, 2).view(SHAPE), x.to(memory_format=torch.channels_last)):
            twin = copy.deepcopy(norm)
            torch.manual_seed(3)
            assert_close(twin(strided), y, rtol=1e-4, atol=1e-5)
            assert_same_buffers(twin, plain)
            assert_close(
                step(copy.deepcopy(norm), [norm], strided, gy),
                step(copy.deepcopy(norm), [norm], x, gy),
                rtol=1e-3,
                atol=1e-4,
            )


def keeps_one_layout_in_training_and_evaluation(make: Make) -> None:
    """Contiguous in, contiguous out; channels_last in, channels_last out."""
    for training in (True, False):
        norm = settled(make).train(training)
        assert norm(batch()).is_contiguous()
        tokens = norm(batch().flatten(2))
        assert tokens.is_contiguous()
        last = norm(batch().to(memory_format=torch.channels_last))
        assert last.is_contiguous(memory_format=torch.channels_last)


def stands_between_convolutions(make: Make) -> None:
    """Before and behind it a channels_last convolution: gradients are those of contiguous ones."""
    if draws(make):
        return  # other numbers at each place
    norm = settled(make)
    torch.manual_seed(0)
    layers = nn.ModuleList([nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.Conv2d(CHANNELS, 4, 3)])

    def gradients(norm: nn.Module, x: Tensor) -> Tensor:
        before, behind = layers
        return step(lambda x: behind(norm(before(x))), [norm, layers], x)

    expected = gradients(copy.deepcopy(norm), batch())
    layers.to(memory_format=torch.channels_last)
    for x in (batch(), batch().to(memory_format=torch.channels_last)):
        assert_close(gradients(copy.deepcopy(norm), x), expected, rtol=1e-3, atol=1e-3)


def may_be_overwritten(make: Make) -> None:
    """An activation behind it that works in place: the gradient is that of one that does not."""
    for act in (lambda inplace: nn.ReLU(inplace), lambda inplace: nn.SiLU(inplace)):
        for training in (True, False):
            norm = settled(make).train(training)
            found, expected = (copy.deepcopy(norm) for _ in range(2))
            assert_close(
                step(lambda x, n=found, a=act: a(True)(n(x * 1)), [found], batch()),
                step(lambda x, n=expected, a=act: a(False)(n(x * 1)), [expected], batch()),
            )


def works_within_autocast(make: Make) -> None:
    """Forward and backward within `torch.autocast`: as the backward pass outside, and near float32."""
    norm = settled(make)
    torch.manual_seed(0)
    conv, head = nn.Conv2d(CHANNELS, CHANNELS, 1), nn.Conv2d(CHANNELS, 4, 1)
    modules = nn.ModuleList([conv, head])

    def network(norm: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: head(norm(conv(x)))

    within, outside = copy.deepcopy(norm), copy.deepcopy(norm)
    with torch.autocast("cpu", torch.bfloat16):
        inner = step(network(within), [within, modules], batch())

    def forward_only(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(outside)(x)

    outer = step(forward_only, [outside, modules], batch())
    assert inner.isfinite().all()
    assert_close(inner, outer, rtol=0.02, atol=0.02 * float(outer.abs().max()))
    assert_same_buffers(within, outside)


def is_exported(make: Make) -> None:
    """`torch.export` in evaluation: a program with the same output."""
    norm = settled(make).eval()
    program = torch.export.export(norm, (batch(),))
    assert_close(program.module()(batch(5)), norm(batch(5)))


def is_compiled(make: Make) -> None:
    """`torch.compile` in training and evaluation: output, gradients and running statistics of the plain module."""
    for training in (True, False):
        norm = settled(make).train(training)
        plain, compiled = copy.deepcopy(norm), copy.deepcopy(norm)
        torch.compiler.reset()
        run = torch.compile(compiled)
        expected, found = step(plain, [plain], batch()), step(run, [compiled], batch())
        if training and draws(make):
            continue  # other numbers than the plain module's
        assert_close(found, expected, rtol=1e-3, atol=1e-3)
        assert_same_buffers(compiled, plain)


def runs_on_meta(make: Make) -> None:
    """Shapes without values, as big models are laid out."""
    for training in (True, False):
        norm = make(device="meta").train(training)
        x = torch.empty(SHAPE, device="meta", requires_grad=True)
        y = norm(x)
        assert y.shape == SHAPE
        assert y.device.type == "meta"
        y.sum().backward()


def is_loaded_after_to_empty(make: Make) -> None:
    """Made on meta, given memory, filled by a saved state alone: the saved norm."""
    norm = settled(make)
    loaded = make(device="meta").to_empty(device="cpu")
    for tensor in (*loaded.parameters(), *loaded.buffers()):
        tensor.data.fill_(9)  # what lies in memory that nobody has written
    loaded.load_state_dict(norm.state_dict())
    for training in (True, False):
        torch.manual_seed(3)
        y = norm.train(training)(batch())
        torch.manual_seed(3)
        assert torch.equal(loaded.train(training)(batch()), y)


def is_checkpointed(make: Make) -> None:
    """Gradient checkpointing, either way: gradients, and running statistics moved once."""
    for reentrant in (False, True):
        norm = settled(make)
        plain, saved = copy.deepcopy(norm), copy.deepcopy(norm)
        for seed in (5, 6):  # a second step finds nothing left of the first
            block = nn.Sequential(saved, nn.Sigmoid())
            expected = step(nn.Sequential(plain, nn.Sigmoid()), [plain], batch(seed))
            found = step(partial(checkpoint, block, use_reentrant=reentrant), [saved], batch(seed))
            assert_close(found, expected)
            assert_same_buffers(saved, plain)


def follows_writes_to_data(make: Make) -> None:
    """Between evaluations buffers are written through `.data`, in numpy, or by a collective: the output follows."""
    norm = settled(make)
    teacher = settled(make).eval()
    with torch.no_grad():
        norm(3 * batch(7) + 1)
    teacher(batch())
    for own, other in zip(teacher.buffers(), norm.buffers(), strict=True):
        own.data.copy_(other.data)
    assert_close(teacher(batch()), norm.eval()(batch()), rtol=0, atol=0)
    for buffer in teacher.buffers():
        if buffer.is_floating_point():
            buffer.numpy()[...] *= 1.5
    fresh = make().eval()
    fresh.load_state_dict(teacher.state_dict())
    assert_close(teacher(batch()), fresh(batch()), rtol=0, atol=0)


def works_in_inference_mode(make: Make) -> None:
    """Evaluated in `torch.inference_mode`, then trained; and made there."""
    norm = settled(make)
    twin = copy.deepcopy(norm)
    with torch.inference_mode():
        y = norm.eval()(batch())
        made = make().eval()
        assert made(batch()).shape == SHAPE
    with torch.no_grad():
        assert_close(y, twin.eval()(batch()), rtol=0, atol=0)
    assert_close(step(norm, [norm], batch()), step(twin, [twin], batch()), rtol=0, atol=0)  # of evaluation
    norm.train()
    twin.train()
    assert_close(step(norm, [norm], batch()), step(twin, [twin], batch()), rtol=0, atol=0)


def is_found_by_update_bn(make: Make) -> None:
    """`torch.optim.swa_utils.update_bn` leaves the mean over its batches of what one batch gives."""
    norm = settled(make)
    if not getattr(norm, "num_batches_tracked", None):
        return  # training has counted no batch
    given, old = norm.momentum, copy.deepcopy(norm)
    batches = [batch(seed) * (1 + seed) for seed in range(3)]
    update_bn(batches, norm)
    assert norm.momentum == given
    assert norm.num_batches_tracked == 3
    singles = []
    for x in batches:
        single = copy.deepcopy(old)
        single.reset_running_stats()
        single.momentum = 1.0
        single(x)
        singles.append(dict(single.named_buffers()))
    for key, buffer in norm.named_buffers():
        if key.startswith("running_"):
            assert_close(buffer, torch.stack([each[key] for each in singles]).mean(0), rtol=1e-4, atol=1e-5)


def loads_states_without_a_count(make: Make) -> None:
    """A state from before torch 0.4.1, or from another library, has no `num_batches_tracked`: it loads as in torch."""
    norm, other = settled(make), make()
    state = {key: value for key, value in norm.state_dict().items() if key != "num_batches_tracked"}
    other.load_state_dict(dict(state))
    assert_close(other.eval()(batch()), norm.eval()(batch()), rtol=0, atol=0)
    assert other.state_dict().get("num_batches_tracked", torch.tensor(0)) == 0


HABITS: tuple[Callable[[Make], None], ...] = (
    takes_gradients_of_any_layout,
    takes_inputs_of_any_layout,
    keeps_one_layout_in_training_and_evaluation,
    stands_between_convolutions,
    may_be_overwritten,
    works_within_autocast,
    runs_on_meta,
    is_loaded_after_to_empty,
    is_checkpointed,
    follows_writes_to_data,
    works_in_inference_mode,
    is_found_by_update_bn,
    loads_states_without_a_count,
)
SLOW_HABITS: tuple[Callable[[Make], None], ...] = (is_exported, is_compiled)


def train_in_two_processes(makes: dict[str, Make]) -> dict[str, str]:
    """Each norm in `DistributedDataParallel` on two processes of this machine: what went wrong, by name.

    Gradients are the mean of both processes' own, and what evaluation needs is the first one's in both.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        processes = [
            context.Process(target=_take_part, args=(rank, f"{folder}/store", makes, queue)) for rank in range(2)
        ]
        for process in processes:
            process.start()
        found = queue.get(), queue.get()
        for process in processes:
            process.join()
    return {**found[0], **found[1]}


def _take_part(rank: int, rendezvous: str, makes: dict[str, Make], queue: object) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    wrong = {}
    for name, make in makes.items():
        try:
            _train_distributed(make, rank)
        except Exception as error:
            wrong[name] = f"{type(error).__name__}: {error}"
    destroy_process_group()
    queue.put(wrong)  # type: ignore[attr-defined]


def _train_distributed(make: Make, rank: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), settled(make))
    alone = [copy.deepcopy(network) for _ in range(2)]
    wrapped = DistributedDataParallel(network, find_unused_parameters=True)
    step(wrapped, [], batch(rank))
    for other, twin in enumerate(alone):
        step(twin, [twin], batch(other))
    for (key, found), *both in zip(network.named_parameters(), *(twin.parameters() for twin in alone), strict=True):
        gradients = [each.grad for each in both if each.grad is not None]
        if gradients:
            mean = torch.stack(gradients).mean(0)
            assert_close(found.grad, mean, rtol=1e-3, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    network.eval()
    network(batch())
    with torch.no_grad():
        y = wrapped(batch())  # which gives all processes the first one's buffers, in a way that no version counts
    for buffer, first in zip(network.buffers(), alone[0].buffers(), strict=True):
        assert_close(buffer, first)
    assert_close(y, copy.deepcopy(network)(batch()), rtol=0, atol=0)
