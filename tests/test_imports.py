"""Which way the arrows point: every import of the package is parsed and held against the design."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import textgym

ROOT = Path(textgym.__file__).parent
ROOMS = ("envs", "policies", "reward_models", "agents")
LEAVES = {
    "constraints",
    "text_metrics",
    "async_rewards",
    "built_in_rewards",
    "chat_templates",
    "checks",
    "counts",
    "divergence",
    "errors",
    "extras",
    "registry",
    "reward_answers",
    "reward_arguments",
    "reward_parts",
    "rewards",
    "tokenizer",
    "template_sandbox",
    "tokenizer_backends",
    "tokenizer_context",
    "tokenizer_decoding",
    "tokenizer_encoding",
    "gguf_files",
    "hub_models",
    "tokenizer_files",
    "tokenizer_gguf",
    "tokenizer_sentencepiece",
    "tokenizer_words",
    "adam_8bit",
    "float32_muon",
    "optimization",
    "starting",
    "yaml_files",
    "storage",
    "manifest",
    "directories",
    "tensor_files",
    "saved_fields",
    "states",
    "interrupts",
    "out_of_memory",
    "json_lines",
    "latent_decoders",
    "lazy_names",
    "messages",
    "moved",
    "paths",
    "run_files",
    "signatures",
    "near_copies",
    "near_copy_index",
    "splits",
    "terminal",
    "transformers_files",
    "trl_rewards",
    "typed_arguments",
}
# Whom a room may import, besides itself and the leaves.
ALLOWED = {
    "envs": set(),
    "policies": set(),
    "reward_models": set(),
    "agents": {"envs", "policies", "reward_models"},
    "leaf": set(),
    "front": {*ROOMS, "front"},
}
# Inside a room: whom each part may import, besides itself.
PARTS = {
    "agents": {
        "runs": set(),
        "rollouts": {"runs"},
        "algorithms": {"rollouts", "runs"},
        "building": {"algorithms", "rollouts", "runs"},
        "evaluation": {"rollouts", "runs"},
        "comparison": {"evaluation", "runs"},
        "fitting": {"runs"},
    },
    "policies": {
        "language_model": set(),
        "pretraining": {"language_model"},
        "sb3": {"language_model"},
        "vae": {"language_model", "pretraining"},
    },
    "reward_models": {
        "rules": set(),
        "learned": set(),
        "judges": set(),
        "people": {"learned"},
        "auditing": {"learned"},
    },
    "envs": {"texts": set(), "tasks": {"texts"}},
}


def modules():
    """Every module of the package by its dotted name."""
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = ("textgym", *path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(part for part in parts if part != "__init__")] = path
    return names


MODULES = modules()


def place(module):
    """The room of a module, or `leaf` or `front`."""
    parts = module.split(".")
    name = parts[1] if len(parts) > 1 else ""
    if name in ROOMS:
        return name
    return "leaf" if name in LEAVES else "front"


def is_typing_only(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(module, *, at_import_time=False):
    """The dotted names that a module imports; with `at_import_time`, without those in functions."""
    found = set()

    def visit(node):
        if is_typing_only(node):
            return
        if at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: relative import"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_follow_the_arrows(module):
    here = place(module)
    for name in imports(module):
        if not name.startswith("textgym") or (name not in MODULES and name != "textgym"):
            continue
        there = place(name)
        allowed = {here, "leaf", *ALLOWED[here]}
        assert there in allowed, f"{module} ({here}) imports {name} ({there})"


def part(module):
    """The part of a room that a module stands in, or None."""
    parts = module.split(".")
    return parts[2] if len(parts) > 2 and parts[2] in PARTS.get(parts[1], ()) else None


@pytest.mark.parametrize("module", [m for m in sorted(MODULES) if part(m)])
def test_imports_inside_a_room_follow_its_arrows(module):
    room, here = module.split(".")[1:3]
    for name in imports(module):
        if name in MODULES and place(name) == room and part(name) not in {None, here}:
            there = part(name)
            assert there in PARTS[room][here], f"{module} ({here}) imports {name} ({there})"


def transitive(module, seen=None):
    """Everything that importing a module imports, of ours and others'."""
    seen = set() if seen is None else seen
    for name in imports(module, at_import_time=True):
        if name in seen:
            continue
        seen.add(name)
        if name in MODULES:
            transitive(name, seen)
    return seen


@pytest.mark.parametrize("module", [m for m in sorted(MODULES) if place(m) == "envs"])
def test_envs_import_no_torch(module):
    heavy = {"torch", "stable_baselines3", "transformers", "safetensors"}
    assert {name.split(".")[0] for name in transitive(module)} & heavy == set()


def test_importing_textgym_imports_no_torch():
    code = "import sys, textgym; print(sorted({'torch', 'stable_baselines3'} & set(sys.modules)))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_a_run_of_a_comparison_imports_no_pictures_nor_statistics():
    # each costs seconds, which every run of a comparison would pay again
    code = (
        "import sys, textgym.training, textgym.demonstration.reward\n"
        "print(sorted({'matplotlib', 'scipy.stats', 'scipy.optimize'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_every_public_name_is_there():
    for name in textgym.__all__:
        assert getattr(textgym, name) is not None
        assert name in dir(textgym)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = textgym.trian


def public_functions(package):
    """The names that a package offers, apart from its modules."""
    exported = getattr(sys.modules.get(package), "__all__", ())
    tree = ast.parse(MODULES[package].read_text(encoding="utf-8"))
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return {*exported, *defined}


def test_no_module_is_named_like_a_public_function_of_its_package():
    for package, path in MODULES.items():
        if path.name != "__init__.py":
            continue
        siblings = {p.stem for p in path.parent.glob("*.py")} | {
            p.name for p in path.parent.iterdir() if p.is_dir()
        }
        assert siblings & public_functions(package) == set(), package


def test_the_rooms_at_the_root_are_links():
    root = ROOT.parent.parent
    for room in ROOMS:
        if (root / room).exists():
            assert (root / room).resolve() == ROOT / room


def test_outside_its_room_a_language_model_is_any():
    """Only `LanguageModel` is seen there: no decoder, cache or class of one."""
    inside = "textgym.policies."
    for module, path in MODULES.items():
        if module.startswith(inside):
            continue
        names = {name.removeprefix(f"{inside}language_model.") for name in imports(module)}
        assert names & {"attention", "cached_decoder", "trunk", "decoder.Decoder"} == set(), module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = ast.unparse(node) if isinstance(node, ast.Call) else ""
            assert not (text.startswith("isinstance(") and "CausalLM" in text), module
            assert ".model.packed(" not in text, module


def test_nothing_unpickles_or_evaluates():
    """Loading runs no code (the ban of SECURITY): names that would."""
    banned = {"pickle", "cloudpickle", "joblib", "dill", "shelve", "marshal"}
    calls = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load", "np.load", "compile"}
    for module, path in MODULES.items():
        assert {name.split(".")[0] for name in imports(module)} & banned == set(), module
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in calls, f"{module}, line {node.lineno}"
