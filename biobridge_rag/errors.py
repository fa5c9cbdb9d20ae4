"""Every error that a user can meet, as one tree; each carries one clear line and, where there is one, what to do.

BiobridgeError                exit 1: a failure of ours or of the machine
|-- InputError                exit 2: what the user gave cannot be used
|   |-- SequenceError         not a protein sequence
|   |-- MoleculeError         not a molecule
|   |-- FileError             an input file that cannot be read
|   |-- UnknownNodeError      no such node
|   |-- GraphFormatError      a graph directory with a file or column missing
|   `-- HomeMismatchError     a home built from other data or with other encoders
|-- LeakageError              training holds what a split keeps for the test
|-- HomeError                 a home that is missing parts or is damaged
|-- IndexServerError          the Chroma server that holds the index does not answer
|-- HomeLockedError           another process is writing the same home
|-- DiskFullError             no room to write
`-- LLMError                  the language model did not answer
"""

from __future__ import annotations


class BiobridgeError(Exception):
    """A message of one line; `help` says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.help = " ".join(help.split())

    def __str__(self) -> str:
        return f"{self.message} {self.help}".strip()


class InputError(BiobridgeError):
    exit_code = 2


class SequenceError(InputError):
    pass


class MoleculeError(InputError):
    pass


class FileError(InputError):
    pass


class UnknownNodeError(InputError):
    pass


class GraphFormatError(InputError):
    pass


class HomeMismatchError(InputError):
    pass


class LeakageError(BiobridgeError):
    pass


class HomeError(BiobridgeError):
    pass


class IndexServerError(BiobridgeError):
    pass


class HomeLockedError(BiobridgeError):
    pass


class DiskFullError(BiobridgeError):
    pass


class FetchError(BiobridgeError):
    pass


class LLMError(BiobridgeError):
    pass
