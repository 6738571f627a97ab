"""A loader process: decodes one piece of a batch after another, as it is told over a socket, until that is closed.

Started by ``loader.LoaderPool`` as a program of its own (``python -m``): it inherits nothing but the socket, and
imports no more than decoding takes. Its trial's end, however sudden, closes the socket, and with it the process ends.

A request is a pickled ``DecodeTask`` behind its length (8 bytes). The answer is one byte: DONE, then the pixels
(uint8, as many as the task asks for), or FAILED, then a pickled exception behind its length.
"""

from __future__ import annotations

import pickle
import socket
import struct
import sys
from typing import Any

import numpy as np
import torch

from dnw_core.data.streaming.piece import DecodeTask, decode_piece

DONE = b"\0"
FAILED = b"\1"
_LENGTH = struct.Struct("<Q")


def send_object(connection: socket.socket, value: Any) -> None:
    """Send a pickled object behind its length; raises OSError if the other end is closed."""
    content = pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    connection.sendall(_LENGTH.pack(len(content)) + content)


def receive_object(connection: socket.socket) -> Any:
    """Return the next object; raises EOFError if the other side has ended.

    Both sides are one program: what is unpickled here was pickled by it.
    """
    length = bytearray(_LENGTH.size)
    receive_into(connection, memoryview(length))
    content = bytearray(_LENGTH.unpack(length)[0])
    receive_into(connection, memoryview(content))
    return pickle.loads(content)  # noqa: S301 - see above


def receive_into(connection: socket.socket, buffer: memoryview) -> None:
    """Fill the buffer; raises EOFError if the other side has ended."""
    received = 0
    while received < len(buffer):
        count = connection.recv_into(buffer[received:], 0, socket.MSG_WAITALL)
        if count == 0:
            raise EOFError("the other side has ended")
        received += count


def serve(connection: socket.socket) -> None:
    """Answer requests until the other side closes the socket."""
    while True:
        try:
            piece: DecodeTask = receive_object(connection)
        except EOFError:
            return
        pixels = np.empty((len(piece), piece.size, piece.size, 3), dtype=np.uint8)
        try:
            decode_piece(piece, pixels)
        except Exception as error:  # it is raised again where the batch is waited for
            connection.sendall(FAILED)
            send_object(connection, error)
        else:
            connection.sendall(DONE)
            connection.sendall(pixels.data.cast("B"))


def main(descriptor: int) -> None:
    """Serve the inherited socket with one thread."""
    torch.set_num_threads(1)
    try:
        serve(socket.socket(fileno=descriptor))
    except OSError:  # the trial ended in the middle of an answer
        sys.exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
