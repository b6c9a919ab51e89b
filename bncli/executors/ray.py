"""A Ray cluster: one task a job, placed by what the job is to have; https://docs.ray.io/en/latest/ray-core/tasks.html."""

import os
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from bncli.errors import ConfigError, first_line
from bncli.executors import Workers
from bncli.executors.remote import Remote, call, import_or_say, require_answer

_PATIENCE_SECONDS = 600  # with a head that does not answer
_SILENCE_MILLISECONDS = "20000"  # of a worker, then of its answer to a ping, after which its machine is gone


def open_ray(
    workers: int | None, device: str, *, address: str = "", cpus_per_job: float = 1.0, gpus_per_job: float | None = None
) -> Workers:
    """Connect to a cluster, or make one of this machine where none is at hand, and none is named.

    Args:
        workers: jobs at once at most; None is as many as the cluster's nodes have room for now.
        device: of the runs.
        address: HOST:PORT of the head, or ray://HOST:PORT of its client server; "" is the cluster of this machine.
        cpus_per_job: what a job has to itself.
        gpus_per_job: a whole one on cuda where nothing is said; a share is a matter of trust.

    Raises:
        ConfigError: where Ray is not installed, no cluster answers, or no node of it has what a job needs.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(_PATIENCE_SECONDS))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # tasks without a GPU see what their node shows
    for name in ("time", "timeout"):
        os.environ.setdefault(f"RAY_grpc_client_keepalive_{name}_ms", _SILENCE_MILLISECONDS)
    ray = import_or_say("ray", "ray")
    ours = not ray.is_initialized()
    if address.startswith("//"):  # of ray://HOST:PORT, whose scheme is the executor's name
        address = f"ray:{address}"
    if ours:
        if address:
            require_answer("ray", address, "a head that `ray start --head` has started")
        try:
            ray.init(address=address or None, log_to_driver=False, logging_level="error")
        except Exception as error:
            raise ConfigError(
                f"--executor ray{address and f':{address}'}: no cluster answers ({first_line(error)}); start one"
                " by `ray start --head` and name its address"
            ) from None
        _let_print(ray, False)
    gpus = gpus_per_job if gpus_per_job is not None else float(device == "cuda")
    slots = _count_slots(ray, cpus_per_job, gpus)
    if not slots:
        nodes = _describe_nodes(ray)
        if ours:
            ray.shutdown()
            _let_print(ray, True)
        raise ConfigError(
            f"--executor ray: a job needs {cpus_per_job:g} CPUs and {gpus:g} GPUs, and no node of the cluster has them:"
            f" {nodes}; lower --cpus-per-job or --gpus-per-job, or add a node"
        )
    task = ray.remote(num_cpus=cpus_per_job, num_gpus=gpus, max_retries=0)(call)
    sent = set[Any]()

    def start(_: object, *arguments: Any) -> Future[Any]:
        reference = task.remote(*arguments)
        sent.add(reference)
        found: Future[Any] = reference.future()
        found.add_done_callback(lambda done: sent.discard(reference))
        return found

    def stop() -> None:
        for reference in list(sent):
            with suppress(Exception):  # it has ended, or the cluster has
                ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()
            _let_print(ray, True)

    problems = ray.exceptions
    lost = dict.fromkeys((
        problems.WorkerCrashedError, problems.NodeDiedError, problems.ObjectLostError, problems.OutOfMemoryError,
        problems.LocalRayletDiedError, problems.RaySystemError,
    ), 1)  # fmt: skip
    return Workers(Remote(start, lost), min(slots, workers or slots), most=workers, is_remote=True, stop=stop)


def _let_print(ray: Any, wanted: bool) -> None:
    """Whether Ray prints deaths of workers to stdout, where a document may be; `log_to_driver=False` leaves that on."""
    with suppress(AttributeError):  # no public switch
        ray._private.worker._worker_logs_enabled = wanted


def _count_slots(ray: Any, cpus: float, gpus: float) -> int:
    """Jobs for which the nodes that live have room, if nothing else runs there."""
    return sum(
        int(min(has.get(kind, 0.0) / asked for kind, asked in (("CPU", cpus), ("GPU", gpus)) if asked))
        for has in (node["Resources"] for node in ray.nodes() if node["Alive"])
        if cpus or gpus
    )


def _describe_nodes(ray: Any) -> str:
    kinds = [(n["Resources"].get("CPU", 0.0), n["Resources"].get("GPU", 0.0)) for n in ray.nodes() if n["Alive"]]
    return ", ".join(f"{kinds.count(kind)} with {kind[0]:g} and {kind[1]:g}" for kind in sorted(set(kinds)))
