"""Port ranges as prefixes, the form in which a longest-prefix lookup finds them."""

PORT_BITS = 16


def split_range(first: int, last: int) -> tuple[tuple[int, int], ...]:
    """Cover ``first``..``last`` (0..65535, host byte order) by as few aligned blocks as possible.

    Returns:
        (port, leading bits) in ascending order; at most 30, and ((0, 0),) for every port.
    """
    blocks = []
    while first <= last:
        size = first & -first or 1 << PORT_BITS
        while size > last - first + 1:
            size >>= 1
        blocks.append((first, PORT_BITS - size.bit_length() + 1))
        first += size
    return tuple(blocks)
