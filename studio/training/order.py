"""Order of examples: which of them are in which batch, as a function of (seed, number of the batch), so that a checkpoint stores nothing about it.

A batch has images of one bucket only. Examples are named by their indices.
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict

import numpy

from studio.training.rng import Purpose, make_rng

Bucket = tuple[int, int]


class Order(ABC):
    """Batches of any number, without state except caches. `buckets`: the bucket of each example. `stream` separates the random numbers of two sets
    of examples."""

    def __init__(self, buckets: list[Bucket], batch_size: int, seed: int, stream: int = 0):
        self.batch_size, self.seed, self.stream = batch_size, seed, stream
        found: defaultdict[Bucket, list[int]] = defaultdict(list)
        for index, bucket in enumerate(buckets):
            found[bucket].append(index)
        self.members = [numpy.array(found[bucket]) for bucket in sorted(found)]
        """Indices of the examples in each bucket."""

    @abstractmethod
    def batch(self, number: int) -> list[int]:
        """The examples of batch `number`, from 0: always as many as the batch size."""

    def rng(self, step: int, index: int = 0) -> numpy.random.Generator:
        return make_rng(Purpose.ORDER, self.seed, step, index + (self.stream << 32))


class FairOrder(Order):
    """Every example is used equally often (engine 2).

    A bucket has as many turns, of one batch each, as its share of the examples, spread evenly over each cycle of turns. Its batches continue one
    another: an epoch of the bucket need not end with a batch. A batch has an example twice only if it is larger than its bucket.
    """

    def __init__(self, buckets: list[Bucket], batch_size: int, seed: int, stream: int = 0):
        super().__init__(buckets, batch_size, seed, stream)
        counts = [len(each) for each in self.members]
        self.turns = [count // math.gcd(*counts) for count in counts]
        """Turns of each bucket per cycle."""
        self._cycle: tuple[int, list[tuple[int, int]]] | None = None
        self._rows: dict[int, tuple[int, numpy.ndarray]] = {}

    def batch(self, number: int) -> list[int]:
        cycle, position = divmod(number, sum(self.turns))
        if self._cycle is None or self._cycle[0] != cycle:
            self._cycle = (cycle, self._spread(cycle))
        bucket, turn = self._cycle[1][position]
        members, turn = self.members[bucket], turn + cycle * self.turns[bucket]
        whole, rest = divmod(self.batch_size, len(members))
        return [*members.tolist() * whole, *(members[self._row(bucket, turn, rest)].tolist() if rest else ())]

    def _spread(self, cycle: int) -> list[tuple[int, int]]:
        """(bucket, its turn) of each batch of a cycle: each turn at a random moment of its own part of the cycle."""
        rng = self.rng(cycle)
        moments = numpy.concatenate([(numpy.arange(turns) + rng.random(turns)) / turns for turns in self.turns])
        turns = [(bucket, turn) for bucket, count in enumerate(self.turns) for turn in range(count)]
        return [turns[index] for index in numpy.argsort(moments, kind="stable")]

    def _row(self, bucket: int, turn: int, size: int) -> numpy.ndarray:
        """`size` different positions in a bucket: those of its turn `turn`."""
        count = len(self.members[bucket])
        # After so many turns all have been used equally often, so what follows does not depend on what came before.
        length = count // math.gcd(count, size)
        cycle, position = divmod(turn, length)
        if bucket not in self._rows or self._rows[bucket][0] != cycle:
            self._rows[bucket] = (cycle, _rows(count, size, length, self.rng(cycle, 1 + bucket)))
        return self._rows[bucket][1][position]


def _rows(count: int, size: int, length: int, rng: numpy.random.Generator) -> numpy.ndarray:
    """`length` rows of `size` different numbers below `count`: permutations one after the other, of which a row may hold an end and a beginning."""
    epochs: list[numpy.ndarray] = []
    for start in range(0, length * size, count):
        epoch = rng.permutation(count)
        begun = start % size
        if begun:
            # The row already holds the end of the epoch before, so those numbers wait for a later row.
            first = numpy.flatnonzero(~numpy.isin(epoch, epochs[-1][-begun:]))[: size - begun]
            epoch = numpy.concatenate([epoch[first], numpy.delete(epoch, first)])
        epochs.append(epoch)
    return numpy.concatenate(epochs).reshape(length, size)


class EpochOrder(Order):
    """Epochs with each example at least once, in which short last batches are filled from their bucket (engine 1): examples of small buckets are
    used more often."""

    def __init__(self, buckets: list[Bucket], batch_size: int, seed: int, stream: int = 0):
        super().__init__(buckets, batch_size, seed, stream)
        self._epoch = (0, self.epoch(0))

    def batch(self, number: int) -> list[int]:
        epoch, position = divmod(number, len(self._epoch[1]))
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self.epoch(epoch))
        return self._epoch[1][position]

    def epoch(self, number: int) -> list[list[int]]:
        """All batches of one epoch."""
        rng, size = self.rng(number), self.batch_size
        batches = []
        for members in self.members:
            order = rng.permutation(members.tolist()).tolist()
            missing = -len(order) % size
            order += [order[i % len(order)] for i in rng.permutation(max(missing, len(order)))[:missing]]
            batches += [order[start : start + size] for start in range(0, len(order), size)]
        return [batches[i] for i in rng.permutation(len(batches))]
