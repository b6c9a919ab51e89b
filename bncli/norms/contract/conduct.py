"""What a norm keeps by itself, one function a property: shapes, gradients, modes, state, lanes, number formats.

Each raises where a norm falls short, or returns why it is not applicable. Shapes: S lanes, N examples, C channels, L
locations.
"""

import copy
import io
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.gradcheck import GradcheckError
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.testing import assert_close

from bncli.norms.contract.candidates import Candidate, describe_shape, hold

BOTH = (True, False)  # training, evaluation


def keeps_shape_and_type(candidate: Candidate) -> None:
    """For every shape that it takes, in training and evaluation."""
    for locations in candidate.locations:
        for training in BOTH:
            x = candidate.example(4, locations)
            y = candidate.new().double().train(training)(x)
            mode = "training" if training else "evaluation"
            fits = y.shape == x.shape and y.dtype == x.dtype and y.device == x.device
            hold(fits, f"{describe_shape(x)} in float64 gives {describe_shape(y)} in {_name(y.dtype)} in {mode}")


def leaves_its_input_alone(candidate: Candidate) -> None:
    """Forward and backward write neither to the input nor to the output's gradient."""
    for training in BOTH:
        norm, x = candidate.trained().train(training), candidate.example()
        with torch.no_grad():
            given = x.clone()
            norm(given)
            hold(torch.equal(given, x), "the forward pass writes to its input")
        given, gy = x.clone().requires_grad_() * 1, torch.randn_like(x)
        kept = gy.clone()
        norm(given).backward(gy)
        hold(torch.equal(given, x), "the backward pass writes to its input")
        hold(torch.equal(gy, kept), "the backward pass writes to the gradient of its output")


def keeps_channels_in_groups(candidate: Candidate) -> None:
    """An output depends on its own input, and the same channels go together in every example, all of a group.

    Found by moving one channel of one example after another. A reshape that takes examples for channels, and an output
    that mixes channels which share no statistics, are neither.
    """
    norm = candidate.trained()
    locations = max((each for each in candidate.locations if len(each) < 3), key=len)
    together = torch.zeros(4, candidate.channels, candidate.channels, dtype=torch.bool)  # (n, c, c'): c depends on c'
    for _ in range(3):  # an activation behind the norm may hide a value
        x = torch.randn(4, candidate.channels, *locations, dtype=torch.float64)  # where bounded functions are not flat
        y = _run_fresh(norm, x)
        for example in range(4):
            for channel in range(candidate.channels):
                moved = x.clone()
                moved[example, channel] += 0.5 + torch.rand(locations, dtype=x.dtype)
                difference = (_run_fresh(norm, moved) - y).abs().flatten(2).amax(2)
                together[:, :, channel] |= difference > 1e-9 * float(y.abs().amax())
    for example in range(4):
        alone = [c for c in range(candidate.channels) if not together[example, c, c]]
        hold(not alone, f"the output of channel {alone[:1]} does not depend on its input")
        differs = (together[example] != together[0]).any(1).nonzero().flatten().tolist()
        if differs:
            first, other = (together[n, differs[0]].nonzero().flatten().tolist() for n in (0, example))
            hold(False, f"channel {differs[0]} goes with channels {first} in one example and with {other} in another")
    reached = (together[0].float() @ together[0].float()) > 0
    left = (reached & ~together[0]).nonzero().tolist()
    if left:
        one, other = left[0]
        hold(False, f"channel {one} is mixed with some that go with channel {other}, and not with that")


def _run_fresh(norm: nn.Module, x: Tensor) -> Tensor:
    torch.manual_seed(3)  # of norms that draw
    with torch.no_grad():
        y: Tensor = copy.deepcopy(norm)(x)
    return y


def uses_every_parameter(candidate: Candidate) -> str | None:
    """Each of them changes the output, of one shape or other, in training or in evaluation."""
    unused = {key for key, _ in candidate.new().named_parameters()}
    if not unused:
        return "it has none"
    for locations in candidate.locations:
        norm, x = candidate.new().double(), candidate.example(6, locations)
        for training in BOTH:
            norm.train(training)
            y = _run_fresh(norm, x)
            for key in [*unused]:
                moved = copy.deepcopy(norm)
                moved.get_parameter(key).data += 0.3 + torch.rand_like(moved.get_parameter(key))
                if float((_run_fresh(moved, x) - y).abs().amax()) > 1e-9 * float(y.abs().amax()):
                    unused.discard(key)
    hold(not unused, f"{', '.join(sorted(unused))} changes no output")
    return None


def output_of(candidate: Candidate, *, training: bool = True) -> tuple[Callable[..., Tensor], list[nn.Parameter]]:
    """A norm's output as a function of x and its parameters, from the same buffers each time; and the parameters."""
    norm = candidate.trained().train(training)
    parameters, buffers = dict(norm.named_parameters()), copy.deepcopy(dict(norm.named_buffers()))

    def output(x: Tensor, *values: Tensor) -> Tensor:
        torch.manual_seed(3)  # of norms that draw
        y: Tensor = functional_call(
            norm, {**copy.deepcopy(buffers), **dict(zip(parameters, values, strict=True))}, (x,)
        )
        return y

    return output, list(parameters.values())


def has_the_gradient_of_finite_differences(candidate: Candidate) -> None:
    """At the input and at every parameter, in training and in evaluation, in float64."""
    for training in BOTH:
        output, parameters = output_of(candidate, training=training)
        names = ["its input", *dict(candidate.new().named_parameters())]
        try:
            gradcheck(output, (candidate.example(8).requires_grad_(), *parameters))
        except GradcheckError as error:
            said = str(error).partition("\n")[0].rstrip(",")
            place = said.rpartition("with respect to input ")[2]
            where = f"at {names[int(place)]}" if place.isdigit() else said
            raise AssertionError(f"{where}, in {'training' if training else 'evaluation'}") from error


def has_the_second_gradient_of_finite_differences(candidate: Candidate) -> None:
    """At the input and at every parameter, in training, in float64."""
    output, parameters = output_of(candidate)
    try:
        gradgradcheck(output, (candidate.example(6).requires_grad_(), *parameters), fast_mode=True)
    except GradcheckError as error:
        raise AssertionError("the second gradient is not that of finite differences") from error


def evaluates_without_a_trace(candidate: Candidate) -> None:
    """Evaluation gives the same twice, and changes neither buffer nor parameter."""
    norm, x = candidate.trained().eval(), candidate.example()
    before = copy.deepcopy(_state(norm))
    y = norm(x)
    hold(torch.equal(norm(x), y), "the same batch gives something else the second time")
    changed = [key for key, value in _state(norm).items() if not torch.equal(value, before[key])]
    hold(not changed, f"{', '.join(changed)} changes")


def evaluates_each_example_by_itself(candidate: Candidate) -> None:
    """In evaluation an example alone, and among others, gives the same."""
    norm, x = candidate.trained().eval(), candidate.example()
    assert_close(norm(x[:1]), norm(x)[:1])
    others = torch.cat([x[:1], 3 * candidate.example(5) - 2])
    assert_close(norm(others)[:1], norm(x)[:1])


def trains_its_buffers_alone(candidate: Candidate) -> None:
    """A forward pass in training changes no parameter, and no buffer's name, shape or type."""
    norm = candidate.trained()
    kept = {key: parameter.detach().clone() for key, parameter in norm.named_parameters()}
    kinds = {key: (value.shape, value.dtype, value.device) for key, value in _state(norm).items()}
    norm(candidate.example())
    changed = [key for key, parameter in norm.named_parameters() if not torch.equal(parameter, kept[key])]
    hold(not changed, f"the parameter {', '.join(changed)} changes")
    now = {key: (value.shape, value.dtype, value.device) for key, value in _state(norm).items()}
    odd = sorted(key for key in now.keys() | kinds.keys() if now.get(key) != kinds.get(key))
    hold(not odd, f"{', '.join(odd)} becomes another tensor")


def saves_all_that_evaluation_needs(candidate: Candidate) -> None:
    """A new norm that is given the `state_dict` of a trained one evaluates as that, bit for bit."""
    norm, other, x = candidate.trained().eval(), candidate.new().double().eval(), candidate.example()
    other(x)
    other.load_state_dict(norm.state_dict())
    hold(torch.equal(other(x), norm(x)), "a new norm with the same state evaluates to something else")


def is_copied_whole(candidate: Candidate) -> None:
    """A deep copy evaluates alike, and training it leaves the original alone."""
    norm, x = candidate.trained().eval(), candidate.example()
    expected = norm(x)
    twin = copy.deepcopy(norm)
    hold(torch.equal(twin(x), expected), "a deep copy evaluates to something else")
    twin.train()(candidate.example())
    hold(torch.equal(norm(x), expected), "training a deep copy changes the original")


def is_pickled_whole(candidate: Candidate) -> None:
    """`torch.save` of the module and `torch.load` give one that evaluates alike."""
    norm, x, file = candidate.trained().eval(), candidate.example(), io.BytesIO()
    torch.save(norm, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    hold(torch.equal(loaded(x), norm(x)), "what is loaded evaluates to something else")


def uses_the_parameters_it_is_given(candidate: Candidate) -> str | None:
    """`torch.func.functional_call` with other parameters is the norm that has them."""
    norm, x = candidate.trained().eval(), candidate.example()
    given = {key: 2 * parameter.detach() + 0.5 for key, parameter in norm.named_parameters()}
    if not given:
        return "it has no parameters"
    y = functional_call(norm, given, (x,))
    with torch.no_grad():
        for key, parameter in norm.named_parameters():
            parameter.copy_(given[key])
    assert_close(y, norm(x))
    return None


def equals_runs_one_at_a_time_in_lanes(candidate: Candidate, *, training: bool = True) -> None:
    """Outputs, gradients and buffers of three norms under `torch.func.vmap` are those of each alone."""
    norms = [candidate.trained().train(training) for _ in range(3)]
    x, weights = torch.stack([candidate.example() for _ in norms]), torch.randn_like(candidate.example())
    parameters, buffers = stack_module_state(copy.deepcopy(norms))

    def loss(parameters: Any, x: Tensor, buffers: Any) -> tuple[Tensor, Tensor]:
        y = functional_call(norms[0], (parameters, buffers), (x,))
        return (y * weights).sum(), y

    (gradients, gx), y = vmap(grad(loss, argnums=(0, 1), has_aux=True))(parameters, x, buffers)
    for lane, norm in enumerate(norms):
        alone = x[lane].clone().requires_grad_()
        expected = norm(alone)
        (expected * weights).sum().backward()
        assert_close(y[lane], expected)
        assert_close(gx[lane], alone.grad)
        for key, parameter in norm.named_parameters():
            assert_close(gradients[key][lane], parameter.grad)
        for key, buffer in norm.named_buffers():
            assert_close(buffers[key][lane], buffer)


def is_differentiated_from_outside_the_lanes(candidate: Candidate) -> None:
    """The gradient of what `vmap` gives is that of each norm alone."""
    norms = [candidate.trained() for _ in range(3)]
    x = torch.stack([candidate.example() for _ in norms]).requires_grad_()
    weights = torch.randn_like(candidate.example())
    (_run_lanes(norms, x) * weights).sum().backward()
    assert x.grad is not None
    for lane, norm in enumerate(norms):
        alone = x[lane].detach().clone().requires_grad_()
        (norm(alone) * weights).sum().backward()
        assert_close(x.grad[lane], alone.grad)


def keeps_what_is_not_finite_in_its_lane(candidate: Candidate, *, training: bool = True) -> None:
    """Outputs and gradients of the other lanes are what they are without it."""
    norms = [candidate.trained().train(training) for _ in range(3)]
    x, weights = torch.stack([candidate.example() for _ in norms]), torch.randn_like(candidate.example())
    found = []
    for entry in (0.0, torch.nan):
        x[1, 3, 2] = entry
        leaf = x.clone().requires_grad_()
        y = _run_lanes(norms, leaf)
        (y * weights).sum().backward()
        assert leaf.grad is not None
        found.append(torch.stack([y, leaf.grad]))
    assert_close(found[0][:, [0, 2]], found[1][:, [0, 2]])
    hold(not bool(found[1][0, 1].isfinite().all()), "NaN comes out as a number")


def _run_lanes(norms: Sequence[nn.Module], x: Tensor) -> Tensor:
    state = stack_module_state(copy.deepcopy(norms))
    y: Tensor = vmap(lambda state, x: functional_call(norms[0], state, (x,)))(state, x)
    return y


def repeats_itself_in_training(candidate: Candidate) -> None:
    """The same norm gives the same batch the same output in training, whatever torch's generators are at."""
    norm, x = candidate.trained(), candidate.example()
    hold(torch.equal(copy.deepcopy(norm)(x), copy.deepcopy(norm)(x)), "")


def permutes_with_its_examples(candidate: Candidate) -> None:
    """In training, the examples in another order give their outputs in that order."""
    x = candidate.example()
    order = torch.randperm(len(x))
    assert_close(candidate.new().double()(x[order]), candidate.new().double()(x)[order])


def compiles(candidate: Candidate, backend: str) -> None:
    """`torch.compile` finds one graph, whose outputs, gradients and buffers are those of the module, in both modes."""
    for training in BOTH:
        x, weights = candidate.example(4), torch.randn_like(candidate.example(4))
        plain, compiled = (candidate.new().double().train(training) for _ in range(2))
        torch.compiler.reset()
        found = []
        for norm, run in ((plain, plain), (compiled, torch.compile(compiled, fullgraph=True, backend=backend))):
            leaf = x.clone().requires_grad_()
            y = run(leaf)
            (y * weights).sum().backward()
            gradients = [p.grad for p in norm.parameters() if p.grad is not None]
            found.append([y, leaf.grad, *gradients, *norm.buffers()])
        assert_close(found[1], found[0])


def _state(norm: nn.Module) -> dict[str, Tensor]:
    """All that it holds, buffers that are not saved included."""
    return {**dict(norm.named_parameters()), **dict(norm.named_buffers())}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
