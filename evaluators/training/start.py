"""Initial weights from a file, in the place of those drawn from the seed."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ...search_space.protocols import Job
from ..errors import EvaluationError


def load_start(job: Job, file: str, *networks: nn.Module) -> None:
    """Give each network the tensors of a safetensors file; what the file leaves out keeps the value it has.

    Args:
        file: its path; a relative one is looked for in the job's folder.

    Raises:
        EvaluationError: the file cannot be read, or holds a tensor that the network has not, or in another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(job.folder, file)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise EvaluationError(f'The initial weights "{path}" cannot be read ({error}); give a safetensors file.') from None
    for network in networks:
        own = network.state_dict()
        for name, value in tensors.items():
            if name not in own or own[name].shape != value.shape:
                has = f"one of shape {tuple(own[name].shape)}" if name in own else "none of that name"
                raise EvaluationError(
                    f'The initial weights "{path}" hold "{name}" of shape {tuple(value.shape)}, but candidate {job.number} has {has}; '
                    f"give the weights of this very network."
                )
        network.load_state_dict(own | tensors)
