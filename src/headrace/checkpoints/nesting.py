"""Measures how deep a msgpack value nests, without recursion and without reading its texts."""

#: Bytes after the first one of a leaf, by the first byte.
_FIXED = {
    0xC0: 0, 0xC1: 0, 0xC2: 0, 0xC3: 0,
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
    0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
#: The bytes of the length, and the bytes besides length and content, by the first byte.
_SIZED = {
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0),
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),
}  # fmt: skip
#: The bytes of the count of items, and the values of an item.
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}


def nesting(data: bytes, most: int) -> int:
    """The levels of lists and objects, ``most + 1`` if there are more. Content of an extension
    type does not count. A damaged value has the levels up to the damage.
    """
    place, end, deepest = 0, len(data), 0
    #: How many values each open container still has.
    open_counts: list[int] = []
    while place < end:
        head = data[place]
        place += 1
        count = 0
        if head < 0x80 or head >= 0xE0:
            pass
        elif head < 0xA0:
            count = (head & 0x0F) * (2 if head < 0x90 else 1)
        elif head < 0xC0:
            place += head & 0x1F
        elif head in _FIXED:
            place += _FIXED[head]
        elif head in _SIZED:
            width, besides = _SIZED[head]
            place += width + besides + int.from_bytes(data[place : place + width], "big")
        else:
            width, values = _CONTAINERS[head]
            count = values * int.from_bytes(data[place : place + width], "big")
            place += width
        if open_counts:
            open_counts[-1] -= 1
        if count:
            open_counts.append(count)
            deepest = max(deepest, len(open_counts))
            if deepest > most:
                break
        while open_counts and not open_counts[-1]:
            open_counts.pop()
        if not open_counts:
            break
    return deepest
