//! Python peers: interpreters and services of RPyC, explored and called, and what is shown to Python.

use farref::transport::{Address, Dialect};
use farref_integration_tests::python::{Medium, Offer, Python, Served, Version};

use crate::kit::{Ran, run};

/// A Python server, and a home for the program.
struct Peer {
    _served: Served,
    address: String,
    home: tempfile::TempDir,
}

impl Peer {
    fn of(python: &Python, offer: Offer) -> Self {
        let served = python.serve(offer, Medium::Unix);
        let address: Address = served.address().to_string().parse().unwrap();
        Self {
            _served: served,
            address: address.with_dialect(Dialect::Rpyc).to_string(),
            home: tempfile::tempdir().unwrap(),
        }
    }

    /// The program with `@` for the address.
    fn run(&self, arguments: &[&str]) -> Ran {
        self.feed(arguments, "")
    }

    fn feed(&self, arguments: &[&str], input: &str) -> Ran {
        let arguments: Vec<_> = arguments
            .iter()
            .map(|argument| argument.replace('@', &self.address))
            .collect();
        run(self.home.path(), &arguments, input)
    }

    fn said(&self, lines: &str) -> String {
        self.feed(&["shell", "@"], lines).ok().to_owned()
    }
}

fn with_each(offer: Offer, run: impl Fn(&Peer)) {
    for python in Python::all() {
        run(&Peer::of(&python, offer));
    }
}

#[test]
fn functions_of_an_interpreter_are_called_by_their_names() {
    with_each(Offer::Classic, |peer| {
        let called = |arguments: &[&str]| {
            let arguments = [&["call", "@"], arguments].concat();
            peer.run(&arguments).ok().to_owned()
        };
        assert_eq!(called(&["os.path.basename", "/tmp/x.csv"]), "x.csv\n");
        assert_eq!(called(&["sorted", "[1, 3]", "reverse=True"]), "[3, 1]\n");
        assert_eq!(called(&["dict", "a=1", "b=None"]), "{'a': 1, 'b': None}\n");
        assert_eq!(
            called(&["dict", "a=1", "b=None", "--json"]),
            "{\"a\":1,\"b\":null}\n"
        );
        assert_eq!(called(&["divmod", "7", "2", "--json"]), "[3,1]\n");
        // What cannot be called is itself.
        assert_eq!(called(&["sys.byteorder"]), "little\n");
        assert!(called(&["sys.path"]).starts_with("['"));
        // A module within a module, which nobody has imported.
        assert_eq!(called(&["xml.sax.saxutils.escape", "<"]), "&lt;\n");

        let none = peer.run(&["call", "@", "nothing.at_all"]);
        assert!(none.failed(1).contains("Python knows no `nothing`"), "{none:?}");
    });
}

#[test]
fn an_exception_is_shown_as_in_python_and_its_traceback_on_demand() {
    with_each(Offer::Classic, |peer| {
        let brief = peer.run(&["call", "@", "json.loads", "{"]);
        let line = "`json.loads`: json.decoder.JSONDecodeError: Expecting property name";
        assert!(brief.failed(1).contains(line), "{brief:?}");
        assert!(
            brief.err.contains("-v") && !brief.err.contains("decoder.py"),
            "{brief:?}"
        );
        let full = peer.run(&["call", "@", "-v", "json.loads", "{"]);
        assert!(full.err.contains("decoder.py"), "{full:?}");
        // What RPyC does there is not where it went wrong.
        assert!(!full.err.contains("protocol.py"), "{full:?}");
    });
}

#[test]
fn a_shell_is_much_like_a_prompt_of_python() {
    with_each(Offer::Classic, |peer| {
        assert_eq!(peer.said("os.path.join(\"a\", \"b\")\n"), "\"a/b\"\n");
        assert_eq!(
            peer.said("d = dict(a = 1)\nd[\"a\"]\nd\nlen(d)\n"),
            "1\n{'a': 1}\n1\n"
        );
        assert_eq!(peer.said("keep = len\nkeep([1, 2])\n"), "2\n");
        assert_eq!(peer.said("execute(\"x = 20\")\nx\n"), "20\n");
        assert_eq!(peer.said("iter range(2)\n"), "0\n1\n");
        assert!(peer.said("doc os.path.join\n").contains("Join two or more"));
        let dir = peer.said("dir collections.OrderedDict()\n");
        assert!(dir.contains("move_to_end(..)"), "{dir}");
        let failed = peer.feed(&["shell", "@"], "1\nmath.sqrt(-1)\n");
        assert!(
            failed.err.contains("line 2: ValueError: math domain error"),
            "{failed:?}"
        );
    });
}

#[test]
fn a_service_shows_what_it_exposes() {
    with_each(Offer::Ref, |peer| {
        assert_eq!(peer.run(&["call", "@", "add", "3", "b=4"]).ok(), "7\n");
        assert_eq!(
            peer.run(&["call", "@", "make_list", "3", "--json"]).ok(),
            "[0,1,2]\n"
        );
        let shown = peer.run(&["call", "@"]);
        assert!(shown.ok().contains("fn add(..);"), "{shown:?}");
        let hidden = peer.run(&["call", "@", "__class__"]);
        assert!(
            hidden.failed(1).contains("cannot access '__class__'"),
            "{hidden:?}"
        );
    });
}

#[test]
fn nothing_that_does_harm_is_shown_to_a_python_that_proves_nothing() {
    let home = tempfile::tempdir().unwrap();
    for shown in ["--processes", "--everything", "--monitor", "--files=/tmp"] {
        let ran = run(home.path(), &["serve", "rpyc://127.0.0.1:0", shown], "");
        assert!(ran.failed(2).contains("--anyone"), "{ran:?}");
        assert!(ran.err.contains("rpyc+unix:"), "{ran:?}");
    }
}

#[test]
fn nobody_listens_there() {
    if Python::of(Version::Six).is_none() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let address = format!("rpyc+unix:{}/socket", home.path().display());
    let ran = run(home.path(), &["call", &address], "");
    assert!(ran.failed(3).contains("rpyc_classic"), "{ran:?}");
}

#[test]
fn what_speaks_something_else_is_told_from_what_is_not_there() {
    use std::io::{Read, Write};

    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("rpyc://{}", other.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut peer, _) = other.accept().unwrap();
        let _ = peer.read(&mut [0; 64]).unwrap();
        peer.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").unwrap();
    });
    let home = tempfile::tempdir().unwrap();
    let ran = run(home.path(), &["call", &address], "");
    answering.join().unwrap();
    let told = ran.failed(3);
    assert!(
        told.contains("something else than RPyC") && told.contains("rpyc_classic"),
        "{ran:?}"
    );
}
