"""figure1's study in JAX as one writes it there, `jit(vmap(scan))`: prints the seconds of start-up and run-steps a second.

One process with one thread, for `study_throughput.py`, which starts one a core. Half of its lanes have batch
normalisation; batches are gathered by index in the scan, as bytes. Nothing is evaluated or stored. Needs jax (the extra
`peers`).
"""

import argparse
import json
import os
import time
from itertools import pairwise

START = time.perf_counter()
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax  # noqa: E402 - the flags are read when it is imported
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

BATCH, WIDTHS, CHUNK = 60, [784, 100, 100, 100, 10], 250


def forward(params, stats, x, normed):
    h, running = x, []
    for i, layer in enumerate(params[:-1]):
        h = h @ layer["w"]
        if normed:
            mean = h.mean(0)
            centred = h - mean
            var = (centred * centred).mean(0)
            m = len(h)
            running.append((0.9 * stats[i][0] + 0.1 * mean, 0.9 * stats[i][1] + 0.1 * var * (m / (m - 1))))
            h = centred * jax.lax.rsqrt(var + 1e-5) * layer["scale"]
        h = jax.nn.sigmoid(h + layer["b"])
    return h @ params[-1]["w"] + params[-1]["b"], running


def loss(params, stats, x, y, normed):
    outputs, running = forward(params, stats, x, normed)
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], 1).mean(), running


def trainer(normed, images, labels):
    """`jit(vmap(scan))` over lanes: parameters, running statistics and rate of each, and CHUNK batches by index."""

    def train(params, stats, lr, index):
        def step(state, chosen):
            params, stats = state
            x, y = images[chosen].astype(jnp.float32), labels[chosen]
            (value, running), grads = jax.value_and_grad(loss, has_aux=True)(params, stats, x, y, normed)
            params = jax.tree.map(lambda p, g: p - lr * g, params, grads)
            return (params, running), value

        return jax.lax.scan(step, (params, stats), index)

    return jax.jit(jax.vmap(train), donate_argnums=(0, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="an .npz with images (N, 784), bytes, and labels (N,)")
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--lanes", type=int, default=10)
    options = parser.parse_args()
    with np.load(options.data) as data:
        images, labels = jnp.asarray(data["images"]), jnp.asarray(data["labels"].astype(np.int32))
    draws, lanes = np.random.default_rng(0), options.lanes
    rates = jnp.asarray(np.resize([0.05, 0.1, 0.2, 0.5], lanes), jnp.float32)
    seconds, steps = 0.0, 0
    started = time.perf_counter() - START
    for normed in (False, True):
        train = trainer(normed, images, labels)
        params = [
            {
                "w": jnp.asarray(draws.normal(0, 0.1, (lanes, a, b)), jnp.float32),
                "b": jnp.zeros((lanes, b)),
                **({"scale": jnp.ones((lanes, b))} if normed else {}),
            }
            for a, b in pairwise(WIDTHS)
        ]
        params[-1].pop("scale", None)
        stats = [(jnp.zeros((lanes, b)), jnp.ones((lanes, b))) for b in WIDTHS[1:-1]] if normed else []
        spent_on_first = 0.0  # which compiles: beyond the time of another it is start-up
        for chunk in range(1 + options.steps // CHUNK):
            begin = time.perf_counter()
            index = np.stack(
                [draws.permutation(len(labels))[: CHUNK * BATCH].reshape(CHUNK, BATCH) for _ in range(lanes)]
            )
            (params, stats), values = train(params, stats, rates, jnp.asarray(index))
            values.block_until_ready()
            spent = time.perf_counter() - begin
            if chunk:
                seconds, steps = seconds + spent, steps + CHUNK * lanes
            else:
                spent_on_first = spent
        started += spent_on_first - spent
    print(json.dumps({"start": started, "rate": steps / seconds, "loss": float(values[:, -1].mean())}))


if __name__ == "__main__":
    main()
