//! The monitor of a server tells who is there, what was called and how that went, and who holds what.

use std::future::IntoFuture;
use std::time::Duration;

use farref::host::{Exposed, Host};
use farref::monitor::{Monitor, Monitoring};
use farref::{Connection, ErrorKind, Fixed, Netref, Server, connect};
use farref_integration_tests::bench::{Bench, Rig};
use farref_integration_tests::media::{runtime, within};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

async fn join(address: &str) -> Connection {
    within(connect(address).into_future()).await.unwrap()
}

#[test]
fn a_monitor_tells_what_went_on_and_what_is_held() {
    runtime().block_on(async {
        let monitoring = Monitoring::new();
        let monitor = monitoring.monitor();
        let before = within(monitor.call().snapshot()).await.unwrap();
        assert!(before.connections.is_empty() && before.methods.is_empty());
        let server = Server::new(Fixed::new::<dyn Bench>(Rig::new().0)).with_monitoring(&monitoring);
        server.listen("mem:monitoring").await.unwrap();
        let one = join("mem:monitoring").await;
        within(server.wait_for(|stats| stats.connections == 1)).await;
        let _two = join("mem:monitoring").await;
        within(server.wait_for(|stats| stats.connections == 2)).await;
        let bench: Netref<dyn Bench> = one.root().await.unwrap();
        for number in 0..5 {
            within(bench.call().add(number, 1)).await.unwrap();
        }
        within(bench.call().plain_failure()).await.unwrap_err();
        // The first look begins to keep track.
        let first = within(monitor.call().snapshot()).await.unwrap().connections[0].number;
        within(monitor.call().holdings(first)).await.unwrap().unwrap();
        let counter = within(bench.call().counter()).await.unwrap();
        within(counter.call().next()).await.unwrap();

        let now = within(monitor.call().snapshot()).await.unwrap();
        let [used, idle] = &now.connections[..] else {
            panic!("{now:?}");
        };
        assert_eq!((used.calls, used.failed, used.exports), (8, 1, 1), "{used:?}");
        assert_eq!((idle.calls, idle.exports), (0, 0), "{idle:?}");
        assert!(
            used.is_up && used.medium == "mem" && used.bytes_received > 0,
            "{used:?}"
        );
        let method = |name: &str| now.methods.iter().find(|method| method.name == name);
        assert_eq!(method("Bench.add").unwrap().calls, 5);
        assert_eq!(method("Bench.plain_failure").unwrap().failed, 1);
        assert_eq!(method("Counter.next").unwrap().calls, 1);

        let held = within(monitor.call().holdings(first)).await.unwrap().unwrap();
        let held = held
            .exports
            .iter()
            .find(|held| held.interface.as_deref() == Some("Counter"));
        let held = held.expect("the counter is held");
        assert!(
            held.age_millis.is_some() && held.origin.as_deref() == Some("Bench::counter"),
            "{held:?}"
        );

        let mut watching = within(monitor.call().watch(0)).await.unwrap();
        assert_eq!(
            within(watching.next()).await.unwrap().unwrap().connections.len(),
            2
        );
        assert!(within(monitor.call().close(first)).await.unwrap());
        within(one.closed()).await;
        while within(watching.next()).await.unwrap().unwrap().connections.len() > 1 {}
        assert!(!within(monitor.call().close(first)).await.unwrap());
        assert!(within(monitor.call().holdings(first)).await.unwrap().is_none());
        server.shutdown(Duration::ZERO).await;
        let after = within(monitor.call().snapshot()).await.unwrap();
        assert!(after.connections.is_empty());
    });
}

#[test]
fn a_monitor_is_a_service_like_others() {
    runtime().block_on(async {
        let monitoring = Monitoring::new();
        let exposed = Exposed::nothing().with("monitor", &monitoring.monitor());
        let server = Server::new(exposed).with_monitoring(&monitoring);
        server.listen("mem:monitoring-service").await.unwrap();
        let connection = join("mem:monitoring-service").await;
        let host: Netref<dyn Host> = connection.root().await.unwrap();
        let monitor = within(host.call().service("monitor")).await.unwrap();
        let monitor: Netref<dyn Monitor> = within(monitor.cast()).await.unwrap();
        let seen = within(monitor.call().snapshot()).await.unwrap();
        assert_eq!(seen.connections.len(), 1);
        let error = within(host.call().service("files")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    });
}

/// Names that a peer makes up were kept, each as long as a message may be, and left no room for methods that there are.
#[test]
fn what_no_method_is_named_is_counted_as_one() {
    runtime().block_on(async {
        let monitoring = Monitoring::new();
        let server = Server::new(Fixed::new::<dyn Bench>(Rig::new().0)).with_monitoring(&monitoring);
        server.listen("mem:monitoring-names").await.unwrap();
        let connection = join("mem:monitoring-names").await;
        let object = within(connection.object()).await.unwrap();
        for number in 0..3 {
            let name = format!("{}{number}", "x".repeat(1 << 15));
            within(object.call(&name, ())).await.unwrap_err();
        }
        within(object.call("add", (1, 2))).await.unwrap();
        let seen = within(monitoring.monitor().call().snapshot()).await.unwrap();
        let mut methods: Vec<_> = seen.methods.iter().map(|method| method.name.as_str()).collect();
        methods.sort_unstable();
        assert_eq!(methods, ["Bench.(unknown)", "Bench.add"]);
    });
}

/// Whoever looked rarely and went away left a task behind until the next look, in weeks if so asked.
#[test]
fn a_watch_ends_with_whoever_watches() {
    let runtime = runtime();
    let metrics = runtime.metrics();
    runtime.block_on(async {
        let monitor = Monitoring::new().monitor();
        let before = metrics.num_alive_tasks();
        let mut watching = within(monitor.call().watch(u32::MAX)).await.unwrap();
        within(watching.next()).await.unwrap().unwrap();
        drop(watching);
        within(async {
            while metrics.num_alive_tasks() > before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    });
}

/// What was published: name, labels, and the number; of a histogram how many there are. Whoever looks takes it away.
fn published(by: &Snapshotter) -> Vec<(String, f64)> {
    let all = by.snapshot().into_vec().into_iter();
    let lines = all.map(|(key, _, _, value)| {
        let labels: Vec<_> = key.key().labels().map(metrics::Label::value).collect();
        let number = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(level) => level.into_inner(),
            DebugValue::Histogram(samples) => samples.len() as f64,
        };
        (format!("{} {}", key.key().name(), labels.join(" ")), number)
    });
    lines.collect()
}

#[test]
fn what_is_counted_is_published() {
    let recorder = DebuggingRecorder::new();
    let published_by = recorder.snapshotter();
    let alone = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        alone.block_on(async {
            let monitoring = Monitoring::named("bench");
            monitoring.publish();
            let server = Server::new(Fixed::new::<dyn Bench>(Rig::new().0)).with_monitoring(&monitoring);
            server.listen("mem:published").await.unwrap();
            let one = join("mem:published").await;
            let bench: Netref<dyn Bench> = one.root().await.unwrap();
            for number in 0..5 {
                within(bench.call().add(number, 1)).await.unwrap();
            }
            within(bench.call().plain_failure()).await.unwrap_err();
            let _held = within(bench.call().counter()).await.unwrap();
            monitoring.publish();
        });
    });
    let published = published(&published_by);
    for expected in [
        ("farref_calls_total bench Bench.add ok", 5.0),
        ("farref_calls_total bench Bench.plain_failure failed", 1.0),
        ("farref_call_duration_seconds bench Bench.add", 5.0),
        ("farref_carriers_accepted_total bench", 1.0),
        ("farref_carriers_refused_total bench", 0.0),
        ("farref_connections bench", 1.0),
        ("farref_calls_under_way bench in", 0.0),
        ("farref_objects bench out", 1.0),
    ] {
        let found = published
            .iter()
            .any(|(what, number)| (what.as_str(), *number) == expected);
        assert!(found, "{expected:?} among {published:#?}");
    }
}
