"""Who writes next: which text gets a slot of the cache, and which tokens go into the next forward pass.

A slot has room for one text of context_length, so the memory is fixed at start, and a text that has its slot can always
be written to its end. Those that find none wait in order. What a finished text leaves in its slot is kept until the
slot is needed: a text that begins the same way starts there, or copies it. Of several that come at once with the same
beginning, the first computes it and the others wait for it.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from glassgpt.generation.sequence import TokenSequence
from glassgpt.generation.speculation import DraftCost
from glassgpt.native.spans import Span


@dataclass(eq=False)
class Slot:
    """Room in the cache for one text."""

    index: int
    sequence: TokenSequence | None = None
    """The text that has it."""
    left: list[int] = field(default_factory=list)
    """What the last text left there."""
    leader: TokenSequence | None = None
    """The sequence waits for this one to compute their common beginning,"""
    n_shared: int = 0
    """which has so many tokens."""

    @property
    def cached(self) -> list[int]:
        """The tokens at its positions 0, 1, ..."""
        sequence = self.sequence
        return self.left if sequence is None else sequence.ids[sequence.start : sequence.kept]


@dataclass(frozen=True)
class Part:
    """One text's share of a forward pass: its next `n_rows` pending tokens, and a draft."""

    sequence: TokenSequence
    n_rows: int
    draft: list[int]

    def span(self) -> Span:
        return self.sequence.span(self.n_rows, self.draft)


class Scheduler:
    """Gives out `n_slots` slots, and at most `max_rows` rows a pass.

    `copy(source, target, length)` copies the beginning of one slot to another, where that saves the computation of at
    least `least_shared` tokens. `row_cost` is what a row more adds to a pass, as a part of one with a single row.
    """

    def __init__(
        self,
        n_slots: int,
        copy: Callable[[int, int, int], None],
        *,
        max_rows: int,
        least_shared: int,
        row_cost: float,
    ) -> None:
        self.waiting: deque[TokenSequence] = deque()
        self.free = [Slot(index) for index in range(n_slots)]  # the one that was free the longest first
        self.busy: list[Slot] = []  # in the order of their sequences' arrival
        self._copy = copy
        self._max_rows = max_rows
        self._least_shared = least_shared
        self._row_cost = row_cost

    def add(self, sequence: TokenSequence) -> None:
        """It waits for a slot."""
        self.waiting.append(sequence)

    def remove(self, sequence: TokenSequence) -> None:
        """It has ended: forget it if it waits, else its slot is free; what is cached there stays."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
            return
        slot = next(slot for slot in self.busy if slot.sequence is sequence)
        slot.left, slot.sequence, slot.leader = slot.cached, None, None
        self.busy.remove(slot)
        self.free.append(slot)

    def plan(self) -> list[Part]:
        """The next forward pass: what is being written goes on by a token each, prompts get the rows that are left, in
        order, and drafts what then is left."""
        self._admit()
        sequences = [slot.sequence for slot in self.busy if slot.sequence and self._may_go_on(slot)]
        for sequence in sequences:
            sequence.move_window()
        n_left = self._max_rows
        rows: list[tuple[TokenSequence, int]] = []
        for sequence in sorted(sequences, key=lambda sequence: sequence.n_pending > 1):
            n_rows = min(sequence.n_pending, n_left)
            if n_rows:
                rows.append((sequence, n_rows))
                n_left -= n_rows
        # What a row more adds, as a part of the pass's time for each of the texts in it.
        cost = DraftCost(self._row_cost * len(rows) / (1 + self._row_cost * max(0, len(rows) - 1)))
        parts = []
        for sequence, n_rows in rows:
            draft = sequence.draft(n_left, cost) if n_rows == sequence.n_pending else []
            n_left -= len(draft)
            parts.append(Part(sequence, n_rows, draft))
        return parts

    def _admit(self) -> None:
        """Give free slots to those that wait longest: of these the one that holds most of the text's beginning."""
        while self.waiting and self.free:
            sequence = self.waiting.popleft()
            slot = max(self.free, key=lambda slot: n_common(slot.left, sequence.ids))
            self.free.remove(slot)
            self.busy.append(slot)
            sequence.kept = min(n_common(slot.left, sequence.ids), len(sequence.ids) - 1)
            slot.sequence, sequence.slot = sequence, slot.index
            self._share(slot, sequence)

    def _may_go_on(self, slot: Slot) -> bool:
        """Whether the slot's sequence need not wait for its leader; if it has waited, it shares what there is now."""
        leader, sequence = slot.leader, slot.sequence
        if leader is None or sequence is None:
            return True
        if _reads(leader) and leader.kept < slot.n_shared:
            return False
        slot.leader = None
        self._share(slot, sequence)
        return slot.leader is None

    def _share(self, slot: Slot, sequence: TokenSequence) -> None:
        """Copy what is cached elsewhere of the prompt, and wait for what one that came before is about to compute."""
        most = len(sequence.ids) - 1  # the last token is always computed: its scores are wanted
        source = max((*self.free, *self.busy), key=lambda other: n_common(other.cached, sequence.ids))
        n = min(n_common(source.cached, sequence.ids), most)
        if n >= sequence.kept + self._least_shared:
            self._copy(source.index, slot.index, n)
            sequence.kept = n
        slot.n_shared = sequence.kept + self._least_shared - 1
        for other in self.busy[: self.busy.index(slot)]:
            if other.sequence is not None and _reads(other.sequence):
                n = min(n_common(other.sequence.ids, sequence.ids), most)
                if n > slot.n_shared:
                    slot.leader, slot.n_shared = other.sequence, n


def n_common(left: list[int], right: list[int]) -> int:
    """How many tokens two texts have in common at the beginning; by halving, so that lists compare at C's speed."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _reads(sequence: TokenSequence) -> bool:
    """Whether it still reads its prompt."""
    return sequence.finished is None and len(sequence.ids) == sequence.n_prompt
