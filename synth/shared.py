"""One compiled program for many worlds: the arrays that a traced function has built in become its arguments.

The tables of a world are constants of whatever is traced with it, so that each world would compile
anew what differs in nothing but numbers. `shared` traces a function, takes its constant arrays out,
and gives every function whose trace is otherwise the same one and the same callable: what is compiled
for the first serves all of them. What differs in anything else (a shape, a type, a number written
into an operation) has a callable of its own.
"""

import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

T = TypeVar("T")

Constants = tuple[Any, ...]
"""Arrays, in the order in which a traced function has them"""


class Shared(Generic[T]):
    """What functions with equal traces have in common; equal only to itself, so that it may be a static argument."""

    def __init__(self, jaxpr: jex.Jaxpr, arguments: Any, result: Any) -> None:
        self._jaxpr, self._arguments, self._result = jaxpr, arguments, result

    def __call__(self, constants: Constants, *arguments: Any) -> T:
        """What the function of these `constants` gives for `arguments`, which have the shapes that it was traced with.

        Raises TypeError for arguments of another structure, shape or type.
        """
        leaves, structure = jax.tree.flatten(arguments)
        found = [(jax.typeof(leaf).shape, jax.typeof(leaf).dtype) for leaf in leaves]
        avals: list[Any] = [var.aval for var in self._jaxpr.invars]
        wanted = [(aval.shape, aval.dtype) for aval in avals]
        if structure != self._arguments or found != wanted:
            raise TypeError(f"traced for {self._arguments} of {wanted}, not for {structure} of {found}")
        evaluate = jex.jaxpr_as_fun(jex.ClosedJaxpr(self._jaxpr, list(constants)))
        result: T = jax.tree.unflatten(self._result, evaluate(*leaves))
        return result

    @functools.cached_property
    def compiled(self) -> Callable[..., T]:
        """The same as a program of its own."""
        return jax.jit(self.__call__)


_known: dict[Hashable, Shared[Any]] = {}
_lock = threading.Lock()


def shared(function: Callable[..., T], *arguments: Any) -> tuple[Shared[T], Constants]:
    """`function` as something that other functions may share, and the constant arrays that make it this one.

    `arguments` are examples of what it is called with: pytrees of arrays or numbers, of which shape and type
    count. `found(constants, *arguments)` is `function(*arguments)`, and `found` is the same object for all
    functions whose traces agree in everything but the content of their constant arrays.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
    constants = tuple(c if isinstance(c, jax.Array) else np.asarray(c) for c in closed.consts)
    structures = jax.tree.structure(arguments), jax.tree.structure(shapes)
    key = (*structures, _written(closed.jaxpr))
    with _lock:
        return _known.setdefault(key, Shared(closed.jaxpr, *structures)), constants


def _written(jaxpr: jex.Jaxpr) -> Hashable:
    """All that a trace consists of but the content of its constants: equal for two that compute the same from them.

    Variables are numbered in the order of their first use; numbers, and arrays of traces within this one,
    stand for themselves; a parameter that cannot be compared by its value is equal only to itself.
    """
    numbers: dict[Any, int] = {}

    def named(var: Any) -> Hashable:
        if isinstance(var, jex.Literal):
            return (str(var.aval), _content(var.val))
        return (numbers.setdefault(var, len(numbers)), str(var.aval))

    def all_named(variables: Any) -> Hashable:
        return tuple(map(named, variables))

    begin = all_named(jaxpr.constvars), all_named(jaxpr.invars)
    rows = [
        (
            equation.primitive,
            all_named(equation.invars),
            all_named(equation.outvars),
            tuple((name, _parameter(value)) for name, value in sorted(equation.params.items())),
            frozenset(map(str, equation.effects)),
        )
        for equation in jaxpr.eqns
    ]
    return (*begin, tuple(rows), all_named(jaxpr.outvars))


def _parameter(value: Any) -> Hashable:
    if isinstance(value, jex.ClosedJaxpr):
        return (_written(value.jaxpr), tuple(map(_content, value.consts)))
    if isinstance(value, jex.Jaxpr):
        return _written(value)
    if isinstance(value, tuple | list):
        return (type(value), tuple(map(_parameter, value)))
    if isinstance(value, dict):
        return tuple((name, _parameter(of)) for name, of in sorted(value.items()))
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _content(value)
    try:
        hash(value)
    except TypeError:
        return _Itself(value)
    # True is 1 and 1 is 1.0, but they are not the same parameter.
    return (type(value), value)


class _Itself:
    """Something without a value to compare by; holds it, so that no other thing gets its place in memory."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Itself) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _content(value: Any) -> Hashable:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return (str(value.dtype), _content(jax.random.key_data(value)))
    array = np.asarray(value)
    return (array.dtype.str, array.shape, array.tobytes())
