"""Everything that maskmill raises on purpose.

MaskmillError
├── InputError            nothing could start: the command's exit code is 2
│   ├── SettingsError     a job, a flag or a card that says something impossible
│   ├── SceneError        an image that cannot be opened or has not what the card needs
│   ├── ModelError        a network that cannot be read, bounded or run
│   │   └── LackingError  a process that has not the bytes of a network; they can be sent to it
│   ├── DeviceError       a device was asked for and is not what runs
│   ├── IdentityError     the folder holds another result than this job would make
│   ├── GoldenError       the golden scene does not come out as it did
│   ├── LeaseError        another run holds the folder
│   ├── ClusterError      workers that cannot be had, that are lost, or that are not alike
│   └── RoomError         memory or disk do not hold what is planned
├── CarriedOverError      a scene is not begun by this run: it is for the next
└── BlockError            one block failed: it becomes a named hole, the run goes on

Every message is a sentence: what was wrong, with which numbers, and what to do.
Errors travel between processes by `portable`: each holds its message alone, but what caused it may not pickle.
"""

from __future__ import annotations

_LONGEST = 3000  # characters


class MaskmillError(Exception):
    """The root of the tree."""

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The sentence, on one line; where a stranger's text makes it longer than anybody reads, without its middle."""
        said = " ".join(str(self.args[0]).split())
        return said if len(said) <= _LONGEST else f"{said[: _LONGEST // 2]} … {said[-_LONGEST // 2 + 3 :]}"


class InputError(MaskmillError):
    """Nothing could start; nothing was written."""


class SettingsError(InputError):
    """A job, a flag or a card says something impossible."""


class SceneError(InputError):
    """An image cannot be opened, or has not what the card needs."""


class ModelError(InputError):
    """A network cannot be read, bounded or run."""


class LackingError(ModelError):
    """A process has not the bytes of a network."""


class DeviceError(InputError):
    """A device was asked for, and another one would run."""


class IdentityError(InputError):
    """The folder holds another result than this job would make."""


class GoldenError(InputError):
    """The golden scene does not come out as it did."""


class LeaseError(InputError):
    """Another run holds the folder."""


class ClusterError(InputError):
    """Workers cannot be had, are lost, or are not alike."""


class RoomError(InputError):
    """Memory or disk do not hold what is planned."""


class CarriedOverError(MaskmillError):
    """A scene is left to the next run: this one's time is over, or it has begun as much as it may."""


class BlockError(MaskmillError):
    """One block failed; it becomes a named hole and the run goes on."""


def portable(error: Exception) -> Exception:
    """The error as it may travel to another process.

    Causes and contexts stay behind: those of other libraries (rasterio 1.5's, for one) do not all come out of a pickle.
    """
    return type(error)(error.message) if isinstance(error, MaskmillError) else error
