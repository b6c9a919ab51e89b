"""What goes to workers on other machines: jobs, with what a worker must be like; and back, where one must leave."""

import importlib
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from bncli.engine.environment import describe_software
from bncli.engine.work import hand_back, is_leaving
from bncli.errors import BncliError, ConfigError, HandedBack, first_line
from bncli.executors import WorkerLostError

_LAST_WORD_SECONDS = 0.3  # for an answer to leave before its process ends


class UnlikeError(BncliError):
    """A worker is not as the machine that asks: its numbers could be others."""


class Remote(Executor):
    """Hands calls to workers elsewhere as bytes, which are opened only where everything is as it is here.

    Args:
        start: takes a function with arguments that any pickle can carry; gives a future of the result.
        lost: errors of such a future that say that the worker, its machine or the way there is gone, and as how many
            losses each counts.
        shut: called at shutdown.
    """

    def __init__(
        self, start: Callable[..., Future[Any]], lost: Mapping[type[BaseException], int],
        shut: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._start, self._lost, self._shut = start, lost, shut

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor`; a worker that is gone is a WorkerLostError."""
        answer: Future[Any] = Future()
        answer.set_running_or_notify_cancel()
        sent = self._start(call, describe_software(), pickle.dumps((fn, args, kwargs)))
        sent.add_done_callback(lambda done: self._pass_on(done, answer))
        return answer

    def _pass_on(self, done: Future[Any], answer: Future[Any]) -> None:
        try:
            result = done.result()
        except BaseException as error:
            losses = next((count for kind, count in self._lost.items() if isinstance(error, kind)), 0)
            answer.set_exception(WorkerLostError(first_line(error), losses) if losses else _explain(error))
        else:
            answer.set_result(result)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor`."""
        self._shut()


def call(expected: Mapping[str, str], packed: bytes) -> Any:
    """In a worker: call what is packed, unless something here is not as it is expected.

    SIGTERM, where this is the main thread, has the job keep its state and go back to whoever asked; this process ends.

    Raises:
        UnlikeError: that names what differs.
        HandedBack: if the worker must leave.
    """
    own = describe_software()
    for name, wanted in expected.items():
        if own.get(name) != wanted:
            raise UnlikeError(
                f"--executor: the worker on {socket.gethostname()} has {name} {own.get(name) or 'none'}, this machine"
                f" {wanted}: its numbers could differ; install the same there"
            )
    if is_leaving():  # it has answered, and is about to end
        raise HandedBack
    function, args, kwargs = pickle.loads(packed)
    with _leaving_on_sigterm():
        return function(*args, **kwargs)


@contextmanager
def _leaving_on_sigterm() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: hand_back())
    try:
        yield
    except HandedBack:
        leave = threading.Timer(_LAST_WORD_SECONDS, os._exit, [0])
        leave.daemon = True
        leave.start()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _explain(error: BaseException) -> BaseException:
    """What a worker raised, or why it could not even begin."""
    found: BaseException = getattr(error, "cause", None) or error  # Ray's errors hold the worker's own
    if isinstance(found, BncliError | HandedBack):
        return found
    text = str(error)
    if (isinstance(found, ImportError | AttributeError) and "bncli" in text) or "No module named 'bncli" in text:
        needs = ", ".join(
            f"{name} {value}" for name, value in describe_software().items() if name != "the code of bncli"
        )
        return UnlikeError(
            f"--executor: a worker cannot load bncli ({first_line(found)}); every worker must have {needs}"
        )
    return found if isinstance(found, Exception) else RuntimeError(first_line(found))


def import_or_say(module: str, executor: str) -> Any:
    """A package that an executor needs.

    Raises:
        ConfigError: naming the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"--executor {executor}: {error.name or module} is not installed; pip install 'bncli[{executor}]'"
        ) from None


def require_answer(executor: str, address: str, of: str) -> None:
    """Pass if something takes a connection there: packages ask for minutes, and some leave a traceback behind.

    Raises:
        ConfigError: if nothing does.
    """
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"--executor {executor}:{address}: nothing answers there ({error}); expected HOST:PORT of {of}, in reach of"
            " this machine"
        ) from None
