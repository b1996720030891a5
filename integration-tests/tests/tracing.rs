//! A trace goes wherever a request leads, and whoever watches sees it. In a program of its own, since there is one
//! subscriber for all of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use farref::trace::TraceContext;
use farref::{Fixed, Netref, Result, Server, connect, remote};
use farref_integration_tests::media::{on_plain_thread, runtime, within};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

#[remote]
trait Traced {
    async fn seen(&self) -> Result<Option<String>>;
    async fn seen_later(&self) -> Result<Option<String>>;
    fn seen_blocking(&self) -> Result<Option<String>>;
    async fn seen_by(&self, other: Netref<dyn Traced>) -> Result<Option<String>>;
    fn seen_by_blocking(&self, other: Netref<dyn Traced>) -> Result<Option<String>>;
}

struct Here;

fn current() -> Option<String> {
    TraceContext::current().map(|context| context.to_string())
}

#[remote]
impl Traced for Here {
    async fn seen(&self) -> Result<Option<String>> {
        tracing::info!("in the method");
        Ok(current())
    }

    async fn seen_later(&self) -> Result<Option<String>> {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        Ok(current())
    }

    fn seen_blocking(&self) -> Result<Option<String>> {
        Ok(current())
    }

    async fn seen_by(&self, other: Netref<dyn Traced>) -> Result<Option<String>> {
        other.call().seen_later().await
    }

    fn seen_by_blocking(&self, other: Netref<dyn Traced>) -> Result<Option<String>> {
        other.seen_blocking()
    }
}

/// The fields of each span that farref opens, and of the span that each event of ours is in.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    open: BTreeMap<u64, BTreeMap<&'static str, String>>,
    all: Vec<BTreeMap<&'static str, String>>,
    events: Vec<BTreeMap<&'static str, String>>,
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0
            .insert(field.name(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _context: Context<'_, S>) {
        if attributes.metadata().target() != "farref::call" {
            return;
        }
        let mut fields = BTreeMap::from([("level", attributes.metadata().level().to_string())]);
        attributes.record(&mut Fields(&mut fields));
        let mut kept = self.0.lock().unwrap();
        kept.open.insert(id.into_u64(), fields.clone());
        kept.all.push(fields);
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() == "tracing" {
            let inside = context.lookup_current().map(|span| span.id().into_u64());
            let mut kept = self.0.lock().unwrap();
            let fields = inside
                .and_then(|id| kept.open.get(&id).cloned())
                .unwrap_or_default();
            kept.events.push(fields);
        }
    }
}

#[test]
fn a_trace_goes_wherever_a_request_leads() {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let runtime = runtime();
    let (server, far) = runtime.block_on(async {
        let server = Server::new(Fixed::new::<dyn Traced>(Here));
        let address = server.listen("mem:tracing").await.unwrap();
        let connection = within(std::future::IntoFuture::into_future(connect(address)))
            .await
            .unwrap();
        let far: Netref<dyn Traced> = within(connection.root()).await.unwrap();
        (server, far)
    });
    let context = TraceContext::new();
    let is_ours = |seen: Option<String>| {
        let seen: TraceContext = seen.expect("the trace got there").parse().unwrap();
        assert_eq!(seen.trace_id(), context.trace_id());
        assert_ne!(seen.span_id(), context.span_id(), "it is a part of its own");
        assert!(seen.is_sampled());
    };
    let here: Netref<dyn Traced> = Netref::of(Here);
    runtime.block_on(async {
        assert_eq!(within(far.call().seen()).await.unwrap(), None, "nobody traces");
        let traced = context.within(async {
            is_ours(far.call().seen().await.unwrap());
            is_ours(far.call().seen_later().await.unwrap());
            is_ours(far.call().seen_blocking().await.unwrap());
            is_ours(far.call().seen_by(here.clone()).await.unwrap());
            is_ours(far.call().seen_by_blocking(here.clone()).await.unwrap());
        });
        within(traced).await;
        assert_eq!(
            within(far.call().seen()).await.unwrap(),
            None,
            "the scope is over"
        );
    });
    let blocking = far.clone();
    let seen = on_plain_thread(move || context.scope(|| blocking.seen_blocking()));
    is_ours(seen.unwrap());

    let kept = spans.0.lock().unwrap();
    let first = kept
        .all
        .iter()
        .find(|span| span.contains_key("trace_id"))
        .unwrap();
    assert_eq!(
        (first["method"].as_str(), first["level"].as_str()),
        ("seen", "INFO")
    );
    assert_eq!(first["trace_id"], format!("{:032x}", context.trace_id()));
    assert_eq!(first["parent_id"], format!("{:016x}", context.span_id()));
    assert!(first["peer"].contains("mem"), "{first:?}");
    let untraced = kept
        .all
        .iter()
        .find(|span| !span.contains_key("trace_id"))
        .unwrap();
    assert_eq!(
        (untraced["method"].as_str(), untraced["level"].as_str()),
        ("seen", "DEBUG")
    );
    assert_eq!(kept.events.len(), 3, "what a method says is in its span");
    assert_eq!(&kept.events[1], first);
    drop(kept);
    drop((far, server));
}
