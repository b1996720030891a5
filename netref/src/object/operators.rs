//! What objects of other languages can be asked besides: to be called themselves, to change their elements, for an order,
//! and to be entered and left.

use farref_boxing::{DeserializeAs, Error, ErrorKind, Plain, Result, Value};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Arguments, ByValue, Object, to_value};
use crate::call::Call;
use crate::protocol::{Op, Ordering};
use crate::runtime;

impl Object {
    /// Calls the object itself, as `object(..)` does in Python.
    ///
    /// A remote object has to have one method in all, which is called.
    ///
    /// ```
    /// # extern crate farref_netref as farref;
    /// use farref::{Netref, Result, remote};
    ///
    /// #[remote(closure)]
    /// trait Scale {
    ///     fn scale(&self, by: u32) -> Result<u32>;
    /// }
    ///
    /// let scale: Netref<dyn Scale> = Netref::of(|by: u32| Ok(21 * by));
    /// assert_eq!(scale.dynamic().invoke((2,)).wait()?.as_u64(), Some(42));
    /// # Ok::<(), farref::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call); [`ErrorKind::Unimplemented`] if it has several methods, with their names, or none.
    pub fn invoke(&self, arguments: impl Into<Arguments>) -> Call<Result<Value>> {
        let arguments = arguments.into();
        match arguments.check() {
            Ok(()) => self.ask::<Plain, _>(Op::Invoke, &arguments),
            Err(error) => Call::failed(error),
        }
    }

    /// Deletes a property, where an object of another language or a [`Dynamic`](super::Dynamic) one lets that be done.
    ///
    /// # Errors
    ///
    /// Besides those of any call: [`ErrorKind::Unimplemented`] for objects with traits.
    pub fn delete(&self, name: &str) -> Call<Result<()>> {
        self.ask::<ByValue, _>(Op::Delete(name.to_owned()), &())
    }

    /// Writes the element with that key. What can be done is as for [`delete`](Self::delete): objects with traits have
    /// methods for it.
    pub fn set_index(&self, key: impl Serialize, value: impl Serialize) -> Call<Result<()>> {
        match (to_value(&key), to_value(&value)) {
            (Ok(key), Ok(value)) => self.ask::<ByValue, _>(Op::SetIndex, &(key, value)),
            (Err(error), _) | (_, Err(error)) => Call::failed(error),
        }
    }

    /// Deletes the element with that key. As for [`set_index`](Self::set_index).
    pub fn delete_index(&self, key: impl Serialize) -> Call<Result<()>> {
        self.ask_with::<ByValue, _>(Op::DeleteIndex, key)
    }

    /// The object as text for programmers. A remote object has the one [text](Self::str) for everybody.
    pub fn repr(&self) -> Call<Result<String>> {
        self.ask::<ByValue, _>(Op::Repr, &())
    }

    /// Whether the object stands so to another value, which may be an object as well. What can be done is as for
    /// [`delete`](Self::delete): objects with traits have no order.
    pub fn compare(&self, ordering: Ordering, other: impl Serialize) -> Call<Result<bool>> {
        self.ask_with::<ByValue, _>(Op::Order(ordering), other)
    }

    /// Enters the object, as Python's `with` does, and gives what that gives. It has to be [left](Self::exit) again:
    /// [`within`](Self::within) and [`scope`](Self::scope) see to that. What can be done is as for
    /// [`delete`](Self::delete): objects with traits cannot be entered.
    pub fn enter(&self) -> Call<Result<Value>> {
        self.ask::<Plain, _>(Op::Enter, &())
    }

    /// Leaves an object that was [entered](Self::enter), because of an error if there is one. The result tells whether the
    /// object has dealt with the error: then it goes no further.
    pub fn exit(&self, because: Option<&Error>) -> Call<Result<bool>> {
        self.ask::<Truth, _>(Op::Exit, &because)
    }

    /// Enters the object, runs `run` with what that gives, and leaves it. `None`: `run` failed, and the object has dealt
    /// with that.
    ///
    /// ```
    /// # extern crate farref_netref as farref;
    /// # async fn example(file: farref::Object) -> farref::Result<()> {
    /// let read = file.within(|file| async move {
    ///     farref::Object::try_from(file)?.call("read", ()).await
    /// });
    /// println!("{:?}", read.await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `run`; those of entering and leaving.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while `run` goes on leaves the object in the background, because of
    /// [`Cancelled`](ErrorKind::Cancelled). Dropped before that, the object may have been entered, and is not left; dropped
    /// after it, the object may not have been left yet, and that is given up.
    pub async fn within<R, F>(&self, run: impl FnOnce(Value) -> F) -> Result<Option<R>>
    where
        F: Future<Output = Result<R>>,
    {
        let entered = self.enter().await?;
        let inside = Inside(Some(self));
        let ran = run(entered).await;
        let because = ran.as_ref().err();
        let handled = inside.leave(because).await?;
        outcome(ran, handled)
    }

    /// The same for a thread that may wait.
    ///
    /// # Errors
    ///
    /// As for [`within`](Self::within).
    pub fn scope<R>(&self, run: impl FnOnce(Value) -> Result<R>) -> Result<Option<R>> {
        let entered = self.enter().wait()?;
        let inside = Inside(Some(self));
        let ran = run(entered);
        let because = ran.as_ref().err();
        let handled = inside.leave(because).wait()?;
        outcome(ran, handled)
    }
}

/// Reads what some languages take for true: anything but nothing, `false` and zero.
enum Truth {}

impl<'de> DeserializeAs<'de, bool> for Truth {
    fn deserialize_as<D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
        Ok(match Value::deserialize(deserializer)? {
            Value::Null => false,
            Value::Bool(truth) => truth,
            value => value.as_f64() != Some(0.0),
        })
    }
}

/// What is left of a run when the object was left.
fn outcome<R>(ran: Result<R>, handled: bool) -> Result<Option<R>> {
    match ran {
        Ok(result) => Ok(Some(result)),
        Err(_) if handled => Ok(None),
        Err(error) => Err(error),
    }
}

/// An object that was entered: it is left, also if its holder is dropped or panics.
struct Inside<'a>(Option<&'a Object>);

impl Inside<'_> {
    fn leave(mut self, because: Option<&Error>) -> Call<Result<bool>> {
        match self.0.take() {
            Some(object) => object.exit(because),
            None => Call::failed(ErrorKind::Misuse.into()),
        }
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if let Some(object) = self.0 {
            let left = object.exit(Some(&ErrorKind::Cancelled.into()));
            drop(runtime::handle().spawn(left));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::object::{Description, Dynamic};
    use crate::{Netref, remote};

    /// An object as other languages have them: it notes what it is asked.
    #[derive(Default)]
    struct Foreign {
        asked: Arc<Mutex<Vec<String>>>,
        /// It deals with errors.
        is_calm: bool,
    }

    impl Dynamic for Foreign {
        fn describe(&self) -> Description {
            Description::by_name("Foreign")
        }

        fn perform(&self, op: &Op, arguments: Arguments) -> Result<Value> {
            self.asked.lock().unwrap().push(format!("{op} {arguments}"));
            Ok(match op {
                Op::Repr => "<foreign>".into(),
                Op::Order(ordering) => (*ordering == Ordering::Less).into(),
                Op::Enter => 7.into(),
                Op::Exit if self.is_calm => 1.into(),
                _ => Value::Null,
            })
        }
    }

    fn foreign(is_calm: bool) -> (Object, Arc<Mutex<Vec<String>>>) {
        let foreign = Foreign {
            is_calm,
            ..Foreign::default()
        };
        let asked = Arc::clone(&foreign.asked);
        (Object::dynamic(foreign), asked)
    }

    #[tokio::test]
    async fn an_object_of_another_language_is_asked_what_it_can_be_asked_there() {
        let (object, asked) = foreign(false);
        object.set_index("a", 1).await.unwrap();
        object.delete_index("a").await.unwrap();
        object.delete("title").await.unwrap();
        assert_eq!(object.repr().await.unwrap(), "<foreign>");
        assert!(object.compare(Ordering::Less, 2).await.unwrap());
        assert!(!object.compare(Ordering::GreaterEqual, 2).await.unwrap());
        object.invoke((1,)).await.unwrap();
        let expected = [
            "set index (\"a\", 1)",
            "delete index (\"a\")",
            "delete title ()",
            "repr ()",
            "< (2)",
            ">= (2)",
            "invoke (1)",
        ];
        assert_eq!(*asked.lock().unwrap(), expected);
    }

    /// It was left for nothing, then because of an error.
    const INSIDE: [&str; 4] = ["enter ()", "exit (null)", "enter ()", "exit (\"no\")"];

    #[tokio::test]
    async fn an_object_that_was_entered_is_left_whatever_happens_inside() {
        let (object, asked) = foreign(false);
        let ran = object.within(|entered| async move { Ok(entered.as_u64()) }).await;
        assert_eq!(ran.unwrap(), Some(Some(7)));
        let fails = |_| async { Err::<(), _>(Error::msg("no")) };
        assert_eq!(object.within(fails).await.unwrap_err().message(), "no");
        assert_eq!(*asked.lock().unwrap(), INSIDE);

        let (calm, _) = foreign(true);
        assert_eq!(
            calm.within(fails).await.unwrap(),
            None,
            "it has dealt with the error"
        );
    }

    #[test]
    fn a_thread_enters_and_leaves_too() {
        let (object, asked) = foreign(false);
        assert_eq!(object.scope(|_| Ok(1)).unwrap(), Some(1));
        assert!(object.scope(|_| Err::<(), _>(Error::msg("no"))).is_err());
        assert_eq!(*asked.lock().unwrap(), INSIDE);
    }

    #[tokio::test]
    async fn what_is_inside_may_be_given_up() {
        let (object, asked) = foreign(false);
        let is_inside = std::cell::Cell::new(false);
        let mut inside = Box::pin(object.within(|_| {
            is_inside.set(true);
            std::future::pending::<Result<()>>()
        }));
        while !is_inside.get() {
            drop(poll_once(inside.as_mut()).await);
            tokio::task::yield_now().await;
        }
        drop(inside);
        while asked.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(asked.lock().unwrap()[1].starts_with("exit (\""));
    }

    /// Polls once.
    async fn poll_once<F: Future + Unpin>(mut future: F) -> std::task::Poll<F::Output> {
        std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut future).poll(context)))
            .await
    }

    #[remote(name = "test.Several")]
    trait Several {
        fn one(&self) -> Result<u8>;
        fn two(&self) -> Result<u8>;
    }

    impl Several for () {
        fn one(&self) -> Result<u8> {
            Ok(1)
        }
        fn two(&self) -> Result<u8> {
            Ok(2)
        }
    }

    #[remote(name = "test.Nothing")]
    trait Nothing {}

    impl Nothing for () {}

    #[tokio::test]
    async fn remote_objects_say_what_they_cannot_do() {
        let several = Netref::<dyn Several>::of(()).dynamic();
        let nothing = Netref::<dyn Nothing>::of(()).dynamic();
        let refused = [
            (
                several.invoke(()).await.map(drop),
                "test.Several has several methods, and is called by one of them: `one`, `two`",
            ),
            (
                nothing.invoke(()).await.map(drop),
                "test.Nothing has no method, and cannot be called",
            ),
            (
                nothing.set_index(1, 2).await,
                "test.Nothing does not know the operation `set index`",
            ),
            (
                nothing.compare(Ordering::Less, 1).await.map(drop),
                "test.Nothing does not know the operation `<`",
            ),
            (
                nothing.enter().await.map(drop),
                "test.Nothing does not know the operation `enter`",
            ),
        ];
        for (refused, message) in refused {
            let error = refused.unwrap_err();
            assert_eq!(
                (error.kind(), &*error.message()),
                (ErrorKind::Unimplemented, message)
            );
        }
        assert_eq!(nothing.repr().await.unwrap(), "test.Nothing");
    }

    #[tokio::test]
    async fn shared_data_equals_values_and_objects() {
        let object = Object::of(1.into());
        assert!(object.equals(1).await.unwrap() && !object.equals("1").await.unwrap());
        let same = Object::of(1.into());
        assert!(object.equals(&same).await.unwrap());
    }
}
