//! `farref top`: who is connected there, and what they do, live.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use farref::monitor::{ConnectionState, Held, Holdings, MethodState, Monitor, Snapshot, Underway};
use farref::{Error, Netref, to_value};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table, TableState};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

use crate::context::{Global, duration};
use crate::failure::{Failure, Outcome};
use crate::far::Far;
use crate::output::{Out, harmless, size};

/// Watch a server: who is connected, what is called and how long that takes, and who holds what since when.
///
/// The server must show the service `monitor`: `farref serve --monitor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref top tcp://rig7:7000
  farref top tcp://rig7:7000 --interval 5s
  farref top tcp://rig7:7000 --json | jq '.connections[].peer'     one look, as data

Keys: up and down choose a connection, q ends it.")]
pub(crate) struct Top {
    /// Where to dial
    address: String,
    /// From one look to the next
    #[arg(short, long, default_value = "1s", value_parser = duration)]
    interval: Duration,
}

/// What is shown.
#[derive(Default)]
struct View {
    connections: Vec<Shown>,
    methods: Vec<Called>,
    /// The number of the connection that is chosen.
    chosen: Option<u64>,
    groups: Vec<Group>,
    under_way: Vec<Underway>,
    /// What went wrong, to be shown.
    trouble: Option<String>,
    title: String,
}

/// A connection, and how much goes over it in a second.
struct Shown {
    state: ConnectionState,
    calls: f64,
    received: f64,
    sent: f64,
}

/// A method, and how often it is called in a second.
struct Called {
    state: MethodState,
    calls: f64,
}

/// Objects of one interface that are held by one side, and came by one method.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    by_peer: bool,
    interface: String,
    origin: String,
    objects: u64,
    /// Milliseconds since the oldest is held, and since one of them was used.
    oldest: Option<u64>,
    idle: Option<u64>,
}

/// The look before, and when that was.
type Before = Option<(Instant, Snapshot)>;

impl Top {
    pub(crate) async fn run(&self, global: &Global) -> Outcome {
        let far = Far::connect(&self.address, global).await?;
        far.connection.call_timeout(global.limit());
        let failed = |error: Error| {
            far.failed("cannot watch", &error)
                .hint("the far side must show it: farref serve --monitor ..")
        };
        let monitor = far.host.call().service("monitor").await.map_err(failed)?;
        let monitor: Netref<dyn Monitor> = monitor.cast().await.map_err(failed)?;
        if global.json || !std::io::stdout().is_terminal() {
            return once(&monitor, global).await;
        }
        let title = crate::context::name_of(&far.connection.peer());
        let terminal = ratatui::try_init().map_err(|error| Failure::io("cannot use the terminal", &error))?;
        let outcome = self.watch(&monitor, terminal, title).await;
        ratatui::restore();
        outcome?;
        far.connection.close().await;
        Ok(())
    }

    async fn watch(
        &self,
        monitor: &Netref<dyn Monitor>,
        mut terminal: DefaultTerminal,
        title: String,
    ) -> Outcome {
        let mut keys = keys();
        let mut view = View {
            title,
            ..View::default()
        };
        let mut before = None;
        let mut ticks = tokio::time::interval(self.interval.max(Duration::from_millis(50)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Both can be given up: a look that is late is taken again.
            let key = tokio::select! {
                _ = ticks.tick() => None,
                key = keys.recv() => match key {
                    Some(key) => Some(key),
                    None => return Ok(()),
                },
            };
            match key {
                None => match look(monitor, &mut view, &mut before).await {
                    Ok(()) => view.trouble = None,
                    Err(error) if error.certainty().is_some() => {
                        return Err(Failure::of("the connection is over", &error));
                    }
                    Err(error) => view.trouble = Some(error.to_string()),
                },
                Some(Key::Quit) => return Ok(()),
                Some(Key::Move(by)) => {
                    view.choose(by);
                    view.groups.clear();
                    view.under_way.clear();
                    // What it holds is looked up at once.
                    ticks.reset_immediately();
                }
                Some(Key::Resized) => {}
            }
            terminal
                .draw(|frame| view.draw(frame))
                .map_err(|error| Failure::io("cannot draw", &error))?;
        }
    }
}

/// One look, as data.
async fn once(monitor: &Netref<dyn Monitor>, global: &Global) -> Outcome {
    let all = monitor.call().snapshot().await;
    let all = all.map_err(|error| Failure::of("cannot watch", &error))?;
    let all = to_value(&all).map_err(Failure::usage)?;
    let mut out = Out::new(global);
    if global.json {
        out.json(&all)?;
    } else {
        out.value(&all)?;
    }
    out.finish()
}

/// Takes a look: what there is, and how much came since the last one.
async fn look(monitor: &Netref<dyn Monitor>, view: &mut View, before: &mut Before) -> Result<(), Error> {
    let all = monitor.call().snapshot().await?;
    let now = Instant::now();
    view.rates(&all, before.as_ref(), now);
    *before = Some((now, all));
    view.choose(0);
    if let Some(chosen) = view.chosen {
        // It may just have ended: then the next look shows another.
        let held = monitor.call().holdings(chosen).await?.unwrap_or_default();
        view.groups = groups(&held);
        view.under_way = held.answers;
    }
    Ok(())
}

/// How many there are of each interface and origin, the most first.
fn groups(held: &Holdings) -> Vec<Group> {
    let mut groups: BTreeMap<(bool, &str, &str), Group> = BTreeMap::new();
    let here = held.imports.iter().map(|held| (false, held));
    for (by_peer, held) in held.exports.iter().map(|held| (true, held)).chain(here) {
        let Held {
            interface, origin, ..
        } = held;
        let (interface, origin) = (
            interface.as_deref().unwrap_or("(unknown)"),
            origin.as_deref().unwrap_or(""),
        );
        let group = groups
            .entry((by_peer, interface, origin))
            .or_insert_with(|| Group {
                by_peer,
                interface: harmless(interface),
                origin: harmless(origin),
                objects: 0,
                oldest: None,
                idle: None,
            });
        group.objects += 1;
        group.oldest = group.oldest.max(held.age_millis);
        group.idle = match (group.idle, held.idle_millis) {
            (Some(before), Some(idle)) => Some(before.min(idle)),
            (before, idle) => before.or(idle),
        };
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.objects));
    groups
}

/// What a key asks for.
enum Key {
    Quit,
    Move(isize),
    Resized,
}

/// Keys as they are typed, on a thread of their own.
fn keys() -> mpsc::Receiver<Key> {
    let (sender, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            let key = match event {
                Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => Key::Quit,
                    KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => Key::Quit,
                    KeyCode::Up | KeyCode::Char('k') => Key::Move(-1),
                    KeyCode::Down | KeyCode::Char('j') => Key::Move(1),
                    KeyCode::PageUp => Key::Move(-10),
                    KeyCode::PageDown => Key::Move(10),
                    _ => continue,
                },
                Event::Resize(..) => Key::Resized,
                _ => continue,
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}

impl View {
    /// What there is, and how much of it came in each second since the look before.
    fn rates(&mut self, all: &Snapshot, before: Option<&(Instant, Snapshot)>, now: Instant) {
        let seconds = before.map(|(then, _)| now.duration_since(*then).as_secs_f64().max(1e-3));
        let rate = |is: u64, was: Option<u64>| match (seconds, was) {
            (Some(seconds), Some(was)) => is.saturating_sub(was) as f64 / seconds,
            _ => 0.0,
        };
        let before = before.map(|(_, snapshot)| snapshot);
        let connection = |state: &ConnectionState| {
            let mut known = before.into_iter().flat_map(|snapshot| &snapshot.connections);
            let was = known.find(|was| was.number == state.number);
            Shown {
                calls: rate(state.calls, was.map(|was| was.calls)),
                received: rate(state.bytes_received, was.map(|was| was.bytes_received)),
                sent: rate(state.bytes_sent, was.map(|was| was.bytes_sent)),
                state: state.clone(),
            }
        };
        let method = |state: &MethodState| {
            let mut known = before.into_iter().flat_map(|snapshot| &snapshot.methods);
            // One that was not there was never called before.
            let was = known
                .find(|was| was.name == state.name)
                .map_or(0, |was| was.calls);
            Called {
                calls: rate(state.calls, before.map(|_| was)),
                state: state.clone(),
            }
        };
        self.connections = all.connections.iter().map(connection).collect();
        self.methods = all.methods.iter().map(method).collect();
        self.methods.sort_by(|a, b| b.calls.total_cmp(&a.calls));
    }

    fn place(&self) -> Option<usize> {
        let chosen = self.chosen?;
        self.connections
            .iter()
            .position(|shown| shown.state.number == chosen)
    }

    /// Chooses the connection that is so many lines below; the first if there is none chosen.
    fn choose(&mut self, by: isize) {
        let last = self.connections.len().saturating_sub(1);
        let place = self.place().unwrap_or(0).saturating_add_signed(by).min(last);
        self.chosen = self.connections.get(place).map(|shown| shown.state.number);
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let height = frame.area().height;
        let rows = |of: usize| u16::try_from(of).unwrap_or(u16::MAX).saturating_add(1);
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(rows(self.connections.len()).clamp(2, (height / 3).max(2))),
            Constraint::Length(
                rows(self.methods.len())
                    .saturating_add(1)
                    .clamp(2, (height / 3).max(2)),
            ),
            Constraint::Min(3),
            Constraint::Length(1),
        ]);
        let [head, connections, methods, below, foot] = areas.areas(frame.area());
        self.head(frame, head);
        self.table(frame, connections);
        self.methods(frame, methods);
        self.chosen(frame, below);
        let keys = match &self.trouble {
            Some(trouble) => Line::from(harmless(trouble).red()),
            None => Line::from(vec!["↑↓".bold(), " choose   ".into(), "q".bold(), " quit".into()]).dim(),
        };
        frame.render_widget(Paragraph::new(keys), foot);
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect) {
        let sum = |of: fn(&Shown) -> f64| self.connections.iter().map(of).sum::<f64>();
        let text = format!(
            "  {} connected   {:.0} calls/s   in {}/s   out {}/s",
            self.connections.len(),
            sum(|shown| shown.calls),
            bytes(sum(|shown| shown.received)),
            bytes(sum(|shown| shown.sent)),
        );
        let line = Line::from(vec![Span::from(self.title.as_str()).bold().cyan(), text.into()]);
        frame.render_widget(Paragraph::new(line), area);
    }

    /// What is called the most just now, and how long it takes.
    fn methods(&self, frame: &mut Frame<'_>, area: Rect) {
        let block = Block::new()
            .borders(Borders::TOP)
            .title(" calls since the start ");
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let rows = self.methods.iter().map(|called| {
            let state = &called.state;
            let time = |micros: u64| crate::output::time(Duration::from_micros(micros));
            Row::new([
                harmless(&state.name),
                state.calls.to_string(),
                format!("{:.0}", called.calls),
                state.failed.to_string(),
                time(state.median_micros),
                time(state.p99_micros),
            ])
        });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(9),
            Constraint::Length(7),
            Constraint::Length(6),
            Constraint::Length(8),
            Constraint::Length(8),
        ];
        let heads = Row::new(["METHOD", "CALLS", "IN 1 S", "FAILED", "HALF IN", "99% IN"]);
        let table = Table::new(rows, widths).header(heads.style(Style::new().add_modifier(Modifier::BOLD)));
        frame.render_widget(table, inner);
    }

    fn table(&self, frame: &mut Frame<'_>, area: Rect) {
        let heads = [
            "PEER", "AGE", "TRIP", "CARR", "OBJECTS", "CALLS/S", "IN/S", "OUT/S",
        ];
        let rows = self.connections.iter().map(|shown| {
            let state = &shown.state;
            let trip = state.round_trip_micros.map_or(String::new(), |trip| {
                crate::output::time(Duration::from_micros(trip))
            });
            let row = Row::new([
                peer(state),
                age(state.age_millis),
                trip,
                state.carriers.to_string(),
                state.exports.to_string(),
                format!("{:.0}", shown.calls),
                bytes(shown.received),
                bytes(shown.sent),
            ]);
            if state.is_up {
                row
            } else {
                row.style(Style::new().yellow())
            }
        });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(5),
            Constraint::Length(8),
            Constraint::Length(4),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(9),
            Constraint::Length(9),
        ];
        let table = Table::new(rows, widths)
            .header(Row::new(heads).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = TableState::default().with_selected(self.place());
        frame.render_stateful_widget(table, area, &mut state);
    }

    /// What the peer that is chosen holds and calls.
    fn chosen(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(shown) = self.place().and_then(|place| self.connections.get(place)) else {
            frame.render_widget(Paragraph::new("nobody is connected".dim()), area);
            return;
        };
        let title = format!(
            " {}: {} in, {} out ",
            harmless(&shown.state.peer).chars().take(48).collect::<String>(),
            size(shown.state.bytes_received),
            size(shown.state.bytes_sent)
        );
        let block = Block::new().borders(Borders::TOP).title(title);
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let calls = u16::try_from(self.under_way.len())
            .unwrap_or(u16::MAX)
            .saturating_add(1);
        let areas = Layout::vertical([
            Constraint::Min(2),
            Constraint::Length(calls.min(inner.height / 3)),
        ]);
        let [held, under_way] = areas.areas(inner);
        let rows = self.groups.iter().map(|group| {
            Row::new([
                if group.by_peer { "peer" } else { "here" }.to_owned(),
                group.interface.clone(),
                group.objects.to_string(),
                group.oldest.map_or(String::new(), age),
                group.idle.map_or(String::new(), age),
                group.origin.clone(),
            ])
        });
        let widths = [
            Constraint::Length(4),
            Constraint::Fill(2),
            Constraint::Length(7),
            Constraint::Length(6),
            Constraint::Length(5),
            Constraint::Fill(3),
        ];
        let heads = Row::new(["HELD", "OBJECTS OF", "NUMBER", "OLDEST", "IDLE", "CAME BY"]);
        let table = Table::new(rows, widths).header(heads.style(Style::new().add_modifier(Modifier::BOLD)));
        frame.render_widget(table, held);
        let rows = self.under_way.iter().map(|call| {
            let method = call.method.as_deref().unwrap_or("(unknown)");
            Row::new([harmless(method), age(call.age_millis)])
        });
        let heads = Row::new(["CALL UNDER WAY", "AGE"]).style(Style::new().add_modifier(Modifier::BOLD));
        let table = Table::new(rows, [Constraint::Fill(1), Constraint::Length(6)]).header(heads);
        if !self.under_way.is_empty() {
            frame.render_widget(table, under_way);
        }
    }
}

/// Where a peer is, without its key.
fn peer(state: &ConnectionState) -> String {
    let text = harmless(&state.peer);
    let rest = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
    let end = rest.find(['#', '?']).unwrap_or(rest.len());
    let name = rest.get(..end).unwrap_or(rest);
    if state.is_up {
        name.to_owned()
    } else {
        format!("{name} (down)")
    }
}

/// A number of bytes in at most nine characters.
fn bytes(of: f64) -> String {
    size(of.max(0.0) as u64)
}

/// A time in at most five characters.
fn age(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..100 => format!("{seconds}s"),
        100..6000 => format!("{}m", seconds / 60),
        6000..360_000 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn connection(number: u64, calls: u64) -> ConnectionState {
        ConnectionState {
            number,
            peer: format!("tcp://10.0.0.{number}:4000#ed25519.x (ed25519.x)"),
            medium: "tcp".to_owned(),
            age_millis: 65_000,
            is_up: number != 2,
            carriers: 3,
            round_trip_micros: Some(210),
            exports: 3,
            calls,
            bytes_received: 1024 * calls,
            bytes_sent: 1 << 30,
            ..ConnectionState::default()
        }
    }

    fn snapshot(calls: u64) -> Snapshot {
        let method = MethodState {
            name: "Bench.voltage".to_owned(),
            calls: 2 * calls,
            failed: 1,
            micros: 1,
            median_micros: 120,
            p99_micros: 4000,
        };
        Snapshot {
            connections: (1..=2).map(|number| connection(number, calls)).collect(),
            methods: vec![method],
            ..Snapshot::default()
        }
    }

    fn screen(view: &View) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        buffer
            .content()
            .chunks(80)
            .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>())
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }

    #[test]
    fn a_screen_of_80_columns_shows_connections_and_what_they_hold() {
        let mut view = View {
            title: "rig7:7000".to_owned(),
            ..View::default()
        };
        assert!(screen(&view).contains("nobody is connected"));
        let now = Instant::now();
        let before = (now - Duration::from_secs(2), snapshot(100));
        view.rates(&snapshot(124), Some(&before), now);
        view.choose(0);
        let file = Held {
            interface: Some("farref.File".to_owned()),
            age_millis: Some(5000),
            idle_millis: Some(100),
            origin: Some("farref.Files::open".to_owned()),
            ..Held::default()
        };
        let older = Held {
            age_millis: Some(9000),
            idle_millis: None,
            ..file.clone()
        };
        view.groups = groups(&Holdings {
            exports: vec![file, older],
            ..Holdings::default()
        });
        assert_eq!(view.groups.len(), 1);
        view.under_way = vec![Underway {
            method: Some("farref.Process::wait".to_owned()),
            age_millis: 3000,
        }];
        let shown = screen(&view);
        for text in [
            "rig7:7000  2 connected   24 calls/s   in 24.0 KiB/s   out 0 B/s",
            "10.0.0.1:4000",
            "10.0.0.2:4000 (down)",
            "210 us",
            "Bench.voltage ",
            "120 us",
            "4.0 ms",
            "farref.File  ",
            "9s",
            "farref.Files::open",
            "farref.Process::wait",
            "1.0 GiB out",
        ] {
            assert!(shown.contains(text), "{text}:\n{shown}");
        }
        view.choose(1);
        assert_eq!(view.chosen, Some(2));
        view.choose(5);
        view.choose(-9);
        assert_eq!(view.chosen, Some(1));
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(
            [0, 99_000, 100_000, 7_200_000, 900_000_000].map(age),
            ["0s", "99s", "1m", "2h", "10d"]
        );
    }
}
