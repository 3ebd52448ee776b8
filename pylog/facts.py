"""NamedTuple and IntEnum for modules that a broker imports when it starts: those of the standard library, but light.

Keeps true: a type checker sees the real ones, and what is written with these behaves as with those (the tests compare
them): facts are tuples with named fields, defaults, properties and methods; members are integers with a name, one per
value. A class costs a third of what `typing.NamedTuple` and a tenth of what `enum.IntEnum` take to build it, which
together would be a third of a broker's start. Not here: functional forms, flags, changing how a member is looked up.

A module that makes facts begins with `from __future__ import annotations`: only the names of the fields are read.
"""

from __future__ import annotations

from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from enum import IntEnum as IntEnum
    from typing import NamedTuple as NamedTuple
else:
    from _collections import _tuplegetter

    _tuple_new = tuple.__new__
    _MANY = 500  # facts of one class: from here on it is worth to have a function made that makes them

    class _FactType(type):
        """Turns a class body into a tuple class: a descriptor per annotated name, and what collections.namedtuple
        gives."""

        def __new__(mcs, name, bases, namespace):
            if bases[0].__base__ is not tuple:  # the base itself, or a class made from a fact
                return type.__new__(mcs, name, bases, namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = {field: namespace[field] for field in fields if field in namespace}
            if tuple(defaults) != fields[len(fields) - len(defaults) :]:
                raise TypeError(f"{name}: a field without a default follows one with a default")
            for index, field in enumerate(fields):
                if field[0] == "_":
                    raise ValueError(f"{name}: a field's name cannot start with an underscore: {field}")
                namespace[field] = _tuplegetter(index, None)
            namespace["__slots__"] = ()
            namespace["__match_args__"] = namespace["_fields"] = fields
            namespace["_field_defaults"] = defaults
            namespace["_made"] = [0]
            return type.__new__(mcs, name, bases, namespace)

        @property
        def __signature__(cls):
            """What the class takes, for whoever asks: help(), tools, generators of test data."""
            from inspect import Parameter, Signature

            kind, defaults = Parameter.POSITIONAL_OR_KEYWORD, cls._field_defaults
            return Signature(
                Parameter(
                    field, kind, default=defaults.get(field, Parameter.empty), annotation=cls.__annotations__[field]
                )
                for field in cls._fields
            )

    def _arranged(cls, values, named):
        """The values of all fields, in order, from those given by position, by name and by default."""
        defaults, missing = cls._field_defaults, len(cls._fields) - len(values)
        if not named and 0 < missing <= len(defaults):
            return values + tuple(defaults.values())[-missing:]
        if missing < 0:
            raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, {len(values)} values were given")
        rest = cls._fields[len(values) :]
        if not named.keys() <= set(rest):
            unknown = ", ".join(name for name in named if name not in rest)
            raise TypeError(f"{cls.__name__}: no such field, or given twice: {unknown}")
        try:
            return values + tuple(map({**defaults, **named}.__getitem__, rest))
        except KeyError as error:
            raise TypeError(f"{cls.__name__}: no value for {error}") from None

    def _hasten(cls):
        """A class of which many are made takes the `__new__` that the standard library compiles for its fields: it
        costs a fraction of a millisecond, and halves what each fact costs from then on."""
        from collections import namedtuple

        cls = next(each for each in cls.__mro__ if "_made" in each.__dict__)  # not one that was made from it
        cls.__new__ = namedtuple(cls.__name__, cls._fields, defaults=cls._field_defaults.values()).__new__

    class NamedTuple(tuple, metaclass=_FactType):
        """The base of facts."""

        __slots__ = ()

        def __new__(cls, /, *values, **named):
            if named or len(values) != len(cls._fields):
                values = _arranged(cls, values, named)
            made = cls._made
            made[0] += 1
            if made[0] == _MANY:
                _hasten(cls)
            return _tuple_new(cls, values)

        @classmethod
        def _make(cls, iterable):
            made = _tuple_new(cls, iterable)
            if len(made) != len(cls._fields):
                raise TypeError(f"{cls.__name__} has {len(cls._fields)} fields, {len(made)} values were given")
            return made

        def _replace(self, /, **named):
            made = self._make(map(named.pop, self._fields, self))
            if named:
                raise ValueError(f"{type(self).__name__} has no field {', '.join(named)}")
            return made

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(map('%s=%r'.__mod__, zip(self._fields, self, strict=True)))})"

    class _EnumType(type):
        """Makes the public integers of a class body members of the class."""

        def __new__(mcs, name, bases, namespace):
            values = {key: value for key, value in namespace.items() if type(value) is int and key[0] != "_"}
            cls = type.__new__(mcs, name, bases, namespace)
            cls._by_value, cls._by_name = by_value, by_name = {}, {}
            for key, value in values.items():
                member = by_value.get(value)
                if member is None:
                    member = by_value[value] = int.__new__(cls, value)
                    member.name, member.value = key, value
                by_name[key] = member
                setattr(cls, key, member)
            return cls

        def __call__(cls, value):
            try:
                return cls._by_value[value]
            except (KeyError, TypeError):
                raise ValueError(f"{value!r} is not a valid {cls.__name__}") from None

        def __getitem__(cls, name):
            return cls._by_name[name]

        def __iter__(cls):
            return iter(cls._by_value.values())

        def __len__(cls):
            return len(cls._by_value)

        def __contains__(cls, value):
            return isinstance(value, cls) or value in cls._by_value

    class IntEnum(int, metaclass=_EnumType):
        """The base of numbered names."""

        def __repr__(self):
            return f"<{type(self).__name__}.{self.name}: {self.value}>"

        __str__ = int.__repr__

        def __reduce__(self):
            return type(self), (self.value,)
