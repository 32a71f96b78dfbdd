"""``fedfuse completion``: a script for the shell, and the answers that it asks for."""

from __future__ import annotations

import sys

from experiments.cli.shells import PROGRAMS, SCRIPTS
from experiments.terminal.console import Parser
from fedfuse.errors import ConfigError, did_you_mean

USAGE = """\
fedfuse completion: TAB completes commands, groups, options, keys and files.

  fedfuse completion bash|zsh|fish    print the script for a shell

To have it in every new shell:

  bash   add to ~/.bashrc                  source <(fedfuse completion bash)
  zsh    add to ~/.zshrc, after compinit   source <(fedfuse completion zsh)
  fish   once:
         fedfuse completion fish > ~/.config/fish/completions/fedfuse.fish

It is for fedfuse, fedfuse-report, fedfuse-map and fedfuse-advise, and knows the
options in --config-dir DIR and the functions in the files where you are.
"""


def run(words: list[str]) -> int:
    """Print a script or an answer, and return the exit code.

    ``--answer PROGRAM -- WORD...`` is for the scripts: the last word is the one that is being
    written.
    """
    if words[:1] == ["--answer"] and words[2:3] == ["--"] and words[1] in PROGRAMS:
        from experiments.cli.answers import answers

        *before, current = [*words[3:]] or [""]
        for value, told in answers(words[1], before, current):
            sys.stdout.write(f"{value}\t{told}\n")
        return 0
    parser = Parser("fedfuse completion")
    parser.add_argument("shells", nargs="*")
    shells = parser.parse_args(words).shells
    if len(shells) != 1 or shells[0] not in SCRIPTS:
        near = did_you_mean(shells[0], SCRIPTS) if shells else None
        raise ConfigError(
            "fedfuse completion needs the name of a shell",
            got=f"'{' '.join(shells)}'" if shells else None,
            allowed=", ".join(SCRIPTS),
            next_step=f"Did you mean '{near}'?" if near else "See fedfuse completion --help.",
        )
    sys.stdout.write(SCRIPTS[shells[0]])
    return 0
