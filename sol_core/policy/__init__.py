"""Policies: the network, its prices, its scheduler, its files."""
