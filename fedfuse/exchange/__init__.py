"""Ways to exchange: what travels, its maths and the server's half, one way a file.

The client's half lies in :mod:`clients.exchange`, under the same name.
"""
