"""What the site holds beside the pages of docs/, made while it is built.

The reference of the configuration comes from the comments of experiments/conf, the API from
docstrings, the decisions and notebooks from their folders. Links out of docs/, which are right on
a forge, are led to the page that has the same here; so one text serves both.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from experiments.config import pages

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"(\]\(|src=\")([^)#\s\"]+)(#[^)\"]*)?([)\"])")
"""A link's opening, its path, its anchor, its end."""
WIDE = ("methods.md",)
"""Pages whose tables need the width."""
API = {
    "fedfuse: from Python": (
        "",
        [
            *("fedfuse.simulate", "fedfuse.sweep", "fedfuse.rounds", "fedfuse.load_run"),
            *("fedfuse.load_config", "fedfuse.Run", "fedfuse.Sweep", "fedfuse.Round"),
        ],
    ),
    "fedfuse.protocols: what a part has to be": (
        "",
        ["fedfuse.protocols"],
    ),
    "fedfuse.testing: checks for parts": (
        "",
        ["fedfuse.testing"],
    ),
    "fedfuse.types: values and their shapes": (
        "",
        ["fedfuse.types.data", "fedfuse.types.knowledge", "fedfuse.types.metrics"],
    ),
    "fedfuse.errors": ("", ["fedfuse.errors"]),
    "fedfuse.fusion": (
        "Scorers, neighbours, rules and sharpening: a pure function each, and a frozen class"
        " that holds its options.",
        [
            "fedfuse.fusion.pipeline",
            "fedfuse.fusion.scorers",
            "fedfuse.fusion.reciprocal_rank",
            "fedfuse.fusion.nearest_neighbour_probe",
            "fedfuse.fusion.gradient_agreement",
            "fedfuse.fusion.uploaded_scores",
            "fedfuse.fusion.client_confidence",
            "fedfuse.fusion.by_class",
            "fedfuse.fusion.evidence",
            "fedfuse.fusion.class_scores",
            "fedfuse.fusion.class_weights",
            "fedfuse.fusion.estimators",
            "fedfuse.fusion.divergences",
            "fedfuse.fusion.neighbours",
            "fedfuse.fusion.weights",
            "fedfuse.fusion.rules",
            "fedfuse.fusion.sharpen",
        ],
    ),
    "fedfuse.distill": (
        "",
        [
            "fedfuse.distill.losses",
            "fedfuse.distill.balanced",
            "fedfuse.distill.standardised",
            "fedfuse.distill.divergence",
            "fedfuse.distill.targets",
        ],
    ),
    "fedfuse.partition": ("", ["fedfuse.partition"]),
    "fedfuse.data": (
        "",
        ["fedfuse.data.raw", "fedfuse.data.split", "fedfuse.data.public"],
    ),
    "fedfuse.compare: gains, intervals, verdicts": ("", ["fedfuse.compare"]),
    "clients.exchange: what travels": (
        "",
        ["clients.exchange.protocol"],
    ),
    "server.reporters: who watches a run": ("", ["server.reporters.protocol"]),
}
"""Title to what is said first and the modules that are shown."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from the code, and put them into the navigation."""
    made: dict[str, list[str]] = {"Configuration": [], "API": [], "Notebooks": []}

    def add(path: str, text: str, section: str = "") -> None:
        files.append(File.generated(config, path, content=text))
        if section:
            made[section].append(path)

    for path, text in _configuration():
        add(path, text, "Configuration")
    for title, (about, modules) in API.items():
        name = title.partition(":")[0]
        body = "\n\n".join(_module(module, alone=len(modules) == 1) for module in modules)
        add(f"reference/api/{name}.md", f"# {title}\n\n{about}\n\n{body}\n", "API")
    for file in sorted((ROOT / "examples").glob("*.ipynb")):
        add(_page_of(f"examples/{file.name}"), _notebook(file), "Notebooks")
    decisions = sorted(file.name for file in (ROOT / "docs/decisions").glob("[0-9]*.md"))
    made["Decisions"] = [f"decisions/{name}" for name in ("index.md", *decisions)]
    outside = {path for file in files.documentation_pages() for path in _outside(file)}
    outside |= {f"{name}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG")}
    for path in sorted(outside):
        page = _page_of(path)
        if files.get_file_from_path(page) is None and (ROOT / path).is_file():
            text = (ROOT / path).read_text(encoding="utf-8")
            if path.endswith(".md"):
                add(page, _led(text, page, ""))
            else:
                language = {".py": "python", ".yaml": "yaml"}.get(Path(path).suffix, "text")
                hide = "---\nsearch: {exclude: true}\n---\n"
                add(page, f"{hide}# `{path}`\n\n````{language}\n{text}````\n")
    config.nav = _filled(config.nav, made)
    return files


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links out of docs/ to their pages here, and list the decisions."""
    here = page.file.src_uri
    if here in WIDE:
        page.meta["hide"] = ["toc"]
    if here == "decisions/index.md":
        text = f"{text}\n{_decisions()}\n"
    return (
        text if here.startswith("developers/") else _led(text, here, posixpath.join("docs", here))
    )


def _module(module: str, *, alone: bool) -> str:
    """Return mkdocstrings' directive; a module alone on its page needs no heading of its own."""
    own = {"show_root_heading": False, "show_root_toc_entry": False} if alone else {}
    if module.endswith(("protocols", "protocol")):
        own["show_if_no_docstring"] = True  # what has to be called, and how
    return f"::: {module}\n    options: {json.dumps(own)}"


def _configuration() -> Iterator[tuple[str, str]]:
    """Yield a page for the keys of the main file and one for each group of options."""
    groups = pages.groups()
    rows = [
        f"| [`{name}`]({name}.md) | {about} | `{default}` | {len(pages.option_files(name))} |"
        for name, (default, about) in groups.items()
    ]
    yield (
        "reference/configuration/index.md",
        "# Configuration\n\nMade from the comments of `experiments/conf`. On the command line:"
        " `GROUP=OPTION` chooses, `GROUP.KEY=VALUE` sets; `fedfuse --help WORD` says the same as"
        " these pages, and `fedfuse --cfg job` prints what a command comes to.\n\n## Groups\n\n"
        "In the order of a round.\n\n| group | | default | options |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n\n## Keys outside of groups\n\n"
        + _table(pages.main_keys()),
    )
    for name, (default, about) in groups.items():
        parts = [f"# `{name}`", f"{about[:1].upper()}{about[1:]}. Default: `{name}={default}`."]
        for option, page in pages.options(name).items():
            parts += [f"## {option} {{ #{option} }}", *_option(name, page)]
        yield f"reference/configuration/{name}.md", "\n\n".join(parts) + "\n"


def _option(group: str, page: pages.Page) -> Iterator[str]:
    """Yield what an option says of itself, a paragraph each."""
    yield page.about
    if page.facts:
        yield "\n".join(f"* *{fact}*: {told}" for fact, told in page.facts.items())
    if page.target:
        yield f"`_target_: {page.target}`"
    if own := [f"`{key}={value}`" for key, value in page.choices.items() if "/" not in key]:
        yield f"Sets {', '.join(own)}."
    if page.sweeps:
        sweeps = (f"`{k}={v.replace(',', ', ')}`" for k, v in page.sweeps.items())
        yield f"Sweeps over {'; '.join(sweeps)}."
    if page.keys:
        yield _table([(pages.dotted(group, key), *told) for key, *told in page.keys])


def _table(keys: list[tuple[str, ...]]) -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|")

    rows = [
        f"| `{key}` | {f'`{cell(value)}`' if value else ''} | {cell(told)} |"
        for key, value, told in keys
    ]
    return "| key | default | meaning |\n|---|---|---|\n" + "\n".join(rows)


def _notebook(file: Path) -> str:
    """Return a notebook with its stored outputs as Markdown."""
    parts = [f"*`examples/{file.name}`: open it with Jupyter, or read on.*"]
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"````python\n{source}\n````")
        parts += filter(None, map(_output, cell["outputs"]))
    title, at = parts[1].partition("\n")[0], 1
    parts[at] = parts[at].removeprefix(title)
    return "\n\n".join([title, *parts]) + "\n"


def _output(output: dict) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        png = "".join(data["image/png"]).replace("\n", "")
        return f'<img alt="output" src="data:image/png;base64,{png}">'
    if "text/html" in data:
        html = re.sub(
            r"<style scoped>.*?</style>|\n\s*", "", "".join(data["text/html"]), flags=re.S
        )
        return re.sub(r'<table border="1" class="dataframe">', "<table>", html)
    text = "".join(output.get("text") or data.get("text/plain", ""))
    return f"````text\n{text.rstrip()}\n````" if text else ""


def _decisions() -> str:
    """Return the list of decisions, each with its first sentence."""
    rows = []
    for file in sorted((ROOT / "docs/decisions").glob("[0-9]*.md")):
        title = file.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
        rows.append(f"* [{title}]({file.name})")
    return "\n".join(rows)


def _outside(file: File) -> set[str]:
    """Return the paths from the project's root to which a page links out of docs/."""
    here = posixpath.join("docs", file.src_uri)
    found = (_path(here, link[1]) for link in LINK.findall(file.content_string))
    return {path for path in found if path and not path.startswith("docs/")}


def _led(text: str, page: str, file: str) -> str:
    """Return a page's text with its links out of docs/ led to their pages here.

    Args:
        text: The text of a file, whose links are relative to it.
        page: The page's path on the site.
        file: The file's path from the project's root.
    """

    def led(match: re.Match[str]) -> str:
        opening, link, anchor, end = match.groups()
        path = _path(file, link)
        if path is None or (path.startswith("docs/") and file.startswith("docs/")):
            return match[0]
        if re.fullmatch(r"experiments/conf/\w+/\w+\.yaml", path):
            anchor = f"#{Path(path).stem}"
        to = path.removeprefix("docs/") if path.startswith("docs/") else _page_of(path)
        return (
            f"{opening}{posixpath.relpath(to, posixpath.dirname(page) or '.')}{anchor or ''}{end}"
        )

    return LINK.sub(led, text)


def _path(file: str, link: str) -> str | None:
    """Return a relative link's path from the project's root; None for another link."""
    if "://" in link or link.startswith(("mailto:", "data:", "/")):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(file), link))


def _page_of(path: str) -> str:
    """Return the page here that stands for a path from the project's root."""
    if path.startswith("experiments/conf"):
        group = path.removeprefix("experiments/conf").strip("/").partition("/")[0]
        known = group and not group.endswith(".yaml")
        return f"reference/configuration/{group if known else 'index'}.md"
    if path == "README.md":
        return "index.md"
    if path.endswith(".ipynb"):
        return f"guides/notebooks/{Path(path).stem}.md"
    if "/" not in path and path.endswith(".md"):
        return f"developers/{path.lower()}"
    return f"source/{path}.md"


def _filled(nav: list, made: dict[str, list[str]]) -> list:
    """Return the navigation with the sections that were left empty, and root files' pages."""
    filled: list = []
    for entry in nav:
        if isinstance(entry, str):
            filled.append(entry)
            continue
        ((name, below),) = entry.items()
        if isinstance(below, list):
            below = _filled(below, made) if below else made[name]
        elif below.startswith("../"):
            below = _page_of(below.removeprefix("../"))
        if below:
            filled.append({name: below})
    return filled
