"""Build the files of a release: wheel and source, with absolute links.

    python -m tools.dist --home https://example.org/facestage --out dist

The README is written for a reader of the repository, so its links and pictures are relative. On a
package index they would lead nowhere. This makes a copy of the tracked files in which they are
absolute and ``[project.urls]`` names the project's home, builds from the copy, and checks what was
built. Needs `build` and `twine`, and takes `check-wheel-contents` where that is installed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

__all__ = ["absolute_links", "project_urls"]

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?P<mark>!?)\[(?P<text>[^][]*)\]\((?P<target>[^)\s]+)\)")


def absolute_links(text: str, home: str, version: str) -> str:
    """Turn the relative links of a page at the top of the repository into absolute ones.

    Args:
        text: Markdown.
        home: address of the repository, without a slash at the end.
        version: of the release; its tag is ``v`` and the version.

    Returns:
        The text; links within the page and absolute ones are as they were.

    >>> absolute_links("[a](docs/a.md#b) ![c](docs/c.png) [d](#d)", "https://x.org/f", "1.0")
    '[a](https://x.org/f/blob/v1.0/docs/a.md#b) ![c](https://x.org/f/raw/v1.0/docs/c.png) [d](#d)'
    """

    def absolute(link: re.Match[str]) -> str:
        mark, shown, target = link["mark"], link["text"], link["target"]
        if not target.startswith(("#", "http://", "https://", "mailto:")):
            target = f"{home}/{'raw' if mark else 'blob'}/v{version}/{target}"
        return f"{mark}[{shown}]({target})"

    return _LINK.sub(absolute, text)


def project_urls(home: str) -> str:
    """Return the table of addresses for ``pyproject.toml``.

    >>> print(project_urls("https://x.org/f").splitlines()[1])
    Homepage = "https://x.org/f"
    """
    addresses = {
        "Homepage": home,
        "Documentation": f"{home}/tree/main/docs",
        "Source": home,
        "Issues": f"{home}/issues",
        "Changelog": f"{home}/blob/main/CHANGELOG.md",
    }
    lines = [f'{name} = "{address}"' for name, address in addresses.items()]
    return "\n".join(["[project.urls]", *lines, ""])


def prepare(folder: Path, home: str) -> None:
    """Copy the tracked files to a folder and make their links absolute.

    Raises:
        SystemExit: a tracked file was changed and not committed.
    """
    git = ["git", "-C", str(ROOT)]
    changed = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if changed:
        raise SystemExit(f"a release holds what is committed; commit these first:\n{changed}")
    names = subprocess.run([*git, "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, names.stdout.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    settings = folder / "pyproject.toml"
    text = settings.read_text(encoding="utf-8")
    version = tomllib.loads(text)["project"]["version"]
    place = text.index("[project.optional-dependencies]")
    settings.write_text(text[:place] + project_urls(home) + "\n" + text[place:], encoding="utf-8")
    readme = folder / "README.md"
    page = readme.read_text(encoding="utf-8")
    readme.write_text(absolute_links(page, home, version), encoding="utf-8")


def main() -> None:
    """Read the command line, build and check."""
    parser = argparse.ArgumentParser(description="Build the files of a release.")
    parser.add_argument("--home", required=True, help="address of the repository, https://…")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    home = options.home.rstrip("/")
    if not home.startswith("https://"):
        raise SystemExit(f"{home} is no address of a repository; write https://…")
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), home)
        run = [sys.executable, "-m"]
        subprocess.run([*run, "build", "--outdir", str(options.out), name], check=True)
    built = sorted(str(path) for path in options.out.glob("facestage-*"))
    subprocess.run([*run, "twine", "check", "--strict", *built], check=True)
    wheels = [path for path in built if path.endswith(".whl")]
    if shutil.which("check-wheel-contents"):
        subprocess.run(["check-wheel-contents", *wheels], check=True)
    print("built and checked:", *built, sep="\n  ")


if __name__ == "__main__":
    main()
