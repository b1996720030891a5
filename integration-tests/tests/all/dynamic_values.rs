//! Data that says what it is crosses like any other, with the netrefs in it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;
use farref::{Error, Netref, Result, Value, from_value, remote, to_value};
use farref_integration_tests::media::{over_every_medium, pair, within};
use serde::{Deserialize, Serialize};

/// A store of anything.
#[remote]
trait Store {
    async fn get(&self, name: &str) -> Result<Value>;
    fn set(&self, name: String, value: Value) -> Result<Option<Value>>;
    async fn all(&self) -> Result<BTreeMap<String, Value>>;
    async fn greeter(&self) -> Result<Netref<dyn Greeter>>;
}

#[remote]
trait Greeter {
    async fn greet(&self, name: &str) -> Result<String>;
}

#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Value>>);

#[remote]
impl Store for Memory {
    async fn get(&self, name: &str) -> Result<Value> {
        let value = self.0.lock().unwrap().get(name).cloned();
        value.ok_or_else(|| Error::msg(format!("no {name}")))
    }

    fn set(&self, name: String, value: Value) -> Result<Option<Value>> {
        Ok(self.0.lock().unwrap().insert(name, value))
    }

    async fn all(&self) -> Result<BTreeMap<String, Value>> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn greeter(&self) -> Result<Netref<dyn Greeter>> {
        Ok(Netref::of(Polite("store")))
    }
}

struct Polite(&'static str);

#[remote]
impl Greeter for Polite {
    async fn greet(&self, name: &str) -> Result<String> {
        Ok(format!("{}: good day, {name}", self.0))
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Card {
    name: String,
    tags: Vec<Option<i128>>,
    here: Option<Netref<dyn Greeter>>,
    there: Netref<dyn Greeter>,
    #[serde(with = "farref::bytes")]
    picture: Bytes,
}

#[test]
fn values_cross_with_the_netrefs_in_them() {
    over_every_medium(async |medium| {
        let joined = pair::<dyn Store>(medium, Memory::default()).await;
        let store: Netref<dyn Store> = joined.root().await;

        let typed: Value = "Point {x: 1, y: [2.5, 'c', b\"\\xff\"], kind: Kind::Round(Some(null))}"
            .parse()
            .unwrap();
        assert_eq!(
            within(store.call().set("point".into(), typed.clone()))
                .await
                .unwrap(),
            None
        );
        assert_eq!(within(store.call().get("point")).await.unwrap(), typed);
        assert_eq!(
            within(store.call().get("nothing")).await.unwrap_err().message(),
            "no nothing"
        );

        let card = Card {
            name: "card".into(),
            tags: vec![Some(1 << 100), None],
            here: Some(Netref::of(Polite("here"))),
            there: within(store.call().greeter()).await.unwrap(),
            picture: vec![7; 100_000].into(),
        };
        within(store.call().set("card".into(), to_value(&card).unwrap()))
            .await
            .unwrap();
        let value = within(store.call().get("card")).await.unwrap();
        assert_eq!(value["name"].as_str(), Some("card"));
        assert_eq!(value["there"].kind(), "reference");
        let again: Card = from_value(&value).unwrap();
        assert_eq!(again.tags, card.tags);
        assert_eq!(again.picture, card.picture);
        let here = again.here.unwrap();
        assert!(here.is_local(), "it came home");
        assert_eq!(
            within(here.call().greet("you")).await.unwrap(),
            "here: good day, you"
        );
        assert_eq!(
            within(again.there.call().greet("you")).await.unwrap(),
            "store: good day, you"
        );
        assert_eq!(within(store.call().all()).await.unwrap().len(), 2);
    });
}
