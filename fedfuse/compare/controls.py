"""What a method is compared with: the ways in which its clients train alone."""

from __future__ import annotations

LOCAL = "local"
"""Training alone with the plain cross-entropy."""

ADJUSTED = "local_adjusted"
"""Training alone with the balanced softmax, the client's own label prior added back at home."""

CONTROLS = {LOCAL: "local training", ADJUSTED: "prior-corrected local training"}
"""Every control and what it is called in a sentence, the plain one first."""

BRIEF = {LOCAL: "local", ADJUSTED: "adj."}
"""Every control above a narrow column."""

POST_HOC = "local (post hoc)"
"""Plain local training whose prior is taken out of its logits only when it is tested."""

POST_HOC_METRIC = "accuracy_global_adjusted"
"""The metric of the arm :data:`LOCAL` that holds it, on the balanced test set."""
