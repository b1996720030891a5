//! A Python interpreter that is driven from Rust: RPyC's classic mode, with servers of all versions.

use std::sync::{Arc, Mutex};

use farref::rpyc::Exception;
use farref::rpyc::classic::{Classic, Output};
use farref::transport::Address;
use farref::transport::address::Dialect;
use farref::{Connection, ErrorKind, Netref, Object, Result, Value, remote};
use farref_integration_tests::media::runtime;
use farref_integration_tests::python::{Medium, Offer, Python, Served, Version};

/// Runs with a classic server of each version.
fn with_each<F: Future<Output = Result<()>>>(run: impl Fn(Classic) -> F) {
    for python in Python::all() {
        let served = python.serve(Offer::Classic, Medium::Unix);
        runtime().block_on(async {
            let connection = connect(&served, python.version()).await;
            let classic = Classic::of(&connection).await.unwrap();
            if let Err(error) = run(classic).await {
                panic!("with RPyC {}: {error:?}", python.version().number());
            }
            connection.close().await;
        });
    }
}

/// The server is told how it is spoken to: one that is tried in another way says so on its standard error, which a test reads.
async fn connect(served: &Served, version: Version) -> Connection {
    let address: Address = served.address().to_string().parse().unwrap();
    let generation = if version == Version::Six { "6" } else { "5" };
    let address = address
        .with_dialect(Dialect::Rpyc)
        .with_option("generation", generation);
    farref::connect(address.unwrap()).await.unwrap()
}

fn object(value: Value) -> Object {
    Object::try_from(value).unwrap()
}

fn exception(error: &farref::Error) -> &Exception {
    error.downcast_ref().unwrap_or_else(|| panic!("{error:?}"))
}

#[test]
fn modules_are_imported_and_known() {
    with_each(|python| async move {
        let path = python.module("os.path").await?;
        let base = path.call("basename", ("/tmp/data.csv",)).await?;
        assert_eq!(base.as_str(), Some("data.csv"));
        assert!(path.same_object(&python.module("os.path").await?));

        let [math, sys] = python.modules(["math", "sys"]).await?;
        assert_eq!(math.call("sqrt", (16,)).await?.as_f64(), Some(4.0));
        assert!(sys.get("version").await?.as_str().is_some());

        let error = python.module("no.such.module").await.unwrap_err();
        assert!(exception(&error).is("ModuleNotFoundError"), "{error:?}");
        Ok(())
    });
}

#[test]
fn text_is_evaluated_and_executed_in_one_namespace() {
    with_each(|python| async move {
        assert_eq!(python.eval("6 * 7").await?.as_i64(), Some(42));
        python
            .execute("import math\ndef area(radius):\n    return math.pi * radius ** 2")
            .await?;
        let area = object(python.namespace().get("area").await?);
        assert!(area.invoke((1,)).await?.as_f64().unwrap() > 3.0);

        let names = python.namespace();
        names.set("numbers", (1, 2, 3)).await?;
        assert_eq!(python.eval("sum(numbers)").await?.as_i64(), Some(6));
        assert!(names.names().await?.contains(&"numbers".to_owned()));
        names.delete("numbers").await?;
        let error = names.get("numbers").await.unwrap_err();
        assert!(exception(&error).is("KeyError"));

        let error = python.eval("1 / 0").await.unwrap_err();
        assert!(exception(&error).is("ZeroDivisionError"));
        assert!(exception(&error).traceback().contains("ZeroDivisionError"));
        let error = python.execute("def").await.unwrap_err();
        assert!(exception(&error).is("SyntaxError"));
        // What the text itself lacks is not taken for a server of another kind.
        let error = python.eval("len.nothing").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unimplemented);
        Ok(())
    });
}

#[test]
fn containers_stay_there_until_they_are_obtained() {
    with_each(|python| async move {
        let squares = python.eval("[n * n for n in range(4)]").await?;
        assert_eq!(object(squares.clone()).len().await?, 4);
        assert_eq!(
            python.obtain(squares.clone()).await?,
            "[0, 1, 4, 9]".parse().unwrap()
        );
        let table = python.eval("{'a': [1, {'b': (2, 3)}]}").await?;
        assert_eq!(
            python.obtain(table).await?,
            "{\"a\": [1, {\"b\": (2, 3)}]}".parse().unwrap()
        );
        let list = object(python.builtins().await?.get("list").await?);
        assert!(python.isinstance(&squares, &list).await?);
        assert!(!python.isinstance("text", &list).await?);
        Ok(())
    });
}

#[test]
fn a_module_is_made_of_its_source() {
    with_each(|python| async move {
        let lab = python
            .define(
                "lab_of_rust",
                "def double(x):\n    return 2 * x\n\ndef fail():\n    raise KeyError('gone')  # here\n",
            )
            .await?;
        assert_eq!(lab.call("double", (21,)).await?.as_i64(), Some(42));
        python.execute("import lab_of_rust").await?;
        let error = lab.call("fail", ()).await.unwrap_err();
        let traceback = exception(&error).traceback().to_owned();
        assert!(
            traceback.contains("lab_of_rust") && traceback.contains("# here"),
            "{traceback}"
        );

        let error = python
            .define("lab_that_fails", "raise ValueError(1)")
            .await
            .unwrap_err();
        assert!(exception(&error).is("ValueError"));
        let error = python.module("lab_that_fails").await.unwrap_err();
        assert!(exception(&error).is("ModuleNotFoundError"));
        Ok(())
    });
}

#[remote(closure)]
trait Note {
    fn note(&self, number: i64) -> Result<i64>;
}

#[test]
fn what_is_of_this_side_can_be_called_over_there() {
    with_each(|python| async move {
        let double: Netref<dyn Note> = Netref::of(|number: i64| Ok(2 * number));
        python.namespace().set("double", double).await?;
        let made = python.eval("list(map(double, range(3)))").await?;
        assert_eq!(python.obtain(made).await?, "[0, 2, 4]".parse().unwrap());
        Ok(())
    });
}

#[test]
fn what_is_printed_there_is_shown_here() {
    with_each(|python| async move {
        let (lines, raw) = (Arc::new(Mutex::new(Vec::new())), Buffer::default());
        let seen = Arc::clone(&lines);
        let stdout = Output::lines(move |line| seen.lock().unwrap().push(line.to_owned()));
        let printing = python.redirect_output(stdout, Output::to(raw.clone())).await?;
        python.execute("print('one', 2)\nprint('thr', end='')").await?;
        python
            .execute("import sys\nprint('ee', flush=True)\nprint('error', file=sys.stderr)")
            .await?;
        python.execute("sys.stdout.writelines(['a\\n', 'rest'])").await?;
        printing.restore().await?;
        assert_eq!(*lines.lock().unwrap(), ["one 2", "three", "a", "rest"]);
        assert_eq!(raw.0.lock().unwrap().as_slice(), b"error\n");

        let before = python.eval("sys.stdout is sys.__stdout__").await?;
        assert_eq!(before.as_bool(), Some(true));
        let printing = python
            .redirect_output(Output::lines(|_| ()), Output::unchanged())
            .await?;
        assert_eq!(
            python.eval("sys.stdout is sys.__stdout__").await?.as_bool(),
            Some(false)
        );
        // Sent when it is dropped, before whatever is sent after that.
        drop(printing);
        assert_eq!(
            python.eval("sys.stdout is sys.__stdout__").await?.as_bool(),
            Some(true)
        );
        Ok(())
    });
}

/// A server whose output leads to a client that is gone could print nothing any more.
#[test]
fn what_is_printed_is_printed_there_again_when_the_connection_is_lost() {
    for python in Python::all() {
        let served = python.serve(Offer::Classic, Medium::Unix);
        runtime().block_on(async {
            let first = connect(&served, python.version()).await;
            let classic = Classic::of(&first).await.unwrap();
            let printing = classic.redirect_output(Output::unchanged(), Output::lines(|_| ()));
            let printing = printing.await.unwrap();
            first.close().await;
            drop(printing);

            let second = connect(&served, python.version()).await;
            let classic = Classic::of(&second).await.unwrap();
            classic
                .execute("import sys\nprint('again', file=sys.stderr)")
                .await
                .unwrap();
            let is_own = classic.eval("sys.stderr is sys.__stderr__").await.unwrap();
            assert_eq!(is_own.as_bool(), Some(true));
        });
    }
}

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn files_and_directories_go_there_and_come_back() {
    with_each(|python| async move {
        let here = tempfile::tempdir().unwrap();
        let tree = here.path().join("tree");
        std::fs::create_dir_all(tree.join("in/deep")).unwrap();
        let large: Vec<u8> = (0..200_001_u32).map(|n| n.to_le_bytes()[0]).collect();
        for (name, content) in [
            ("empty", &[][..]),
            ("in/large", &large),
            ("in/deep/exact", &large[..64_000]),
        ] {
            std::fs::write(tree.join(name), content).unwrap();
        }
        std::os::unix::fs::symlink("..", tree.join("in/circle")).unwrap();
        std::os::unix::fs::symlink("large", tree.join("in/link")).unwrap();

        let (there, back) = (here.path().join("there/tree"), here.path().join("back"));
        let bytes = 2 * 200_001 + 64_000;
        assert_eq!(python.upload(&tree, there.to_str().unwrap()).await?, bytes);
        assert_eq!(std::fs::read(there.join("in/link")).unwrap(), large);
        assert!(!there.join("in/circle").exists());
        std::os::unix::fs::symlink("..", there.join("in/circle")).unwrap();
        assert_eq!(python.download(there.to_str().unwrap(), &back).await?, bytes);
        assert_eq!(
            std::fs::read(back.join("in/deep/exact")).unwrap(),
            large[..64_000]
        );
        assert_eq!(std::fs::read(back.join("empty")).unwrap(), []);
        assert!(!back.join("in/circle").exists());

        let error = python.download("/no/such/file", &back).await.unwrap_err();
        assert!(exception(&error).is("FileNotFoundError"));
        let error = python.upload("/no/such/file", "x").await.unwrap_err();
        let error = error.downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        Ok(())
    });
}

/// Linux alone has such names for sure.
#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_no_text_fails_the_copy_and_not_the_connection() {
    use std::os::unix::ffi::OsStrExt;

    with_each(|python| async move {
        let here = tempfile::tempdir().unwrap();
        let far = here.path().join("far");
        std::fs::create_dir(&far).unwrap();
        std::fs::write(far.join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
        let to = here.path().join("to");
        let errors = [
            python.download(far.to_str().unwrap(), &to).await.unwrap_err(),
            python.upload(&far, to.to_str().unwrap()).await.unwrap_err(),
        ];
        for error in errors {
            let error = error.downcast_ref::<std::io::Error>().unwrap();
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
        }
        assert_eq!(python.eval("6 * 7").await?.as_i64(), Some(42));
        Ok(())
    });
}

/// Used to be thinkable: a server that answers with names of its own choice.
#[test]
fn a_name_that_leads_out_of_the_directory_fails_the_copy() {
    with_each(|python| async move {
        let here = tempfile::tempdir().unwrap();
        python
            .execute("import os\nlistdir = os.listdir\nos.listdir = lambda path: ['../out']")
            .await?;
        let far = here.path().join("far");
        std::fs::create_dir(&far).unwrap();
        let copied = python
            .download(far.to_str().unwrap(), here.path().join("to"))
            .await;
        python.execute("os.listdir = listdir").await?;
        assert_eq!(copied.unwrap_err().kind(), ErrorKind::Malformed);
        Ok(())
    });
}

#[test]
fn another_service_is_no_classic_server() {
    for python in Python::all() {
        let served = python.serve(Offer::Ref, Medium::Unix);
        runtime().block_on(async {
            let connection = connect(&served, python.version()).await;
            let classic = Classic::of(&connection).await.unwrap();
            let error = classic.eval("1").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Incompatible, "{error:?}");
            assert!(error.to_string().contains("SlaveService"), "{error}");
        });
    }
}

#[test]
fn a_thread_waits_for_it() {
    for python in Python::all() {
        let served = python.serve(Offer::Classic, Medium::Unix);
        let runtime = runtime();
        let connection = runtime.block_on(connect(&served, python.version()));
        let root = runtime.block_on(connection.object()).unwrap();
        let classic = Classic::new(root);
        assert_eq!(classic.eval("1 + 1").wait().unwrap().as_i64(), Some(2));
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("a"), directory.path().join("b"));
        std::fs::write(&from, "text").unwrap();
        assert_eq!(classic.upload(&from, to.to_str().unwrap()).wait().unwrap(), 4);
        assert_eq!(std::fs::read(&to).unwrap(), b"text");
    }
}
