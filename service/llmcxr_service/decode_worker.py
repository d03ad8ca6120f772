"""The processes that decode: a template that has loaded everything, and workers forked from it.

Run as a program, in an empty environment, by `decode_template`. Imports neither torch nor the web
framework. The template never sees a file, so what is forked from it is clean; a worker has limits
on memory, processor and time, cannot write files, and tells nobody anything but its answer.
Arguments: control socket, pipeline, memory in MiB, seconds a file, files a worker.
"""

from __future__ import annotations

import gc
import math
import os
import resource
import signal
import socket
import sys
from typing import NamedTuple

import gdcm  # noqa: F401 - loaded once here, not in every worker
import jpeg_ls  # noqa: F401
import openjpeg  # noqa: F401
from PIL import Image

from llmcxr_models.errors import CxrError, InvalidRadiograph, UnsupportedRadiograph
from llmcxr_models.expendable import declare_expendable
from llmcxr_models.quiet import quiet_libraries
from llmcxr_models.radiograph import Pipeline
from llmcxr_models.radiograph_file import read_radiograph
from llmcxr_service import decode_wire as wire
from llmcxr_service.source_instance import SourceInstance, identify, read_source

_OPEN_FILES = 32
_SPARE_SECONDS = 2
"""The gateway's clock comes first; the worker's own is for the case that there is no gateway."""


class Limits(NamedTuple):
    """What one worker may use.

    Attributes:
        memory_mib: address space.
        seconds: wall and processor time a file.
        files: how many it decodes before it ends.
    """

    memory_mib: int
    seconds: float
    files: int


def run_template(control: socket.socket, pipeline: Pipeline, limits: Limits) -> None:
    """Fork a worker for each connection that comes, until the gateway hangs up."""
    _load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway
    gc.collect()
    gc.freeze()  # a collection would copy the pages that workers share
    control.sendall(wire.READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, len(wire.FORK), 1)
        if not message:
            return
        if os.fork() == 0:
            control.close()
            _work(socket.socket(fileno=descriptors[0]), pipeline, limits)
        for descriptor in descriptors:
            os.close(descriptor)


def _load() -> None:
    declare_expendable()
    Image.init()
    # Native decoders write what they think of a file to stderr.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _work(connection: socket.socket, pipeline: Pipeline, limits: Limits) -> None:
    """Answer files until there are no more, or enough; does not return."""
    try:
        memory = limits.memory_mib << 20
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
        connection.sendall(wire.HELLO.pack(wire.READY, os.getpid()))
        for _ in range(limits.files):
            head = _receive(connection, wire.REQUEST.size)
            flags, length = wire.REQUEST.unpack(head)
            data = _receive(connection, length)
            _limit_time(limits.seconds + _SPARE_SECONDS)
            for part in _answer(data, pipeline, flags):
                connection.sendall(part)
            signal.alarm(0)
            del data, part
    except BaseException:
        # The gateway sees the connection end; there is nobody else to tell, and nothing that
        # could be told without quoting a file.
        os._exit(1)
    os._exit(0)


def _limit_time(seconds: float) -> None:
    """End this process after so many seconds from now, of the clock or of the processor."""
    signal.alarm(math.ceil(seconds))
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))


def _answer(data: bytes, pipeline: Pipeline, flags: int) -> list[bytes | memoryview]:
    try:
        if flags & wire.SOURCE_ONLY:
            return [wire.pack_source(identify(data))]
        radiograph = read_radiograph(data, pipeline)
        source = _read_source(data) if flags & wire.WITH_SOURCE else None
        return [*wire.pack_decoded(wire.Decoded(radiograph, source))]
    except CxrError as error:
        return [wire.pack_error(error)]
    except MemoryError:
        message = "The picture needs more memory than it may have."
        return [wire.pack_error(UnsupportedRadiograph(message, reason="memory"))]
    except BaseException:
        # Rust's panics derive from BaseException; a worker has nothing to be interrupted for.
        return [wire.pack_error(InvalidRadiograph("The file is damaged and cannot be read."))]


def _read_source(data: bytes) -> SourceInstance | None:
    try:
        with quiet_libraries():
            return read_source(data)
    except Exception:
        # The picture can be read and its identity cannot: answered, but not filed anywhere.
        return None


def _receive(connection: socket.socket, size: int) -> bytes:
    data = connection.recv(size, socket.MSG_WAITALL) if size else b""
    if len(data) < size:
        raise EOFError
    return data


if __name__ == "__main__":
    run_template(
        socket.socket(fileno=int(sys.argv[1])),
        Pipeline(sys.argv[2]),
        Limits(int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])),
    )
