"""Imports point one way, as drawn here; nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PLUGINS = ("strategies", "scenarios", "protocols")
LAYERS = (
    ("errors", "images", "texts", "edits"),
    (
        *("registry", "space", "seeding", "record", "digest", "freezer", "places", "reported"),
        *("images.picture", "texts.rows", "texts.suites", "edits.world"),
    ),
    ("metrics", "moments", "table", "environment", "search", "comparison", "report", "kernels", "texts.scoring"),
    (
        *("augment", "memory", "models", "probe"),
        *("images.crops", "images.decode", "images.folders"),
        *("texts.answers", "texts.corpora", "texts.grouping", "texts.prompts", "texts.tokens"),
        *("edits.edits", "edits.rows", "edits.location", "edits.sites", "edits.second_moments", "edits.world_edits"),
    ),
    ("parallel", "images.alignment", "images.gaussians", "images.prototypes"),
    ("scenario", "images.cut", "images.cifar"),
    ("strategy",),
    (
        *("run", "finetune", "inherited", "half", "gradients", "folding", "avalanche"),
        *("images.features", "images.frozen"),
        *("edits.editor", "edits.located", "edits.target_states", "edits.rank_update"),
    ),
    (
        *("engine", "examination", "opening", "protocol", "pretrain", "estimate"),
        *("texts.streams", "texts.probes", "texts.files", "texts.harness"),
    ),
    ("executor", "tracker", "workers"),
    ("executors", "trackers", *PLUGINS),
    ("config",),
    ("again", "arms", "cli", "pytest_plugin"),
)
"""From below: modules and packages, each of which imports from its own layer or from those before it."""

ONLY = {
    "hydra": ("clbench.config",),
    "omegaconf": ("clbench.config",),
    "optuna": ("clbench.search",),
    "avalanche": ("clbench.avalanche",),
    "transformers": ("clbench.models",),
    "tokenizers": ("clbench.models",),
    "peft": ("clbench.models",),
    "accelerate": ("clbench.parallel",),
    "timm": ("clbench.models.timm_backbone",),
    "argparse": ("clbench.cli", "clbench.arms"),
    "PIL": ("clbench.images.picture",),
    "torchvision": ("clbench.images.cifar",),
    "rouge_score": ("clbench.texts.scoring",),
    "rapidfuzz": ("clbench.texts.scoring",),
    "datasets": ("clbench.texts.rows",),
    "lm_eval": ("clbench.texts.harness",),
    "pytest": ("clbench.pytest_plugin",),
    "matplotlib": ("clbench.report.figures",),
    "jinja2": ("clbench.report.page",),
    "tensorboard": ("clbench.trackers.tensorboard",),
    "wandb": ("clbench.trackers.wandb",),
    "triton": ("clbench.kernels.compiled",),
}
"""Packages that only some modules may import."""


def modules() -> Iterator[tuple[str, Path]]:
    for folder in ("clbench", *PLUGINS):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if parts[0] == "clbench" and len(parts) > 1 and parts[1] in PLUGINS:
                continue  # the same file through its link
            name = ".".join(parts if parts[0] == "clbench" else ("clbench", *parts))
            yield name.removesuffix(".__init__"), path


FILES = dict(modules())


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in FILES else node.module for name in names)


def layer(module: str) -> int:
    parts = module.split(".")
    known = {name: level for level, names in enumerate(LAYERS) for name in names}
    within = ".".join(parts[1:3])
    return known[within if within in known else parts[1]]


@pytest.mark.parametrize("module", [m for m in FILES if "." in m and m != "clbench.__main__"])
def test_a_module_imports_from_its_own_layer_or_below(module: str) -> None:
    for imported in imports(FILES[module]):
        if imported.startswith("clbench."):
            assert layer(imported) <= layer(module), f"{module} must not import {imported}"


def test_there_are_no_circles() -> None:
    graph = {m: {i for i in imports(p) if i in FILES and i != m} for m, p in FILES.items() if m != "clbench"}
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", FILES)
def test_the_core_names_no_plugin_and_plugins_do_not_know_each_other(module: str) -> None:
    folders = tuple(f"clbench.{folder}." for folder in PLUGINS)
    named = [i for i in imports(FILES[module]) if i.startswith(folders) and i in FILES]
    assert not named


@pytest.mark.parametrize("package", ONLY)
def test_a_package_is_imported_only_where_it_belongs(package: str) -> None:
    users = [m for m, path in FILES.items() if any(i.split(".")[0] == package for i in imports(path))]
    assert [m for m in users if not m.startswith(ONLY[package] or ("nowhere",))] == []


def test_setup_cfg_lists_every_package() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {m for m, path in FILES.items() if path.name == "__init__.py"}
    assert listed == found


@pytest.mark.parametrize("folder", PLUGINS)
def test_plugins_are_seen_as_part_of_the_package(folder: str) -> None:
    link = ROOT / "clbench" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..") / folder


@pytest.mark.parametrize("folder", PLUGINS)
def test_a_plugin_folder_cannot_be_imported_under_another_name(folder: str) -> None:
    done = subprocess.run([sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True)
    assert f"import clbench.{folder}" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        *("['--help']", "['list']", "['report', '--help']", "['plot', '--help']", "['convert', '--help']"),
        "['show', '--help']",
        "['show', 'strategy', 'moss']",
        "['run', 'strategi=naive', '-x']",
    ],
)
def test_the_command_line_starts_without_torch(words: str) -> None:
    code = f"""
import sys
from clbench.cli.main import run
try:
    run({words})
except SystemExit:
    pass
heavy = {{'torch', 'hydra', 'optuna', 'pandas', 'sklearn', 'transformers', 'matplotlib', 'jinja2'}}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
