"""The networks, one a file: a function of the file's name builds it (`tnn_edge.nn.registry`)."""
