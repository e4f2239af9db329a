"""Algorithms, allocation of bits, client, messages, server round, executors."""
