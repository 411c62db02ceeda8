"""The theory's and the toy's predictions held against trained networks, a file a group of claims."""
