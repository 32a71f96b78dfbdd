"""What every command says, on any terminal: exit codes, mistakes, safe text."""
