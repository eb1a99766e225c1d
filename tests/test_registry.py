"""The registries: lazy targets, nearest names, errors in one line."""

import sys

import pytest

from textgym import registry
from textgym.errors import InputError, UnknownNameError
from textgym.registry import Registry, import_reference


def test_a_string_target_is_imported_only_when_it_is_resolved():
    table = Registry("thing")
    table.register("old", "antigravity_that_is_not_there:fly")
    table.register("maths", "math:pi")
    assert table.names() == ["maths", "old"]
    assert table.resolve("maths") == pytest.approx(3.14159265)
    with pytest.raises(InputError, match=r"thing 'old': no module named 'antigravity_that"):
        table.resolve("old")


def test_an_object_is_given_back_itself():
    table, target = Registry("thing"), object()
    table.register("it", target)
    assert table.resolve("it") is target and "it" in table and "other" not in table


def test_an_unknown_name_proposes_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown reward model 'lenght': .*'length'"):
        registry.rewards.resolve("lenght")


def test_a_name_is_not_taken_over_silently():
    table = Registry("thing")
    table.register("it", "math:pi")
    table.register("it", "math:pi")  # the same again is no conflict
    with pytest.raises(InputError, match="'it' is registered already"):
        table.register("it", "math:e")
    table.register("it", "math:e", replace=True)
    assert table.resolve("it") == pytest.approx(2.71828182)
    table.unregister("it")
    assert table.names() == []


@pytest.mark.parametrize("name", ["", "a b", "length,target=3", "a=b", 3])
def test_names_that_the_command_line_could_not_take_are_refused(name):
    with pytest.raises(InputError, match="needs a name without spaces"):
        Registry("thing").register(name, "math:pi")


@pytest.mark.parametrize("target", ["math", "math.pi", ":pi", "math:", "a-b:c", "os:system('x')"])
def test_a_string_that_is_no_reference_is_refused(target):
    with pytest.raises(InputError, match="must read 'module:attribute'"):
        Registry("thing").register("it", target)


def test_descriptions_are_given_or_taken_from_the_object():
    table = Registry("thing")

    def documented():
        """First line.

        Second paragraph.
        """

    table.register("documented", documented)
    table.register("lazy", "no_such_module:x")
    table.register("described", "no_such_module:y", description="says what it is")
    assert table.describe() == {
        "described": "says what it is",
        "documented": "First line.",
        "lazy": "no_such_module:x",
    }


def test_a_reference_names_the_nearest_attribute():
    with pytest.raises(InputError, match=r"unknown attribute of math 'pie': did you mean 'pi'"):
        import_reference("math:pie")
    assert import_reference("os:path.join") is __import__("os").path.join


def test_a_missing_dependency_of_an_existing_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "plugin_for_registry_test.py").write_text("import surely_not_installed_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed_here"):
        import_reference("plugin_for_registry_test:x")
    assert "plugin_for_registry_test" not in sys.modules


def test_built_in_names_are_there():
    assert {"length", "regex", "keyword", "lexicon", "crowd", "critic"} <= set(
        registry.rewards.names()
    )
    assert {"ppo", "a2c"} <= set(registry.agents.names())
    assert all("\n" not in line for line in registry.rewards.describe().values())
