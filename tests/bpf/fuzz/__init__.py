"""The programs against a model of what they should do, on random maps and random, broken and
hostile packets.
"""
