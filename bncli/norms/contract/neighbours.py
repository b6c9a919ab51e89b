"""What a norm must stand beside: the layouts, wrappers and habits of other people's code, one function a habit.

Each raises where a norm falls short, or returns why it is not applicable. They are tried on images, (N, C, H, W).
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from bncli.norms.contract.candidates import Candidate, hold, step

Habit = Callable[[Candidate], str | None]
DRAWS = "its training output is random"


def prefix(place: str) -> Callable[[str], str]:
    """Begins what `assert_close` says with a place."""
    return lambda said: f"{place}: {said}"


def assert_same_buffers(norm: nn.Module, other: nn.Module) -> None:
    """Equal but for rounding."""
    expected = dict(other.named_buffers())
    for key, buffer in norm.named_buffers():
        assert_close(buffer, expected[key], msg=prefix(key))


def takes_gradients_of_any_layout(candidate: Candidate) -> None:
    """Behind it stand a transpose, channels_last, a slice or a sum, whose gradient has stride 0."""
    for training in (True, False):
        norm = candidate.settled().train(training)
        gy = torch.randn(candidate.shape)
        wide = torch.zeros(*candidate.shape[:-1], 2 * candidate.shape[-1])
        wide[..., ::2] = gy
        strided = {
            "transposed": gy.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).view(candidate.shape),
            "channels_last": gy.to(memory_format=torch.channels_last),
            "sliced": wide[..., ::2],
        }
        expected = step(copy.deepcopy(norm), [norm], candidate.images(), gy)
        for how, gradient in strided.items():
            found = step(copy.deepcopy(norm), [norm], candidate.images(), gradient)
            assert_close(found, expected, msg=prefix(how))
        expected = step(copy.deepcopy(norm), [norm], candidate.images(), torch.ones(candidate.shape))
        found = step(copy.deepcopy(norm), [norm], candidate.images(), torch.ones(1).expand(candidate.shape))
        assert_close(found, expected)


def takes_inputs_of_any_layout(candidate: Candidate) -> str | None:
    """Outputs, gradients and running statistics are those of the contiguous input."""
    if candidate.draws():
        return DRAWS  # other numbers at each place
    x, gy = candidate.images(), torch.randn(candidate.shape)
    wide = torch.zeros(*candidate.shape[:-1], 2 * candidate.shape[-1])
    wide[..., ::2] = x
    tokens = x.flatten(2).transpose(1, 2).contiguous()
    for training in (True, False):
        norm = candidate.settled().train(training)
        plain = copy.deepcopy(norm)
        torch.manual_seed(3)
        y = plain(x)
        for strided in (
            wide[..., ::2],
            tokens.transpose(1, 2).view(candidate.shape),
            x.to(memory_format=torch.channels_last),
        ):
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
    return None


def keeps_one_layout_in_training_and_evaluation(candidate: Candidate) -> str | None:
    """Contiguous in, contiguous out; channels_last in, channels_last out."""
    if candidate.channels_last:
        return "its channels are last"
    for training in (True, False):
        norm = candidate.settled().train(training)
        hold(norm(candidate.images()).is_contiguous(), "contiguous comes out otherwise")
        if any(len(each) == 1 for each in candidate.locations):
            hold(norm(candidate.images().flatten(2)).is_contiguous(), "contiguous (N, C, L) comes out otherwise")
        last = norm(candidate.images().to(memory_format=torch.channels_last))
        hold(last.is_contiguous(memory_format=torch.channels_last), "channels_last comes out otherwise")
    return None


def stands_between_convolutions(candidate: Candidate) -> str | None:
    """Before and behind it a channels_last convolution: gradients are those of contiguous ones."""
    if candidate.draws():
        return DRAWS  # other numbers at each place
    norm = candidate.settled()
    torch.manual_seed(0)
    before, behind = (
        nn.Conv2d(candidate.channels, candidate.channels, 3, padding=1),
        nn.Conv2d(candidate.channels, 4, 3),
    )

    def gradients(norm: nn.Module, x: Tensor) -> Tensor:
        return step(nn.Sequential(before, norm, behind), [norm, before, behind], x)

    expected = gradients(copy.deepcopy(norm), candidate.images())
    for layer in (before, behind):
        layer.weight.data = layer.weight.data.to(memory_format=torch.channels_last)
    for x in (candidate.images(), candidate.images().to(memory_format=torch.channels_last)):
        assert_close(gradients(copy.deepcopy(norm), x), expected, rtol=1e-3, atol=1e-3)
    return None


def may_be_overwritten(candidate: Candidate) -> None:
    """An activation behind it that works in place: the gradient is that of one that does not."""
    for act in (nn.ReLU, nn.SiLU):
        for training in (True, False):
            norm = candidate.settled().train(training)
            found, expected = copy.deepcopy(norm), copy.deepcopy(norm)
            assert_close(
                step(_put_between(found, act(inplace=True)), [found], candidate.images()),
                step(_put_between(expected, act()), [expected], candidate.images()),
            )


def _put_between(norm: nn.Module, act: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: act(norm(x * 1))  # no leaf, which nothing may change in place


def works_within_autocast(candidate: Candidate) -> None:
    """Forward and backward within `torch.autocast`: as the backward pass outside, and near float32."""
    norm = candidate.settled()
    torch.manual_seed(0)
    conv, head = nn.Conv2d(candidate.channels, candidate.channels, 1), nn.Conv2d(candidate.channels, 4, 1)
    modules = nn.ModuleList([conv, head])

    def network(norm: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: head(norm(conv(x)))

    within, outside = copy.deepcopy(norm), copy.deepcopy(norm)
    with torch.autocast("cpu", torch.bfloat16):
        inner = step(network(within), [within, modules], candidate.images())

    def forward_only(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(outside)(x)

    outer = step(forward_only, [outside, modules], candidate.images())
    hold(bool(inner.isfinite().all()), "gradients are not finite")
    assert_close(inner, outer, rtol=0.02, atol=0.02 * float(outer.abs().max()))
    assert_same_buffers(within, outside)


def is_exported(candidate: Candidate) -> None:
    """`torch.export` in evaluation: a program with the same output."""
    norm = candidate.settled().eval()
    program = torch.export.export(norm, (candidate.images(),))
    assert_close(program.module()(candidate.images(5)), norm(candidate.images(5)))


def is_compiled(candidate: Candidate) -> None:
    """`torch.compile` in training and evaluation: output, gradients and running statistics of the plain module."""
    for training in (True, False):
        norm = candidate.settled().train(training)
        plain, compiled = copy.deepcopy(norm), copy.deepcopy(norm)
        torch.compiler.reset()
        run = torch.compile(compiled)
        expected, found = step(plain, [plain], candidate.images()), step(run, [compiled], candidate.images())
        if training and candidate.draws():
            continue  # other numbers than the plain module's
        assert_close(found, expected, rtol=1e-3, atol=1e-3)
        assert_same_buffers(compiled, plain)


def runs_on_meta(candidate: Candidate) -> None:
    """Shapes without values, as big models are laid out."""
    for training in (True, False):
        norm = candidate.new("meta").train(training)
        x = torch.empty(candidate.shape, device="meta", requires_grad=True)
        y = norm(x)
        hold(y.shape == candidate.shape and y.device.type == "meta", f"gives {tuple(y.shape)} on {y.device}")
        y.sum().backward()


def is_loaded_after_to_empty(candidate: Candidate) -> None:
    """Made on meta, given memory, filled by a saved state alone: the saved norm."""
    norm = candidate.settled()
    loaded = candidate.new("meta").to_empty(device="cpu")
    for tensor in (*loaded.parameters(), *loaded.buffers()):
        tensor.data.fill_(9)  # what lies in memory that nobody has written
    loaded.load_state_dict(norm.state_dict())
    for training in (True, False):
        torch.manual_seed(3)
        y = norm.train(training)(candidate.images())
        torch.manual_seed(3)
        hold(torch.equal(loaded.train(training)(candidate.images()), y), "it is not the saved norm")


def is_checkpointed(candidate: Candidate) -> None:
    """Gradient checkpointing, either way: gradients, and running statistics moved once."""
    for reentrant in (False, True):
        norm = candidate.settled()
        plain, saved = copy.deepcopy(norm), copy.deepcopy(norm)
        for seed in (5, 6):  # a second step finds nothing left of the first
            block = nn.Sequential(saved, nn.Sigmoid())
            expected = step(nn.Sequential(plain, nn.Sigmoid()), [plain], candidate.images(seed))
            found = step(partial(checkpoint, block, use_reentrant=reentrant), [saved], candidate.images(seed))
            assert_close(found, expected)
            assert_same_buffers(saved, plain)


def follows_writes_to_data(candidate: Candidate) -> None:
    """Between evaluations buffers are written through `.data`, in numpy, or by a collective: the output follows."""
    norm = candidate.settled()
    teacher = candidate.settled().eval()
    with torch.no_grad():
        norm(3 * candidate.images(7) + 1)
    teacher(candidate.images())
    for own, other in zip(teacher.buffers(), norm.buffers(), strict=True):
        own.data.copy_(other.data)
    assert_close(teacher(candidate.images()), norm.eval()(candidate.images()), rtol=0, atol=0)
    for buffer in teacher.buffers():
        if buffer.is_floating_point():
            buffer.numpy()[...] *= 1.5
    fresh = candidate.new().eval()
    fresh.load_state_dict(teacher.state_dict())
    assert_close(teacher(candidate.images()), fresh(candidate.images()), rtol=0, atol=0)


def works_in_inference_mode(candidate: Candidate) -> None:
    """Evaluated in `torch.inference_mode`, then trained; and made there."""
    norm = candidate.settled()
    twin = copy.deepcopy(norm)
    with torch.inference_mode():
        y = norm.eval()(candidate.images())
        made = candidate.new().eval()
        hold(made(candidate.images()).shape == candidate.shape, "made there, it gives another shape")
    with torch.no_grad():
        assert_close(y, twin.eval()(candidate.images()), rtol=0, atol=0)
    assert_close(
        step(norm, [norm], candidate.images()), step(twin, [twin], candidate.images()), rtol=0, atol=0
    )  # of evaluation
    norm.train()
    twin.train()
    assert_close(step(norm, [norm], candidate.images()), step(twin, [twin], candidate.images()), rtol=0, atol=0)


def is_found_by_update_bn(candidate: Candidate) -> str | None:
    """`torch.optim.swa_utils.update_bn` leaves the mean over its batches of what one batch gives."""
    norm = candidate.settled()
    if not getattr(norm, "num_batches_tracked", None):
        return "it counts no batches"
    counting: Any = norm
    given, old = counting.momentum, copy.deepcopy(counting)
    batches = [candidate.images(seed) * (1 + seed) for seed in range(3)]
    update_bn(batches, norm)
    hold(counting.momentum == given, "momentum is another one afterwards")
    hold(int(counting.num_batches_tracked) == 3, f"it has counted {int(counting.num_batches_tracked)} batches of 3")
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
    return None


def loads_states_without_a_count(candidate: Candidate) -> str | None:
    """A state from before torch 0.4.1, or from another library, has no `num_batches_tracked`: it loads as in torch."""
    norm, other = candidate.settled(), candidate.new()
    if "num_batches_tracked" not in norm.state_dict():
        return "it counts no batches"
    state = {key: value for key, value in norm.state_dict().items() if key != "num_batches_tracked"}
    other.load_state_dict(dict(state))
    assert_close(other.eval()(candidate.images()), norm.eval()(candidate.images()), rtol=0, atol=0)
    hold(int(other.state_dict().get("num_batches_tracked", torch.tensor(0))) == 0, "it has counted batches")
    return None


HABITS: tuple[Habit, ...] = (
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
SLOW_HABITS: tuple[Habit, ...] = (is_exported, is_compiled)
