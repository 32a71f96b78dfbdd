"""The scripts that ask fedfuse, in each shell, what may come next.

They know nothing of fedfuse: it is asked at every TAB, so that a script stays right when an option
is added. An answer is a line ``VALUE<TAB>MEANING``; one that ends in ``=``, ``.``, ``/`` or ``[``
is to be gone on with, and gets no space.
"""

from __future__ import annotations

PROGRAMS = ("fedfuse", "fedfuse-report", "fedfuse-map", "fedfuse-advise")
_ALL = " ".join(PROGRAMS)

BASH = f"""\
# Completion of fedfuse for bash. In ~/.bashrc:  source <(fedfuse completion bash)
_fedfuse() {{
    local line=${{COMP_LINE:0:COMP_POINT}} program=${{COMP_WORDS[0]/#\\~/$HOME}} value cut=
    local name=${{program##*/}} current=${{line##*[[:space:]]}}
    local fedfuse=${{program%"$name"}}fedfuse
    local -a words
    read -ra words <<< "$line"
    [[ -n $current ]] || words+=("")
    # Where bash takes '=' for the end of a word, an answer is only what comes after it.
    [[ $COMP_WORDBREAKS == *=* ]] && cut=${{current%"${{current##*=}}"}}
    COMPREPLY=()
    while IFS=$'\\t' read -r value _; do
        value=${{value// /\\\\ }}
        [[ $value == *[=./[] ]] || value+=" "
        COMPREPLY+=("${{value#"$cut"}}")
    done < <("$fedfuse" completion --answer "$name" -- "${{words[@]:1}}" 2>/dev/null)
}}
complete -o nospace -F _fedfuse {_ALL}
"""

ZSH = f"""\
#compdef {_ALL}
# Completion of fedfuse for zsh. In ~/.zshrc, after compinit:  source <(fedfuse completion zsh)
_fedfuse() {{
    local program=${{words[1]/#\\~/$HOME}} line value
    local name=${{program:t}}
    local -a open closed open_told closed_told
    for line in "${{(@f)$("${{program%$name}}fedfuse" completion --answer $name -- \\
            "${{(@Q)words[2,CURRENT-1]}}" "${{(Q)PREFIX}}" 2>/dev/null)}}"; do
        value=${{line%%$'\\t'*}}
        [[ -n $value ]] || continue
        if [[ $value == *[=./[] ]]; then
            open+=("$value") open_told+=("$value  ${{line#*$'\\t'}}")
        else
            closed+=("$value") closed_told+=("$value  ${{line#*$'\\t'}}")
        fi
    done
    (( $#open )) && compadd -l -S '' -d open_told -- "${{open[@]}}"
    (( $#closed )) && compadd -l -d closed_told -- "${{closed[@]}}"
}}
compdef _fedfuse {_ALL}
"""

FISH = f"""\
# Completion of fedfuse for fish:  fedfuse completion fish > ~/.config/fish/completions/fedfuse.fish
function __fedfuse
    set -l words (commandline -opc)
    set -l name (string replace -r '.*/' '' -- $words[1])
    set -l fedfuse (string replace -r '[^/]*$' fedfuse -- $words[1])
    set -l current (commandline -ct)
    set -e words[1]
    $fedfuse completion --answer $name -- $words "$current" 2>/dev/null
end
for program in {_ALL}
    complete -c $program -f -a '(__fedfuse)'
end
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
