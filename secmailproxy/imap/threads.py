"""Threads: which message answers which, by References and base subjects. PURE.

Where RFC 5256 leaves a choice, the one of Dovecot is taken, so that a mailbox threads the same with and
without protected mail in it: the first of several messages with one Message-ID counts, and the first parent.

Standards: RFC 5256 section 3 (ORDEREDSUBJECT, REFERENCES).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from secmailproxy.imap.sortkeys import Sorted

ALGORITHMS = frozenset({"REFERENCES", "ORDEREDSUBJECT"})
_REFERENCES_MOST = 1000
"""Identifiers of one message that count, the last ones."""
_PLAIN_END = re.compile(rb'[>"(\[]|\Z')
_QUOTED_ID = re.compile(rb'\s*"((?:[^"\\]|\\.)*)"\s*@\s*([^>\s"(\[]+)\s*>', re.DOTALL)
_WHITE = re.compile(rb"[ \t\r\n]+")


def message_ids(value: bytes | None) -> list[bytes]:
    """The identifiers in a field, without their brackets."""
    found = []
    at = (value or b"").find(b"<") + 1
    end = -1
    while at and value is not None:
        if end < at:
            # Searched for once only, however many brackets open before it.
            end = _end_of_plain(value, at)
        quoted = _QUOTED_ID.match(value, at)
        if value.startswith(b">", end):
            if b"@" in value[at:end]:
                found.append(_WHITE.sub(b"", value[at:end]))
            at = end + 1
        elif quoted is not None:
            found.append(re.sub(rb"\\(.)", rb"\1", quoted[1]) + b"@" + quoted[2])
            at = quoted.end()
        at = value.find(b"<", at) + 1
    return found


def _end_of_plain(value: bytes, at: int) -> int:
    end = _PLAIN_END.search(value, at)
    return len(value) if end is None else end.start()


@dataclass(eq=False, slots=True)
class _Node:
    """A message, or one that is only spoken of."""

    message: Sorted | None = None
    parent: _Node | None = None
    followers: int = 0
    """How many have it as `parent`."""
    children: list[_Node] = field(default_factory=list)
    """Once the tree is pruned: messages only."""

    @property
    def order(self) -> tuple[int, int]:
        assert self.message is not None, "only messages are put in order"
        return self.message.sent, self.message.number


@dataclass(eq=False, slots=True)
class _Root:
    node: _Node
    merged_into: _Root | None = None
    answers: bool = False
    gone: bool = False

    @property
    def is_dummy(self) -> bool:
        return self.node.message is None

    @property
    def oldest(self) -> _Node:
        return min(self.node.children, key=lambda one: one.order) if self.is_dummy else self.node


def by_references(messages: list[Sorted]) -> bytes:
    """The threads of these messages as THREAD tells them."""
    roots = [_Root(node) for node in _pruned(_linked(sorted(messages, key=lambda one: one.number)))]
    roots = _in_order(roots)
    _gather(roots)
    for root in list(roots):
        if root.merged_into is not None and not root.gone:
            _merge(root, roots)
    return _written([root.node for root in _in_order(roots)])


def _linked(messages: list[Sorted]) -> list[_Node]:
    """Every message and every identifier that is spoken of, each under its parent."""
    known: dict[bytes, _Node] = {}
    nodes: list[_Node] = []

    def spoken_of(identifier: bytes) -> _Node:
        node = known.get(identifier)
        if node is None:
            node = known[identifier] = _Node()
            nodes.append(node)
        return node

    for message in messages:
        own = message_ids(message.field("MESSAGE-ID"))[:1]
        node = spoken_of(own[0]) if own else _Node()
        if not own or node.message is not None:
            node = _Node()
            nodes.append(node)
        node.message = message
        earlier = message_ids(message.field("REFERENCES"))
        earlier = earlier or message_ids(message.field("IN-REPLY-TO"))[:1]
        chain = [spoken_of(identifier) for identifier in earlier[-_REFERENCES_MOST:]]
        for parent, child in itertools.pairwise(chain):
            _link(parent, child)
        last = chain[-1] if chain else None
        if node.parent is not None and node.parent is not last:
            node.parent.followers -= 1
            node.parent = None
        if last is not None:
            _link(last, node)
    return nodes


def _link(parent: _Node, child: _Node) -> None:
    if child.parent is not None or parent is child:
        return
    above: _Node | None = parent if child.followers else None
    while above is not None:
        if above is child:
            return
        above = above.parent
    child.parent = parent
    parent.followers += 1


def _pruned(nodes: list[_Node]) -> list[_Node]:
    """The roots; each message is a child of the nearest message above it, or else of the root."""
    for node in nodes:
        above = node.parent
        if above is None or node.message is None:
            continue
        while above.message is None and above.parent is not None:
            above = above.parent
        above.children.append(node)
    return [node for node in nodes if node.parent is None]


def _in_order(roots: list[_Root]) -> list[_Root]:
    kept = []
    for root in roots:
        if root.gone or (root.is_dummy and not root.node.children):
            continue
        if root.is_dummy and len(root.node.children) == 1:
            root.node = root.node.children[0]
        kept.append(root)
    return sorted(kept, key=lambda root: root.oldest.order)


def _gather(roots: list[_Root]) -> None:
    """Threads of one subject: which of them is merged into which."""
    table: dict[bytes, _Root] = {}
    for root in roots:
        message = root.oldest.message
        assert message is not None, "the oldest is a message"
        subject, answers = message.subject
        if not subject:
            continue
        known = table.setdefault(subject, root)
        if known is not root:
            if not known.is_dummy and (root.is_dummy or (known.answers and not answers)):
                known.merged_into = table[subject] = root
            else:
                root.merged_into = known
        root.answers = answers


def _merge(root: _Root, roots: list[_Root]) -> None:
    target = root
    while target.merged_into is not None:
        target = target.merged_into
    root.gone = True
    if root.is_dummy:
        target.node.children += root.node.children
    elif target.is_dummy or (root.answers and not target.answers):
        target.node.children.append(root.node)
    else:
        both = _Root(_Node(children=[target.node, root.node]))
        target.merged_into, target.gone = both, True
        roots.append(both)


def _written(nodes: Sequence[_Node]) -> bytes:
    """Without recursion: a thread may be as long as the mailbox."""
    out: list[bytes] = []
    waiting: list[bytes | list[_Node]] = []

    def put(one: _Node) -> None:
        inside: list[bytes | list[_Node]] = [b"%d" % one.message.number] if one.message is not None else []
        if one.children:
            inside += [*([b" "] if inside else []), sorted(one.children, key=lambda child: child.order)]
        waiting.extend(reversed(inside))

    for root in nodes:
        waiting += [b")"]
        put(root)
        out.append(b"(")
        while waiting:
            item = waiting.pop()
            if isinstance(item, bytes):
                out.append(item)
            elif len(item) == 1:
                put(item[0])
            else:
                for child in reversed(item[1:]):
                    waiting += [b")", [child], b"("]
                waiting += [b")", [item[0]], b"("]
    return b"".join(out)


def by_subject(messages: list[Sorted]) -> bytes:
    """ORDEREDSUBJECT: messages of one base subject, by date, under the first of them."""
    found = sorted(messages, key=lambda one: (one.subject[0], one.sent, one.number))
    threads = [list(group) for _, group in itertools.groupby(found, key=lambda one: one.subject[0])]
    threads.sort(key=lambda thread: (thread[0].sent, thread[0].number))
    return b"".join(map(_flat, threads))


def _flat(thread: list[Sorted]) -> bytes:
    first, *rest = (b"%d" % one.number for one in thread)
    if len(rest) < 2:
        return b"(" + b" ".join([first, *rest]) + b")"
    return b"(" + first + b" " + b"".join(b"(" + one + b")" for one in rest) + b")"
