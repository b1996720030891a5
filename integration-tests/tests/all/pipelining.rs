//! Pipelining: what a call will return is used before it is there, in one round trip.

use std::sync::Mutex;

use farref::{Error, ErrorKind, Netref, Result, remote};
use farref_integration_tests::media::{
    on_plain_thread, over_every_medium, pair, rough_pair, runtime, within,
};
use farref_integration_tests::rough::Rough;
use tokio::sync::{mpsc, watch};

/// A directory that has whatever is asked for, except `missing`.
#[remote]
trait Directory: Node {
    async fn open(&self, name: &str) -> Result<Netref<dyn Directory>>;
    fn open_blocking(&self, name: &str) -> Result<Netref<dyn Directory>>;
    /// Opens when the gate does.
    async fn open_late(&self, name: &str) -> Result<Netref<dyn Directory>>;
    async fn keep(&self, kept: Netref<dyn Directory>) -> Result<()>;
    /// What was kept: the caller's own, if it was that.
    async fn kept(&self) -> Result<Netref<dyn Directory>>;
    async fn own_error(&self, name: &str) -> std::result::Result<Netref<dyn Directory>, Own>;
}

#[remote]
trait Node {
    async fn path(&self) -> Result<String>;
    fn path_blocking(&self) -> Result<String>;
    async fn note(&self, number: u32) -> Result<u32>;
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Own(String);

impl std::fmt::Display for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Own {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

#[derive(Clone)]
struct Tree {
    path: String,
    tell: mpsc::UnboundedSender<String>,
    gate: watch::Receiver<bool>,
    kept: std::sync::Arc<Mutex<Option<Netref<dyn Directory>>>>,
}

impl Tree {
    fn new(path: &str) -> (Self, mpsc::UnboundedReceiver<String>, watch::Sender<bool>) {
        let (tell, told) = mpsc::unbounded_channel();
        let (open, gate) = watch::channel(false);
        let tree = Self {
            path: path.to_owned(),
            tell,
            gate,
            kept: std::sync::Arc::default(),
        };
        (tree, told, open)
    }

    fn child(&self, name: &str) -> Result<Netref<dyn Directory>> {
        if name == "missing" {
            return Err(Error::msg("no such directory"));
        }
        let path = format!("{}/{name}", self.path);
        let _ = self.tell.send(format!("open {path}"));
        Ok(Netref::of(Self { path, ..self.clone() }))
    }
}

#[remote]
impl Directory for Tree {
    async fn open(&self, name: &str) -> Result<Netref<dyn Directory>> {
        self.child(name)
    }

    fn open_blocking(&self, name: &str) -> Result<Netref<dyn Directory>> {
        self.child(name)
    }

    async fn open_late(&self, name: &str) -> Result<Netref<dyn Directory>> {
        struct Told<'a>(&'a Tree);
        impl Drop for Told<'_> {
            fn drop(&mut self) {
                let _ = self.0.tell.send("late is over".into());
            }
        }
        let _told = Told(self);
        let _ = self.tell.send("late begins".into());
        self.gate.clone().wait_for(|open| *open).await?;
        self.child(name)
    }

    async fn keep(&self, kept: Netref<dyn Directory>) -> Result<()> {
        *self.kept.lock().unwrap() = Some(kept);
        Ok(())
    }

    async fn kept(&self) -> Result<Netref<dyn Directory>> {
        self.gate.clone().wait_for(|open| *open).await?;
        self.kept
            .lock()
            .unwrap()
            .clone()
            .ok_or_else(|| Error::msg("nothing is kept"))
    }

    async fn own_error(&self, name: &str) -> std::result::Result<Netref<dyn Directory>, Own> {
        self.child(name).map_err(|_| Own("an error of its own".into()))
    }
}

#[remote]
impl Node for Tree {
    async fn path(&self) -> Result<String> {
        Ok(self.path.clone())
    }

    fn path_blocking(&self) -> Result<String> {
        Ok(self.path.clone())
    }

    async fn note(&self, number: u32) -> Result<u32> {
        let _ = self.tell.send(format!("note {number}"));
        Ok(number)
    }
}

#[test]
fn a_line_of_calls_takes_one_round_trip() {
    let runtime = runtime();
    runtime.block_on(async {
        let rough = Rough::new(1 << 16, None);
        let (tree, mut told, _open) = Tree::new("");
        let joined = rough_pair::<dyn Directory>(&rough, tree).await;
        let root: Netref<dyn Directory> = joined.root().await;
        within(root.call().path()).await.unwrap();
        // From here on not one byte comes back.
        rough.line().back.hold();
        let arrived = rough.line().back.arrived();
        let a = root.call().open("a");
        let b = a.pipe().open_blocking("b");
        let c = b.pipe().open("c");
        let path = c.pipe().path().start();
        let noted = c.pipe().note(7).start();
        for expected in ["open /a", "open /a/b", "open /a/b/c", "note 7"] {
            assert_eq!(within(told.recv()).await.unwrap(), expected);
        }
        assert_eq!(rough.line().back.arrived(), arrived);
        assert!(!path.is_ready() && !noted.is_ready());
        rough.line().back.release();
        assert_eq!(within(path).await.unwrap(), "/a/b/c");
        assert_eq!(within(noted).await.unwrap(), 7);
        let c = within(c).await.unwrap();
        assert_eq!(within(c.call().path()).await.unwrap(), "/a/b/c");
        drop((a, b, c, root));
        joined.at_rest().await;
    });
}

#[test]
fn a_long_line_of_pipes_of_pipes() {
    over_every_medium(async |medium| {
        let (tree, _told, _open) = Tree::new("");
        let joined = pair::<dyn Directory>(medium, tree).await;
        let root: Netref<dyn Directory> = joined.root().await;
        let mut line = vec![root.call().open("0")];
        for n in 1..200 {
            let next = line[n - 1].pipe().open(&n.to_string());
            line.push(next);
        }
        let last = line[199].pipe().path().start();
        let path = within(last).await.unwrap();
        assert_eq!(path.split('/').count(), 201);
        assert!(path.ends_with("/198/199"), "{path}");
        drop((line, root));
        joined.at_rest().await;
    });
}

#[test]
fn a_pipe_over_a_failed_call_is_broken_and_says_why() {
    over_every_medium(async |medium| {
        let (tree, _told, open) = Tree::new("");
        let joined = pair::<dyn Directory>(medium, tree).await;
        let root: Netref<dyn Directory> = joined.root().await;
        for late in [false, true] {
            let a = if late {
                root.call().open_late("missing")
            } else {
                root.call().open("missing")
            };
            let b = a.pipe().open("b");
            let c = b.pipe().open("c");
            let path = c.pipe().path().start();
            open.send_replace(true);
            for error in [
                within(path).await.unwrap_err(),
                within(c).await.map(drop).unwrap_err(),
                within(b).await.map(drop).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Broken, "{error:?}");
                let causes: Vec<_> = error.chain().map(|cause| cause.to_string()).collect();
                assert!(
                    causes.iter().any(|cause| cause == "no such directory"),
                    "{causes:?}"
                );
                assert!(causes.len() <= 3, "causes do not pile up: {causes:?}");
            }
            let error = within(a).await.map(drop).unwrap_err();
            assert_eq!(
                (error.kind(), error.message().as_ref()),
                (ErrorKind::Remote, "no such directory")
            );
            open.send_replace(false);
        }
        let a = root.call().own_error("missing");
        let path = a.pipe().path().start();
        let error = within(path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broken, "{error:?}");
        assert_eq!(within(a).await.map(drop).unwrap_err().0, "an error of its own");
        drop(root);
        joined.at_rest().await;
    });
}

#[test]
fn who_drops_the_first_call_still_gets_what_was_called_on_it() {
    over_every_medium(async |medium| {
        let (tree, mut told, open) = Tree::new("");
        let joined = pair::<dyn Directory>(medium, tree).await;
        let root: Netref<dyn Directory> = joined.root().await;
        let late = root.call().open_late("a");
        let path = late.pipe().path().start();
        assert_eq!(within(told.recv()).await.unwrap(), "late begins");
        drop(late);
        within(joined.client.ping()).await.unwrap();
        assert!(
            told.try_recv().is_err(),
            "it was not cancelled: something depends on it"
        );
        open.send_replace(true);
        assert_eq!(within(path).await.unwrap(), "/a");
        assert_eq!(within(told.recv()).await.unwrap(), "open /a");
        assert_eq!(within(told.recv()).await.unwrap(), "late is over");

        open.send_replace(false);
        let late = root.call().open_late("a");
        let (one, other) = (late.pipe().path().start(), late.pipe().open("b"));
        let deep = other.pipe().path().start();
        assert_eq!(within(told.recv()).await.unwrap(), "late begins");
        drop((late, one, other));
        within(joined.client.ping()).await.unwrap();
        assert!(told.try_recv().is_err(), "one is left that depends on it");
        drop(deep);
        assert_eq!(
            within(told.recv()).await.unwrap(),
            "late is over",
            "nobody needs it any more"
        );
        assert!(told.try_recv().is_err());
        drop(root);
        joined.at_rest().await;
    });
}

/// Calls that go there and come back to an object of ours are not overtaken by those we make on it ourselves.
#[test]
fn what_was_piped_comes_before_what_is_called_on_the_result_although_that_lives_here() {
    over_every_medium(async |medium| {
        let (tree, _told, open) = Tree::new("there");
        let joined = pair::<dyn Directory>(medium, tree).await;
        let root: Netref<dyn Directory> = joined.root().await;
        let (mine, mut told, _gate) = Tree::new("mine");
        let mine: Netref<dyn Directory> = Netref::of(mine);
        for late in [true, false] {
            within(root.call().keep(mine.clone())).await.unwrap();
            open.send_replace(!late);
            let kept = root.call().kept();
            for n in 0..20 {
                kept.pipe().note(n).detach();
            }
            open.send_replace(true);
            let back = within(kept).await.unwrap();
            assert!(back.is_local() && back.same_object(&mine));
            for n in 20..40 {
                within(back.call().note(n)).await.unwrap();
            }
            for n in 0..40 {
                assert_eq!(within(told.recv()).await.unwrap(), format!("note {n}"));
            }
            let kept = root.call().kept();
            let path = kept.pipe().path().start();
            assert_eq!(within(path).await.unwrap(), "mine", "there and back");
        }
        within(root.call().keep(root.clone())).await.unwrap();
        drop((root, mine));
        joined.at_rest().await;
    });
}

#[test]
fn pipes_work_on_objects_of_this_process_as_well() {
    let runtime = runtime();
    runtime.block_on(async {
        let (tree, mut told, open) = Tree::new("");
        let root: Netref<dyn Directory> = Netref::of(tree);
        let late = root.call().open_late("a");
        let deeper = late.pipe().open_blocking("b");
        let path = deeper.pipe().path().start();
        open.send_replace(true);
        assert_eq!(within(path).await.unwrap(), "/a/b");
        assert_eq!(
            within(within(late).await.unwrap().call().path()).await.unwrap(),
            "/a"
        );
        assert_eq!(within(told.recv()).await.unwrap(), "late begins");
        let missing = root.call().open("missing");
        let error = within(missing.pipe().path()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broken);
        assert!(error.to_string().contains("no such directory"), "{error}");
    });
}

#[test]
fn a_thread_without_a_runtime_pipes_and_waits() {
    let runtime = runtime();
    let (tree, _told, _open) = Tree::new("");
    let joined = runtime.block_on(pair::<dyn Directory>("unix", tree));
    let root: Netref<dyn Directory> = runtime.block_on(joined.root());
    on_plain_thread(move || {
        let a = root.call().open("a");
        let b = a.pipe().open("b");
        let path = b.pipe().path_blocking().start();
        assert_eq!(path.wait().unwrap(), "/a/b");
        assert_eq!(b.wait().unwrap().path_blocking().unwrap(), "/a/b");
        assert_eq!(a.pipe().path_blocking().wait().unwrap(), "/a");
        assert_eq!(a.wait().unwrap().blocking().path().unwrap(), "/a");
    });
    runtime.block_on(joined.at_rest());
}
