"""Uses the reference service (refsvc.py) as Python programs do, and says what did not come out as it should.

    scenarios.py ADDRESS [--server SERVER] [--only NAME]... [--without NAME]... [--authority FILE]

ADDRESS is rpyc://HOST:PORT, rpyc+unix:PATH, rpyc+ssl://HOST:PORT (with the certificate to trust as --authority)
or rpyc+exec:PROGRAM ARGUMENT... for a peer on the standard streams of a child. SERVER, by default ref, is how the
peer is configured (serve.py). Every scenario has a connection of its own and prints one line: `ok NAME`, or
`FAIL NAME: why`, or `skip NAME: why` where this version of RPyC has no such thing. Ends with 1 if one failed.

The client is the RPyC that is installed, used through what it documents alone.
"""

import argparse
import collections.abc
import gc
import shlex
import ssl
import sys
import threading
import time
import traceback

import rpyc
from rpyc.core import consts
from rpyc.core.vinegar import GenericException
from rpyc.utils.classic import deliver, obtain

VERSION = tuple(map(int, rpyc.version.version))
SCENARIOS = []


def scenario(server="ref", since=(0,)):
    """Registers a function under its name, for the servers of that kind."""

    def register(function):
        name = function.__name__.strip("_").replace("_", "-")
        SCENARIOS.append((name, server, since, function))
        return function

    return register


class Peer:
    """Where the peer is; connects to it, and closes what was connected."""

    def __init__(self, address, authority):
        scheme, _, self.rest = address.partition(":")
        self.medium = scheme.partition("+")[2] or "tcp"
        self.authority = authority
        self.connections = []

    def connect(self, service=rpyc.VoidService, config=()):
        config = dict(config)
        if self.medium == "unix":
            made = rpyc.utils.factory.unix_connect(self.rest, service=service, config=config)
        elif self.medium == "exec":
            made = rpyc.utils.factory.connect_subproc(shlex.split(self.rest), service=service, config=config)
        else:
            host, port = self.rest.lstrip("/").rsplit(":", 1)
            if self.medium == "ssl":
                # Version 4 would ask for TLS 1.0.
                modern = {"ssl_version": ssl.PROTOCOL_TLS} if VERSION < (5,) else {}
                made = rpyc.ssl_connect(
                    host, int(port), ca_certs=self.authority, service=service, config=config, **modern
                )
            else:
                made = rpyc.connect(host, int(port), service=service, config=config)
        self.connections.append(made)
        return made

    def close(self):
        for connection in self.connections:
            connection.close()


def equal(left, right):
    """Equal in type and text too: 0.0 is not -0.0, True is not 1."""
    assert type(left) is type(right) and repr(left) == repr(right), "%r is not %r" % (left, right)


def raises(error, function, *args, **kwargs):
    """Runs it, and returns how it failed."""
    try:
        result = function(*args, **kwargs)
    except error as failure:
        return failure
    raise AssertionError("%r instead of %s" % (result, error.__name__))


# What a peer is, and values


@scenario()
def getroot(peer):
    conn = peer.connect()
    assert conn.root is conn.root


@scenario()
def service_name(peer):
    root = peer.connect().root
    equal(root.get_service_name(), "REF")
    equal(root.get_service_aliases(), ("REF",))


@scenario()
def call_int(peer):
    equal(peer.connect().root.add(3, 4), 7)


@scenario()
def call_kwargs(peer):
    root = peer.connect().root
    equal(root.add(3, b=5), 8)
    equal(root.add(b=5, a=2), 7)
    equal(root.add(3), 13)
    kw = root.kw
    equal(kw(1, "two", z=3, y=b"4"), ((1, "two"), (("y", b"4"), ("z", 3))))
    equal(kw(), ((), ()))


@scenario()
def echo_values(peer):
    echo = peer.connect().root.echo
    numbers = [5, -48, 159, -49, 160, 2**63, 10**40, -(10**40), -1, 0, 1.5, -0.0, 1e300, float("inf"), float("nan")]
    texts = ["", "a", "h\u00e9llo", "\U0001f600", "x" * 300]
    blobs = [b"", b"a", b"ab", b"abc", b"abcd", b"abcde", bytes(300)]
    tuples = [tuple(range(n)) for n in (0, 1, 2, 3, 4, 5, 300)] + [((1, ("n", (None,))),)]
    others = [2 - 3.5j, True, False, None, Ellipsis, NotImplemented, slice(1, None, 2), frozenset([7])]
    for value in numbers + texts + blobs + tuples + others:
        equal(echo(value), value)


@scenario()
def mixed_tuple(peer):
    root = peer.connect().root
    text, made = root.pair(2)
    equal(text, "by-value")
    equal(len(made), 2)
    one, same, x = root.echo((1, made, "x"))
    equal((one, list(same), x), (1, [0, 1], "x"))
    mine = [1]
    assert root.echo((mine, (mine,)))[1][0] is mine
    point = root.make_point(3, 4)
    assert root.echo((point, (point,)))[1][0] is point


@scenario()
def ping(peer):
    conn = peer.connect()
    conn.ping()
    conn.ping(b"short")


@scenario()
def compressed(peer):
    echo = peer.connect().root.echo
    for value in ("a" * 100_000, bytes(range(256)) * 15, b"z" * 2900, bytes(range(256)) * 4096):
        assert echo(value) == value


@scenario()
def threshold(peer):
    conn = peer.connect()
    for size in range(2970, 3010):
        conn.ping(b"q" * size)


# References


@scenario()
def list_argument(peer):
    equal(peer.connect().root.total([10, 20, 30]), 60)


@scenario()
def iterable_arguments(peer):
    root = peer.connect().root
    equal(root.total((1, 2, 3)), 6)
    equal(root.total(range(4)), 6)
    equal(root.total(root.make_list(4)), 6)


@scenario()
def iterator_argument(peer):
    equal(peer.connect().root.total(n for n in range(4)), 6)


@scenario()
def remote_list(peer):
    made = peer.connect().root.make_list(3)
    equal(len(made), 3)
    equal(made[1], 1)
    assert 2 in made and 5 not in made
    equal(list(made), [0, 1, 2])
    made[0] = 9
    equal(made[0], 9)
    del made[2]
    equal(str(made), "[9, 1]")
    raises(IndexError, lambda: made[99])


@scenario()
def remote_dict(peer):
    made = peer.connect().root.make_dict()
    equal(made["a"], 1)
    assert "b" in made and "c" not in made
    equal(len(made), 2)
    equal(list(made), ["a", "b"])
    equal(list(made["b"]), [2, 3])
    equal(raises(KeyError, lambda: made["zz"]).args, ("zz",))


@scenario()
def container_policy(peer):
    """Whoever shows more of a container than its special methods has another policy."""
    root = peer.connect().root
    raises(AttributeError, lambda: root.make_dict().items)
    raises(AttributeError, lambda: root.make_list(1).append)


@scenario()
def slices(peer):
    made = peer.connect().root.make_list(5)
    equal(str(made[1:3]), "[1, 2]")
    equal(str(made[::-2]), "[4, 2, 0]")


@scenario()
def identity(peer):
    root = peer.connect().root
    mine = [1]
    assert root.keep(mine) is mine
    point = root.make_point(3, 4)
    assert root.keep(point) is point
    assert root.kept() is point
    assert root.drop() is None
    assert root.kept() is None


@scenario()
def container_identity(peer):
    """Whoever takes its own containers by value when they come home has others of them then."""
    root = peer.connect().root
    made = root.make_list(1)
    assert root.keep(made) is made
    assert root.kept() is made
    assert root.echo((1, made))[1] is made


@scenario()
def refcounts(peer):
    root = peer.connect().root
    live = root.live
    before = live()
    made = root.make_point(3, 4)
    copies = [root.keep(made), root.kept(), root.kept()]
    equal(live(), before + 1)
    root.drop()
    equal(live(), before + 1)
    equal(copies[2].x, 3)
    del made, copies
    gc.collect()
    equal(live(), before)


@scenario()
def many_objects(peer):
    root = peer.connect().root
    live = root.live
    before = live()
    made = [root.make_list(n) for n in range(100)]
    equal(live(), before + 100)
    assert [len(one) for one in made] == list(range(100))
    del made[::2]
    gc.collect()
    equal(live(), before + 50)
    assert [len(one) for one in made] == list(range(1, 100, 2))
    del made
    gc.collect()
    equal(live(), before)


@scenario()
def proxies_as_keys(peer):
    root = peer.connect().root
    one, other, same = root.make_point(3, 4), root.make_point(5, 6), root.make_point(3, 4)
    assert {one: 1, other: 2}[same] == 1
    assert len({one, other, same}) == 2
    raises(TypeError, hash, root.make_list(1))


# Calls in both directions


@scenario()
def callback(peer):
    equal(peer.connect().root.call(lambda a, b: a * b, 6, 7), 42)


@scenario()
def callback_raises(peer):
    def fail(_):
        raise ZeroDivisionError("from the client", 1)

    error = raises(ZeroDivisionError, peer.connect().root.call, fail, 1)
    equal(error.args, ("from the client", 1))


@scenario()
def callback_of_theirs(peer):
    """A method of the peer's own, handed back to it."""
    root = peer.connect().root
    equal(root.call(root.add, 3, 4), 7)


@scenario()
def no_callback(peer):
    """A number is no object, whatever else comes with it."""
    root, called = peer.connect().root, []
    raises(TypeError, root.call, 0, called.append)
    raises(TypeError, root.call, 5)
    equal(called, [])


@scenario()
def recursion(peer):
    def bounce(recurse, function, n):
        return recurse(function, n) + 1

    root = peer.connect().root
    equal(root.recurse(bounce, 3), 3)
    equal(root.recurse(bounce, 20), 20)


@scenario()
def symmetric_root(peer):
    equal(peer.connect(service=Hello).root.ask_root(), "hello from the server")


class Hello(rpyc.Service):
    def exposed_hello(self, text):
        return "hello " + text


@scenario()
def events(peer):
    conn = peer.connect()
    got = []
    equal(conn.root.events(got.append, 3), 3)
    for _ in range(100):
        if len(got) < 3:
            conn.serve(1)
    equal(got, [0, 1, 2])


@scenario()
def background(peer):
    conn = peer.connect()
    got, all_there = [], threading.Event()

    def receive(i):
        got.append(i)
        if len(got) == 5:
            all_there.set()

    # By default it looks ten times in a second; version 4 cannot be told otherwise.
    hurry = {"serve_interval": 0.01, "sleep_interval": 0.01} if VERSION >= (5,) else {}
    thread = rpyc.BgServingThread(conn, **hurry)
    try:
        equal(conn.root.events(receive, 5), 5)
        assert all_there.wait(10), "only %r came" % got
        equal(got, list(range(5)))
    finally:
        thread.stop()


@scenario()
def chaining(peer):
    one, other = peer.connect(), peer.connect()
    equal(one.root.call(other.root.add, 3, 4), 7)
    made = other.root.make_list(3)
    equal(one.root.total(made), 3)
    assert one.root.keep(made) is made
    one.root.drop()


# Failures


@scenario()
def exception_builtin(peer):
    fail = peer.connect().root.fail
    equal(raises(ValueError, fail, "value").args, ("bad value", 5))
    error = raises(FileNotFoundError, fail, "os")
    equal((error.errno, error.filename), (2, "nowhere.txt"))
    equal(error.args, (2, "No such file or directory"))
    equal(raises(KeyError, fail, "key").args, ("missing",))
    equal(raises(ValueError, fail, "unicode").args, ("caf\u00e9 \U0001f600",))


@scenario()
def exception_custom(peer):
    error = raises(GenericException, peer.connect().root.fail, "custom")
    equal(type(error).__name__, "refsvc.PointError")
    equal(error.args, ("off the map", 404))
    equal(error.code, 404)
    equal(error.where, "[1, 2]")


@scenario()
def exception_stop(peer):
    fail = peer.connect().root.fail
    raises(StopIteration, fail, "stop")
    equal(raises(GeneratorExit, fail, "generator").args, ("bye",))


@scenario()
def exception_natural(peer):
    root = peer.connect().root
    raises(TypeError, root.add, 1, "x")
    raises(TypeError, root.add)
    raises(TypeError, root.add, 1, 2, 3)
    raises(TypeError, root.add, 1, c=2)
    raises(ZeroDivisionError, root.call, lambda: 1 // 0)
    equal(root.add(3, 4), 7)


@scenario()
def remote_traceback(peer):
    error = raises(ValueError, peer.connect().root.fail, "value")
    assert "Remote Traceback (1)" in str(error), str(error)


@scenario()
def system_exit(peer):
    equal(raises(SystemExit, peer.connect().root.fail, "exit").code, 3)


# Attributes


@scenario()
def exposed_prefix(peer):
    root = peer.connect().root
    equal(root.exposed_add(3, 4), 7)
    equal(root.version, 7)
    equal(root.exposed_version, 7)
    point = root.make_point(3, 4)
    equal((point.x, point.exposed_x, point.exposed_norm2()), (3, 3, 25))


@scenario()
def access_denied(peer):
    root = peer.connect().root
    point = root.make_point(3, 4)
    for name in ("_secret", "hidden", "__dict__"):
        raises(AttributeError, getattr, point, name)
    raises(AttributeError, setattr, point, "x", 1)
    raises(AttributeError, delattr, point, "x")
    raises(AttributeError, getattr, root, "nothing")
    raises(AttributeError, setattr, root, "version", 1)
    equal(point.x, 3)


@scenario()
def hasattr_getattr(peer):
    root = peer.connect().root
    assert hasattr(root, "add") and not hasattr(root, "nothing")
    equal(getattr(root, "version", 0), 7)
    equal(getattr(root, "nothing", "default"), "default")


@scenario(server="public")
def setattr_delattr(peer):
    point = peer.connect().root.make_point(3, 4)
    point.x = 10
    equal(point.x, 10)
    point.note = "new"
    equal(point.note, "new")
    del point.note
    assert not hasattr(point, "note")
    equal(point.hidden(), "hidden")
    equal(point.kind, "point")
    raises(AttributeError, getattr, point, "_secret")


@scenario()
def own_policy(peer):
    bag = peer.connect().root.make_bag()
    equal(bag.a, 1)
    bag.c = 3
    equal(bag.c, 3)
    del bag.c
    raises(AttributeError, getattr, bag, "c")
    raises(AttributeError, getattr, bag, "_x")


class Mine:
    """An object of the client, which the client's own policy guards."""

    def __init__(self):
        self.exposed_open = 1
        self.closed = 2


@scenario()
def client_policy(peer):
    root, mine = peer.connect().root, Mine()
    equal(root.get(mine, "open"), 1)
    raises(AttributeError, root.get, mine, "closed")
    raises(AttributeError, root.set, mine, "open", 3)
    lenient = peer.connect(config={"allow_public_attrs": True, "allow_setattr": True}).root
    equal(lenient.get(mine, "closed"), 2)
    lenient.set(mine, "closed", 3)
    equal(mine.closed, 3)


@scenario()
def restricted(peer):
    root, mine = peer.connect().root, Mine()
    view = rpyc.restricted(mine, {"closed"}, {"closed"})
    equal(root.get(view, "closed"), 2)
    raises(AttributeError, root.get, view, "open")
    root.set(view, "closed", 4)
    equal(mine.closed, 4)
    raises(AttributeError, root.set, rpyc.restricted(mine, {"closed"}, set()), "closed", 5)


@scenario()
def properties(peer):
    root = peer.connect().root
    # RPyC reads it twice for one request where the name comes without the prefix.
    assert 0 < root.counter < root.counter < root.exposed_counter


@scenario()
def listing(peer):
    root = peer.connect().root
    for names, some in ((dir(root), ("add", "echo")), (dir(root.make_point(3, 4)), ("x", "norm2"))):
        for name in some:
            # With or without the prefix: both can be asked for.
            assert {name, "exposed_" + name} & set(names), names


@scenario()
def docstrings(peer):
    root = peer.connect().root
    equal(root.add.__doc__, "Adds two values.")
    equal(root.make_point(3, 4).norm2.__doc__, "Returns the square of its distance from the origin.")


# Objects of the peer's own classes


@scenario()
def custom_object(peer):
    root = peer.connect().root
    point = root.make_point(3, 4)
    equal(point.x, 3)
    equal(point.norm2(), 25)
    equal(str(point), "<3, 4>")
    same = root.make_point(3, 4)
    equal(hash(point), hash(same))
    assert point == same and not point != same
    equal(len(point), 2)
    equal(point[1], 4)
    equal((point + 1).x, 4)
    assert point.move(1) is point
    equal((point.x, point.y), (4, 4))
    point.move(0, dy=-1)
    equal(point.y, 3)


@scenario()
def custom_object_more(peer):
    root = peer.connect().root
    point = root.make_point(3, 4)
    equal(repr(point), "Point(3, 4)")
    assert point < root.make_point(5, 6) and root.make_point(5, 6) > point
    assert not point < root.make_point(3, 4)


@scenario()
def numbers(peer):
    number = peer.connect().root.make_number(6)
    equal(int(number), 6)
    equal(float(number), 6.0)
    equal("abcdefgh"[number], "g")
    assert number
    equal(int(-number), -6)
    equal(int(number - 2), 4)
    equal(int(2 - number), -4)
    equal(number(1, 2), 9)
    assert callable(number)
    equal(repr(number), "Number(6)")
    assert number < 7 and not number < 6


@scenario()
def truth(peer):
    root = peer.connect().root
    assert root.make_list(1) and not root.make_list(0)
    assert root.make_number(1) and not root.make_number(0)
    assert root


@scenario()
def compare_other(peer):
    made = peer.connect().root.make_list(2)
    assert not made == 5
    assert made != [9]
    assert made == made
    raises(TypeError, lambda: made < 5)


@scenario()
def class_proxy(peer):
    root = peer.connect().root
    point = root.Point(1, 2)
    equal(point.x, 1)
    assert isinstance(point, root.Point)
    assert isinstance(root.make_point(3, 4), root.Point)
    raises(AttributeError, getattr, root.Point, "kind")


@scenario()
def instancecheck(peer):
    root = peer.connect().root
    assert not isinstance(root.make_list(1), root.Point)
    assert not isinstance(root.make_number(1), root.Point)


@scenario()
def instancecheck_over_there(peer):
    root = peer.connect().root
    equal(root.instance(root.make_list(1), list), True)
    equal(root.instance([], list), True)


@scenario()
def local_types(peer):
    root = peer.connect().root
    made = root.make_list(1)
    assert isinstance(made, list) and isinstance(made, collections.abc.Sequence)
    assert not isinstance(made, dict)
    assert isinstance(root.make_dict(), dict)
    assert not isinstance(root.make_point(3, 4), list)


@scenario(since=(5,))
def abstract_types(peer):
    root = peer.connect().root
    assert isinstance(root.make_gen(1), collections.abc.Iterator)
    assert isinstance(root.add, collections.abc.Callable)


# Iteration and contexts


@scenario()
def generator(peer):
    root = peer.connect().root
    equal(list(root.make_gen(3)), [0, 1, 4])
    made = root.make_gen(3)
    assert iter(made) is made
    equal(next(made), 0)
    equal(sum(made), 5)
    raises(StopIteration, next, made)
    equal(next(made, "end"), "end")


@scenario()
def buffiter(peer):
    root = peer.connect().root
    squares = [n * n for n in range(25)]
    equal(list(rpyc.buffiter(root.make_gen(25), 4, 1000, 3)), squares)


@scenario()
def buffiter_list(peer):
    root = peer.connect().root
    equal(list(rpyc.buffiter(root.make_list(1000), 100)), list(range(1000)))


@scenario()
def async_iteration(peer):
    items = iter(peer.connect().root.make_list(1000))
    following = rpyc.async_(items.__next__)
    results = [following() for _ in range(300)]
    equal([result.value for result in results], list(range(300)))


@scenario()
def series(peer):
    made = peer.connect().root.make_series(1000)
    equal(len(made), 1000)
    equal(made[5], 5)
    equal(list(made), list(range(1000)))
    equal(list(rpyc.buffiter(made, 100)), list(range(1000)))
    items = iter(made)
    equal([next(items), next(items)], [0, 1])


@scenario()
def series_ends(peer):
    made = peer.connect().root.make_series(5)
    raises(IndexError, lambda: made[5])


@scenario()
def async_series(peer):
    """No element is given twice, however many are asked for at once."""
    items = iter(peer.connect().root.make_series(1000))
    following = rpyc.async_(items.__next__)
    results = [following() for _ in range(200)]
    equal([result.value for result in results], list(range(200)))


@scenario()
def context_manager(peer):
    root = peer.connect().root
    with root.ctx("a") as name:
        equal(name, "A")
    equal(root.ctx_log(), ("enter a", "exit a"))


@scenario()
def context_manager_error(peer):
    root = peer.connect().root

    def fail():
        with root.ctx("b"):
            raise ValueError("in the body")

    equal(raises(ValueError, fail).args, ("in the body",))
    enter, error, leave = root.ctx_log()
    equal((enter, leave), ("enter b", "exit b"))
    # RPyC gives its services a TypeError, whatever it was. A peer may know better.
    assert error in ("error TypeError", "error ValueError"), error


# What is not waited for


@scenario()
def async_(peer):
    conn = peer.connect()
    echo = rpyc.async_(conn.root.echo)
    results = [echo(n) for n in (1, 2, 3)]
    equal([result.value for result in results], [1, 2, 3])
    called = []
    result = echo("later")
    result.add_callback(called.append)
    result.wait()
    assert result.ready and not result.error and not result.expired
    assert called == [result]


@scenario()
def async_exception(peer):
    conn = peer.connect()
    # It is known weakly, and must be held.
    fail = rpyc.async_(conn.root.fail)
    result = fail("value")
    result.wait()
    assert result.ready and result.error
    equal(raises(ValueError, lambda: result.value).args, ("bad value", 5))


@scenario()
def async_many(peer):
    conn = peer.connect()
    echo = rpyc.async_(conn.root.echo)
    results = [echo(n) for n in range(100)]
    equal([result.value for result in results], list(range(100)))


@scenario()
def timeout(peer):
    root = peer.connect().root
    late, results = rpyc.timed(root.call, 0.01), []

    def outlast():
        while not results[0].expired:
            time.sleep(0.001)

    results.append(late(outlast))
    raises(rpyc.AsyncResultTimeout, results[0].wait)
    assert results[0].expired
    # The reply comes all the same, and is nobody's.
    equal(root.echo("after"), "after")
    in_time = rpyc.timed(root.sleep, 20)
    equal(in_time(0.0).value, 0.0)


@scenario()
def sync_timeout(peer):
    conn = peer.connect()
    call, echo = conn.root.call, conn.root.echo
    conn._config["sync_request_timeout"] = 0.01
    raises(rpyc.AsyncResultTimeout, call, lambda: time.sleep(0.02))
    conn._config["sync_request_timeout"] = 30
    equal(echo("after"), "after")


@scenario()
def threads(peer, calls=10_000, of=16):
    echo = peer.connect(config={"sync_request_timeout": 60}).root.echo
    wrong = []

    def work(first):
        try:
            for n in range(first, calls, of):
                if echo(n) != n:
                    wrong.append(n)
        except BaseException as error:
            wrong.append(error)

    working = [threading.Thread(target=work, args=(first,)) for first in range(of)]
    for one in working:
        one.start()
    for one in working:
        one.join()
    assert not wrong, wrong[:5]


# What no Python program asks for, and what ends it


@scenario()
def bad_request(peer):
    conn = peer.connect()
    raises(KeyError, conn.sync_request, 99)
    raises(TypeError, conn.sync_request, consts.HANDLE_PING)
    raises(KeyError, conn.sync_request, consts.HANDLE_INSPECT, ("no.such", 1, 2))
    equal(conn.root.echo(1), 1)


@scenario()
def oldslicing(peer):
    conn = peer.connect()
    made = conn.root.make_list(5)
    part = conn.sync_request(consts.HANDLE_OLDSLICING, made, "__getitem__", "__getslice__", 1, 3, ())
    equal(str(part), "[1, 2]")


@scenario()
def pickle_denied(peer):
    raises(ValueError, obtain, peer.connect().root.make_list(3))


@scenario(server="pickle")
def pickle(peer):
    equal(obtain(peer.connect().root.make_list(3)), [0, 1, 2])


@scenario()
def close(peer):
    conn = peer.connect()
    root = conn.root
    equal(root.echo(1), 1)
    conn.close()
    assert conn.closed
    conn.close()
    raises(EOFError, lambda: root.echo)
    with peer.connect() as other:
        equal(other.root.echo(2), 2)
    assert other.closed


@scenario(server="bound", since=(5, 3, 1))
def bind_threads(peer):
    root = peer.connect(config={"bind_threads": True}).root
    equal(root.call(lambda n: n + 1, 1), 2)
    working = [threading.Thread(target=root.echo, args=(n,)) for n in range(4)]
    for one in working:
        one.start()
    for one in working:
        one.join()


# The classic mode, in which the peer is an interpreter


@scenario(server="classic")
def classic_connect(peer):
    conn = peer.connect(service=rpyc.ClassicService)
    equal(conn.builtins.len("abc"), 3)


@scenario(server="classic")
def classic_modules(peer):
    conn = peer.connect(service=rpyc.ClassicService)
    equal(conn.modules.os.path.join("a", "b"), "a/b")
    equal(conn.modules["xml.dom.minidom"].Node.TEXT_NODE, 3)
    equal(conn.modules.string.digits, "0123456789")
    equal(conn.modules.sys.maxsize, sys.maxsize)
    assert "no_such_module" not in conn.modules


@scenario(server="classic")
def classic_execute(peer):
    conn = peer.connect(service=rpyc.ClassicService)
    conn.execute("x = 5")
    equal(conn.eval("x + 2"), 7)
    equal(conn.namespace["x"], 5)
    conn.namespace["y"] = 6
    equal(conn.eval("y"), 6)
    equal(raises(ZeroDivisionError, conn.eval, "1/0").args, ("division by zero",))


# Version 4 takes the code apart as Pythons before 3.11 had it.
@scenario(server="classic", since=(5,))
def classic_teleport(peer):
    def twice(a, b=2):
        return a * b

    equal(peer.connect(service=rpyc.ClassicService).teleport(twice)(21), 42)


@scenario(server="classic")
def classic_deliver(peer):
    conn = peer.connect(service=rpyc.ClassicService)
    there = deliver(conn, [1, {"k": 2}])
    equal(there[1]["k"], 2)
    equal(obtain(there), [1, {"k": 2}])


def run(name, since, function, address, authority):
    """Runs one of them; whether it did not fail."""
    if VERSION < since:
        print("skip %s: since RPyC %s" % (name, ".".join(map(str, since))), flush=True)
        return True
    peer = Peer(address, authority)
    try:
        function(peer)
        peer.close()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)
        line = max(frame.lineno for frame in where if frame.filename == __file__ and frame.name != "run")
        print("FAIL %s: line %d: %s: %s" % (name, line, type(error).__name__, error), flush=True)
        return False
    print("ok %s" % name, flush=True)
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--server", default="ref")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--without", action="append", default=[])
    parser.add_argument("--authority")
    parser.add_argument("--version", action="version", version=".".join(map(str, VERSION)))
    given = parser.parse_args()
    known = {name for name, *_ in SCENARIOS}
    unknown = (set(given.only) | set(given.without)) - known
    if unknown:
        parser.error("no such scenario: " + ", ".join(sorted(unknown)))
    chosen = [
        (name, since, function)
        for name, server, since, function in SCENARIOS
        if server == given.server and name not in given.without and (not given.only or name in given.only)
    ]
    if not chosen:
        parser.error("there is no scenario for that")
    results = [run(name, since, function, given.address, given.authority) for name, since, function in chosen]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
