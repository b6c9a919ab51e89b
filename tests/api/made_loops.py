"""Three loops that are not bncli's: a GAN, a language model, and one in plain numpy without torch."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

TEXT = (
    "to keep each layer's inputs alike while the layers below it change, one centres and scales them over a batch; "
    "the network then learns with higher rates, and the first weights matter less. "
)


def gan(run, steps: int = 60, lr: float = 0.05):
    """A generator of points around a ring, and what tells them from true ones; how far its moments are off."""
    angle = 2 * torch.pi * torch.rand(128)
    true = torch.stack([angle.cos() + 2, angle.sin() - 1], 1) + 0.05 * torch.randn(128, 2)
    generator = nn.Sequential(
        nn.Linear(4, 24), run.norm(24), nn.ReLU(), nn.Linear(24, 24), run.norm(24), nn.ReLU(), nn.Linear(24, 2)
    )
    judge = nn.Sequential(nn.Linear(2, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1))
    ours, theirs = (torch.optim.Adam(net.parameters(), lr, betas=(0.5, 0.9)) for net in (generator, judge))
    for step in range(steps + 1):
        made = generator(torch.randn(128, 4))
        if step % 20 == 0:
            yield {"step": step, "distance": (made.mean(0) - true.mean(0)).norm() + (made.std(0) - true.std(0)).norm()}
        loss = functional.softplus(-judge(true)).mean() + functional.softplus(judge(made.detach())).mean()
        theirs.zero_grad(), loss.backward(), theirs.step()
        loss = functional.softplus(-judge(made)).mean()
        ours.zero_grad(), loss.backward(), ours.step()


def characters(run, steps: int = 60, lr: float = 0.3):
    """The next character of eight, by two layers; nats a character over the whole text."""
    known = sorted(set(TEXT))
    codes = torch.tensor([known.index(letter) for letter in TEXT])
    x, y = codes.unfold(0, 8, 1)[:-1], codes[8:]
    model = nn.Sequential(
        nn.Embedding(len(known), 8), nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Tanh(),
        nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, len(known)),
    )  # fmt: skip
    model = run.replace_norms(model, inputs=x[:32])
    optimizer = torch.optim.SGD(model.parameters(), lr)
    for step in range(steps + 1):
        loss = functional.cross_entropy(model(x), y)
        if step % 10 == 0:
            yield {"step": step, "loss": loss}
        optimizer.zero_grad(), loss.backward(), optimizer.step()


def regression(run, lr: float = 0.02, steps: int = 50):
    """Logistic regression on columns of unequal scale: normalised over the batch, each example, or not at all."""
    x = np.random.normal(size=(200, 4)) * [1, 30, 0.1, 5] + [0, 50, 0, -5]
    y = (x @ [1, 0.03, -10, 0.2] - 0.5 > 0).astype(float)
    axis = {"batch": 0, "layer": 1, "none": None}[run.norm.name]
    if axis is not None:
        x = (x - x.mean(axis, keepdims=True)) / x.std(axis, keepdims=True)
    weights, bias = np.zeros(4), 0.0
    for step in range(steps + 1):
        chances = 1 / (1 + np.exp(-np.clip(x @ weights + bias, -30, 30)))
        if step % 10 == 0:
            yield {"step": step, "accuracy": ((chances > 0.5) == y).mean(), "penalty": weights @ weights}
        weights -= lr * x.T @ (chances - y) / len(y)
        bias -= lr * (chances - y).mean()
