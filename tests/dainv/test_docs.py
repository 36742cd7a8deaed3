"""What the documentation says can be done can be done: links, files, commands, code, messages."""

import ast
import re
import runpy
import shlex
import subprocess
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import click
import pytest
import torch
from click.testing import CliRunner

import dainv
import dainv_bench.cli
from dainv.cli import main
from dainv.cli.train import train
from dainv.models.loading import load_model

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.stem for path in (ROOT / "docs").glob("*.md"))
SOURCES = ["dainv", "kernels", "benchmarks", "tests", "examples"]
PROGRAMS = {"dainv": main, "dainv-bench": dainv_bench.cli.main}


def markdown_files():
    """Those that belong to the repository, new ones included."""
    try:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError):  # an unpacked source distribution
        listed = [path for folder in ("*.md", "docs/*.md", "*/README.md") for path in ROOT.glob(folder)]
    return sorted(str((ROOT / name).relative_to(ROOT)) for name in listed if (ROOT / name).exists())


def without_code(text):
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text):
    """Names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", markdown_files())
def test_relative_links_lead_somewhere(name):
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|href|srcset)=\"([^\"]+)\"", without_code(page.read_text()))
    for link in (first or second for first, second in links):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path.read_text()), link


@pytest.mark.parametrize("name", [name for name in markdown_files() if name != "CHANGELOG.md"])
def test_files_that_are_named_exist(name):
    """In code style: from the root, the page's folder or a package in it; a file without a folder is somewhere."""
    page = ROOT / name
    bases = [ROOT, page.parent, *(init.parent for init in page.parent.glob("*/__init__.py"))]
    for word in re.findall(r"`([\w.*/-]+)`", page.read_text()):
        if re.search(r"[A-Z]{3}", word):  # stands for something
            continue
        if re.search(r"/.*\.(py|md|c|json)$", word) or re.match(rf"({'|'.join(SOURCES)}|docs)/.*/$", word):
            assert any(any(base.glob(word.rstrip("/"))) for base in bases), word
        elif word.endswith(".py"):
            assert any(any((ROOT / folder).rglob(word)) for folder in SOURCES), word


@pytest.mark.parametrize("name", ["extending", "paper-to-code"])
def test_constants_that_are_named_exist(name):
    sources = "\n".join(path.read_text() for folder in SOURCES for path in (ROOT / folder).rglob("*.py"))
    for word in re.findall(r"`(_?[A-Z][A-Z_]+)`", (ROOT / "docs" / f"{name}.md").read_text()):
        assert re.search(rf"^{word}\b.*=", sources, re.MULTILINE), word


@pytest.mark.parametrize("name", PAGES)
def test_python_blocks_run(name):
    torch.manual_seed(0)
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{name}.md").read_text(), re.DOTALL):
        if "rsatoolbox" not in block:  # test_geometry.py runs that one, with the file that it reads
            exec(block, {})


def commands():
    """Lines of code blocks that call one of the programs, and such calls in the running text."""
    found = []
    for name in markdown_files():
        text = (ROOT / name).read_text()
        lines = re.findall(r"^(?: {4})?(?:\$ )?(dainv(?:-bench)? [^#\n|)]*)", text, re.MULTILINE)
        inline = re.findall(r"`(dainv(?:-bench)? [a-z][^`\n]*)`", text)
        found += [(name, line.strip().rstrip("\\").strip()) for line in [*lines, *inline]]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_and_their_options_exist(page, line):
    program, *words = shlex.split(line.replace("…", "..."))
    group = PROGRAMS[program]
    assert isinstance(group, click.Group)
    context = click.Context(group)
    if words[0].startswith("-"):
        options = group.params
    elif "|" in words[0]:
        assert all(verb in group.list_commands(context) for verb in words[0].split("|")), line
        return
    else:
        command = group.get_command(context, words[0])
        assert command is not None, line
        options = list(command.params)
        if command.context_settings.get("ignore_unknown_options"):  # passed on to the training that it starts
            options += train.params
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)} | {"--help", "-h"}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, line


@cache
def messages():
    """Every text in our source, with … for what is filled in."""
    found = set()
    for package in ("dainv", "kernels/dainv_kernels", "benchmarks/dainv_bench"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    found.add("".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


def test_messages_that_are_explained_are_given():
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"^\| `(.+?)` \|", text, re.MULTILINE)
    assert len(quoted) > 15
    for message in quoted:
        # A message may fill in more than the page tells apart, so … stands for any text.
        pattern = re.compile(".*".join(re.escape(part) for part in message.split("…")), re.DOTALL)
        assert any(pattern.search(given) for given in messages() if len(given) > 10), message


def test_every_page_is_on_the_map():
    mapped = set(re.findall(r"\]\(([\w-]+\.md)\)", (ROOT / "docs" / "index.md").read_text()))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= mapped


def test_the_readmes_picture_is_drawn_from_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = "train --data digits --width 0.05 --batch-size 16 --views 4 --steps 1 --device cpu"
    for seed in ("0", "1"):
        assert CliRunner().invoke(main, [*options.split(), "--seed", seed, "--run-dir", seed]).exit_code == 0
    draw = runpy.run_path(str(ROOT / "docs" / "picture" / "draw.py"))
    draw["main"]("0", "1", out=tmp_path / "picture.svg")
    drawn, committed = (
        [element.tag for element in ElementTree.parse(path).iter() if element.get("class") != "cell"]
        for path in (tmp_path / "picture.svg", ROOT / "docs" / "picture" / "distances.svg")
    )
    assert drawn == committed
    shown = re.findall(r"mean in the squares: L = (\d\.\d\d)", (tmp_path / "picture.svg").read_text())
    views = draw["views_of"]("digits", "data")
    _, activations = load_model("0").forward_taps(views)
    loss = dainv.invariance_loss(activations["layer8"], dainv.Groups.consecutive(draw["IMAGES"], draw["VIEWS"]))
    assert float(shown[0]) == pytest.approx(loss.item(), abs=0.0051)
