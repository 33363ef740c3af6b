from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clbench.errors import ClbenchError, UnknownNameError
from clbench.registry import Registry

GOOD = '''"""A good plugin.

More of it.
"""
from tests.test_registry import plugins

class Config: pass

@plugins.register(Config)
class Good:
    def __init__(self, config): self.config = config
'''
plugins: Registry[object] = Registry("plugin", "tests_of_plugins")


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "tests_of_plugins"
    folder.mkdir()
    files = {
        "__init__": "",
        "good": GOOD,
        "needy": '"""Needs a package."""\nimport a_package_that_is_not_there\n',
        "empty": '"""Declares nothing."""\n',
        "broken": "def (:\n",
        "_hidden": "",
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [n for n in sys.modules if n.startswith("tests_of_plugins")]:
        del sys.modules[name]
    plugins._members.clear()


def test_names_and_summaries_are_read_without_importing() -> None:
    assert plugins.names() == ["broken", "empty", "good", "needy"]
    assert plugins.summary("good") == "A good plugin."
    assert plugins.summary("needy") == "Needs a package."
    assert plugins.summary("broken").startswith("(cannot be parsed: line 1")
    assert "tests_of_plugins.good" not in sys.modules


def test_a_member_is_built_from_its_config() -> None:
    cls, config = plugins.load("good")
    built = plugins.build(config())
    assert type(built) is cls
    assert plugins.name_of(config()) == "good"


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [
        ("goood", UnknownNameError, "unknown plugin 'goood'. Did you mean good?"),
        ("xyz", UnknownNameError, "There are: broken, empty, good, needy"),
        ("needy", ClbenchError, "cannot be imported: No module named 'a_package_that_is_not_there'"),
        ("empty", ClbenchError, "declares no plugin"),
    ],
)
def test_what_cannot_be_loaded_is_one_sentence(name: str, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        plugins.load(name)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_holds_one_member() -> None:
    cls, config = plugins.load("good")
    with pytest.raises(ValueError, match="declares two plugin classes"):
        plugins.register(config)(cls)


def test_a_users_own_module_may_register_a_member() -> None:
    class OwnConfig:
        pass

    class Own:
        """Stands in this test's module, outside the package."""

        def __init__(self, config: OwnConfig) -> None:
            self.config = config

    plugins.register(OwnConfig)(Own)
    assert "test_registry" in plugins.names()
    assert plugins.load("test_registry") == (Own, OwnConfig)
    assert isinstance(plugins.build(OwnConfig()), Own)
