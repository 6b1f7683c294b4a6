"""A found network as a folder anyone can load: its graph, its weights, an example with the logits it must give."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..search_space.architecture import Architecture
from ..search_space.errors import StudyError
from ..search_space.plugins import load_plugin
from ..search_space.specs import OutputSpec, TensorSpec

if TYPE_CHECKING:
    from torch import nn

_EXAMPLE = '''"""Load the exported network and check that it gives the logits it gave when it was exported."""

from pathlib import Path

import torch
from safetensors.torch import load_file

import archwright

here = Path(__file__).parent
network = archwright.load(here{plugins})
example = load_file(here / "example.safetensors")
with torch.no_grad():
    outputs = network(example["input"])
print(network)
print("largest difference from the exported outputs:", (outputs - example["output"]).abs().max().item())
'''


def export_network(
    target: str | os.PathLike[str],
    architecture: Architecture,
    input: TensorSpec,
    output: OutputSpec,
    weights: Mapping[str, Any],
    samples: Any,
    *,
    facts: Mapping[str, Any] | None = None,
    plugins: Sequence[Mapping[str, Any]] = (),
    onnx: bool = False,
) -> Path:
    """Write ``architecture.json``, ``model.safetensors``, ``example.safetensors``, ``example.py`` and the drawing.

    Args:
        target: a folder that does not exist yet, or is empty.
        architecture, input, output: what :func:`archwright.build` needs.
        weights: the trained state dict.
        samples: a batch of inputs for the example, shape (B, *input.shape).
        facts: further entries of ``architecture.json`` (metrics, task, digest).
        plugins: the user's plug-in files the network needs; their text is put beside the model, and is imported only when
            the one who loads it names them.
        onnx: also write ``model.onnx``.

    Raises:
        StudyError: the folder holds files already, or the ONNX packages are missing.
    """
    import torch
    from safetensors.torch import save_file

    from ..search_space.build import build

    folder = Path(target)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise StudyError(f'The folder "{folder}" is not empty; choose a new one, nothing was overwritten.')
    network = build(architecture, input, output)
    network.load_state_dict(dict(weights))
    network.eval()
    samples = torch.as_tensor(samples)
    with torch.no_grad():
        outputs = network(samples)
    folder.mkdir(parents=True, exist_ok=True)
    sources = [(f"plugins/{Path(plugin['path']).name}", plugin["source"]) for plugin in plugins if "source" in plugin]
    data = {**architecture.to_json(), "input": input.to_json(), "output_spec": output.to_json(), **(facts or {})}
    data["plugins"] = [name for name, _ in sources] + [plugin["module"] for plugin in plugins if "module" in plugin]
    (folder / "architecture.json").write_text(json.dumps(data, indent=2) + "\n")
    (folder / "architecture.svg").write_text(architecture.to_svg())
    save_file({name: value.contiguous().clone() for name, value in network.state_dict().items()}, folder / "model.safetensors")
    save_file({"input": samples.contiguous(), "output": outputs.contiguous()}, folder / "example.safetensors")
    for name, source in sources:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(source)
    named = ", plugins=[" + ", ".join(f'here / "{name}"' for name, _ in sources) + "]" if sources else ""
    (folder / "example.py").write_text(_EXAMPLE.format(plugins=named))
    if onnx:
        _write_onnx(network, samples, folder)
    return folder


def load_network(folder: str | os.PathLike[str], *, plugins: Sequence[str | os.PathLike[str]] = ()) -> nn.Module:
    """The exported network, with its weights, in evaluation mode.

    Args:
        folder: what :func:`export_network` wrote.
        plugins: plug-in files or modules that define blocks of the network; only those you name are imported.

    Raises:
        StudyError: a file is missing or does not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from ..search_space.build import build

    for plugin in plugins:
        load_plugin(os.fspath(plugin))
    where = Path(folder)
    try:
        data = json.loads((where / "architecture.json").read_text())
        weights = load_file(where / "model.safetensors")
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise StudyError(f'The folder "{where}" holds no exported network ({error}); give one written by `archwright export`.') from None
    architecture = Architecture.from_json(data)
    network = build(architecture, TensorSpec.from_json(data["input"]), OutputSpec.from_json(data["output_spec"]))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise StudyError(f'The weights in "{where}" do not fit its architecture ({str(error).splitlines()[0]}); export it again.') from None
    return network.eval()


def _write_onnx(network: nn.Module, samples: Any, folder: Path) -> None:
    """``model.onnx`` with a dynamic batch axis; the folder is removed again when the exporter cannot serve."""
    import logging

    import torch

    from ..kernels import use

    class OneInput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return self.network(input)

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    silence = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        import onnxscript  # noqa: F401

        with warnings.catch_warnings(), silence[0], silence[1], use("reference"):  # plain operations are what an exporter can read
            warnings.simplefilter("ignore")
            batch = {0: torch.export.Dim("batch", min=1)}
            names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"], "dynamic_shapes": (batch,)}
            program = torch.onnx.export(OneInput().eval(), (samples,), dynamo=True, verbose=False, **names)
            assert program is not None
            program.save(str(folder / "model.onnx"))
    except ImportError:
        shutil.rmtree(folder)
        raise StudyError("ONNX export needs the packages onnx and onnxscript; install archwright[onnx].") from None
    except Exception as error:
        shutil.rmtree(folder)
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise StudyError(f"The network cannot be exported to ONNX ({reason}); export it without --onnx.") from error
