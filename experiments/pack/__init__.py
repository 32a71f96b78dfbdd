"""``engine.pack=true``: the runs of a sweep train their clients together, as one batch per round.

Each run goes on as if alone, in a thread that works only when it is its turn (``turns.py``); what
it asks of its trainer (``trainer.py``) is answered together with what the other runs ask.
"""
