"""
How are outside systems reached? One folder per system, independent of each other, every folder the same shape.

Each implements an interface of ``persistip.strategies``; its client library is imported nowhere else.
"""
