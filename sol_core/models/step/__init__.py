"""A compressed decode step: its plan, its parts, its CUDA graph, its clock."""
