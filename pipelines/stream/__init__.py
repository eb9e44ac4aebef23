"""The declared features from a stream of rows: the same values as the batch, row by row."""
