//! Old and new peers: types that have changed between two versions of a program are read as each other.

use std::collections::BTreeMap;
use std::fmt::Debug;

use farref::{ErrorKind, Netref, Result, Shape, remote};
use farref_integration_tests::media::{pair, runtime, within};
use serde::{Deserialize, Serialize};

/// What the other version's sample is read as; `None` if it cannot be.
type Read<T> = Option<T>;

/// Two versions of a type `T`, each with a sample, and with what the sample of the other is read as.
macro_rules! versions {
    ($(#[$about:meta])* $name:ident: old { $($old:item)* } new { $($new:item)* }) => {
        $(#[$about])*
        mod $name {
            #[allow(unused_imports, reason = "not every type needs all")]
            mod old {
                use super::super::*;
                $($old)*
                service!();
            }
            #[allow(unused_imports, reason = "not every type needs all")]
            mod new {
                use super::super::*;
                $($new)*
                service!();
            }

            #[test]
            fn old_and_new_understand_each_other() {
                super::runtime().block_on(async {
                    for medium in ["mem", "unix", "tcp"] {
                        old::call(medium, new::Server, old::other(), new::other().is_some()).await;
                        new::call(medium, old::Server, new::other(), old::other().is_some()).await;
                        old::call(medium, old::Server, Some(old::sample()), true).await;
                        new::call(medium, new::Server, Some(new::sample()), true).await;
                    }
                });
            }
        }
    };
}

/// One version of the program.
macro_rules! service {
    () => {
        #[remote(name = "farref.tests.Versioned")]
        pub(super) trait Service {
            async fn take(&self, value: T, number: u8) -> Result<T>;
            async fn take_ref(&self, value: &T) -> Result<Vec<T>>;
            fn take_blocking(&self, value: Option<&T>) -> Result<(T, u8)>;
            async fn give(&self) -> Result<T>;
        }

        pub(super) struct Server;

        impl Server {
            fn check(value: &T) -> Result<T> {
                assert!(
                    *value == sample() || Some(value) == other().as_ref(),
                    "{value:?}"
                );
                Ok(sample())
            }
        }

        #[remote]
        impl Service for Server {
            async fn take(&self, value: T, number: u8) -> Result<T> {
                assert_eq!(number, 7);
                Self::check(&value)
            }

            async fn take_ref(&self, value: &T) -> Result<Vec<T>> {
                Ok(vec![Self::check(value)?])
            }

            fn take_blocking(&self, value: Option<&T>) -> Result<(T, u8)> {
                Ok((value.map_or_else(|| Ok(sample()), Self::check)?, 7))
            }

            async fn give(&self) -> Result<T> {
                Ok(sample())
            }
        }

        /// Calls a server of this or of the other version, which reads our sample if it is `understood`, and sends
        /// its own.
        pub(super) async fn call(medium: &str, server: impl Host, expected: Read<T>, understood: bool) {
            let pair = server.serve(medium).await;
            let root: Netref<dyn Service> = pair.root().await;
            assert_eq!(or_refused(within(root.call().give()).await), expected);
            let Some(expected) = expected.filter(|_| understood) else {
                let results = [
                    within(root.call().take(sample(), 7)).await.map(drop),
                    within(root.call().take_ref(&sample())).await.map(drop),
                    within(root.call().take_blocking(Some(&sample())))
                        .await
                        .map(drop),
                ];
                assert_eq!(results.map(or_refused), [None, None, None]);
                return pair.at_rest().await;
            };
            // Several at once: all of them wait for the same answer.
            let (first, second) = (
                root.call().take(sample(), 7).start(),
                root.call().take_ref(&sample()).start(),
            );
            assert_eq!(within(first).await.unwrap(), expected);
            assert_eq!(
                within(second).await.unwrap(),
                std::slice::from_ref(&expected)
            );
            assert_eq!(
                within(root.call().take_blocking(Some(&sample())))
                    .await
                    .unwrap(),
                (expected.clone(), 7)
            );
            assert_eq!(
                within(root.call().take_blocking(None)).await.unwrap(),
                (expected.clone(), 7)
            );
            let blocking = root.clone();
            let waited =
                tokio::task::spawn_blocking(move || blocking.blocking().take_blocking(Some(&sample())));
            assert_eq!(within(waited).await.unwrap().unwrap(), (expected, 7));
            pair.at_rest().await;
        }

        impl Host for Server {
            async fn serve(self, medium: &str) -> farref_integration_tests::media::Pair {
                pair::<dyn Service>(medium, self).await
            }
        }
    };
}

/// A server of whatever version.
trait Host {
    async fn serve(self, medium: &str) -> farref_integration_tests::media::Pair;
}

/// The result, unless one who read it, or what led to it, said that it could not: for the types, or for this value of
/// them.
#[track_caller]
fn or_refused<T>(result: Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let kinds = [ErrorKind::SchemaMismatch, ErrorKind::Malformed];
            assert!(kinds.contains(&error.kind()), "{error:?}");
            None
        }
    }
}

versions! {
    a_field_is_added_with_a_default:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { name: String }
        pub(super) fn sample() -> T { T { name: "old".into() } }
        pub(super) fn other() -> Read<T> { Some(T { name: "new".into() }) }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { #[serde(default)] size: u32, name: String, note: Option<String> }
        pub(super) fn sample() -> T { T { size: 5, name: "new".into(), note: Some("n".into()) } }
        pub(super) fn other() -> Read<T> { Some(T { size: 0, name: "old".into(), note: None }) }
    }
}

versions! {
    fields_are_in_another_order:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { a: u32, b: u32, c: Vec<u8> }
        pub(super) fn sample() -> T { T { a: 1, b: 2, c: vec![3] } }
        pub(super) fn other() -> Read<T> { Some(sample()) }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { #[serde(with = "farref::bytes")] c: Vec<u8>, b: u32, a: u32 }
        pub(super) fn sample() -> T { T { a: 1, b: 2, c: vec![3] } }
        pub(super) fn other() -> Read<T> { Some(sample()) }
    }
}

versions! {
    a_field_is_renamed_and_known_by_both_names:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Shape)]
        pub(super) struct T { #[serde(alias = "length")] size: u16 }
        pub(super) fn sample() -> T { T { size: 3 } }
        pub(super) fn other() -> Read<T> { Some(T { size: 4 }) }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Shape)]
        pub(super) struct T { #[serde(alias = "size")] length: u64 }
        pub(super) fn sample() -> T { T { length: 4 } }
        pub(super) fn other() -> Read<T> { Some(T { length: 3 }) }
    }
}

versions! {
    a_variant_is_added_and_not_used:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) enum T { A, B(u8) }
        pub(super) fn sample() -> T { T::A }
        pub(super) fn other() -> Read<T> { Some(T::B(3)) }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) enum T { New { of: Vec<T> }, A, B(u16) }
        pub(super) fn sample() -> T { T::B(3) }
        pub(super) fn other() -> Read<T> { Some(T::A) }
    }
}

/// A number has become wider, a value optional, deep inside.
mod nested {
    use super::*;

    versions! {
        numbers_are_wider_and_values_optional:
        old {
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub(super) struct Inner { at: u16, volts: f32 }
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub(super) struct Of<V> { value: V }
            pub(super) type T = BTreeMap<String, Vec<(u8, Of<Inner>)>>;
            pub(super) fn sample() -> T {
                BTreeMap::from([("k".into(), vec![(1, Of { value: Inner { at: 300, volts: 1.5 } })])])
            }
            pub(super) fn other() -> Read<T> { Some(sample()) }
        }
        new {
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub(super) struct Inner { volts: f64, at: u64, #[serde(default)] label: String }
            #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
            pub(super) struct Of<V> { value: V }
            pub(super) type T = BTreeMap<String, Vec<(u16, Of<Inner>)>>;
            pub(super) fn sample() -> T {
                let inner = Inner { at: 300, volts: 1.5, label: String::new() };
                BTreeMap::from([("k".into(), vec![(1, Of { value: inner })])])
            }
            pub(super) fn other() -> Read<T> { Some(sample()) }
        }
    }
}

versions! {
    what_was_there_always_may_be_missing:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { value: u8 }
        pub(super) fn sample() -> T { T { value: 1 } }
        // An option is no value, whatever is in it.
        pub(super) fn other() -> Read<T> { None }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { value: Option<u8> }
        pub(super) fn sample() -> T { T { value: None } }
        pub(super) fn other() -> Read<T> { Some(T { value: Some(1) }) }
    }
}

versions! {
    a_variant_that_the_reader_lacks_is_used:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) enum T { A }
        pub(super) fn sample() -> T { T::A }
        pub(super) fn other() -> Read<T> { None }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) enum T { A, B }
        pub(super) fn sample() -> T { T::B }
        pub(super) fn other() -> Read<T> { Some(T::A) }
    }
}

versions! {
    nothing_is_left_of_the_old_type:
    old {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { value: String }
        pub(super) fn sample() -> T { T { value: "a".into() } }
        pub(super) fn other() -> Read<T> { None }
    }
    new {
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(super) struct T { value: Vec<u32> }
        pub(super) fn sample() -> T { T { value: vec![1] } }
        pub(super) fn other() -> Read<T> { None }
    }
}
