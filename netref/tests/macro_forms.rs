//! What `#[remote]` accepts: on objects of this process, and at the end, in [`far`], over a connection.
#![deny(
    warnings,
    missing_docs,
    unreachable_pub,
    unnameable_types,
    clippy::all,
    clippy::pedantic,
    clippy::nursery
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::redundant_pub_crate,
    reason = "objects of tests are tests, too"
)]

extern crate farref_netref as farref;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farref::{Call, Error, ErrorKind, Netref, RemoteTrait, Result, remote};
use serde::{Deserialize, Serialize};

/// Something with a name.
#[remote]
trait Named {
    /// Its name.
    fn name(&self) -> Result<String>;
}

/// A value with an object in it.
#[derive(Serialize, Deserialize)]
struct Listing {
    title: String,
    first: Option<Netref<dyn File>>,
    all: HashMap<String, Netref<dyn File>>,
}

/// A supertrait, async methods, a default body of each kind, borrowed arguments.
#[remote(name = "test.File", version = 2)]
trait File: Named {
    /// Reads.
    ///
    /// # Errors
    ///
    /// There is less.
    #[idempotent]
    async fn read(&self, at: u64, len: u32) -> Result<Vec<u8>>;

    /// Writes, in order.
    #[serial]
    async fn write(&self, bytes: &[u8], note: Option<&str>) -> Result<u32>;

    /// A default body that calls another method.
    async fn first_byte(&self) -> Result<u8> {
        let bytes = self.read(0, 1).await?;
        bytes.first().copied().ok_or_else(|| Error::msg("empty"))
    }

    /// A default body of a blocking method, with a pattern.
    fn title(&self, mut prefix: String) -> Result<String> {
        prefix.push_str(&self.name()?);
        Ok(prefix)
    }

    /// Not for peers.
    fn both<T>(&self, one: T) -> (T, Result<String>)
    where
        Self: Sized,
    {
        (one, self.name())
    }
}

/// One of every way to take an argument.
#[remote]
trait Arguments {
    fn borrowed(
        &self,
        text: &str,
        bytes: &[u8],
        numbers: &[u16],
        path: &Path,
        value: &Point,
    ) -> Result<String>;
    fn optional(&self, text: Option<&str>, value: Option<&Point>, bytes: Option<&[u8]>) -> Result<String>;
    async fn slow(&self, text: &str, numbers: &[u16], value: Option<&Point>, bytes: Vec<u8>)
    -> Result<usize>;
    fn owned(&self, pair: (u8, Vec<u8>), file: Option<Netref<dyn File>>) -> Result<(u8, Vec<u8>)>;
    fn lent(&self, file: &Netref<dyn File>) -> Result<String>;
    #[one_way]
    fn hint(&self, this: u8, result: u8, invocation: u8, object: u8, call: u8, argument_0: u8) -> Result<()>;
    /// Names that generated code uses as well.
    async fn clash(
        &self,
        this: &str,
        base: &str,
        remote: &str,
        promise: u8,
        calls: u8,
        kept: u8,
    ) -> Result<String>;
}

/// A value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Point {
    x: i32,
}

/// Words of the language as names.
#[remote]
trait Raw {
    fn r#type(&self, r#match: u8) -> Result<u8>;
    async fn r#move(&self, r#fn: &str) -> Result<String> {
        Ok(r#fn.to_owned())
    }
}

/// An error of one's own.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum DiskError {
    Full { left: u64 },
    Call(String),
}

impl From<Error> for DiskError {
    fn from(error: Error) -> Self {
        Self::Call(error.to_string())
    }
}

impl std::fmt::Display for DiskError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Returns an error of one's own, under an alias, and an object.
#[remote]
trait Disk {
    fn write(&self, bytes: u64) -> Answer<u64>;
    async fn open(&self, name: &str) -> Answer<Netref<dyn File>>;
    fn list(&self) -> Answer<Listing>;
    async fn blocks(&self) -> Answer<Netref<dyn Disk>>;
}

type Answer<T> = std::result::Result<T, DiskError>;

/// Closures are objects.
#[remote(closure)]
trait OnChange {
    fn changed(&self, name: &str, size: u64) -> Result<u64>;
}

/// Closures that return futures, too.
#[remote(closure)]
trait Later {
    async fn later(&self, number: u32) -> Result<u32>;
}

/// Nothing of its own.
#[remote]
trait Empty {}

#[derive(Default)]
struct Memory {
    content: Mutex<Vec<u8>>,
    written: AtomicU32,
}

impl Named for Memory {
    fn name(&self) -> Result<String> {
        Ok("memory".into())
    }
}

#[remote]
impl File for Memory {
    async fn read(&self, at: u64, len: u32) -> Result<Vec<u8>> {
        tokio::task::yield_now().await;
        let content = self.content.lock().unwrap();
        let at = usize::try_from(at)?;
        let end = at + usize::try_from(len)?;
        // An early return, whose type nothing but the signature tells.
        if end > content.len() {
            return Err(Error::msg("less"));
        }
        Ok(content[at..end].into())
    }

    async fn write(&self, bytes: &[u8], note: Option<&str>) -> Result<u32> {
        self.content.lock().unwrap().extend_from_slice(bytes);
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.content
            .lock()
            .unwrap()
            .extend_from_slice(note.unwrap_or_default().as_bytes());
        Ok(self.written.fetch_add(1, Ordering::Relaxed))
    }
}

struct Everything;

#[remote]
impl Arguments for Everything {
    fn borrowed(
        &self,
        text: &str,
        bytes: &[u8],
        numbers: &[u16],
        path: &Path,
        value: &Point,
    ) -> Result<String> {
        Ok(format!(
            "{text} {bytes:?} {numbers:?} {} {}",
            path.display(),
            value.x
        ))
    }

    fn optional(&self, text: Option<&str>, value: Option<&Point>, bytes: Option<&[u8]>) -> Result<String> {
        Ok(format!("{text:?} {value:?} {bytes:?}"))
    }

    async fn slow(
        &self,
        text: &str,
        numbers: &[u16],
        value: Option<&Point>,
        mut bytes: Vec<u8>,
    ) -> Result<usize> {
        tokio::task::yield_now().await;
        bytes.push(0);
        Ok(text.len() + numbers.len() + usize::from(value.is_some()) + bytes.len())
    }

    fn owned(&self, pair: (u8, Vec<u8>), file: Option<Netref<dyn File>>) -> Result<(u8, Vec<u8>)> {
        assert!(file.is_none());
        Ok(pair)
    }

    fn lent(&self, file: &Netref<dyn File>) -> Result<String> {
        file.name()
    }

    fn hint(&self, _: u8, _: u8, _: u8, _: u8, _: u8, _: u8) -> Result<()> {
        Ok(())
    }

    async fn clash(
        &self,
        this: &str,
        base: &str,
        remote: &str,
        promise: u8,
        calls: u8,
        kept: u8,
    ) -> Result<String> {
        Ok(format!("{this}{base}{remote}{promise}{calls}{kept}"))
    }
}

impl Raw for Everything {
    fn r#type(&self, r#match: u8) -> Result<u8> {
        Ok(r#match)
    }
}

struct Drive(Arc<Memory>);

#[remote]
impl Disk for Drive {
    fn write(&self, bytes: u64) -> Answer<u64> {
        if bytes > 9 {
            Err(DiskError::Full { left: 9 })
        } else {
            Ok(bytes)
        }
    }

    async fn open(&self, name: &str) -> Answer<Netref<dyn File>> {
        match name {
            "memory" => Ok(Netref::share(&self.0)),
            "new" => Ok(Netref::of(Memory::default())),
            // Unsized by what the signature says.
            "arc" => Ok(Netref::new(Arc::new(Memory::default()))),
            _ => Err(DiskError::Full { left: 0 }),
        }
    }

    fn list(&self) -> Answer<Listing> {
        let file: Netref<dyn File> = Netref::share(&self.0);
        Ok(Listing {
            title: "all".into(),
            first: Some(file.clone()),
            all: [("memory".into(), file)].into(),
        })
    }

    async fn blocks(&self) -> Answer<Netref<dyn Disk>> {
        Ok(Netref::of(Self(Arc::clone(&self.0))))
    }
}

fn file(content: &[u8]) -> Netref<dyn File> {
    Netref::of(Memory {
        content: Mutex::new(content.into()),
        ..Memory::default()
    })
}

#[test]
fn a_netref_is_used_like_the_object() {
    let file = file(b"abc");
    assert!(file.is_local());
    assert_eq!(file.name().unwrap(), "memory");
    assert_eq!(file.title("the ".into()).unwrap(), "the memory");
    assert_eq!(Memory::default().both(1).0, 1);
}

#[tokio::test]
async fn async_methods_are_awaited_through_trait_and_companion() {
    let file = file(b"abc");
    assert_eq!(file.read(1, 2).await.unwrap(), b"bc");
    assert_eq!(file.call().read(1, 2).await.unwrap(), b"bc");
    assert_eq!(file.call().read(1, 9).await.unwrap_err().message(), "less");
    assert_eq!(file.first_byte().await.unwrap(), b'a');
    assert_eq!(file.call().first_byte().await.unwrap(), b'a');
    assert_eq!(file.call().title("my ".into()).await.unwrap(), "my memory");
    // A supertrait's method, through both companions.
    assert_eq!(file.call().name().await.unwrap(), "memory");
}

#[test]
fn a_plain_thread_waits_for_async_methods() {
    let file = file(b"abc");
    assert_eq!(file.blocking().read(0, 1).unwrap(), b"a");
    assert_eq!(file.blocking().write(b"d", Some("e")).unwrap(), 0);
    assert_eq!(file.blocking().read(0, 5).unwrap(), b"abcde");
    assert_eq!(file.blocking().first_byte().unwrap(), b'a');
    assert_eq!(file.blocking().title("a ".into()).unwrap(), "a memory");
    assert_eq!(file.blocking().name().unwrap(), "memory");
    assert_eq!(file.call().read(2, 1).wait().unwrap(), b"c");
}

#[tokio::test]
async fn a_call_owns_what_the_method_borrows() {
    let object: Netref<dyn Arguments> = Netref::of(Everything);
    let call = {
        let (text, numbers, point) = (String::from("abc"), vec![1, 2], Point { x: 7 });
        object.call().slow(&text, &numbers, Some(&point), vec![9])
    };
    let spawned = tokio::spawn(call);
    assert_eq!(spawned.await.unwrap().unwrap(), 8);
    let call = object
        .call()
        .borrowed("t", b"u", &[3], &PathBuf::from("p"), &Point { x: 1 });
    assert_eq!(call.await.unwrap(), "t [117] [3] p 1");
    let call = object.call().optional(Some("t"), None, Some(b"u"));
    assert_eq!(call.await.unwrap(), r#"Some("t") None Some([117])"#);
    assert_eq!(
        object.call().owned((1, vec![2]), None).await.unwrap(),
        (1, vec![2])
    );
    assert_eq!(object.call().lent(&file(b"")).await.unwrap(), "memory");
    object.call().hint(0, 1, 2, 3, 4, 5).await.unwrap();
    assert_eq!(
        object.call().clash("a", "b", "c", 1, 2, 3).await.unwrap(),
        "abc123"
    );
}

#[test]
fn blocking_calls_borrow() {
    let object: Netref<dyn Arguments> = Netref::of(Everything);
    assert_eq!(
        object.optional(None, Some(&Point { x: 1 }), None).unwrap(),
        "None Some(Point { x: 1 }) None"
    );
    assert_eq!(
        object
            .blocking()
            .borrowed("t", b"u", &[3], Path::new("p"), &Point { x: 1 })
            .unwrap(),
        "t [117] [3] p 1"
    );
    assert_eq!(object.blocking().slow("abc", &[], None, vec![]).unwrap(), 4);
    assert_eq!(object.blocking().clash("a", "b", "c", 1, 2, 3).unwrap(), "abc123");
}

#[tokio::test]
async fn pipes_work_on_objects_of_this_process() {
    let disk: Netref<dyn Disk> = Netref::of(Drive(Arc::default()));
    let opening = disk.call().open("memory");
    let written = opening.pipe().write(b"abc", None).start();
    let name = opening.pipe().name().start();
    let opened = opening.await.unwrap();
    assert_eq!(written.await.unwrap(), 0);
    assert_eq!(name.await.unwrap(), "memory");
    assert_eq!(opened.read(0, 3).await.unwrap(), b"abc");

    let failing = disk.call().open("none");
    let reading = failing.pipe().read(0, 1).start();
    assert_eq!(reading.await.unwrap_err().kind(), ErrorKind::Broken);
    assert_eq!(failing.await.unwrap_err(), DiskError::Full { left: 0 });

    let far = disk.call().blocks();
    let file = far.pipe().open("new");
    assert_eq!(file.pipe().title(String::new()).await.unwrap(), "memory");
    assert!(file.await.unwrap().is_local());
}

#[test]
fn errors_of_ones_own_are_kept() {
    let disk: Netref<dyn Disk> = Netref::of(Drive(Arc::default()));
    assert_eq!(disk.write(10), Err(DiskError::Full { left: 9 }));
    assert_eq!(disk.blocking().write(9), Ok(9));
    let listing = disk.list().unwrap();
    assert_eq!(listing.title, "all");
    assert!(listing.first.unwrap().same_object(&listing.all["memory"]));
    assert!(disk.blocking().open("arc").is_ok());
}

#[test]
fn code_for_the_trait_takes_objects_and_netrefs() {
    fn by_object(named: &dyn Named) -> String {
        named.name().unwrap()
    }
    fn by_generic(named: &impl Named) -> String {
        named.name().unwrap()
    }
    let file = file(b"");
    assert_eq!(by_object(&*file), "memory");
    assert_eq!(by_object(&file), "memory");
    assert_eq!(by_generic(&file), "memory");
    assert_eq!(by_generic(&Memory::default()), "memory");
}

#[test]
fn a_netref_goes_up_to_a_supertrait_and_is_the_same_object() {
    let file = file(b"");
    let named: Netref<dyn Named> = file.upcast();
    assert_eq!(named.name().unwrap(), "memory");
    assert!(named.same_object(&file));
    // A netref wrapped in a netref is that netref.
    assert!(Netref::<dyn File>::of(file.clone()).same_object(&file));
}

#[tokio::test]
async fn closures_are_objects() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let on_change: Netref<dyn OnChange> = Netref::of(move |name: &str, size: u64| {
        log.lock().unwrap().push(name.to_owned());
        Ok(size)
    });
    assert_eq!(on_change.changed("a", 1).unwrap(), 1);
    assert_eq!(on_change.call().changed("b", 2).await.unwrap(), 2);
    assert_eq!(*seen.lock().unwrap(), ["a", "b"]);

    let later: Netref<dyn Later> = Netref::of(|number| async move {
        tokio::task::yield_now().await;
        Ok(number + 1)
    });
    assert_eq!(later.later(1).await.unwrap(), 2);
    assert_eq!(later.call().later(2).await.unwrap(), 3);
}

#[tokio::test]
async fn names_may_be_words_of_the_language() {
    let raw: Netref<dyn Raw> = Netref::of(Everything);
    assert_eq!(raw.r#type(3).unwrap(), 3);
    assert_eq!(raw.call().r#move("a").await.unwrap(), "a");
    let names: Vec<&str> = <dyn Raw>::INTERFACE
        .methods
        .iter()
        .map(|method| method.name)
        .collect();
    assert_eq!(names, ["type", "move"]);
    assert_eq!(<dyn Raw>::INTERFACE.methods[0].arguments[0].name, "match");
}

#[test]
fn the_interface_says_what_the_trait_says() {
    let interface = <dyn File>::INTERFACE;
    assert_eq!((interface.name, interface.version), ("test.File", 2));
    assert_eq!(interface.id, farref::interface::interface_id("test.File", 2));
    assert_eq!(
        interface.doc,
        "A supertrait, async methods, a default body of each kind, borrowed arguments."
    );
    assert_eq!(interface.parents[0].name, "Named");
    let [read, write, first_byte, title] = interface.methods else {
        panic!("{interface:?}")
    };
    assert_eq!(
        (read.name, read.is_async, read.has_default),
        ("read", true, false)
    );
    assert_eq!(read.doc, "Reads.\n\n# Errors\n\nThere is less.");
    assert_eq!(read.result, "Result<Vec<u8>>");
    assert_eq!(read.number, farref::interface::method_number("read"));
    assert!(read.manners.idempotent && !read.manners.serial);
    assert!(write.manners.serial);
    let arguments: Vec<_> = write
        .arguments
        .iter()
        .map(|argument| (argument.name, argument.of))
        .collect();
    assert_eq!(arguments, [("bytes", "&[u8]"), ("note", "Option<&str>")]);
    assert!(first_byte.has_default && title.has_default && !title.is_async);
}

#[test]
fn a_borrowed_argument_has_the_shape_of_the_owned_one() {
    mod borrowed {
        #[farref::remote]
        pub(super) trait Shape {
            fn f(&self, text: &str, bytes: &[u8], more: Option<&str>) -> farref::Result<()>;
        }
    }
    mod owned {
        #[farref::remote]
        pub(super) trait Shape {
            fn f(
                &self,
                text: std::string::String,
                bytes: Vec<u8>,
                more: std::option::Option<String>,
            ) -> farref::Result<()>;
        }
    }
    let (borrowed, owned) = (<dyn borrowed::Shape>::INTERFACE, <dyn owned::Shape>::INTERFACE);
    assert_eq!(
        borrowed.methods[0].arguments_shape(),
        owned.methods[0].arguments_shape()
    );
}

/// Two supertraits, one of which has one itself.
mod several {
    use super::{File, Memory, Named, Netref, OnChange, Result, remote};

    /// Another one.
    #[remote]
    pub(crate) trait Sized2 {
        /// How large it is.
        fn size(&self) -> Result<u64>;
    }

    #[remote(extends(Named))]
    pub(crate) trait Both: File + Sized2 + std::fmt::Debug {
        /// Its own.
        fn own(&self) -> Result<u8>;
        /// The same name as in a supertrait.
        fn name(&self) -> Result<String>;
    }

    #[derive(Default)]
    struct Object(Memory);

    impl std::fmt::Debug for Object {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Object")
        }
    }

    impl Named for Object {
        fn name(&self) -> Result<String> {
            self.0.name()
        }
    }

    #[remote]
    impl File for Object {
        async fn read(&self, at: u64, len: u32) -> Result<Vec<u8>> {
            self.0.read(at, len).await
        }

        async fn write(&self, bytes: &[u8], note: Option<&str>) -> Result<u32> {
            self.0.write(bytes, note).await
        }
    }

    impl Sized2 for Object {
        fn size(&self) -> Result<u64> {
            Ok(3)
        }
    }

    impl Both for Object {
        fn own(&self) -> Result<u8> {
            Ok(1)
        }

        fn name(&self) -> Result<String> {
            Ok("both".into())
        }
    }

    #[tokio::test]
    async fn a_trait_with_several_supertraits_reaches_all_of_them() {
        let both: Netref<dyn Both> = Netref::of(Object::default());
        assert_eq!((both.own().unwrap(), both.size().unwrap()), (1, 3));
        assert_eq!(both.call().own().await.unwrap(), 1);
        // The first one's methods by the companion itself, the others' by going up.
        assert_eq!(both.call().write(b"a", None).await.unwrap(), 0);
        assert_eq!(both.upcast::<dyn Sized2>().call().size().await.unwrap(), 3);
        assert_eq!(both.upcast::<dyn Named>().name().unwrap(), "memory");
        assert_eq!(Both::name(&*both).unwrap(), "both");
        assert_eq!(both.call().name().await.unwrap(), "both");
        assert_eq!(both.blocking().name().unwrap(), "both");
        assert_eq!(format!("{both:?} {:?}", &*both), "Netref<dyn Both>(local) Object");
    }

    #[test]
    fn a_trait_in_a_function_is_a_trait_like_any_other() {
        #[remote]
        trait Inner {
            fn f(&self, on: Netref<dyn OnChange>) -> Result<u64>;
        }

        struct Adds;

        impl Inner for Adds {
            fn f(&self, on: Netref<dyn OnChange>) -> Result<u64> {
                on.changed("", 2)
            }
        }

        let inner: Netref<dyn Inner> = Netref::of(Adds);
        assert_eq!(inner.f(Netref::of(|_: &str, size: u64| Ok(size * 2))).unwrap(), 4);
        assert_eq!(
            inner
                .blocking()
                .f(Netref::of(|_: &str, size: u64| Ok(size)))
                .unwrap(),
            2
        );
    }
}

/// What the names of the prelude mean elsewhere does not matter.
mod shadowed {
    #![allow(dead_code, non_camel_case_types, reason = "names that must not be used")]

    pub(super) struct Option;
    pub(super) struct Box;
    pub(super) struct Some;
    pub(super) struct None;
    pub(super) struct Send;
    pub(super) struct Arc;
    pub(super) struct String;
    pub(super) struct std;
    pub(super) struct core;

    #[farref::remote]
    pub(super) trait Plain {
        fn f(&self, text: &str, of: ::std::option::Option<&u8>) -> farref::Result<u8>;
        async fn g(&self, text: &str) -> farref::Result<u8> {
            self.f(text, ::std::option::Option::None)
        }
    }
}

#[test]
fn nothing_of_the_prelude_is_needed() {
    struct Object;
    impl shadowed::Plain for Object {
        fn f(&self, text: &str, of: Option<&u8>) -> Result<u8> {
            Ok(u8::try_from(text.len())? + of.copied().unwrap_or_default())
        }
    }
    let object: Netref<dyn shadowed::Plain> = Netref::of(Object);
    assert_eq!(object.blocking().g("abc").unwrap(), 3);
    assert_eq!(object.f("abc", Some(&1)).unwrap(), 4);
}

/// A trait made by a macro of the user's own.
macro_rules! gauge {
    ($name:ident, $method:ident, $of:ty) => {
        #[remote]
        trait $name {
            fn $method(&self, value: $of, result: &str) -> Result<$of>;
            async fn later(&self, value: &$of) -> Result<$of> {
                self.$method(*value, "")
            }
        }
    };
}

gauge!(Gauge, gauge, u8);

#[test]
fn a_macro_may_write_the_trait() {
    struct Object;
    impl Gauge for Object {
        fn gauge(&self, value: u8, result: &str) -> Result<u8> {
            Ok(value + u8::try_from(result.len())?)
        }
    }
    let gauge: Netref<dyn Gauge> = Netref::of(Object);
    assert_eq!(gauge.blocking().gauge(1, "a").unwrap(), 2);
    assert_eq!(gauge.blocking().later(&1).unwrap(), 1);
}

/// An object of a generic type, and an async method with everything a pattern can be.
#[remote]
trait Patterns {
    async fn sum(&self, pair: (u8, u8), factor: u8, unused: String) -> Result<u8>;
}

struct Times<T>(T);

#[remote]
impl<T: Into<u8> + Copy + Send + Sync + 'static> Patterns for Times<T> {
    async fn sum(&self, (a, b): (u8, u8), mut factor: u8, _: String) -> Result<u8> {
        factor += self.0.into();
        let twice: Box<dyn for<'a> Fn(&'a u8) -> u8 + Send> = Box::new(move |value| value * factor);
        Ok(twice(&a) + twice(&b))
    }
}

#[tokio::test]
async fn arguments_may_be_taken_apart() {
    assert_eq!(Times(1_u8).sum((1, 2), 1, String::new()).await.unwrap(), 6);
}

#[test]
fn everything_can_be_sent_between_threads() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    fn is_sync<T: Sync>(_: &T) {}
    let file = is_send(file(b""));
    is_sync(&file);
    let calls = is_send(file.call());
    is_sync(&calls);
    is_sync(&is_send(file.blocking()));
    is_sync(&is_send::<Call<Result<Vec<u8>>>>(calls.read(0, 0)));
    assert_eq!(
        format!("{calls:?} {:?}", file.blocking()),
        "FileCalls(Caller<dyn test.File>(local)) FileBlocking(Lender<dyn test.File>)"
    );
    let _: Netref<dyn Empty> = Netref::of(Nothing);
}

struct Nothing;

impl Empty for Nothing {}

/// Properties, text, and what else objects are asked by name.
mod by_name {
    use std::fmt;
    use std::hash::{Hash, Hasher};
    use std::sync::atomic::{AtomicU8, Ordering};

    use farref::object::Arguments;
    use farref::{Netref, Object, Result, Value, remote};

    use super::{Everything, Point, Raw};

    /// A dial, which shows where it stands.
    #[remote(str)]
    trait Dial: fmt::Display + Marked {
        /// Where it stands.
        #[property]
        fn at(&self) -> Result<u8>;
        #[property]
        async fn set_at(&self, at: u8) -> Result<()>;
        #[property]
        #[inline]
        fn r#type(&self) -> Result<String>;
    }

    #[remote]
    trait Marked {
        fn mark(&self) -> Result<char> {
            Ok('-')
        }
    }

    /// One that is equal to all others which stand there.
    #[derive(Default)]
    struct Round<Mark> {
        at: AtomicU8,
        mark: Mark,
    }

    impl<Mark: Send + Sync + 'static> Round<Mark> {
        fn standing(&self) -> u8 {
            self.at.load(Ordering::SeqCst)
        }
    }

    impl<Mark: Send + Sync + 'static> fmt::Display for Round<Mark> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at {}", self.standing())
        }
    }

    impl<Mark: Send + Sync + 'static> PartialEq for Round<Mark> {
        fn eq(&self, other: &Self) -> bool {
            self.standing() == other.standing()
        }
    }

    impl<Mark: Send + Sync + 'static> Hash for Round<Mark> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.standing().hash(state);
        }
    }

    #[remote(eq, hash)]
    impl<Mark: Send + Sync + 'static> Dial for Round<Mark> {
        fn at(&self) -> Result<u8> {
            Ok(self.standing())
        }

        async fn set_at(&self, at: u8) -> Result<()> {
            self.at.store(at, Ordering::SeqCst);
            Ok(())
        }

        fn r#type(&self) -> Result<String> {
            Ok("round".into())
        }
    }

    #[remote(len)]
    impl<Mark: Send + Sync + 'static> Marked for Round<Mark> {}

    impl<Mark> Round<Mark> {
        const fn len(&self) -> usize {
            std::mem::size_of_val(&self.mark)
        }
    }

    #[tokio::test]
    async fn properties_are_methods_as_well() {
        let dial: Netref<dyn Dial> = Netref::of(Round::<u32>::default());
        dial.call().set_at(3).await.unwrap();
        let object = dial.dynamic();
        assert_eq!(object.get("at").await.unwrap(), Value::from(3));
        object.set("at", 4).await.unwrap();
        assert_eq!(object.call("at", ()).await.unwrap(), Value::from(4));
        object.call("set_at", [5]).await.unwrap();
        assert_eq!(dial.at().unwrap(), 5);
        assert_eq!(object.get("type").await.unwrap(), Value::from("round"));
        assert_eq!(object.call("mark", ()).await.unwrap(), Value::from('-'));
        assert_eq!(object.dir().await.unwrap(), ["at", "mark", "type"]);
    }

    #[tokio::test]
    async fn traits_and_impls_say_together_what_an_object_answers() {
        let [one, other]: [Netref<dyn Dial>; 2] =
            std::array::from_fn(|_| Netref::of(Round::<u32>::default()));
        let marked: Netref<dyn Dial> = Netref::of(Round::<u8>::default());
        let [one, other, marked] = [one, other, marked].map(|dial| dial.dynamic());
        // By the trait, by the impl of it, and by that of its supertrait.
        let operations = one.describe().await.unwrap().operations;
        assert_eq!(operations, ["str", "eq", "hash", "len"]);
        assert_eq!(one.str().await.unwrap(), "at 0");
        assert!(one.equals(&other).await.unwrap());
        assert!(!one.equals(&marked).await.unwrap(), "another type");
        assert!(!one.same_object(&other));
        assert_eq!(one.hash().await.unwrap(), other.hash().await.unwrap());
        assert_eq!((one.len().await.unwrap(), marked.len().await.unwrap()), (4, 1));
        other.set("at", 1).await.unwrap();
        assert!(!one.equals(&other).await.unwrap());
        // As its supertrait it is what that says.
        let typed: Netref<dyn Dial> = one.cast().await.unwrap();
        let above = typed.upcast::<dyn Marked>().dynamic();
        assert_eq!(above.str().await.unwrap(), "Marked");
        assert_eq!(above.len().await.unwrap(), 4);
        assert_eq!(above.describe().await.unwrap().operations, ["len"]);
        assert!(above.get("at").await.is_err() && above.cast::<dyn Dial>().await.is_err());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_displayed_here_is_displayed_from_afar() {
        fn shown(dial: &dyn Dial) -> String {
            format!("[{dial:>6}]")
        }
        let dial: Netref<dyn Dial> = Netref::of(Round::<u32>::default());
        let (far, [host, _client]) = super::far::over_a_connection(&dial).await;
        let near = dial.to_string();
        assert!(!far.is_local());
        assert_eq!((near.as_str(), far.to_string().as_str()), ("at 0", "at 0"));
        assert_eq!(shown(&far), "[  at 0]");
        assert_eq!(far.dynamic().len().await.unwrap(), 4);
        host.close().await;
        let lost = far.to_string();
        assert!(lost.starts_with('<'), "{lost}");
    }

    #[tokio::test]
    async fn names_may_be_words_of_the_language() {
        let words: Netref<dyn Raw> = Netref::of(Everything);
        let object: Object = words.into();
        let arguments = Arguments::new().named("match", 3);
        assert_eq!(object.call("type", arguments).await.unwrap(), Value::from(3));
        let signature = object.signature("type").await.unwrap();
        assert_eq!(signature, "fn type(match: u8) -> Result<u8>");
    }

    #[tokio::test]
    async fn arguments_arrive_however_they_are_taken() {
        let object = Netref::<dyn super::Arguments>::of(Everything).dynamic();
        let arguments = Arguments::from(("a", Value::bytes(vec![1]), [1, 2], "b/c", Point { x: 7 }));
        let typed = super::Arguments::borrowed(
            &Everything,
            "a",
            &[1],
            &[1, 2],
            std::path::Path::new("b/c"),
            &Point { x: 7 },
        );
        assert_eq!(
            object.call("borrowed", arguments).await.unwrap().as_str(),
            Some(typed.unwrap().as_str())
        );
        let left_out = object.call("optional", ()).await.unwrap();
        let typed = super::Arguments::optional(&Everything, None, None, None);
        assert_eq!(left_out.as_str(), Some(typed.unwrap().as_str()));
        let value: Value = "{\"x\": 7}".parse().unwrap();
        let given = object.call("optional", ("a", value, [1, 2])).await.unwrap();
        let typed = super::Arguments::optional(&Everything, Some("a"), Some(&Point { x: 7 }), Some(&[1, 2]));
        assert_eq!(given.as_str(), Some(typed.unwrap().as_str()));
    }
}

/// The same over a connection, whose far side has an older version of the trait.
mod far {
    use std::path::Path;
    use std::sync::Arc;

    use farref::{Config, Connection, ErrorKind, Netref, Parts, Peer, Result, Root, remote};
    use farref_framing::{LinkConfig, PeerEvidence, Role, StreamLink, open};
    use farref_transport::StreamCarrier;

    use super::{Named, OnChange, Point};

    #[remote]
    trait Sized2: Named {
        async fn size(&self) -> Result<u64>;
    }

    #[remote]
    trait Other {
        fn call_back(&self, on: Netref<dyn OnChange>) -> Result<u64>;
        async fn another(&self) -> Result<Netref<dyn Named>>;
    }

    /// What the far side has.
    mod old {
        use std::path::Path;

        use super::{Named, Other, Point, Result, Sized2, remote};

        #[remote(name = "Thing", extends(Named))]
        pub(super) trait Thing: Sized2 + Other {
            fn text(&self, text: &str, more: Option<&str>, bytes: &[u8], path: &Path) -> Result<String>;
            async fn later(&self, numbers: &[u16], point: Option<&Point>, bytes: Vec<u8>) -> Result<Vec<u8>>;
            #[one_way]
            fn hint(&self, _unused: (u8, Vec<u8>)) -> Result<()>;
        }
    }

    /// What this side has: owned where the other one borrows, and more methods.
    #[remote(name = "Thing", extends(Named))]
    trait Thing: Sized2 + Other {
        fn text(&self, text: String, more: Option<String>, bytes: Vec<u8>, path: &Path) -> Result<String>;
        async fn later(&self, numbers: Vec<u16>, point: Option<Point>, bytes: &[u8]) -> Result<Vec<u8>>;
        #[one_way]
        fn hint(&self, unused: (u8, Vec<u8>)) -> Result<()>;

        fn title(&self, before: &str, after: String) -> Result<String> {
            Ok(format!("{before}{}{after}", self.name()?))
        }

        async fn size_in(&self, unit: &str, factor: u64) -> Result<String> {
            Ok(format!("{}{unit}", self.size().await? / factor))
        }

        async fn missing(&self) -> Result<()>;
    }

    struct Object;

    impl Named for Object {
        fn name(&self) -> Result<String> {
            Ok("object".into())
        }
    }

    #[remote]
    impl Sized2 for Object {
        async fn size(&self) -> Result<u64> {
            Ok(2048)
        }
    }

    #[remote]
    impl Other for Object {
        fn call_back(&self, on: Netref<dyn OnChange>) -> Result<u64> {
            on.changed("object", 2)
        }

        async fn another(&self) -> Result<Netref<dyn Named>> {
            Ok(Netref::of(Self))
        }
    }

    #[remote]
    impl old::Thing for Object {
        fn text(&self, text: &str, more: Option<&str>, bytes: &[u8], path: &Path) -> Result<String> {
            Ok(format!("{text} {more:?} {bytes:?} {}", path.display()))
        }

        async fn later(&self, numbers: &[u16], point: Option<&Point>, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
            tokio::task::yield_now().await;
            bytes.push(u8::try_from(numbers.len())?);
            bytes.extend(point.map(|point| u8::try_from(point.x)).transpose()?);
            Ok(bytes)
        }

        fn hint(&self, _unused: (u8, Vec<u8>)) -> Result<()> {
            Ok(())
        }
    }

    /// The object, and the connections that have to be kept.
    async fn far() -> (Netref<dyn Thing>, [Connection; 2]) {
        let object: Netref<dyn old::Thing> = Netref::of(Object);
        let (listening, dialling) = farref_transport::memory::pair(1024);
        let far = connect(listening, Role::Listener, [1; 16], Root::of(&object)).await;
        let near = connect(dialling, Role::Dialer, [2; 16], Root::NONE).await;
        (near.root().await.unwrap(), [far, near])
    }

    /// An object as it is at the other end of a connection.
    pub(super) async fn over_a_connection<T: ?Sized + farref::RemoteTrait>(
        object: &Netref<T>,
    ) -> (Netref<T>, [Connection; 2]) {
        let (listening, dialling) = farref_transport::memory::pair(1024);
        let far = connect(listening, Role::Listener, [1; 16], Root::of(object)).await;
        let near = connect(dialling, Role::Dialer, [2; 16], Root::NONE).await;
        (near.root().await.unwrap(), [far, near])
    }

    async fn connect(carrier: StreamCarrier, role: Role, nonce: [u8; 16], root: Root) -> Connection {
        let (inlet, outlet, _, guard) = open(carrier.into(), role).await.unwrap();
        let peer = Peer::new("mem", None, PeerEvidence::None);
        let mut parts = Parts::new(inlet, outlet, peer);
        parts.keep_open = true;
        parts.guard = guard;
        let link = |now| Box::new(StreamLink::new(LinkConfig::new(role, nonce, [0; 32]), now)) as _;
        Connection::native(link, parts, root, Config::default())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn arguments_arrive_however_they_are_taken() {
        let (thing, _connections) = far().await;
        assert!(!thing.is_local());
        let path = Path::new("/p");
        let text = thing.text("t".into(), Some("m".into()), vec![1], path);
        assert_eq!(text.unwrap(), r#"t Some("m") [1] /p"#);
        let text = thing.call().text("t".into(), None, vec![], path);
        assert_eq!(text.await.unwrap(), "t None [] /p");
        let long = thing
            .later(vec![1, 2], Some(Point { x: 7 }), &vec![0; 100_000])
            .await
            .unwrap();
        assert_eq!((long.len(), &long[100_000..]), (100_002, &[2, 7][..]));
        assert_eq!(thing.call().later(vec![], None, &[9]).await.unwrap(), [9, 0]);
        assert_eq!(thing.blocking().later(vec![], None, &[9]).unwrap(), [9, 0]);
        thing.hint((1, vec![2])).unwrap();
        thing.call().hint((1, vec![2])).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_default_body_runs_here_where_the_peer_lacks_the_method() {
        let (thing, _connections) = far().await;
        assert_eq!(thing.title("<", ">".into()).unwrap(), "<object>");
        assert_eq!(thing.blocking().title("<", ">".into()).unwrap(), "<object>");
        assert_eq!(thing.call().title("<", ">".into()).await.unwrap(), "<object>");
        assert_eq!(thing.call().title("<", ">".into()).wait().unwrap(), "<object>");
        assert_eq!(thing.size_in("K", 1024).await.unwrap(), "2K");
        assert_eq!(thing.blocking().size_in("K", 1024).unwrap(), "2K");
        assert_eq!(thing.call().size_in("K", 1024).await.unwrap(), "2K");
        assert_eq!(thing.call().size_in("K", 1024).wait().unwrap(), "2K");
        assert_eq!(
            thing.missing().await.unwrap_err().kind(),
            ErrorKind::Unimplemented
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn supertraits_reach_the_far_object() {
        let (thing, _connections) = far().await;
        assert_eq!(thing.name().unwrap(), "object");
        assert_eq!(thing.size().await.unwrap(), 2048);
        assert_eq!(thing.call().name().await.unwrap(), "object");
        assert_eq!(thing.blocking().size().unwrap(), 2048);
        let other: Netref<dyn Other> = thing.upcast();
        assert_eq!(other.blocking().another().unwrap().name().unwrap(), "object");
        assert_eq!(other.call().another().pipe().name().await.unwrap(), "object");
        assert_eq!(
            other
                .call_back(Netref::of(|_: &str, size: u64| Ok(size + 1)))
                .unwrap(),
            3
        );
        let named: Netref<dyn Named> = thing.upcast();
        assert_eq!(named.name().unwrap(), "object");
        assert!(named.same_object(&thing));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_proxy_is_a_proxy_in_whatever_it_is_wrapped() {
        let (thing, _connections) = far().await;
        let again: Netref<dyn Thing> = Netref::new(Arc::clone(thing.as_arc()));
        let inside: Netref<dyn Named> = Netref::new(Arc::new(thing.clone()));
        assert!(!again.is_local() && !inside.is_local());
        assert!(inside.same_object(&thing));
    }
}
