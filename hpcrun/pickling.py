"""Values as bytes that another process can make them of, without cloudpickle as far as that goes.

To import cloudpickle costs a shard three times what starting Python does. So what Python's own pickle can do, it does:
data, and what is found by its name in a module. A plain function of ``__main__`` goes by value here too, as its byte
code and the globals that it names. Of everything else `plain` says that it takes cloudpickle, whose pickles import it
where they are read. What is made here is what cloudpickle would have made: by reference what it gives by reference,
nothing of ``__main__`` among it, for that is another module in the other process.
"""

from __future__ import annotations

import builtins
import io
import marshal
import sys
from types import CodeType, FunctionType, ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pickle
    from collections.abc import Iterable
    from typing import Any
else:
    try:
        import _pickle as pickle  # without the pickle in Python around it, whose regular expressions cost 6 ms of CPU
    except ImportError:
        import pickle

dumps = pickle.dumps
loads = pickle.loads
Unpickler = pickle.Unpickler
_PROTOCOL = 5
_GLOBAL = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})
_OF_MODULE = ("__package__", "__path__", "__file__")
"""The globals that every function of a module gets, besides its name, whether or not it uses them."""
_ATTRIBUTES = ("__qualname__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__")
_MAIN = b"\x8c\x08__main__"
"""How the protocol spells that name, and so what a pickle has in it that refers to something of that module."""


def plain(value: object) -> bytes | None:
    """`value` as bytes for `loads`; None where that takes cloudpickle, or cannot be done at all."""
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is not None and cloudpickle.list_registry_pickle_by_value():
        return None  # somebody wants more than ``__main__`` by value
    file = io.BytesIO()
    try:
        _Pickler(file, _PROTOCOL).dump(value)
    except Exception:  # whatever the objects' own code raises: cloudpickle will say it
        return None
    data = file.getvalue()
    return None if _MAIN in data else data


class _Beyond(Exception):
    """This takes cloudpickle."""


class _Pickler(pickle.Pickler):
    """Python's own, with plain functions of ``__main__`` by value and nothing else of it."""

    def __init__(self, file: io.BytesIO, protocol: int) -> None:
        super().__init__(file, protocol)
        self._globals: dict[int, dict[str, Any]] = {}
        """By the id of a module's globals: those that its functions get, one dictionary for all of them."""

    def reducer_override(self, value: Any) -> Any:
        """As pickle wants it, of everything that is not mere data."""
        kind = type(value)
        if kind is ModuleType:
            return _by_name(value)
        if kind is FunctionType and value.__module__ == "__main__":
            return self._by_value(value)
        if kind.__module__ == "__main__":  # what is left of it would be found in the end, after much work perhaps
            raise _Beyond
        return NotImplemented

    def _by_value(self, function: FunctionType) -> tuple[Any, ...]:
        theirs = function.__globals__
        simple = not (function.__closure__ or function.__dict__ or getattr(function, "__type_params__", None))
        if not simple or theirs.get("__name__") != "__main__":
            raise _Beyond
        given = self._globals.setdefault(id(theirs), {name: theirs[name] for name in _OF_MODULE if name in theirs})
        used = {name: theirs[name] for name in _globals_of(function.__code__) if name in theirs}
        # A function may use itself, so it is made first and gets what it uses afterwards.
        made = marshal.dumps(function.__code__), given, function.__name__
        attributes = {name: getattr(function, name) for name in _ATTRIBUTES}
        return _function, made, (used, attributes, _submodules(function.__code__, used.values())), None, None, _complete


def _by_name(module: ModuleType) -> tuple[Any, ...]:
    if module.__name__ == "__main__" or sys.modules.get(module.__name__) is not module:
        raise _Beyond
    return _module, (module.__name__,)


def _codes(code: CodeType) -> Iterable[CodeType]:
    """`code`, and that of the functions in it."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _codes(const)


def _globals_of(code: CodeType) -> list[str]:
    """The names of the globals that `code` uses."""
    import dis  # what reads pickles does without

    told = (one for each in _codes(code) for one in dis.get_instructions(each) if one.opname in _GLOBAL)
    return sorted({one.argval for one in told} - {"__name__", "__builtins__"})  # each has them anyway


def _submodules(code: CodeType, used: Iterable[object]) -> list[ModuleType]:
    """The modules that `code` reaches as attributes of the packages in `used`: nothing else would import them."""
    names = {name for each in _codes(code) for name in each.co_names}
    packages = tuple(f"{one.__name__}." for one in used if isinstance(one, ModuleType))
    return [
        module
        for name, module in sorted(sys.modules.items(), key=lambda item: item[0])
        for package in packages
        if name.startswith(package) and names.issuperset(name[len(package) :].split("."))
    ]


def _module(name: str) -> ModuleType:
    __import__(name)
    return sys.modules[name]


def _function(code: bytes, given: dict[str, Any], name: str) -> FunctionType:
    given.update(__builtins__=builtins, __name__="__main__")
    return FunctionType(marshal.loads(code), given, name)


def _complete(function: FunctionType, state: tuple[dict[str, Any], dict[str, Any], list[ModuleType]]) -> None:
    used, attributes, _ = state
    function.__globals__.update(used)
    for name, value in attributes.items():
        setattr(function, name, value)
