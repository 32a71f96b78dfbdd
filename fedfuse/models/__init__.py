"""Client models, one family a file, and the plans that say which client runs which.

Every factory is a plain function ``(input_shape, num_classes, *, hyperparameters)`` that returns
an ``nn.Module`` from float32 inputs [B, *input_shape] to float32 logits [B, num_classes]. All of
them are free of data-dependent control flow, dropout and in-place operations, so that
``torch.func.vmap`` can train many clients at once.
"""
