"""Where data comes from: one plain function a file, parameters to ``RawDataset``."""
