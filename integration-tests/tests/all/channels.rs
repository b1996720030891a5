//! Ends of channels that cross, and locks held from afar, over every medium.

use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::{Arc, Mutex as Cell};
use std::task::{Context, Poll, Waker};

use farref::channel::{broadcast, mpsc, oneshot, watch};
use farref::mutex::{Guard, Mutex};
use farref::{ErrorKind, Netref, Result, Server, connect, remote};
use farref_integration_tests::media::{Pair, over_every_medium, pair, runtime, within};
use farref_integration_tests::relay::Relay;

#[remote]
trait Exchange {
    /// Sends so many numbers, until nobody takes them.
    async fn feed(&self, numbers: mpsc::Sender<u64>, count: u64) -> Result<()>;
    async fn numbers(&self, count: u64) -> Result<mpsc::Receiver<u64>>;
    async fn inbox(&self, capacity: u64) -> Result<mpsc::Sender<(u64, mpsc::Sender<u64>)>>;
    /// A sender to nobody.
    async fn dead(&self) -> Result<mpsc::Sender<u64>>;
    /// Keeps ends until it is told to drop them.
    async fn keep(&self, kept: Kept) -> Result<()>;
    async fn drop_all(&self) -> Result<()>;
    async fn answer(&self, to: oneshot::Sender<String>) -> Result<()>;
    async fn answered(&self, by: oneshot::Receiver<String>) -> Result<String>;
    async fn level(&self) -> Result<watch::Receiver<u64>>;
    async fn set_level(&self) -> Result<watch::Sender<u64>>;
    async fn radio(&self) -> Result<broadcast::Sender<u64>>;
    async fn lock(&self) -> Result<Mutex<u64>>;
}

#[derive(serde::Serialize, serde::Deserialize)]
enum Kept {
    Sender(mpsc::Sender<u64>),
    Receiver(mpsc::Receiver<u64>),
    Once(oneshot::Sender<String>),
    OnceReceiver(oneshot::Receiver<String>),
    Watch(watch::Receiver<u64>),
    WatchSender(watch::Sender<u64>),
    Broadcast(broadcast::Sender<u64>),
}

struct Floor {
    kept: Cell<Vec<Kept>>,
    level: (watch::Sender<u64>, watch::Receiver<u64>),
    radio: broadcast::Sender<u64>,
    lock: Mutex<u64>,
}

impl Floor {
    fn new() -> Self {
        Self {
            kept: Cell::default(),
            level: watch::channel(0),
            radio: broadcast::channel(4).0,
            lock: Mutex::new(0),
        }
    }
}

#[remote]
impl Exchange for Floor {
    async fn feed(&self, numbers: mpsc::Sender<u64>, count: u64) -> Result<()> {
        for number in 0..count {
            numbers.send(number).await?;
        }
        Ok(())
    }

    async fn numbers(&self, count: u64) -> Result<mpsc::Receiver<u64>> {
        let (sender, receiver) = mpsc::channel(4);
        tokio::spawn(async move {
            for number in 0..count {
                sender.send(number).await?;
            }
            Result::<()>::Ok(())
        });
        Ok(receiver)
    }

    async fn inbox(&self, capacity: u64) -> Result<mpsc::Sender<(u64, mpsc::Sender<u64>)>> {
        let (sender, mut asked) = mpsc::channel::<(u64, mpsc::Sender<u64>)>(capacity as usize);
        tokio::spawn(async move {
            while let Some(Ok((number, answer))) = asked.recv().await {
                let _ = answer.send(number * 2).await;
            }
        });
        Ok(sender)
    }

    async fn dead(&self) -> Result<mpsc::Sender<u64>> {
        Ok(mpsc::channel(1).0)
    }

    async fn keep(&self, kept: Kept) -> Result<()> {
        self.kept.lock().unwrap().push(kept);
        Ok(())
    }

    async fn drop_all(&self) -> Result<()> {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        drop(kept);
        Ok(())
    }

    async fn answer(&self, to: oneshot::Sender<String>) -> Result<()> {
        to.send("forty-two".to_owned()).await
    }

    async fn answered(&self, by: oneshot::Receiver<String>) -> Result<String> {
        by.await
    }

    async fn level(&self) -> Result<watch::Receiver<u64>> {
        Ok(self.level.1.clone())
    }

    async fn set_level(&self) -> Result<watch::Sender<u64>> {
        Ok(self.level.0.clone())
    }

    async fn radio(&self) -> Result<broadcast::Sender<u64>> {
        Ok(self.radio.clone())
    }

    async fn lock(&self) -> Result<Mutex<u64>> {
        Ok(self.lock.clone())
    }
}

/// Runs `test` on each medium, and then looks whether anything is left.
fn everywhere(test: impl AsyncFn(&Netref<dyn Exchange>)) {
    over_every_medium(async |medium| {
        let pair = pair::<dyn Exchange>(medium, Floor::new()).await;
        let floor = pair.root().await;
        within(test(&floor)).await;
        drop(floor);
        pair.at_rest().await;
    });
}

async fn drain(numbers: &mut mpsc::Receiver<u64>) -> Vec<u64> {
    let mut all = Vec::new();
    while let Some(number) = numbers.recv().await {
        all.push(number.unwrap());
    }
    all
}

#[test]
fn values_go_through_a_sender_that_was_given_away_and_through_a_receiver() {
    everywhere(async |floor| {
        let (sender, mut numbers) = mpsc::channel(2);
        let (fed, all) = tokio::join!(floor.call().feed(sender, 20), drain(&mut numbers));
        fed.unwrap();
        assert_eq!(all, Vec::from_iter(0..20));
        let mut numbers = floor.call().numbers(300).await.unwrap();
        assert_eq!(drain(&mut numbers).await, Vec::from_iter(0..300));
    });
}

#[test]
fn a_sender_that_waits_for_room_waits_over_there() {
    everywhere(async |floor| {
        let (sender, mut numbers) = mpsc::channel(1);
        let feed = floor.call().feed(sender, 3).start();
        assert_eq!(numbers.recv().await.unwrap().unwrap(), 0);
        assert_eq!(numbers.recv().await.unwrap().unwrap(), 1);
        assert_eq!(numbers.recv().await.unwrap().unwrap(), 2);
        feed.await.unwrap();
        // A receiver that is gone fails the sender.
        let error = floor.call().dead().await.unwrap().send(1).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error}");
    });
}

#[test]
fn ends_of_channels_travel_in_channels() {
    everywhere(async |floor| {
        let ask = floor.call().inbox(4).await.unwrap();
        let (answer, mut answers) = mpsc::channel(4);
        for number in 0..10 {
            ask.send((number, answer.clone())).await.unwrap();
            assert_eq!(answers.recv().await.unwrap().unwrap(), number * 2);
        }
    });
}

#[test]
fn one_end_notices_that_the_other_was_dropped_over_there() {
    everywhere(async |floor| {
        let (sender, mut numbers) = mpsc::channel::<u64>(1);
        floor.call().keep(Kept::Sender(sender)).await.unwrap();
        floor.call().drop_all().await.unwrap();
        assert!(numbers.recv().await.is_none());

        let (sender, numbers) = mpsc::channel::<u64>(1);
        floor.call().keep(Kept::Receiver(numbers)).await.unwrap();
        floor.call().drop_all().await.unwrap();
        sender.closed().await;

        let (sender, value) = oneshot::channel();
        floor.call().keep(Kept::Once(sender)).await.unwrap();
        floor.call().drop_all().await.unwrap();
        let error = value.await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error}");

        let (mut sender, value) = oneshot::channel();
        floor.call().keep(Kept::OnceReceiver(value)).await.unwrap();
        floor.call().drop_all().await.unwrap();
        sender.closed().await;

        let (sender, receiver) = watch::channel(1);
        floor.call().keep(Kept::Watch(receiver)).await.unwrap();
        sender.send(2).await.unwrap();
        floor.call().drop_all().await.unwrap();
        sender.closed().await;
        sender.send(3).await.unwrap_err();
    });
}

#[test]
fn a_value_is_sent_once() {
    everywhere(async |floor| {
        let (sender, value) = oneshot::channel();
        let (answered, value) = tokio::join!(floor.call().answer(sender), value);
        answered.unwrap();
        assert_eq!(value.unwrap(), "forty-two");
        let (sender, value) = oneshot::channel();
        let call = floor.call().answered(value).start();
        sender.send("here".to_owned()).await.unwrap();
        assert_eq!(call.await.unwrap(), "here");
    });
}

#[test]
fn a_watcher_sees_the_latest_value_and_may_skip_some() {
    everywhere(async |floor| {
        let mut level = floor.call().level().await.unwrap();
        assert_eq!(level.latest().await.unwrap(), 0);
        let set = floor.call().set_level().await.unwrap();
        for value in [1, 2, 3] {
            set.send(value).await.unwrap();
        }
        assert_eq!(level.changed().await.unwrap(), 3);
        {
            // Given up, and nothing is lost.
            let next = level.changed();
            let mut next = std::pin::pin!(next);
            assert!(now(next.as_mut()).await.is_none());
        }
        set.send(4).await.unwrap();
        assert_eq!(level.changed().await.unwrap(), 4);
        // A channel of this side, whose senders are all over there.
        let (sender, mut receiver) = watch::channel(7);
        floor.call().keep(Kept::WatchSender(sender)).await.unwrap();
        floor.call().drop_all().await.unwrap();
        let error = receiver.changed().await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected(_)), "{error}");
        assert_eq!(receiver.latest().await.unwrap(), 7);
    });
}

/// What is there at once.
async fn now<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| {
        Poll::Ready(match future.as_mut().poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn each_receiver_hears_every_value_and_a_slow_one_how_many_it_missed() {
    everywhere(async |floor| {
        let radio = floor.call().radio().await.unwrap();
        radio.send(0).await.unwrap_err();
        let (mut first, mut second) = (radio.subscribe().await.unwrap(), radio.subscribe().await.unwrap());
        for value in 1..=3 {
            assert_eq!(radio.send(value).await.unwrap(), 2);
        }
        for value in 1..=3 {
            assert_eq!(first.recv().await.unwrap(), value);
            assert_eq!(second.recv().await.unwrap(), value);
        }
        // Here, where nothing is fetched ahead.
        let (sender, mut slow) = broadcast::channel(2);
        floor.call().keep(Kept::Broadcast(sender.clone())).await.unwrap();
        for value in 1..=5 {
            sender.send(value).await.unwrap();
        }
        drop(sender);
        floor.call().drop_all().await.unwrap();
        assert!(matches!(slow.recv().await, Err(broadcast::RecvError::Lagged(3))));
        assert_eq!(slow.recv().await.unwrap(), 4);
        assert_eq!(slow.recv().await.unwrap(), 5);
        assert!(matches!(slow.recv().await, Err(broadcast::RecvError::Closed)));
    });
}

#[test]
fn a_lock_is_held_by_one_at_a_time_in_the_order_in_which_they_asked() {
    everywhere(async |floor| {
        let lock = floor.call().lock().await.unwrap();
        let mut guard = lock.lock().await.unwrap();
        assert!(lock.try_lock().await.unwrap().is_none());
        let order = Arc::new(Cell::new(Vec::new()));
        let waiters = Vec::from_iter((0..4).map(|number| {
            let (lock, order) = (lock.clone(), Arc::clone(&order));
            let mut waiting = Box::pin(async move {
                let mut guard = lock.lock().await?;
                order.lock().unwrap().push(number);
                let next = *guard + 1;
                guard.set(next).await?;
                guard.unlock().await
            });
            // Asks now, in this order.
            let asked = waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(asked.is_pending());
            (number, waiting)
        }));
        guard.set(10).await.unwrap();
        drop(guard);
        let mut tasks = Vec::new();
        for (number, waiting) in waiters {
            if number == 1 {
                drop(waiting); // gives up
            } else {
                tasks.push(tokio::spawn(waiting));
            }
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(*order.lock().unwrap(), [0, 2, 3]);
        assert_eq!(*lock.lock().await.unwrap(), 13);
    });
}

#[test]
fn what_a_lost_holder_held_is_let_go() {
    runtime().block_on(async {
        let pair: Pair = pair::<dyn Exchange>("mem", Floor::new()).await;
        let floor: Netref<dyn Exchange> = pair.root().await;
        let lock = within(floor.call().lock()).await.unwrap();
        let guard: Guard<u64> = within(lock.lock()).await.unwrap();
        let address = within(pair.server.listen("mem:another-holder")).await.unwrap();
        let other = within(connect(&address).into_future()).await.unwrap();
        let elsewhere: Netref<dyn Exchange> = within(other.root()).await.unwrap();
        let wanted = within(elsewhere.call().lock()).await.unwrap();
        assert!(within(wanted.try_lock()).await.unwrap().is_none());
        within(pair.client.close()).await;
        assert_eq!(*within(wanted.lock()).await.unwrap(), 0);
        within(guard.unlock()).await.unwrap_err();
        // And the ends of channels.
        let (sender, mut numbers) = mpsc::channel::<u64>(1);
        within(elsewhere.call().keep(Kept::Sender(sender))).await.unwrap();
        within(other.close()).await;
        assert!(within(numbers.recv()).await.is_none());
    });
}

#[test]
fn who_is_lost_while_it_waits_for_a_lock_is_out_of_the_queue() {
    runtime().block_on(async {
        let pair: Pair = pair::<dyn Exchange>("mem", Floor::new()).await;
        let floor: Netref<dyn Exchange> = pair.root().await;
        let lock = within(floor.call().lock()).await.unwrap();
        let guard: Guard<u64> = within(lock.lock()).await.unwrap();
        let address = within(pair.server.listen("mem:lost-in-the-queue")).await.unwrap();
        let other = within(connect(&address).into_future()).await.unwrap();
        let elsewhere: Netref<dyn Exchange> = within(other.root()).await.unwrap();
        let wanted = within(elsewhere.call().lock()).await.unwrap();
        let mut lost = Box::pin(wanted.lock());
        assert!(now(lost.as_mut()).await.is_none());
        // What was sent behind it is answered: it waits over there.
        assert!(within(wanted.try_lock()).await.unwrap().is_none());
        let mut next = Box::pin(lock.lock());
        assert!(now(next.as_mut()).await.is_none());
        within(other.close()).await;
        assert!(within(lost).await.is_err());
        within(guard.unlock()).await.unwrap();
        assert_eq!(*within(next).await.unwrap(), 0);
    });
}

#[test]
fn a_session_that_goes_on_keeps_its_lock() {
    runtime().block_on(async {
        let server = Server::of::<dyn Exchange>(Floor::new());
        let address = within(server.listen("plain+tcp://127.0.0.1:0")).await.unwrap();
        let socket = address.to_string();
        let socket = socket.split_once("://").unwrap().1.split('#').next().unwrap();
        let relay = Relay::new(socket.parse().unwrap()).await;
        let client = within(connect(format!("plain+tcp://{}", relay.address)).into_future());
        let client = client.await.unwrap();
        let floor: Netref<dyn Exchange> = within(client.root()).await.unwrap();
        let lock = within(floor.call().lock()).await.unwrap();
        let mut guard = within(lock.lock()).await.unwrap();
        let waiting = tokio::spawn({
            let lock = lock.clone();
            async move { lock.lock().await.map(|guard| *guard) }
        });
        relay.cut_after(0);
        within(guard.set(5)).await.unwrap();
        assert!(within(lock.try_lock()).await.unwrap().is_none());
        drop(guard);
        assert_eq!(within(waiting).await.unwrap().unwrap(), 5);
    });
}
