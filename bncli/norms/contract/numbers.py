"""What a norm makes of numbers: their formats, constants, what is not finite, values far from zero, few examples.

Each raises where a norm falls short, or returns why it is not applicable.
"""

import torch
from torch import Tensor
from torch.testing import assert_close

from bncli.norms.contract.candidates import Candidate, describe_shape, first_line, hold

BOTH = (True, False)  # training, evaluation


def keeps_its_own_type(candidate: Candidate, dtype: torch.dtype) -> None:
    """Moved to a number format, it takes and gives that format, and so does its gradient."""
    for training in BOTH:
        x = _draw(candidate).to(dtype).requires_grad_()
        y = candidate.new().to(dtype).train(training)(x)
        y.sum().backward()
        hold(y.dtype == dtype, f"{_name(dtype)} comes out as {_name(y.dtype)}")
        hold(x.grad is not None and x.grad.dtype == dtype, "the gradient has another number format")


def is_single_inside(candidate: Candidate, dtype: torch.dtype) -> None:
    """With float32 parameters, half precision in and out is float32 inside, and so are running statistics."""
    for training in BOTH:
        x = _draw(candidate).to(dtype)
        norm, single = candidate.new().train(training), candidate.new().train(training)
        y, expected = norm(x), single(x.float())
        hold(y.dtype == dtype, f"{_name(dtype)} comes out as {_name(y.dtype)}")
        assert_close(y, expected.to(dtype))
        for key, buffer in norm.named_buffers():
            assert_close(buffer, single.get_buffer(key))


def is_the_same_within_autocast(candidate: Candidate, dtype: torch.dtype) -> None:
    """Within `torch.autocast` to bfloat16 it gives what it gives outside, to the last bit."""
    for training in BOTH:
        x = _draw(candidate).to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            y = candidate.new().train(training)(x)
        hold(torch.equal(y, candidate.new().train(training)(x)), f"{_name(dtype)} gives other numbers")


def is_finite_on_constants(candidate: Candidate) -> None:
    """Where each channel is constant, output, gradients and what evaluation gives afterwards are finite."""
    for value in (0.0, 1.0, 1234.5):
        for locations in candidate.locations:
            x = torch.full((4, candidate.channels, *locations), value, requires_grad=True)
            norm = candidate.new()
            y = norm(x)
            (y * torch.randn_like(y)).sum().backward()
            where = f"at a constant input of {value:g}"
            hold(bool(y.isfinite().all()), f"its output is not finite {where}")
            hold(
                x.grad is not None and bool(x.grad.isfinite().all()), f"the gradient at its input is not finite {where}"
            )
            odd = [k for k, p in norm.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
            hold(not odd, f"the gradient of {', '.join(odd)} is not finite {where}")
            odd = [key for key, buffer in norm.named_buffers() if not buffer.isfinite().all()]
            hold(not odd, f"{', '.join(odd)} is not finite {where}")
            hold(bool(norm.eval()(x).isfinite().all()), f"evaluation is not finite {where}")


def passes_on(candidate: Candidate, bad: float) -> None:
    """What is not finite comes out not finite, in training and evaluation; it is no exception."""
    for training in BOTH:
        x = _draw(candidate)
        x[1, 2].view(-1)[-1] = bad
        y = candidate.new().train(training)(x.requires_grad_())
        y.sum().backward()
        hold(not bool(y[1, 2].reshape(-1)[-1].isfinite()), f"{bad} comes out as a number")


def keeps_nan_in_its_channel_or_example(candidate: Candidate) -> None:
    """In training, a NaN spoils outputs of its own channel alone, or of its own example alone."""
    x = _draw(candidate, 8)
    x[1, 2].view(-1)[-1] = torch.nan
    spoilt = candidate.new()(x).isnan().flatten(2).any(2)
    examples, channels = (int(spoilt.any(axis).sum()) for axis in (1, 0))
    hold(examples == 1 or channels == 1, f"it spoils {channels} channels of {examples} examples")


def is_exact_far_from_zero(
    candidate: Candidate, *, examples: int = 4000, locations: tuple[int, ...] | None = None
) -> None:
    """Of inputs of mean 1e4 and standard deviation 1, the output's variance in float32 is that in float64, to 1 %."""
    axes = min((len(each) for each in candidate.locations if each), default=0)
    sizes = (2,) * axes if locations is None else locations
    x = torch.randn(examples, candidate.channels, *sizes) + 1e4
    exact = _variance(candidate.new().double()(x.double()))
    found = _variance(candidate.new()(x).double())
    off = float(((found - exact).abs() / exact.clamp_min(1e-30)).amax())
    fits = torch.allclose(found, exact, rtol=0.01, atol=1e-13)  # a float32 near 1 has steps of 1e-7
    hold(fits, f"the variance of its output is off by {off:.2g} of itself")


def _variance(y: Tensor) -> Tensor:
    """(C,)."""
    return y.detach().transpose(0, 1).flatten(1).var(1)


def takes_a_single_example(candidate: Candidate) -> None:
    """Training on one example gives finite numbers, or is refused by a ValueError, as torch's batch norm does."""
    for locations in candidate.locations:
        x = torch.randn(1, candidate.channels, *locations)
        try:
            y = candidate.new()(x)
        except ValueError:
            continue
        except Exception as error:  # anybody's code
            raise AssertionError(f"{describe_shape(x)} raises {first_line(error)}") from error
        hold(bool(y.isfinite().all()), f"{describe_shape(x)} gives what is not finite")


def takes_an_empty_batch(candidate: Candidate) -> None:
    """Evaluating no example gives none, or is refused by a ValueError."""
    for locations in candidate.locations:
        x = torch.randn(0, candidate.channels, *locations)
        try:
            y = candidate.new().eval()(x)
        except ValueError:
            continue
        except Exception as error:  # anybody's code
            raise AssertionError(f"{describe_shape(x)} raises {first_line(error)}") from error
        hold(y.shape == x.shape, f"{describe_shape(x)} gives {describe_shape(y)}")


def _draw(candidate: Candidate, examples: int = 4) -> Tensor:
    """(N, C, L) of a standard normal distribution, in float32."""
    sizes = next((each for each in candidate.locations if each), ())
    return torch.randn(examples, candidate.channels, *sizes)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
