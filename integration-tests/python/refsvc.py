"""The reference service: what a peer offers to the tests, one method for each way of using RPyC.

Python serves it from here (serve.py); a peer in another language offers the same under the same names.
Nothing in here knows how it is served, nor in which version of RPyC.
"""

import time
from contextlib import contextmanager

import rpyc


class PointError(Exception):
    """A failure that no client knows by its class; one attribute goes by value, the other as text."""

    def __init__(self, message, code, where):
        super().__init__(message, code)
        self.code = code
        self.where = where


class Point:
    """A point of the plane: operators, comparison, and names that may not be read."""

    kind = "point"

    def __init__(self, x, y):
        self.exposed_x = x
        self.exposed_y = y
        self._secret = "secret"

    def exposed_norm2(self):
        """Returns the square of its distance from the origin."""
        return self.exposed_x**2 + self.exposed_y**2

    def exposed_move(self, dx, dy=0):
        """Moves it, and returns itself."""
        self.exposed_x += dx
        self.exposed_y += dy
        return self

    def hidden(self):
        return "hidden"

    def _both(self):
        return (self.exposed_x, self.exposed_y)

    def __add__(self, by):
        return Point(self.exposed_x + by, self.exposed_y + by)

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self._both()[index]

    def __eq__(self, other):
        return self._both() == other._both() if isinstance(other, Point) else NotImplemented

    def __lt__(self, other):
        if not isinstance(other, Point):
            return NotImplemented
        return self.exposed_norm2() < other.exposed_norm2()

    def __hash__(self):
        return hash(self._both())

    def __str__(self):
        return "<%r, %r>" % self._both()

    def __repr__(self):
        return "Point(%r, %r)" % self._both()


class Bag:
    """An object with an attribute policy of its own."""

    def __init__(self):
        self._held = {"a": 1}

    def _rpyc_getattr(self, name):
        if name.startswith("_") or name not in self._held:
            raise AttributeError("no " + name)
        return self._held[name]

    def _rpyc_setattr(self, name, value):
        self._held[name] = value

    def _rpyc_delattr(self, name):
        del self._held[name]


class Number:
    """A number: conversions, arithmetic from both sides, order, truth, and a call."""

    def __init__(self, value):
        self._value = value

    def __int__(self):
        return self._value

    def __float__(self):
        return float(self._value)

    def __index__(self):
        return self._value

    def __bool__(self):
        return self._value != 0

    def __lt__(self, other):
        return self._value < (other._value if isinstance(other, Number) else other)

    def __neg__(self):
        return Number(-self._value)

    def __sub__(self, other):
        return Number(self._value - other)

    def __rsub__(self, other):
        return Number(other - self._value)

    def __call__(self, *more):
        return self._value + sum(more)

    def __repr__(self):
        return "Number(%r)" % self._value


class Series:
    """Numbers that are looked at in place: each by its index, or one after the other."""

    def __init__(self, n):
        self._numbers = list(range(n))

    def __len__(self):
        return len(self._numbers)

    def __getitem__(self, index):
        return self._numbers[index]

    def __iter__(self):
        return iter(self._numbers)


class RefService(rpyc.Service):
    """The service; one instance for each connection."""

    exposed_version = 7
    exposed_Point = Point

    def __init__(self):
        super().__init__()
        self._conn = None
        self._kept = None
        self._log = []
        self._counted = 0

    def on_connect(self, conn):
        self._conn = conn

    def exposed_echo(self, value):
        """Returns what it is given."""
        return value

    def exposed_add(self, a, b=10):
        """Adds two values."""
        return a + b

    def exposed_kw(self, *args, **kwargs):
        """Returns its arguments, those with names in the order of the names."""
        return args, tuple(sorted(kwargs.items()))

    def exposed_none(self):
        return None

    def exposed_make_list(self, n):
        return list(range(n))

    def exposed_make_dict(self):
        return {"a": 1, "b": [2, 3]}

    def exposed_make_point(self, x, y):
        return Point(x, y)

    def exposed_make_bag(self):
        return Bag()

    def exposed_make_number(self, n):
        return Number(n)

    def exposed_make_series(self, n):
        return Series(n)

    def exposed_make_gen(self, n):
        """Yields the first n squares."""
        return (i * i for i in range(n))

    def exposed_pair(self, n):
        """Returns a tuple of a value and a reference."""
        return "by-value", list(range(n))

    def exposed_keep(self, value):
        """Keeps it until `drop`, and returns it."""
        self._kept = value
        return value

    def exposed_kept(self):
        return self._kept

    def exposed_drop(self):
        self._kept = None

    def exposed_live(self):
        """Counts what this side holds for the peer beside the service itself."""
        held = list(self._conn._local_objects._dict.values())
        return sum(1 for slot in held if slot[0] is not self)

    @property
    def exposed_counter(self):
        """Counts how often it was read."""
        self._counted += 1
        return self._counted

    def exposed_total(self, items):
        """Adds what it iterates over."""
        return sum(items)

    def exposed_call(self, function, *args):
        return function(*args)

    def exposed_recurse(self, function, n):
        """Has itself called by the peer, until n is 0."""
        return n if n == 0 else function(self.exposed_recurse, function, n - 1)

    def exposed_get(self, holder, name):
        """Reads an attribute of the peer's object."""
        return getattr(holder, name)

    def exposed_set(self, holder, name, value):
        """Sets an attribute of the peer's object."""
        setattr(holder, name, value)

    def exposed_events(self, function, n):
        """Calls it n times without waiting for what it returns."""
        fire = rpyc.async_(function)
        for i in range(n):
            fire(i)
        return n

    def exposed_ask_root(self):
        """Calls the peer's own service."""
        return self._conn.root.hello("from the server")

    def exposed_instance(self, value, of):
        return isinstance(value, of)

    def exposed_fail(self, how):
        """Fails in the way that is asked for."""
        if how == "value":
            raise ValueError("bad value", 5)
        if how == "os":
            raise FileNotFoundError(2, "No such file or directory", "nowhere.txt")
        if how == "key":
            raise KeyError("missing")
        if how == "unicode":
            raise ValueError("caf\u00e9 \U0001f600")
        if how == "custom":
            raise PointError("off the map", 404, [1, 2])
        if how == "stop":
            raise StopIteration
        if how == "generator":
            raise GeneratorExit("bye")
        if how == "exit":
            raise SystemExit(3)
        raise ValueError("no such failure", how)

    @contextmanager
    def exposed_ctx(self, name):
        """A context that is written down where it begins and ends."""
        self._log.append("enter " + name)
        try:
            yield name.upper()
        except BaseException as error:
            self._log.append("error " + type(error).__name__)
            raise
        finally:
            self._log.append("exit " + name)

    def exposed_ctx_log(self):
        """Returns what contexts wrote since it was last asked."""
        log, self._log = tuple(self._log), []
        return log

    def exposed_sleep(self, seconds):
        time.sleep(seconds)
        return seconds
