//! Objects by name: without their traits, over every medium, through relays, and with the names that may have been meant.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;
use std::sync::Mutex;

use bytes::Bytes;
use farref::object::Arguments;
use farref::{Error, ErrorKind, Netref, Object, Result, Stream, Value, from_value, remote};
use farref_integration_tests::media::{over_every_medium, pair, runtime, within};
use serde::{Deserialize, Serialize};

/// Something with a name.
#[remote(name = "test.Titled")]
trait Titled {
    /// What to call it.
    #[property]
    fn title(&self) -> Result<String>;
    /// Calls it otherwise.
    #[property]
    async fn set_title(&self, title: String) -> Result<()>;
    /// Only written.
    #[property]
    fn set_colour(&self, colour: Option<Colour>) -> Result<()>;
    /// A method that both traits have.
    fn kind(&self) -> Result<String>;
}

/// A bench of instruments.
#[remote(name = "test.Bench", version = 3)]
trait Bench: Titled {
    /// Measures.
    ///
    /// In volts.
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64>;
    async fn join(&self, words: &[String], separator: &str, end: Option<&str>) -> Result<String>;
    async fn bytes(&self, bytes: &[u8], more: Bytes, list: Vec<u8>) -> Result<Bytes>;
    async fn tell(&self, listener: Netref<dyn Listener>, times: u32) -> Result<u32>;
    fn part(&self, name: String) -> Result<Option<Netref<dyn Titled>>>;
    fn refuse(&self, why: Trouble) -> Result<(), Refused>;
    fn fail(&self) -> Result<()>;
    fn kind(&self) -> Result<String>;
    async fn any(&self, value: Value) -> Result<Value>;
    fn object(&self, object: Object) -> Result<Object>;
    #[one_way]
    fn note(&self, text: String) -> Result<()>;
    #[serial]
    async fn noted(&self) -> Result<Vec<String>>;
}

#[remote(closure)]
trait Listener {
    fn hear(&self, n: u32) -> Result<u32>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Colour {
    Red,
    Mixed { red: u8, blue: u8 },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trouble {
    code: u32,
}

/// An error of the user's own.
#[derive(Debug, Serialize, Deserialize)]
enum Refused {
    Because(Trouble),
    Call(Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Because(trouble) => write!(f, "refused with code {}", trouble.code),
            Self::Call(error) => error.fmt(f),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Call(error)
    }
}

#[derive(Default)]
struct Rig {
    title: Mutex<String>,
    notes: Mutex<Vec<String>>,
}

#[remote]
impl Titled for Rig {
    fn title(&self) -> Result<String> {
        Ok(self.title.lock().unwrap().clone())
    }

    async fn set_title(&self, title: String) -> Result<()> {
        *self.title.lock().unwrap() = title;
        Ok(())
    }

    fn set_colour(&self, colour: Option<Colour>) -> Result<()> {
        *self.title.lock().unwrap() = format!("{colour:?}");
        Ok(())
    }

    fn kind(&self) -> Result<String> {
        Ok("titled".into())
    }
}

#[remote]
impl Bench for Rig {
    fn voltage(&self, channel: u8, gain: Option<f64>) -> Result<f64> {
        Ok(f64::from(channel) * gain.unwrap_or(1.0))
    }

    async fn join(&self, words: &[String], separator: &str, end: Option<&str>) -> Result<String> {
        tokio::task::yield_now().await;
        Ok(words.join(separator) + end.unwrap_or("."))
    }

    async fn bytes(&self, bytes: &[u8], more: Bytes, list: Vec<u8>) -> Result<Bytes> {
        Ok([bytes, &*more, &*list].concat().into())
    }

    async fn tell(&self, listener: Netref<dyn Listener>, times: u32) -> Result<u32> {
        let mut sum = 0;
        for n in 0..times {
            sum += listener.call().hear(n).await?;
        }
        Ok(sum)
    }

    fn part(&self, name: String) -> Result<Option<Netref<dyn Titled>>> {
        Ok((name == "part").then(|| Netref::of(Rig::default())))
    }

    fn refuse(&self, why: Trouble) -> Result<(), Refused> {
        Err(Refused::Because(why))
    }

    fn fail(&self) -> Result<()> {
        Err(Error::new(ErrorKind::Limit, "out of cable").context("while measuring"))
    }

    fn kind(&self) -> Result<String> {
        Ok("bench".into())
    }

    async fn any(&self, value: Value) -> Result<Value> {
        Ok(value)
    }

    fn object(&self, object: Object) -> Result<Object> {
        Ok(object)
    }

    fn note(&self, text: String) -> Result<()> {
        self.notes.lock().unwrap().push(text);
        Ok(())
    }

    async fn noted(&self) -> Result<Vec<String>> {
        Ok(self.notes.lock().unwrap().clone())
    }
}

/// What everything by name does, whether near, far, or beyond.
async fn by_name(bench: &Object) {
    let call = async |name: &str, arguments: Arguments| within(bench.call(name, arguments)).await;
    // By place, by name, and left out.
    assert_eq!(call("voltage", (3,).into()).await.unwrap(), Value::from(3.0));
    assert_eq!(call("voltage", [3].into()).await.unwrap(), Value::from(3.0));
    assert_eq!(call("voltage", (3, 2).into()).await.unwrap(), Value::from(6.0));
    let named = Arguments::new().named("gain", 0.5).named("channel", 3);
    assert_eq!(call("voltage", named).await.unwrap(), Value::from(1.5));
    let mixed = Arguments::from((vec!["a", "b"],)).named("separator", "+");
    assert_eq!(call("join", mixed).await.unwrap(), Value::from("a+b."));
    assert_eq!(
        call("join", (["a", "b"], "-", "!").into()).await.unwrap(),
        Value::from("a-b!")
    );
    // Bytes of each kind, also as numbers.
    let long = vec![7u8; 10_000];
    let arguments = Arguments::new()
        .with(Value::bytes(long.clone()))
        .with(Value::bytes(vec![1]))
        .with([2, 3]);
    let back = call("bytes", arguments).await.unwrap();
    assert_eq!(back.as_bytes().unwrap()[..], [&*long, &[1, 2, 3]].concat());
    // References in arguments and results.
    let listener: Netref<dyn Listener> = Netref::of(|n: u32| Ok(n * 2));
    let sum = call("tell", (listener.clone(), 4).into()).await.unwrap();
    assert_eq!(sum, Value::from(12));
    assert_eq!(call("part", ("other",).into()).await.unwrap(), Value::Null);
    let part = call("part", ("part",).into()).await.unwrap();
    let part: Object = part.try_into().unwrap();
    within(part.set("title", "a part")).await.unwrap();
    assert_eq!(within(part.get("title")).await.unwrap(), Value::from("a part"));
    let titled: Netref<dyn Titled> = within(part.cast()).await.unwrap();
    assert_eq!(within(titled.call().title()).await.unwrap(), "a part");
    assert!(titled.dynamic().same_object(&part));
    // What comes home is what left.
    let mine = listener.dynamic();
    let home = call("object", (mine.clone(),).into()).await.unwrap();
    let home = Object::try_from(&home).unwrap();
    assert!(home.is_local() && home.same_object(&mine));
    let home: Netref<dyn Listener> = from_value(&call("any", (mine,).into()).await.unwrap()).unwrap();
    assert!(home.same_object(&listener));
    // Properties.
    within(bench.set("title", "rig")).await.unwrap();
    assert_eq!(within(bench.get("title")).await.unwrap(), Value::from("rig"));
    within(bench.set("colour", Colour::Mixed { red: 1, blue: 2 }))
        .await
        .unwrap();
    assert_eq!(
        within(bench.get("title")).await.unwrap().as_str(),
        Some("Some(Mixed { red: 1, blue: 2 })")
    );
    let typed: Value = "\"Red\"".parse().unwrap();
    within(bench.set("colour", typed)).await.unwrap();
    // A method that two traits have.
    assert_eq!(call("kind", ().into()).await.unwrap(), Value::from("bench"));
    assert_eq!(
        call("test.Titled.kind", ().into()).await.unwrap(),
        Value::from("titled")
    );
    assert_eq!(
        call("test.Bench.kind", ().into()).await.unwrap(),
        Value::from("bench")
    );
    // Attributes hold.
    call("note", ("noted",).into()).await.unwrap();
    assert_eq!(call("noted", ().into()).await.unwrap(), Value::from(["noted"]));
    // Errors of the method's own.
    let error = call("fail", ().into()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.message().as_ref()),
        (ErrorKind::Limit, "while measuring")
    );
    let why: Value = "{\"code\": 7}".parse().unwrap();
    let error = call("refuse", (why,).into()).await.unwrap_err();
    assert_eq!(error.message(), "refused with code 7");
}

async fn descriptions(bench: &Object) {
    let described = within(bench.describe()).await.unwrap();
    let interfaces = described.interfaces.iter();
    let names: Vec<_> = interfaces
        .map(|known| (known.name.as_str(), known.version))
        .collect();
    assert_eq!(names, [("test.Bench", 3), ("test.Titled", 1)]);
    assert_eq!(described.interfaces[0].extends, ["test.Titled"]);
    // It has only what every object has.
    assert!(described.operations.is_empty());
    let dir = within(bench.dir()).await.unwrap();
    assert_eq!(
        dir,
        [
            "any", "bytes", "colour", "fail", "join", "kind", "note", "noted", "object", "part", "refuse",
            "tell", "title", "voltage"
        ]
    );
    assert_eq!(within(bench.doc("")).await.unwrap(), "A bench of instruments.");
    assert_eq!(
        within(bench.doc("voltage")).await.unwrap(),
        "Measures.\n\nIn volts."
    );
    assert_eq!(within(bench.doc("title")).await.unwrap(), "What to call it.");
    assert_eq!(
        within(bench.signature("join")).await.unwrap(),
        "async fn join(words: &[String], separator: &str, end: Option<&str>) -> Result<String>"
    );
    let error = within(bench.doc("voltages")).await.unwrap_err();
    assert_eq!(
        error.message(),
        "test.Bench has no `voltages`: did you mean `voltage`?"
    );
    assert_eq!(within(bench.str()).await.unwrap(), "test.Bench");
    for (interface, is) in [("test.Bench", true), ("test.Titled", true), ("Bench", false)] {
        assert_eq!(within(bench.is(interface)).await.unwrap(), is, "{interface}");
    }
}

async fn what_is_wrong(bench: &Object) {
    let wrong = async |name: &str, arguments: Arguments, kind, message: &str| {
        let error = within(bench.call(name, arguments)).await.unwrap_err();
        assert_eq!((error.kind(), error.message().as_ref()), (kind, message));
    };
    let unknown = ErrorKind::Unimplemented;
    wrong(
        "voltaeg",
        ().into(),
        unknown,
        "test.Bench has no method `voltaeg`: did you mean `voltage`?",
    )
    .await;
    wrong(
        "explode",
        ().into(),
        unknown,
        "test.Bench has no method `explode`",
    )
    .await;
    wrong(
        "other.kind",
        ().into(),
        unknown,
        "test.Bench has no method `other.kind`",
    )
    .await;
    let mismatch = ErrorKind::SchemaMismatch;
    let of = "`voltage(channel: u8, gain: Option<f64>)`";
    wrong(
        "voltage",
        ().into(),
        mismatch,
        &format!("{of}: argument `channel` is missing"),
    )
    .await;
    wrong(
        "voltage",
        (1, 2, 3).into(),
        mismatch,
        &format!("{of}: 3 arguments given, where it takes 2"),
    )
    .await;
    wrong(
        "voltage",
        Arguments::new().named("chanel", 3),
        mismatch,
        &format!("{of}: no argument is named `chanel`: did you mean `channel`?"),
    )
    .await;
    wrong(
        "voltage",
        Arguments::from((3,)).named("channel", 3),
        mismatch,
        &format!("{of}: argument `channel` is given twice"),
    )
    .await;
    wrong(
        "voltage",
        (300,).into(),
        mismatch,
        &format!("{of}: argument `channel: u8`: invalid value: integer `300`, expected u8"),
    )
    .await;
    wrong(
        "voltage",
        (3, "much").into(),
        mismatch,
        &format!("{of}: argument `gain: Option<f64>`: invalid type: string \"much\", expected f64"),
    )
    .await;
    let error = within(bench.call("tell", (bench.clone(), 3))).await.unwrap_err();
    assert_eq!(error.kind(), mismatch);
    let message = error.message().into_owned();
    assert!(
        message.contains(
            "argument `listener: Netref<dyn Listener>`: expected an object with the interface Listener"
        ),
        "{message}"
    );
    let refused = async |call: farref::Call<Result<Value>>, message: &str| {
        let error = within(call).await.unwrap_err();
        assert_eq!((error.kind(), error.message().as_ref()), (unknown, message));
    };
    refused(
        bench.get("titel"),
        "test.Bench has no property `titel`: did you mean `title`?",
    )
    .await;
    refused(
        bench.get("voltage"),
        "`voltage` is a method of test.Bench and no property: call it",
    )
    .await;
    refused(
        bench.get("colour"),
        "the property `colour` of test.Bench cannot be read",
    )
    .await;
    refused(
        bench.index(3),
        "this test.Bench does not know the operation `index`",
    )
    .await;
    refused(
        bench.fetch(),
        "this test.Bench does not know the operation `iterate`",
    )
    .await;
    let error = within(bench.set("title", 7)).await.unwrap_err();
    assert_eq!(
        error.message(),
        "`set_title(title: String)`: argument `title: String`: invalid type: integer `7`, expected a string"
    );
    let error = within(bench.cast::<dyn Listener>()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert_eq!(
        error.message(),
        "expected an object with the interface Listener, and it was handed out as test.Bench"
    );
}

#[test]
fn a_far_object_does_by_name_what_it_does_by_its_trait() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Bench>(medium, Rig::default()).await;
        let bench = within(joined.client.object()).await.unwrap();
        assert!(!bench.is_local());
        by_name(&bench).await;
        descriptions(&bench).await;
        what_is_wrong(&bench).await;
        // There and back: the same object, under its trait and one that this extends.
        let typed: Netref<dyn Bench> = within(bench.cast()).await.unwrap();
        assert_eq!(within(typed.call().voltage(2, None)).await.unwrap(), 2.0);
        let titled: Netref<dyn Titled> = within(bench.cast()).await.unwrap();
        assert_eq!(within(titled.call().kind()).await.unwrap(), "titled");
        assert!(typed.dynamic().same_object(&bench) && titled.dynamic().same_object(&bench));
        drop((bench, typed, titled));
        joined.at_rest().await;
    });
}

#[test]
fn an_object_of_this_process_does_the_same() {
    runtime().block_on(async {
        let bench: Netref<dyn Bench> = Netref::of(Rig::default());
        let object = bench.dynamic();
        by_name(&object).await;
        descriptions(&object).await;
        what_is_wrong(&object).await;
        let again: Netref<dyn Bench> = within(object.cast()).await.unwrap();
        assert!(again.same_object(&bench));
    });
}

#[test]
fn threads_wait_for_what_is_done_by_name() {
    let runtime = runtime();
    let joined = runtime.block_on(pair::<dyn Bench>("unix", Rig::default()));
    let bench = runtime.block_on(joined.client.object()).unwrap();
    assert_eq!(bench.call("voltage", (3,)).wait().unwrap().as_f64(), Some(3.0));
    bench.set("title", "rig").wait().unwrap();
    assert_eq!(bench.get("title").wait().unwrap().as_str(), Some("rig"));
    assert_eq!(bench.dir().wait().unwrap().len(), 14);
    // A callback comes back to the thread that waits.
    let here = std::thread::current().id();
    let listener: Netref<dyn Listener> = Netref::of(move |n: u32| {
        let _ = here;
        Ok(n)
    });
    assert_eq!(
        bench.call("tell", (listener, 3)).wait().unwrap().as_u64(),
        Some(3)
    );
    drop(bench);
    runtime.block_on(joined.at_rest());
}

/// Passes on whatever it is given.
#[remote]
trait Middle {
    async fn any(&self, name: String) -> Result<Value>;
    async fn titled(&self) -> Result<Netref<dyn Titled>>;
}

struct Relaying(Netref<dyn Bench>);

#[remote]
impl Middle for Relaying {
    async fn any(&self, name: String) -> Result<Value> {
        match name.as_str() {
            "bench" => Ok(self.0.clone().into()),
            _ => Err(Error::msg("no such thing")),
        }
    }

    async fn titled(&self) -> Result<Netref<dyn Titled>> {
        Ok(self.0.upcast())
    }
}

#[test]
fn a_relay_passes_on_what_is_done_by_name_and_no_more_than_it_was_meant_to() {
    runtime().block_on(async {
        let host = pair::<dyn Bench>("unix", Rig::default()).await;
        let bench: Netref<dyn Bench> = host.root().await;
        let relay = pair::<dyn Middle>("mem", Relaying(bench)).await;
        let middle = within(relay.client.object()).await.unwrap();
        let far: Object = within(middle.call("any", ("bench",)))
            .await
            .unwrap()
            .try_into()
            .unwrap();
        by_name(&far).await;
        descriptions(&far).await;
        what_is_wrong(&far).await;
        // Handed on as a supertrait, it is nothing more.
        let titled: Object = within(middle.call("titled", ()))
            .await
            .unwrap()
            .try_into()
            .unwrap();
        assert_eq!(
            within(titled.call("kind", ())).await.unwrap(),
            Value::from("titled")
        );
        assert_eq!(within(titled.dir()).await.unwrap(), ["colour", "kind", "title"]);
        within(titled.set("title", "from afar")).await.unwrap();
        assert_eq!(within(far.get("title")).await.unwrap(), Value::from("from afar"));
        for name in ["voltage", "test.Bench.kind", "test.Bench.voltage"] {
            let error = within(titled.call(name, (1,))).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unimplemented, "{name}: {error}");
        }
        assert!(within(titled.is("test.Titled")).await.unwrap());
        assert!(!within(titled.is("test.Bench")).await.unwrap());
        let error = within(titled.cast::<dyn Bench>()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        for refused in [titled.fetch(), titled.index(0)] {
            assert_eq!(
                within(refused).await.unwrap_err().kind(),
                ErrorKind::Unimplemented
            );
        }
        drop((far, titled, middle));
        relay.at_rest().await;
    });
}

/// A shelf of numbers with names.
#[remote]
trait Shelf {
    async fn twin(&self) -> Result<Netref<dyn Shelf>>;
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
struct Numbers(Vec<(String, u32)>);

#[remote(str, eq, hash, len, index(&str), iter, copy)]
impl Shelf for Numbers {
    async fn twin(&self) -> Result<Netref<dyn Shelf>> {
        Ok(Netref::of(self.clone()))
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} numbers", self.0.len())
    }
}

impl Numbers {
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Index<&str> for Numbers {
    type Output = u32;

    fn index(&self, name: &str) -> &u32 {
        let found = self.0.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no number `{name}`")).1
    }
}

impl<'a> IntoIterator for &'a Numbers {
    type Item = &'a (String, u32);
    type IntoIter = std::slice::Iter<'a, (String, u32)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// The places of another type, which answers less.
#[derive(PartialEq, Eq)]
struct Places(Vec<u64>);

#[remote(index, iter)]
impl Shelf for Places {
    async fn twin(&self) -> Result<Netref<dyn Shelf>> {
        Ok(Netref::of(Self(self.0.clone())))
    }
}

impl Index<usize> for Places {
    type Output = u64;

    fn index(&self, place: usize) -> &u64 {
        &self.0[place]
    }
}

impl<'a> IntoIterator for &'a Places {
    type Item = &'a u64;
    type IntoIter = std::slice::Iter<'a, u64>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

fn numbers(count: u32) -> Numbers {
    Numbers((0..count).map(|n| (format!("n{n}"), n)).collect())
}

#[test]
fn objects_answer_by_the_traits_of_std_that_they_name() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Shelf>(medium, numbers(100)).await;
        let shelf = within(joined.client.object()).await.unwrap();
        let described = within(shelf.describe()).await.unwrap();
        assert_eq!(
            described.operations,
            ["str", "eq", "hash", "len", "index", "iter", "copy"]
        );
        assert_eq!(within(shelf.str()).await.unwrap(), "100 numbers");
        assert_eq!(within(shelf.len()).await.unwrap(), 100);
        assert_eq!(within(shelf.index("n42")).await.unwrap(), Value::from(42));
        let error = within(shelf.index("m")).await.unwrap_err();
        assert_eq!(error.message(), "no number `m`");
        let error = within(shelf.index(3)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SchemaMismatch, "{error}");

        let twin = within(shelf.call("twin", ())).await.unwrap();
        let twin = Object::try_from(twin).unwrap();
        assert!(!twin.same_object(&shelf));
        assert!(within(shelf.equals(&twin)).await.unwrap());
        assert!(within(shelf.equals(&shelf)).await.unwrap());
        assert_eq!(
            within(shelf.hash()).await.unwrap(),
            within(twin.hash()).await.unwrap()
        );
        let mine: Netref<dyn Shelf> = Netref::of(numbers(100));
        let elsewhere = within(shelf.equals(mine.dynamic())).await.unwrap();
        assert!(!elsewhere, "an object of another host is another one");

        let mut items = shelf.iter();
        let mut count = 0;
        while let Some(item) = within(items.next()).await {
            let (name, n): (String, u32) = from_value(&item.unwrap()).unwrap();
            assert_eq!((name, n), (format!("n{count}"), count));
            count += 1;
        }
        assert_eq!(count, 100);
        let copy: Vec<(String, u32)> = from_value(&within(shelf.fetch()).await.unwrap()).unwrap();
        assert_eq!(copy, numbers(100).0);
        drop((shelf, twin, mine, items));
        joined.at_rest().await;
    });
}

#[test]
fn a_container_is_fetched_by_its_elements_if_it_says_no_more() {
    runtime().block_on(async {
        let joined = pair::<dyn Shelf>("unix", Places((0..5000).collect())).await;
        let shelf = within(joined.client.object()).await.unwrap();
        let copy: Vec<u64> = from_value(&within(shelf.fetch()).await.unwrap()).unwrap();
        assert!(copy.into_iter().eq(0..5000));
        assert_eq!(within(shelf.index(7)).await.unwrap(), Value::from(7));
        let error = within(shelf.index(5000)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.message().as_ref()),
            (
                ErrorKind::Remote,
                "index out of bounds: the len is 5000 but the index is 5000"
            )
        );
        assert_eq!(
            within(shelf.len()).await.unwrap_err().kind(),
            ErrorKind::Unimplemented
        );
        assert_eq!(
            within(shelf.hash()).await.unwrap_err().kind(),
            ErrorKind::Unimplemented
        );
        let twin = Object::try_from(within(shelf.call("twin", ())).await.unwrap()).unwrap();
        assert!(within(shelf.equals(&shelf)).await.unwrap());
        assert!(!within(shelf.equals(&twin)).await.unwrap());
        assert_eq!(within(shelf.str()).await.unwrap(), "Shelf");
    });
}

/// Takes what it is lent, and copies it.
#[remote]
trait Taker {
    async fn take(&self, from: Object) -> Result<BTreeMap<String, Vec<u8>>>;
    async fn element(&self, from: Object, key: String) -> Result<Value>;
}

struct Taking;

#[remote]
impl Taker for Taking {
    async fn take(&self, from: Object) -> Result<BTreeMap<String, Vec<u8>>> {
        let copy = from.fetch().await?;
        from_value(&copy).map_err(|error| Error::msg(error.to_string()))
    }

    async fn element(&self, from: Object, key: String) -> Result<Value> {
        from.index(key).await
    }
}

#[test]
fn a_container_of_this_side_is_sent_as_an_object_and_copied_over_there() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Taker>(medium, Taking).await;
        let taker: Netref<dyn Taker> = joined.root().await;
        let table: Value = "{\"a\": [1, 2], \"b\": []}".parse().unwrap();
        let object = Object::of(table);
        let copy = within(taker.call().take(object.clone())).await.unwrap();
        assert_eq!(copy, [("a".into(), vec![1, 2]), ("b".into(), vec![])].into());
        let element = within(taker.call().element(object.clone(), "a".into()))
            .await
            .unwrap();
        assert_eq!(element, "[1, 2]".parse().unwrap());
        let error = within(taker.call().element(object, "c".into()))
            .await
            .unwrap_err();
        assert_eq!(error.message(), "there is no element \"c\"");
        drop(taker);
        joined.at_rest().await;
    });
}

/// A shelf without an end.
struct Endless(String);

#[remote(iter)]
impl Shelf for Endless {
    async fn twin(&self) -> Result<Netref<dyn Shelf>> {
        Err(Error::msg("there is but one"))
    }
}

impl<'a> IntoIterator for &'a Endless {
    type Item = &'a str;
    type IntoIter = std::iter::Repeat<&'a str>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::repeat(&self.0)
    }
}

#[test]
fn what_never_ends_is_not_copied_for_ever() {
    runtime().block_on(async {
        let joined = pair::<dyn Shelf>("unix", Endless("x".repeat(200_000))).await;
        let shelf = within(joined.client.object()).await.unwrap();
        let mut items = shelf.iter();
        for _ in 0..3 {
            let item = within(items.next()).await.unwrap().unwrap();
            assert_eq!(item.as_str().map(str::len), Some(200_000));
        }
        let error = within(shelf.fetch()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert_eq!(error.message(), "the object takes more than 64 MiB");
        drop((shelf, items));
        joined.at_rest().await;
    });
}

/// Streams are objects, too.
#[remote]
trait Mill {
    async fn count(&self, to: u64) -> Result<Stream<u64>>;
    async fn sum(&self, of: Stream<u64>) -> Result<u64>;
}

struct Wind;

#[remote]
impl Mill for Wind {
    async fn count(&self, to: u64) -> Result<Stream<u64>> {
        Ok(Stream::from_iter(0..to))
    }

    async fn sum(&self, mut of: Stream<u64>) -> Result<u64> {
        let mut sum = 0;
        while let Some(item) = of.next().await {
            sum += item?;
        }
        Ok(sum)
    }
}

#[test]
fn streams_go_by_name_as_well() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Mill>(medium, Wind).await;
        let mill = within(joined.client.object()).await.unwrap();
        let counted = within(mill.call("count", (100,))).await.unwrap();
        let mut stream: Stream<u64> = from_value(&counted).unwrap();
        let mut sum = 0;
        while let Some(item) = within(stream.next()).await {
            sum += item.unwrap();
        }
        assert_eq!(sum, 4950);
        let mine = Stream::from_iter(0..100_u64);
        assert_eq!(
            within(mill.call("sum", (mine,))).await.unwrap(),
            Value::from(4950)
        );
        drop((mill, counted, stream));
        joined.at_rest().await;
    });
}

#[cfg(unix)]
mod given_up {
    use std::borrow::Cow;
    use std::sync::mpsc;

    use farref::Server;
    use farref::message::{Message, Operation};
    use farref::protocol::{CancelReason, Op};
    use farref_integration_tests::raw_peer::{RawPeer, call};

    use super::*;

    /// A shelf without an end, that says when elements are passed over and when nobody does any more.
    struct Slow(Mutex<Option<Passing>>);

    struct Passing {
        begun: mpsc::Sender<()>,
        go_on: mpsc::Receiver<()>,
        times: u32,
        over: mpsc::Sender<u32>,
    }

    #[remote(iter)]
    impl Shelf for Slow {
        async fn twin(&self) -> Result<Netref<dyn Shelf>> {
            Err(Error::msg("there is but one"))
        }
    }

    impl IntoIterator for &Slow {
        type Item = u8;
        type IntoIter = Passing;

        fn into_iter(self) -> Passing {
            self.0.lock().unwrap().take().unwrap()
        }
    }

    impl Iterator for Passing {
        type Item = u8;

        fn next(&mut self) -> Option<u8> {
            Some(0)
        }

        fn nth(&mut self, _: usize) -> Option<u8> {
            self.times += 1;
            if self.times == 1 {
                self.begun.send(()).unwrap();
                self.go_on.recv().unwrap();
            }
            Some(0)
        }
    }

    impl Drop for Passing {
        fn drop(&mut self) {
            let _ = self.over.send(self.times);
        }
    }

    /// It used to go on on its thread, with nobody to wait for it.
    #[test]
    fn elements_are_not_passed_over_for_whoever_has_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let runtime = runtime();
        let ((begun, has_begun), (go, go_on), (over, is_over)) =
            (mpsc::channel(), mpsc::channel(), mpsc::channel());
        let passing = Passing {
            begun,
            go_on,
            times: 0,
            over,
        };
        let server = Server::of::<dyn Shelf>(Slow(Mutex::new(Some(passing))));
        runtime
            .block_on(server.listen(format!("unix:{}", path.display())))
            .unwrap();
        let mut peer = RawPeer::dial(&path);
        let mut iterating = call::<dyn Shelf>(1, 0, "twin");
        iterating.operation = Operation::Known(Cow::Owned(Op::Iterate));
        // The first is 2^29, and one is wanted.
        peer.say_with(&Message::Call(iterating), &[0xfc, 0, 0, 0, 0x20, 1]);
        has_begun.recv().unwrap();
        peer.say(&Message::Cancel {
            call: 1,
            reason: CancelReason::Dropped,
        });
        peer.answer_to(1);
        go.send(()).unwrap();
        assert_eq!(is_over.recv().unwrap(), 1);
    }
}
