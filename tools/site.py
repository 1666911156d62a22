"""What the site of the documents needs beyond mkdocs; a hook of mkdocs.yml.

The pages are written for a reader of the repository. On the site, pages beside ``docs/`` are added
(README, CHANGELOG, …), and links to what has no page lose their target. Three comments are filled
in from the program: ``<!-- commands -->``, ``<!-- environment -->``, ``<!-- api: module -->``.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["api_blocks", "command_pages", "environment_table", "relink"]

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {
    "README.md": "repository/readme.md",
    "CHANGELOG.md": "repository/changelog.md",
    "CONTRIBUTING.md": "repository/contributing.md",
    "SECURITY.md": "repository/security.md",
    "examples/README.md": "repository/examples.md",
    "training/README.md": "repository/training.md",
}
"""Pages of the repository that are not in ``docs/`` → their place on the site."""
_LINK = re.compile(r"(!?)\[((?:[^][]|\[[^]]*\])*)\]\(([^)\s]+)\)")
_API = re.compile(r"<!-- api: ([\w.]+)(?:: ([\w ]+))? -->")


# ---- links


def site_place(path: str) -> str | None:
    """Return where a file of the repository is on the site; None if it is not there."""
    if path in BESIDE:
        return BESIDE[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def relink(text: str, page: str) -> str:
    """Rewrite the links of a page for its place on the site.

    Args:
        text: Markdown.
        page: path of the page in the repository.

    Returns:
        The text. Links to pages and pictures of the site are relative to the page's place there; of
        a link to anything else in the repository its text remains.

    >>> relink("[a](docs/a.md#b) [c](LICENSE) [d](https://x.org)", "README.md")
    '[a](../a.md#b) c [d](https://x.org)'
    """
    here = site_place(page)
    assert here is not None, page

    def relinked(link: re.Match[str]) -> str:
        mark, shown, target = link.groups()
        if target.startswith(("#", "http://", "https://", "mailto:")):
            return link[0]
        path, sharp, anchor = target.partition("#")
        wanted = site_place(posixpath.normpath(posixpath.join(posixpath.dirname(page), path)))
        if wanted is None:
            return shown
        near = posixpath.relpath(wanted, posixpath.dirname(here) or ".")
        return f"{mark}[{shown}]({near}{sharp}{anchor})"

    return _LINK.sub(relinked, text)


# ---- from the program


def _commands() -> Iterator[tuple[str, Any]]:
    """Yield the name and the parser of each command, those of ``models`` too."""
    import typer.main
    from facestage.stream import cli

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", None)
        if children is None:
            yield name, command
            return
        for child_name, child in children.items():
            yield from walk(f"{name} {child_name}", child)

    yield from walk("facestage", typer.main.get_command(cli.app))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _options(command: Any) -> Iterator[tuple[str, str, str]]:
    """Yield name, default and help of each parameter of a command."""
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = [*parameter.opts, *parameter.secondary_opts]
        argument = not names[0].startswith("-")
        shown = (parameter.metavar or names[0].upper()) if argument else ", ".join(names)
        default = parameter.default
        plain = isinstance(default, (str, int, float)) and not isinstance(default, bool)
        yield shown, str(default) if plain else "", getattr(parameter, "help", None) or ""


def command_pages() -> str:
    """Return a section of Markdown for each command, with a table of its options."""
    parts = []
    for name, command in _commands():
        parts += [f"## {name}", "", (command.help or "").strip(), ""]
        rows = [
            f"| `{_cell(shown)}` | {_cell(text)} | {f'`{_cell(default)}`' if default else ''} |"
            for shown, default, text in _options(command)
        ]
        parts += ["| option | what it does | default |", "|---|---|---|", *rows, ""]
    return "\n".join(parts)


def environment_table() -> str:
    """Return a table of each option and its name in the environment, per command."""
    parts = []
    for name, command in _commands():
        prefix = "_".join(name.upper().replace("-", "_").split())
        rows = []
        for parameter in command.params:
            if parameter.name == "help":
                continue
            variable = parameter.envvar or f"{prefix}_{parameter.name.upper()}"
            rows.append(f"| `{variable}` | `{_cell(parameter.opts[0])}` |")
        parts += [f"### {name}", "", "| name | option |", "|---|---|", *rows, ""]
    return "\n".join(parts)


def public_names(module: str) -> list[str]:
    """Return what a module hands on, each with its own module: ``facestage.core.types.Frame``."""
    path = ROOT.joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names: list[str] = []
    homes: dict[str, str] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if node.targets[0].id == "__all__":
                names = ast.literal_eval(node.value)
            elif node.targets[0].id == "_HOMES":
                homes = ast.literal_eval(node.value)
    return [".".join(filter(None, (module, homes.get(name), name))) for name in names]


def api_blocks(text: str) -> str:
    """Replace each ``<!-- api: module: names -->`` by what mkdocstrings turns into a reference."""

    def blocks(found: re.Match[str]) -> str:
        module, chosen = found.groups()
        names = [f"{module}.{name}" for name in chosen.split()] if chosen else public_names(module)
        return "\n\n".join(f"::: {name}" for name in names)

    return _API.sub(blocks, text)


# ---- hooks of mkdocs


def unlisted(nav: Any) -> list[str]:
    """Return the pages of ``docs/`` that a navigation does not name, decisions left out."""
    listed = set(re.findall(r"[\w/-]+\.md", str(nav)))
    pages = (str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))
    return sorted(page for page in pages if page not in listed and not page.startswith("adr/"))


def on_startup(command: str, dirty: bool) -> None:
    """Make the package readable without importing it, before the reference is told where it lies.

    It is laid out as it is installed, since mkdocstrings finds docstrings by the path.
    """
    del command, dirty
    package = ROOT / "build" / "site" / "facestage"
    shutil.rmtree(package, ignore_errors=True)
    only = shutil.ignore_patterns(
        "*.safetensors", "*.json", "*.mp4", "__pycache__", "*.js", "*.css"
    )
    shutil.copytree(ROOT / "src" / "facestage", package, ignore=only)
    for folder in ("core", "stream"):
        shutil.copytree(ROOT / folder, package / folder, ignore=only)


def on_config(config: Any) -> Any:
    """Add pages that the navigation forgot."""
    if pages := unlisted(config.nav):
        config.nav.append({"More": pages})
    return config


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages beside ``docs/``."""
    from mkdocs.structure.files import File

    for source, place in BESIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of a page, and fill in what the program knows."""
    places = {place: source for source, place in BESIDE.items()}
    uri = page.file.src_uri
    markdown = relink(markdown, places.get(uri, f"docs/{uri}"))
    if uri == "commands.md":
        markdown = markdown.replace("<!-- commands -->", command_pages())
    elif uri == "configuration.md":
        markdown = markdown.replace("<!-- environment -->", environment_table())
    elif uri == "api.md":
        markdown = api_blocks(markdown)
    return markdown
