"""Workers forked from one process that has imported torch: it is imported once, and another worker is there at once.

Linux only: elsewhere a fork is not safe, or there is none. The process that is forked does nothing but import: it has
computed nothing, so no threads of torch's run in it, and it has not asked for a GPU.
"""

import gc
import os
import pickle
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from multiprocessing import spawn
from queue import Empty, SimpleQueue
from subprocess import DEVNULL, Popen
from threading import Thread
from typing import Any

from bncli.engine.environment import keep_freed_memory
from bncli.errors import BncliError
from bncli.streams import guard_streams, interrupts_held

IMPORTED = (
    "torch", "bncli.engine.work", "bncli.engine.train", "bncli.engine.task", "bncli.data.mnist", "bncli.models.mlp",
    "bncli.norms.whitening", "bncli.norms.weight", "bncli.optim.losses",
)  # fmt: skip
_START = "import sys; sys.path[:] = sys.argv[2:]; from bncli.executors.forks import serve; serve(int(sys.argv[1]))"
_DIED = "a worker process died"
_importing_script = False  # a worker, which first imports the script of its command as `multiprocessing` does


class ForkServer:
    """The process that workers are forked from; it has the environment and sees the modules that this one does."""

    def __init__(self) -> None:
        if _importing_script:
            raise BncliError('a script that starts workers must do so under `if __name__ == "__main__":`')
        self.environment = dict(os.environ)
        self._told = False
        self._way, theirs = socket.socketpair()
        python = spawn.get_command_line()[:-3]  # with the options that this one was given
        told = [str(theirs.fileno()), *map(str, sys.path)]
        with theirs, interrupts_held():
            self._process = Popen([*python, "-P", "-c", _START, *told], stdin=DEVNULL, pass_fds=[theirs.fileno()])

    def read_ahead(self, data: Sequence[str]) -> None:
        """Have it read data sets that workers will ask for, while it imports torch; once, before the first fork."""
        self._told = True
        with suppress(OSError):  # it is gone, which the next fork says
            _send(self._way, pickle.dumps(list(data)))

    def fork(self) -> socket.socket:
        """The way to a new worker, which ends when that is closed.

        Raises:
            OSError: if the server is gone.
        """
        if not self._told:
            self.read_ahead([])
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._way, [b"1"], [theirs.fileno()])
        return ours

    def stop(self) -> None:
        """End it, whatever it is at; the workers have ways of their own."""
        self._way.close()
        self._process.kill()
        self._process.wait()


class ForkedPool(Executor):
    """Up to `count` workers, each started when there is something to do for it; it is broken once one has died."""

    def __init__(self, count: int, server: ForkServer) -> None:
        self._count, self._server, self._ended = count, server, False
        self._calls = SimpleQueue[tuple[Future[Any], bytes] | None]()
        self._threads, self._workers = list[Thread](), set[socket.socket]()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Have a worker call a function that it can import; BrokenExecutor if it dies of it."""
        if self._ended:
            raise BrokenExecutor(_DIED)
        future = Future[Any]()
        self._calls.put((future, pickle.dumps((fn, args, kwargs))))
        if len(self._threads) < self._count:
            self._threads.append(Thread(target=self._attend, daemon=True))
            self._threads[-1].start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End workers once they have nothing more to do."""
        self._ended = True
        with suppress(Empty):
            while cancel_futures and (call := self._calls.get_nowait()):
                call[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def stop(self) -> None:
        """End all workers now."""
        self.shutdown(wait=False, cancel_futures=True)
        self._server.stop()
        for worker in list(self._workers):
            _close(worker)

    def _attend(self) -> None:
        """Hand calls to a worker, and its answers to whoever waits for them, until there are no more or it dies."""
        worker: socket.socket | None = None
        while call := self._calls.get():
            future, asked = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                worker = worker or self._start_worker()
                _send(worker, asked)
                answer = _receive(worker)
            except (OSError, EOFError):
                self._ended = True
                future.set_exception(BrokenExecutor(_DIED))
                break
            try:
                done, found = pickle.loads(answer)
            except Exception as error:  # of an exception that cannot be made again
                done, found = False, error
            (future.set_result if done else future.set_exception)(found)
        if worker:
            self._workers.discard(worker)
            _close(worker)

    def _start_worker(self) -> socket.socket:
        worker = self._server.fork()
        self._workers.add(worker)
        if self._ended:  # in the meantime
            _close(worker)
        told = spawn.get_preparation_data("bncli worker")
        if not os.path.exists(told.get("init_main_from_path", "")):  # noqa: PTH110 - a script that Python reads from stdin
            told.pop("init_main_from_path", None)
        _send(worker, pickle.dumps({**told, "authkey": bytes(told["authkey"])}))
        _receive(worker)
        return worker


def _close(way: socket.socket) -> None:
    with suppress(OSError):
        way.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for an answer
    way.close()


def _send(way: socket.socket, content: bytes) -> None:
    way.sendall(len(content).to_bytes(8, "big") + content)


def _receive(way: socket.socket) -> bytes:
    """What was sent at once; EOFError if the other end is closed."""
    return _take(way, int.from_bytes(_take(way, 8), "big"))


def _take(way: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        if not (part := way.recv(min(size - len(found), 2**20))):
            raise EOFError
        found += part
    return bytes(found)


def settle_in() -> None:
    """Make this process one that works for a command, or that forks such ones."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then ends its workers
    guard_streams()
    keep_freed_memory()
    os.dup2(2, 1)  # stdout is the command's: what is printed here, by libraries and child processes too, is no result


def serve(way: int) -> None:
    """Import what workers need, then fork one for each message on a socket, until that is closed."""
    settle_in()
    asked = socket.socket(fileno=way)
    reading = Thread(target=_read_ahead, args=(asked,))
    reading.start()
    gc.disable()  # while modules are imported nothing becomes garbage
    for name in IMPORTED:
        with suppress(Exception):  # the worker that needs it says so
            __import__(name)
    reading.join()  # a fork has the thread that forks alone
    gc.enable()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # by OpenBLAS, which ends its threads first
    with asked:
        while message := socket.recv_fds(asked, 1, 1):
            if not message[0]:
                break
            (number,) = message[1]
            if os.fork() == 0:
                asked.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                try:
                    _work(socket.socket(fileno=number))
                except BncliError:  # the command says it when the worker is gone
                    pass
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            os.close(number)
    os._exit(0)


def _read_ahead(asked: socket.socket) -> None:
    with suppress(Exception):  # the worker that needs it says so
        data = pickle.loads(_receive(asked))
        from bncli.engine.work import read_ahead

        read_ahead(data)


def _work(way: socket.socket) -> None:
    """Answer calls until the other end of the way is closed, be it on purpose or because the command was killed.

    Then this process ends at once: a worker whose command is gone would train on unseen and slow down the next one.
    """
    global _importing_script
    _importing_script = True
    spawn.prepare(pickle.loads(_receive(way)))
    _importing_script = False
    if random := sys.modules.get("numpy.random"):
        random.seed()  # or all workers would draw the same numbers
    calls = SimpleQueue[bytes]()

    def listen() -> None:
        try:
            while True:
                calls.put(_receive(way))
        except (OSError, EOFError):
            os._exit(1)

    Thread(target=listen, daemon=True).start()
    _send(way, b"ready")
    while True:
        call = calls.get()
        try:
            fn, args, kwargs = pickle.loads(call)
            answer: tuple[bool, Any] = True, fn(*args, **kwargs)
        except BaseException as error:
            answer = False, error
        try:
            said = pickle.dumps(answer)
        except Exception as error:  # what cannot travel
            said = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
        _send(way, said)
