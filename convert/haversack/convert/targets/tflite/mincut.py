"""A minimum s-t cut in plain Python, for the layout assignment: exact integers, no dependency, milliseconds.

Dinic's algorithm (E. A. Dinic 1970): repeat a breadth-first search that levels the residual graph and a depth-first
search that saturates every shortest path, until the sink is cut off. Capacities are Python integers, so a weight such
as `bytes * 10**9 + 1` loses nothing. The order of edges alone decides how ties fall: the same calls give the same
cut.
"""

from __future__ import annotations

SOURCE = 0
SINK = 1
INFINITE = 1 << 120
"""The capacity of an edge that may not be cut; no sum of real weights reaches it."""


class Network:
    """A flow network with the nodes `SOURCE` and `SINK` and as many more as `node` makes."""

    def __init__(self) -> None:
        self._adjacent: list[list[int]] = [[], []]
        self._head: list[int] = []
        self._capacity: list[int] = []

    @property
    def size(self) -> int:
        """How many nodes there are."""
        return len(self._adjacent)

    def node(self) -> int:
        """Make a node and return its number."""
        self._adjacent.append([])
        return len(self._adjacent) - 1

    def edge(self, tail: int, head: int, capacity: int, back: int = 0) -> None:
        """Add an edge of `capacity` from `tail` to `head`, and one of capacity `back` from `head` to `tail`.

        It is paid when `tail` falls on the source's side and `head` on the sink's.

        Raises:
            ValueError: A capacity is negative.
        """
        if capacity < 0 or back < 0:
            raise ValueError(f"capacities must not be negative: {capacity}, {back}")
        if tail == head or not (capacity or back):
            return
        self._adjacent[tail].append(len(self._head))
        self._head.append(head)
        self._capacity.append(capacity)
        self._adjacent[head].append(len(self._head))
        self._head.append(tail)
        self._capacity.append(back)

    def unary(self, node: int, weight: int) -> int:
        """Charge `weight`, which may be negative, where `node` is on the source's side; return what is not charged."""
        if weight > 0:
            self.edge(node, SINK, weight)
        else:
            self.edge(SOURCE, node, -weight)
        return min(weight, 0)

    def cut(self) -> tuple[int, list[bool]]:
        """Find a minimum cut; the network keeps the flow, so call it once.

        Returns:
            The cut's weight, and for every node whether it is on the source's side. Of all minimum cuts it is the one
            with the largest source side: a node is on the sink's side only where that saves something.

        Raises:
            ValueError: Edges of infinite capacity join the source to the sink.
        """
        total = 0
        while (level := self._levels()) is not None:
            total += self._saturate(level)
            if total >= INFINITE:
                raise ValueError("the source and the sink cannot be separated")
        return total, self._source_side()

    def _levels(self) -> list[int] | None:
        """Distance of every node to the sink in the residual graph, or None when the source cannot reach it."""
        head, capacity = self._head, self._capacity
        level = [-1] * len(self._adjacent)
        level[SINK] = 0
        frontier = [SINK]
        while frontier and level[SOURCE] < 0:
            reached = []
            for node in frontier:
                for edge in self._adjacent[node]:
                    tail = head[edge]
                    if level[tail] < 0 and capacity[edge ^ 1]:
                        level[tail] = level[node] + 1
                        reached.append(tail)
            frontier = reached
        return level if level[SOURCE] >= 0 else None

    def _saturate(self, level: list[int]) -> int:
        """Push flow along paths of falling level from the source until none is left; return how much."""
        adjacent, head, capacity = self._adjacent, self._head, self._capacity
        cursor = [0] * len(adjacent)
        pushed = 0
        path: list[int] = []
        node = SOURCE
        while True:
            if node == SINK:
                amount = min(capacity[edge] for edge in path)
                pushed += amount
                first_full = -1
                for position, edge in enumerate(path):
                    capacity[edge] -= amount
                    capacity[edge ^ 1] += amount
                    if first_full < 0 and not capacity[edge]:
                        first_full = position
                node = head[path[first_full] ^ 1]
                del path[first_full:]
                continue
            edges = adjacent[node]
            wanted = level[node] - 1
            while cursor[node] < len(edges):
                edge = edges[cursor[node]]
                if capacity[edge] and level[head[edge]] == wanted:
                    break
                cursor[node] += 1
            if cursor[node] < len(edges):
                path.append(edges[cursor[node]])
                node = head[path[-1]]
            elif path:
                node = head[path.pop() ^ 1]
                cursor[node] += 1
            else:
                return pushed

    def _source_side(self) -> list[bool]:
        head, capacity = self._head, self._capacity
        side = [True] * len(self._adjacent)
        side[SINK] = False
        stack = [SINK]
        while stack:
            for edge in self._adjacent[stack.pop()]:
                tail = head[edge]
                if side[tail] and capacity[edge ^ 1]:
                    side[tail] = False
                    stack.append(tail)
        return side
