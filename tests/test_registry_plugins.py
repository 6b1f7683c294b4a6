"""Registries and plug-ins: names, duplicates, nearest names, files by text and hash, what jobs carry."""

import hashlib
import sys

import pytest

from archwright.search_space.errors import PluginError, RegistryError
from archwright.search_space.plugins import describe, load_file, load_job_plugins, load_plugin, load_source, resolve
from archwright.search_space.registry import Registry

FILE = """
from archwright import space, Architecture, Node

@space
def two_words(choose):
    "A user's space."
    k = choose.one_of("k", [1, 2])
    return Architecture((Node("x", "input"),), "x")
"""


def test_a_miss_suggests_the_nearest_name():
    registry = Registry("block")
    registry.register("layernorm", object())
    registry.register("rmsnorm", object())
    with pytest.raises(RegistryError, match='No block is called "layernrom"; did you mean "layernorm"'):
        registry["layernrom"]
    with pytest.raises(RegistryError, match="known: layernorm, rmsnorm[.] A plug-in"):
        registry["zzz"]


def test_two_owners_of_one_name_are_refused():
    registry = Registry("block")
    registry.register("a", Registry)
    registry.register("a", Registry)
    with pytest.raises(RegistryError, match="already registered by"):
        registry.register("a", RegistryError)


def test_listing_is_sorted_whatever_the_order_of_registration():
    registry = Registry("block")
    for name in ("c", "a", "b"):
        registry.register(name, object())
    assert list(registry) == ["a", "b", "c"]


def test_a_space_from_a_file(tmp_path):
    path = tmp_path / "my_space.py"
    path.write_text(FILE)
    found, module = resolve(f"{path}:two_words")
    assert found.name == "two-words"
    assert module.__name__.startswith("archwright_user_")
    assert found.__doc__ == "A user's space."


def test_what_a_job_carries_is_enough_to_import_the_file_elsewhere(tmp_path):
    path = tmp_path / "plug.py"
    path.write_text("VALUE = 41 + 1\n")
    carried = describe(load_file(path))
    assert carried["sha256"] == hashlib.sha256(b"VALUE = 41 + 1\n").hexdigest()
    name = "archwright_user_" + carried["sha256"][:16]
    del sys.modules[name]
    path.unlink()
    load_job_plugins([carried])
    assert sys.modules[name].VALUE == 42


def test_a_changed_text_is_refused():
    with pytest.raises(PluginError, match="changed on the way"):
        load_source("plug.py", "x = 1\n", hashlib.sha256(b"x = 2\n").hexdigest())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import not_a_module_of_anyone", 'needs the module "not_a_module_of_anyone"'),
        ("def f(:\n  pass", r"failed to import: SyntaxError.*\(line 1\)"),
        ("x = 1\ny = 1 / 0", r"ZeroDivisionError: division by zero \(line 2\)"),
    ],
)
def test_a_file_that_fails_to_import_says_why_and_where(tmp_path, text, words):
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(PluginError, match=words):
        load_file(path)
    with pytest.raises(PluginError, match=words):  # a failed import leaves nothing half-made behind
        load_file(path)


def test_missing_files_modules_and_names(tmp_path):
    with pytest.raises(PluginError, match="cannot be read"):
        load_plugin(str(tmp_path / "absent.py"))
    with pytest.raises(PluginError, match="absent_module"):
        load_plugin("absent_module")
    path = tmp_path / "my.py"
    path.write_text("def spaces(choose): pass\n")
    with pytest.raises(PluginError, match='has no "space"; did you mean "spaces"'):
        resolve(f"{path}:space")
