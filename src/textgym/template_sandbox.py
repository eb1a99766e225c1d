"""Jinja's sandbox for programs of strangers, with limits on the steps and memory that they take.

Jinja's own keeps a program from files and modules, but not from `'a' * 10**10`. Here what makes a
value counts its bytes, and what may make one far larger than its arguments (`*`, `**`, `~`, `join`,
`center`, ...) is refused before it does. Bytes are counted and never given back, and steps are what
a program does, not the time that it takes, so that it is always refused or never.
"""

import functools
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

_MOST_STEPS, _MOST_BYTES = 2_000_000, 2**28
_MOST_OF_A_NUMBER = 2**13  # bytes; with larger ones a single step takes minutes
_OF_A_VALUE = 64  # bytes that one takes beside its text, about
# Filters and methods whose result may be as large as the product of their arguments.
_GROWING = frozenset(
    """batch center expandtabs format format_map indent join ljust pprint replace rjust slice string
    sum to_bytes tojson translate urlize wordwrap xmlattr zfill
    """.split()
)


class Endless(Exception):
    """A template that goes on and on."""


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment as transformers has it for chat templates, which counts steps and bytes.

    :param filters: beside Jinja's own.

    `steps` and `taken` are how many steps and bytes a program has taken; call `begin` before one
    runs.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **filters: Callable[..., Any]) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
        )
        self.begin()
        self.finalize = self._shown
        self.concat = self.joined  # type: ignore[method-assign]
        self.code_generator_class = _Counting
        del self.globals["lipsum"]  # texts at random, as long as one likes
        functions = {**self.filters, **filters}
        self.filters = {name: self._counting(name, f) for name, f in functions.items()}

    def begin(self) -> None:
        """Count from 0."""
        self.steps = self.taken = 0

    def step(self, steps: int) -> bool:
        """Count what a program is about to do; always true.

        :raises Endless: if that is too much.
        """
        self.steps += steps
        if self.steps > _MOST_STEPS:
            raise Endless(f"does not end within {_MOST_STEPS:,} steps")
        return True

    def counted(self, value: Any) -> Any:
        """A value that a program made, its bytes counted.

        :raises MemoryError: if that is too much.
        """
        size = sys.getsizeof(value)
        self._check(size)
        self.taken += size
        return value

    def joined(self, parts: Iterable[Any]) -> str:
        """Values as one text, as `~` and blocks make it.

        :raises MemoryError: if that is too much.
        """
        values = [part if isinstance(part, str) else str(self._shown(part)) for part in parts]
        self._check(sum(map(len, values)))
        return str(self.counted("".join(values)))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`+`, `*`, `**` or `%`."""
        if operator == "+" and type(left) is type(right) is str:  # nearly all that templates do
            self._check(sys.getsizeof(left) + sys.getsizeof(right))
            return self.counted(left + right)
        size = _size_of(operator, left, right)
        self._check(size)
        if isinstance(left, int) and isinstance(right, int) and size > _MOST_OF_A_NUMBER:
            raise MemoryError(f"takes more than {_MOST_OF_A_NUMBER:,} bytes for a number")
        return self.counted(super().call_binop(context, operator, left, right))

    def call(self, context: Context, called: Any, *args: Any, **keywords: Any) -> Any:
        """A call of a function or a method."""
        method = getattr(called, "__wrapped__", called)  # of `format`, which Jinja wraps
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, str | bytes | int) and name in _GROWING:
            args = tuple(map(_as_list, args))
            self._check(_product(name, owner, *args, *keywords.values()))
        return self._made(super().call(context, called, *args, **keywords), args)

    def _counting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that counts what it makes."""

        @functools.wraps(function)
        def counting(*args: Any, **keywords: Any) -> Any:
            if name in _GROWING:
                args = tuple(map(_as_list, args))
                self._check(_product(name, *args, *keywords.values()))
            return self._made(function(*args, **keywords), args)

        return counting

    def _made(self, value: Any, args: tuple[Any, ...]) -> Any:
        """A value, counted unless it is an argument."""
        return value if any(value is argument for argument in args) else self.counted(value)

    def _shown(self, value: Any) -> Any:
        """A value that is to become text."""
        if not isinstance(value, str):
            self._check(_text_size(value))
        return value

    def _check(self, size: int) -> None:
        """Raises unless there is room for so many bytes."""
        if self.taken + size > _MOST_BYTES:
            raise MemoryError(f"takes more than {_MOST_BYTES // 2**20} MiB of memory")


class _Counting(CodeGenerator):
    """Compiles a template that counts its steps, and what `~`, slices, lists and tables make.

    Steps are about the lines of Python that a template becomes, rather more. Those of a block (of a
    loop, a macro, a condition) are counted before it runs, those of a loop's condition at each
    item: a trace function would cost more than what it watches.
    """

    def blockvisit(self, nodes: Iterable[nodes.Node], frame: Frame) -> None:
        body = list(nodes)
        self.writeline(f"environment.step({8 + sum(map(_lines, body))})")
        super().blockvisit(body, frame)

    def visit_For(self, node: nodes.For, frame: Frame) -> None:
        if node.test is not None:
            step = nodes.EnvironmentAttribute("step(3)")  # written as it stands, so it is a call
            node.test = nodes.And(step, node.test)
        super().visit_For(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        if isinstance(node.arg, nodes.Slice):
            self._write_counted(super().visit_Getitem, node, frame)
        else:
            super().visit_Getitem(node, frame)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:
        self._write_counted(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self._write_counted(super().visit_Dict, node, frame)

    def _write_counted(self, visit: Callable[..., None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.counted(")
        visit(node, frame)
        self.write(")")


class _Generation(Extension):
    """`{% generation %}`, around what a model says: transformers marks it, here it is text.

    Names that are set inside end with the block, as there.
    """

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


def _lines(node: nodes.Node) -> int:
    """Lines of Python that a statement becomes, rather more; without those of blocks inside."""
    if isinstance(node, nodes.If):
        return 1 + len(node.elif_) * 2
    return 2 * len(node.nodes) if isinstance(node, nodes.Output) else 3


def _as_list(value: Any) -> Any:
    """What can be gone through only once, as a list."""
    return list(value) if isinstance(value, Iterator) else value


def _size_of(operator: str, left: Any, right: Any) -> int:
    """Bytes that the result of an operator takes at most, about."""
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length()
        return bits * max(right, 0) // 8 if operator == "**" else (bits + right.bit_length()) // 8
    if operator == "%" and isinstance(left, str):
        return _product("format", left, *(right if isinstance(right, tuple) else [right]))
    sizes = [sys.getsizeof(v) if isinstance(v, Collection) else v for v in (left, right)]
    if operator not in ("+", "*") or not all(isinstance(size, int) for size in sizes):
        return 0
    return sum(sizes) if operator == "+" else max(0, sizes[0] * sizes[1])


def _product(name: str, *values: Any) -> int:
    """The product of the sizes of arguments, a whole number being as large as it says.

    :param name: of what is called: a format may ask for any width.
    """
    product = 1
    for value in values:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if is_whole or isinstance(value, Collection):
            product *= max(1, abs(value) if is_whole else _text_size(value))
        if name.startswith("format") and isinstance(value, str):
            product *= max([1, *(int(digits) for digits in re.findall("[0-9]{1,9}", value))])
    return product


def _text_size(value: Any) -> int:
    """Bytes of a value's text, about; that of a table or a list in which it stands counts too.

    A list may stand in others a thousand times, so counting ends where it is too much.
    """
    size, todo = 0, [value]
    while todo and size <= _MOST_BYTES:
        item = todo.pop()
        if isinstance(item, Namespace):
            item = item._Namespace__attrs
        size += len(item) if isinstance(item, str | bytes) else _OF_A_VALUE
        if isinstance(item, Mapping):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, Collection) and not isinstance(item, str | bytes):
            todo += item
    return size
