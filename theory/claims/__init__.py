"""The statements, one a file: the paper's by their numbers, then ours."""
