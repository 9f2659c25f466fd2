"""A name server that stands in for Docker's: every name has one address for each replica."""

from __future__ import annotations

import socket
import struct
import threading

A = 1
"""Type of a question for IPv4 addresses"""


class Names:
    """Answers questions for IPv4 addresses with `addresses`, which may change, and others with none."""

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
                question, sender = self._socket.recvfrom(4096)
                self._socket.sendto(self._answer(question), sender)
            except OSError:
                return

    def _answer(self, message: bytes) -> bytes:
        question = message[12 : message.index(b"\0", 12) + 5]
        found = sorted(self.addresses) if question[-4:-2] == struct.pack(">H", A) else []
        # 0x8180: an answer without error. 0xC00C: the name in the question. The answer is valid for 1 s.
        header = message[:2] + struct.pack(">5H", 0x8180, 1, len(found), 0, 0)
        answers = (struct.pack(">3HIH", 0xC00C, A, 1, 1, 4) + socket.inet_aton(address) for address in found)
        return header + question + b"".join(answers)
