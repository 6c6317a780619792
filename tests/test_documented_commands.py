"""MONAI passes over an option that a bundle does not have, and over ``None``: no documented command may have one."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/*.md")])
# Pages with tables of options, and the configuration that has these.
TABLES = {
    "docs/train_on_your_data.md": "bundles/skull_completion/configs/train.json",
    **{
        f"bundles/{name}/docs/README.md": f"bundles/{name}/configs/inference.json"
        for name in ("skull_completion", "skull_super_resolution", "thoracic_organ_refinement")
    },
}
# Options of `monai.bundle run` itself.
OF_MONAI = {"config_file", "bundle_root", "meta_file", "logging_file"}


def _commands(page: str) -> Iterator[list[str]]:
    """The words of every ``monai.bundle run`` in a page's blocks, with the page's own variables put in."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    variables = dict(re.findall(r'^([A-Z_]+)="(.*?)"$', "\n".join(blocks), flags=re.MULTILINE | re.DOTALL))
    for block in blocks:
        for name, value in variables.items():
            block = block.replace(f"${name}", " ".join(value.split()))
        for words in _statements(block.replace("\\\n", " ")):
            if "monai.bundle" in words and "run" in words:
                yield words


def _statements(block: str) -> Iterator[list[str]]:
    """The words of each line, and of lines that a quotation goes on over together."""
    begun = ""
    for line in block.splitlines():
        begun += re.sub(r"(^|\s)# .*", "", line) + "\n"
        try:
            words = shlex.split(begun)
        except ValueError:  # the quotation goes on
            continue
        begun = ""
        yield words


def _options(words: list[str]) -> dict[str, str]:
    """Options behind ``run``, by name without the dashes."""
    options = {}
    words = words[words.index("run") + 1 :]
    for i, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            options[name] = value if equals else words[i + 1]
    return options


def _faults(words: list[str]) -> list[str]:
    """What is wrong with a command on a configuration of this project."""
    options = _options(words)
    files = options["config_file"]
    paths = [ROOT / name for name in (ast.literal_eval(files) if files.startswith("[") else [files])]
    if not all(path.is_file() for path in paths):  # of a reader's own bundle
        return []
    parser = ConfigParser()
    parser.read_config([str(path) for path in paths])
    faults = [
        f"--{name} None: passed over, '$None' is meant" for name, value in options.items() if value == "None"
    ]
    for name in options.keys() - OF_MONAI:
        if not _has(parser, name):
            faults.append(f"--{name}: no entry of {files}")
    return faults


def _has(parser: ConfigParser, name: str) -> bool:
    """Whether an option is an entry, or an argument of a component, that may be added."""
    parent = parser[name.rpartition("#")[0]] if "#" in name else {}
    return name in parser or (isinstance(parent, dict) and "_target_" in parent)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_exists_and_none_is_passed_over(page):
    assert [fault for words in _commands(page.read_text(encoding="utf-8")) for fault in _faults(words)] == []


def test_commands_are_found_and_faults_are_told():
    assert sum(len(list(_commands(page.read_text(encoding="utf-8")))) for page in PAGES) > 15
    command = "python -m monai.bundle run --config_file bundles/skull_completion/configs/train.json"
    page = f'```bash\nRUN="{command}\n  --phantoms 0"\n\n$RUN \\\n  --epochs 3 --working_spacing None\n```\n'
    (words,) = _commands(page)
    assert sorted(fault.split(":")[0] for fault in _faults(words)) == ["--epochs", "--working_spacing None"]


@pytest.mark.parametrize("page", TABLES)
def test_every_option_of_a_table_exists(page):
    rows = re.findall(r"^\| (`--.*?) \|", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"--([\w#]+)", row)]
    parser = ConfigParser()
    parser.read_config(str(ROOT / TABLES[page]))
    assert len(names) > 5 and [name for name in names if not _has(parser, name)] == []
