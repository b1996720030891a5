//! Who holds what: what a connection tells of its tables, and when it warns.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use farref::{Config, Connection, ErrorKind, Holding, Netref, Result, Stream, remote};
use farref_integration_tests::media::{Pair, over_every_medium, pair, pair_of, runtime, within};
use tokio::sync::{Notify, mpsc};

#[remote]
trait Shop {
    async fn shelf(&self) -> Result<Netref<dyn Shelf>>;
    async fn samples(&self) -> Result<Stream<u64>>;
    /// Returns when the shop closes.
    async fn closing(&self) -> Result<()>;
    async fn close(&self) -> Result<()>;
}

#[remote]
trait Shelf {
    async fn watch(&self, customer: Netref<dyn Customer>) -> Result<()>;
}

#[remote]
trait Customer {
    async fn notice(&self) -> Result<()>;
}

#[derive(Default)]
struct Store {
    closing: Notify,
}

#[derive(Default)]
struct Board(Mutex<Vec<Netref<dyn Customer>>>);

struct Buyer;

#[remote]
impl Shop for Store {
    async fn shelf(&self) -> Result<Netref<dyn Shelf>> {
        Ok(Netref::of(Board::default()))
    }

    async fn samples(&self) -> Result<Stream<u64>> {
        Ok(Stream::channel(1).1)
    }

    async fn closing(&self) -> Result<()> {
        self.closing.notified().await;
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.closing.notify_one();
        Ok(())
    }
}

#[remote]
impl Shelf for Board {
    async fn watch(&self, customer: Netref<dyn Customer>) -> Result<()> {
        self.0.lock().unwrap().push(customer);
        Ok(())
    }
}

#[remote]
impl Customer for Buyer {
    async fn notice(&self) -> Result<()> {
        Ok(())
    }
}

fn of_type<'a>(of: &'a [Holding], name: &str) -> Vec<&'a Holding> {
    of.iter().filter(|held| held.interface == Some(name)).collect()
}

fn tracking() -> Config {
    let mut config = Config::default();
    config.track_holdings = true;
    config
}

#[test]
fn both_sides_tell_what_is_held_by_whom_and_since_which_call() {
    over_every_medium(async |medium| {
        let pair = pair::<dyn Shop>(medium, Store::default()).await;
        let host = pair.host().await;
        for side in [&pair.client, &host] {
            side.track_holdings();
        }
        let shop: Netref<dyn Shop> = pair.root().await;
        let shelves = [
            within(shop.call().shelf()).await.unwrap(),
            within(shop.call().shelf()).await.unwrap(),
        ];
        let stream = within(shop.call().samples()).await.unwrap();
        for (connection, table) in [(&host, 0), (&pair.client, 1)] {
            let holdings = connection.holdings();
            let held = [&holdings.exports, &holdings.imports][table];
            let found = of_type(held, "Shelf");
            assert_eq!(found.len(), 2, "{holdings}");
            for shelf in found {
                assert_eq!(shelf.count, 1);
                assert_eq!(shelf.origin.unwrap().to_string(), "Shop::shelf");
                assert!(shelf.idle.unwrap() <= shelf.age.unwrap(), "{holdings}");
            }
            assert_eq!(
                held.iter().filter(|held| held.is_stream()).count(),
                1,
                "{holdings}"
            );
            assert!(
                holdings.to_string().contains("2 Shelf from Shop::shelf"),
                "{holdings}"
            );
        }
        drop((shelves, stream));
        drop(shop);
        pair.at_rest().await;
        let holdings = host.holdings();
        assert_eq!(holdings.exports.len(), 1, "the root is left: {holdings}");
    });
}

#[test]
fn calls_under_way_are_told_on_both_sides() {
    runtime().block_on(async {
        let pair =
            pair_of::<dyn Shop, dyn Customer>("mem", (Store::default(), tracking()), (Buyer, tracking()))
                .await;
        let shop: Netref<dyn Shop> = pair.root().await;
        let closing = shop.call().closing().start();
        let host = pair.host().await;
        let called = |connection: &Connection, here: bool| {
            let holdings = connection.holdings();
            let calls = if here { holdings.answers } else { holdings.calls };
            Vec::from_iter(calls.iter().map(|call| call.method.unwrap().to_string()))
        };
        within(pair.client.ping()).await.unwrap();
        assert_eq!(called(&pair.client, false), ["Shop::closing"]);
        assert_eq!(called(&host, true), ["Shop::closing"]);
        within(shop.call().close()).await.unwrap();
        within(closing).await.unwrap();
        pair.at_rest().await;
        assert!(called(&pair.client, false).is_empty());
        assert!(called(&host, true).is_empty());
    });
}

/// It began with the process, where tracking was not wanted from the start.
#[test]
fn a_call_is_no_older_than_the_wish_to_track_it() {
    runtime().block_on(async {
        let pair = pair::<dyn Shop>("mem", Store::default()).await;
        let shop: Netref<dyn Shop> = pair.root().await;
        let begun = std::time::Instant::now();
        pair.client.track_holdings();
        let closing = shop.call().closing().start();
        let holdings = pair.client.holdings();
        let [call] = &holdings.calls[..] else {
            panic!("{holdings}")
        };
        assert!(call.age <= begun.elapsed(), "{holdings}");
        within(shop.call().close()).await.unwrap();
        within(closing).await.unwrap();
    });
}

#[test]
fn what_may_keep_itself_alive_is_named() {
    runtime().block_on(async {
        let pair =
            pair_of::<dyn Shop, dyn Customer>("mem", (Store::default(), tracking()), (Buyer, tracking()))
                .await;
        let shop: Netref<dyn Shop> = pair.root().await;
        let host = pair.host().await;
        let shelf = within(shop.call().shelf()).await.unwrap();
        assert!(host.holdings().cycles.is_empty());
        within(shelf.call().watch(Netref::of(Buyer))).await.unwrap();
        let holdings = host.holdings();
        let [cycle] = &holdings.cycles[..] else {
            panic!("{holdings}")
        };
        assert_eq!(cycle.export.interface, Some("Shelf"));
        assert_eq!(cycle.import.interface, Some("Customer"));
        assert_eq!(cycle.import.origin.unwrap().to_string(), "Shelf::watch");
        assert!(
            holdings
                .to_string()
                .contains("perhaps a cycle: Shelf here and Customer there"),
            "{holdings}"
        );
        drop(shelf);
        drop(shop);
        pair.at_rest().await;
        assert!(host.holdings().cycles.is_empty());
    });
}

#[test]
fn without_tracking_types_and_counts_are_known() {
    runtime().block_on(async {
        let pair = pair::<dyn Shop>("mem", Store::default()).await;
        let shop: Netref<dyn Shop> = pair.root().await;
        let shelf = within(shop.call().shelf()).await.unwrap();
        let holdings = pair.host().await.holdings();
        let [held] = of_type(&holdings.exports, "Shelf")[..] else {
            panic!("{holdings}")
        };
        assert_eq!((held.count, held.age, held.origin), (1, None, None));
        assert!(holdings.calls.is_empty() && holdings.cycles.is_empty());
        drop(shelf);
    });
}

#[test]
fn a_netref_that_breaks_is_noticed_and_one_of_this_process_never_is() {
    runtime().block_on(async {
        let (told, mut notices) = mpsc::unbounded_channel();
        let pair = pair::<dyn Shop>("mem", Store::default()).await;
        let shop: Netref<dyn Shop> = pair.root().await;
        let shelf = within(shop.call().shelf()).await.unwrap();
        let local: Netref<dyn Shelf> = Netref::of(Board::default());
        for (name, netref) in [("far", &shelf), ("local", &local)] {
            let told = told.clone();
            netref.on_lost(move |error| told.send((name, error.kind())).unwrap());
        }
        drop(told);
        let lost = shelf.lost();
        within(pair.client.close()).await;
        let (name, kind) = within(notices.recv()).await.unwrap();
        assert_eq!(name, "far");
        assert!(matches!(kind, ErrorKind::Disconnected(_)), "{kind:?}");
        assert!(within(notices.recv()).await.is_none());
        assert!(matches!(within(lost).await.kind(), ErrorKind::Disconnected(_)));
    });
}

#[test]
fn waiting_for_the_loss_of_a_netref_does_not_keep_the_connection_open() {
    runtime().block_on(async {
        let pair = pair::<dyn Shop>("mem", Store::default()).await;
        let shop: Netref<dyn Shop> = pair.root().await;
        let lost = shop.lost();
        let Pair { server, client, .. } = pair;
        drop((shop, client));
        within(lost).await;
        within(server.wait_for(|stats| stats.connections == 0)).await;
    });
}

/// Keeps what is said at the level of warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Words(String);
        impl tracing::field::Visit for Words {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                write!(self.0, "{field}={value:?} ").unwrap();
            }
        }
        let mut words = Words(String::new());
        event.record(&mut words);
        self.0.lock().unwrap().push(words.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_peer_that_holds_too_much_is_warned_of_once() {
    let warnings = Warnings::default();
    tracing::subscriber::set_global_default(warnings.clone()).unwrap();
    runtime().block_on(async {
        let mut config = tracking();
        config.warn_at_exports = Some(10);
        let pair =
            pair_of::<dyn Shop, dyn Customer>("mem", (Store::default(), config), (Buyer, tracking())).await;
        let shop: Netref<dyn Shop> = pair.root().await;
        let mut shelves = Vec::new();
        for _ in 0..30 {
            shelves.push(within(shop.call().shelf()).await.unwrap());
        }
        let said = warnings.0.lock().unwrap();
        let said = Vec::from_iter(said.iter().filter(|said| said.contains("Shelf from Shop::shelf")));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("exports=11 ") && said[0].contains("holds many objects"),
            "{said:?}"
        );
    });
}
