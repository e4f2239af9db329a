"""The method: algorithms, allocation of bits, client, messages, server round."""
