"""Stands in for the name service of Docker's network: one name, one address for each replica."""

from __future__ import annotations

import socket
import struct
import threading

A = 1


class Names:
    """Answers a question for IPv4 addresses with `addresses`, which may change, and any other with none."""

    def __init__(self) -> None:
        self.addresses: set[str] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.place = "{}:{}".format(*self._socket.getsockname())
        threading.Thread(target=self._answer_all, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _answer_all(self) -> None:
        while True:
            try:
                question, asker = self._socket.recvfrom(4096)
                self._socket.sendto(self._answer(question), asker)
            except OSError:
                return

    def _answer(self, message: bytes) -> bytes:
        question = message[12 : message.index(b"\0", 12) + 5]
        (kind,) = struct.unpack(">H", question[-4:-2])
        found = sorted(self.addresses) if kind == A else []
        # 0x8180: an answer, without error; 0xC00C: of the name in the question; 1: for a second.
        header = message[:2] + struct.pack(">5H", 0x8180, 1, len(found), 0, 0)
        answers = (struct.pack(">3HIH", 0xC00C, A, 1, 1, 4) + socket.inet_aton(address) for address in found)
        return header + question + b"".join(answers)
