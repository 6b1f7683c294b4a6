"""A trained hypernetwork on disk: its weights as safetensors, the rest as JSON in the file's metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...search_space.errors import ConfigError
from ...search_space.files import write_atomically
from ...search_space.specs import OutputSpec, TensorSpec
from .model import Hypernetwork, Options
from .vocabulary import Vocabulary

FORMAT = "archwright-hypernetwork/1"
_KEY = "archwright"


def save_hypernetwork(model: Hypernetwork, path: str | Path) -> Path:
    """Write ``model`` to ``path`` and return it; the file is replaced as a whole."""
    from safetensors.torch import save

    content: dict[str, Any] = {"format": FORMAT, "options": model.options.to_json(), "vocabulary": model.vocabulary.to_json()}
    content["input"] = None if model.input is None else model.input.to_json()
    content["output"] = None if model.output is None else model.output.to_json()
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, save(tensors, {_KEY: json.dumps(content, sort_keys=True)}))
    return path


def is_hypernetwork(path: str | Path) -> bool:
    """Whether a safetensors file holds a hypernetwork, and not the weights of a network.

    Raises:
        ConfigError: the file cannot be read as safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            return FORMAT in (file.metadata() or {}).get(_KEY, "")
    except (OSError, SafetensorError) as error:
        raise ConfigError(f'The file "{path}" cannot be read as safetensors ({error}); give a file of weights.') from None


def load_hypernetwork(path: str | Path) -> Hypernetwork:
    """The hypernetwork in a file that :func:`save_hypernetwork` wrote, in evaluation mode.

    Raises:
        ConfigError: the file is missing, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            content = json.loads((file.metadata() or {}).get(_KEY, "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if content.get("format") != FORMAT:
            raise ConfigError(f'The file "{path}" has the format {content.get("format")!r}, expected "{FORMAT}"; train a hypernetwork.')
        input, output = content["input"], content["output"]
        model = Hypernetwork(
            Vocabulary.from_json(content["vocabulary"]),
            Options(**content["options"]),
            input=None if input is None else TensorSpec.from_json(input),
            output=None if output is None else OutputSpec.from_json(output),
        )
        model.load_state_dict(tensors)
    except OSError:
        raise ConfigError(f'The file "{path}" cannot be read; give the file of a trained hypernetwork.') from None
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f'The file "{path}" is no hypernetwork ({reason}); give one that save_hypernetwork wrote.') from None
    return model.eval()
