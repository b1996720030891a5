//! `farref top`: who is connected there, and what they do, live.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use farref::monitor::{ConnectionState, Held, MethodState, Monitor, Snapshot, Underway};
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
use crate::output::{Out, counted, harmless, size};

/// Watch the connections of a server: their traffic, calls and latencies, and the objects that are held over them.
///
/// The server must show the service `monitor`: `farref serve --monitor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref top tcp://rig7:7000
  farref top tcp://rig7:7000 --interval 5s
  farref top tcp://rig7:7000 --json | jq .connections     once, as data

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
    held: Vec<Line5>,
    /// What went wrong, to be shown.
    trouble: Option<String>,
    title: String,
    refused: u64,
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

/// A line of what is held or under way: what, how many, since when, when last, and by which method it came.
type Line5 = [String; 5];

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
                    view.held.clear();
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
    let now = monitor.call().snapshot().await;
    let now = now.map_err(|error| Failure::of("cannot watch", &error))?;
    let mut out = Out::new(global);
    if global.json {
        out.json(&to_value(&now).map_err(Failure::usage)?)?;
        return out.finish();
    }
    out.value(&to_value(&now.connections).map_err(Failure::usage)?)?;
    if !now.methods.is_empty() {
        out.line("")?;
        out.value(&to_value(&now.methods).map_err(Failure::usage)?)?;
    }
    out.finish()
}

/// Takes a look: what there is, and how much came since the last one.
async fn look(
    monitor: &Netref<dyn Monitor>,
    view: &mut View,
    before: &mut Option<(Instant, Snapshot)>,
) -> Result<(), Error> {
    let snapshot = monitor.call().snapshot().await?;
    let now = Instant::now();
    let seconds = before.as_ref().map_or(f64::INFINITY, |(then, _)| {
        now.duration_since(*then).as_secs_f64().max(1e-3)
    });
    let rate = |is: u64, was: Option<u64>| was.map_or(0.0, |was| is.saturating_sub(was) as f64 / seconds);
    let was = before.as_ref().map(|(_, snapshot)| snapshot);
    view.connections = snapshot
        .connections
        .iter()
        .map(|state| {
            let was = was.and_then(|was| was.connections.iter().find(|was| was.number == state.number));
            Shown {
                calls: rate(state.calls, was.map(|was| was.calls)),
                received: rate(state.bytes_received, was.map(|was| was.bytes_received)),
                sent: rate(state.bytes_sent, was.map(|was| was.bytes_sent)),
                state: state.clone(),
            }
        })
        .collect();
    view.methods = snapshot
        .methods
        .iter()
        .map(|state| {
            let was = was.and_then(|was| was.methods.iter().find(|was| was.name == state.name));
            Called {
                // A method that was never called before has begun with none.
                calls: rate(
                    state.calls,
                    before.as_ref().map(|_| was.map_or(0, |was| was.calls)),
                ),
                state: state.clone(),
            }
        })
        .collect();
    // What is called most now comes first; the rest stays in the order of the time that it took.
    view.methods.sort_by(|a, b| b.calls.total_cmp(&a.calls));
    view.refused = snapshot.refused;
    *before = Some((now, snapshot));
    view.choose(0);
    view.held.clear();
    if let Some(chosen) = view.chosen
        // It may just have ended: then the next look shows another.
        && let Some(holdings) = monitor.call().holdings(chosen).await?
    {
        view.held
            .extend(sum(holdings.exports.iter().map(|held| of_held("peer", held))));
        view.held
            .extend(sum(holdings.imports.iter().map(|held| of_held("here", held))));
        view.held.extend(sum(holdings.answers.iter().map(of_call)));
    }
    Ok(())
}

/// What is held or under way, before it is summed up: what, since when, when last, and by which method it came.
type One = (String, Option<u64>, Option<u64>, String);

fn of_held(by: &str, held: &Held) -> One {
    let interface = held.interface.as_deref().unwrap_or("(unknown)");
    (
        format!("{by}  {}", harmless(interface)),
        held.age_millis,
        held.idle_millis,
        harmless(held.origin.as_deref().unwrap_or_default()),
    )
}

fn of_call(call: &Underway) -> One {
    let method = call.method.as_deref().unwrap_or("(unknown)");
    (
        format!("call  {}", harmless(method)),
        Some(call.age_millis),
        None,
        String::new(),
    )
}

#[derive(Default)]
struct Sum {
    count: u64,
    oldest: Option<u64>,
    idle: Option<u64>,
}

/// A line for all that are of one kind and origin.
fn sum(all: impl Iterator<Item = One>) -> Vec<Line5> {
    let mut lines: BTreeMap<(String, String), Sum> = BTreeMap::new();
    for (what, oldest, idle, origin) in all {
        let line = lines.entry((what, origin)).or_default();
        line.count = line.count.saturating_add(1);
        line.oldest = line.oldest.max(oldest);
        // None is less than anything, and says nothing here.
        line.idle = [line.idle, idle].into_iter().flatten().min();
    }
    let mut lines: Vec<_> = lines.into_iter().collect();
    lines.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.count));
    lines
        .into_iter()
        .map(|((what, origin), sum)| {
            let time = |of: Option<u64>| of.map_or(String::new(), age);
            [
                what,
                sum.count.to_string(),
                time(sum.oldest),
                time(sum.idle),
                origin,
            ]
        })
        .collect()
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
        let lines = |of: usize| u16::try_from(of).unwrap_or(u16::MAX).saturating_add(1);
        let third = (frame.area().height / 3).max(3);
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(lines(self.connections.len()).clamp(2, third)),
            Constraint::Length(lines(self.methods.len()).saturating_add(1).clamp(3, third)),
            Constraint::Min(3),
            Constraint::Length(1),
        ]);
        let [head, connections, methods, below, foot] = areas.areas(frame.area());
        self.head(frame, head);
        self.connections(frame, connections);
        self.methods(frame, methods);
        self.held(frame, below);
        let keys = match &self.trouble {
            Some(trouble) => Line::from(harmless(trouble).red()),
            None => Line::from(vec!["↑↓".bold(), " choose   ".into(), "q".bold(), " quit".into()]).dim(),
        };
        frame.render_widget(Paragraph::new(keys), foot);
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect) {
        let sum = |of: fn(&Shown) -> f64| self.connections.iter().map(of).sum::<f64>();
        let text = format!(
            "  {}  {} refused  {:.0} calls/s  in {}/s  out {}/s",
            counted(self.connections.len() as u64, "peer"),
            self.refused,
            sum(|shown| shown.calls),
            bytes(sum(|shown| shown.received)),
            bytes(sum(|shown| shown.sent)),
        );
        let line = Line::from(vec![Span::from(self.title.as_str()).bold().cyan(), text.into()]);
        frame.render_widget(Paragraph::new(line), area);
    }

    fn connections(&self, frame: &mut Frame<'_>, area: Rect) {
        let heads = [
            "PEER", "AGE", "TRIP", "OBJECTS", "CALLS/S", "BUSY", "IN/S", "OUT/S",
        ];
        let rows = self.connections.iter().map(|shown| {
            let state = &shown.state;
            let trip = state.round_trip_micros.map_or(String::new(), micros);
            let row = Row::new([
                peer(state),
                age(state.age_millis),
                trip,
                state.exports.to_string(),
                format!("{:.0}", shown.calls),
                state.answers.to_string(),
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
            NAME,
            Constraint::Length(5),
            Constraint::Length(8),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(5),
            Constraint::Length(10),
            Constraint::Length(10),
        ];
        let table = Table::new(rows, widths)
            .header(heading(heads))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = TableState::default().with_selected(self.place());
        frame.render_stateful_widget(table, area, &mut state);
    }

    fn methods(&self, frame: &mut Frame<'_>, area: Rect) {
        let rows = self.methods.iter().map(|called| {
            let state = &called.state;
            Row::new([
                harmless(&state.name),
                format!("{:.0}", called.calls),
                state.calls.to_string(),
                state.failed.to_string(),
                micros(state.median_micros),
                micros(state.p99_micros),
            ])
        });
        let widths = [
            NAME,
            Constraint::Length(7),
            Constraint::Length(10),
            Constraint::Length(7),
            Constraint::Length(9),
            Constraint::Length(9),
        ];
        let heads = heading(["METHOD", "CALLS/S", "CALLS", "FAILED", "HALF", "99 %"]);
        let block = Block::new()
            .borders(Borders::TOP)
            .title(" calls, and how long they take ");
        frame.render_widget(Table::new(rows, widths).header(heads).block(block), area);
    }

    /// What the peer that is chosen holds, and what it has under way.
    fn held(&self, frame: &mut Frame<'_>, area: Rect) {
        let Some(shown) = self.place().and_then(|place| self.connections.get(place)) else {
            frame.render_widget(Paragraph::new("nobody is connected".dim()), area);
            return;
        };
        let title = format!(
            " {}: {}, {} in, {} out ",
            peer(&shown.state),
            counted(shown.state.carriers, "carrier"),
            size(shown.state.bytes_received),
            size(shown.state.bytes_sent)
        );
        let widths = [
            NAME,
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(5),
            Constraint::Fill(1),
        ];
        let heads = heading(["HELD BY, AND CALLS", "NUMBER", "OLDEST", "IDLE", "CAME BY"]);
        let rows = self.held.iter().map(|line| Row::new(line.clone()));
        let block = Block::new().borders(Borders::TOP).title(title);
        frame.render_widget(Table::new(rows, widths).header(heads).block(block), area);
    }
}

/// The column that says what a row is about: in a narrow terminal the others are cut.
const NAME: Constraint = Constraint::Min(20);

fn heading<const N: usize>(heads: [&'static str; N]) -> Row<'static> {
    Row::new(heads).style(Style::new().add_modifier(Modifier::BOLD))
}

/// A time of so many microseconds.
fn micros(of: u64) -> String {
    crate::output::time(Duration::from_micros(of))
}

/// Where a peer is, without its key.
fn peer(state: &ConnectionState) -> String {
    let text = harmless(&state.peer);
    let name = match (text.split_once("://"), text.split_once(" (")) {
        (Some((_, rest)), _) => rest.split(['#', '?', ' ']).next().unwrap_or(rest).to_owned(),
        // Without an address, what the system says of it: `a unix peer (uid 0, gid 0, pid 7)`.
        (None, Some((_, known))) => format!("{}, {}", state.medium, known.trim_end_matches(')')),
        (None, None) => text,
    };
    if state.is_up {
        name
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

    fn connection(number: u64) -> ConnectionState {
        ConnectionState {
            number,
            peer: format!("tcp://10.0.0.{number}:4000#ed25519.x (ed25519.x)"),
            age_millis: 65_000,
            is_up: number != 2,
            carriers: 1,
            round_trip_micros: Some(210),
            exports: 3,
            answers: 1,
            bytes_received: 2048,
            bytes_sent: 1 << 30,
            ..ConnectionState::default()
        }
    }

    fn screen(view: &View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        buffer
            .content()
            .chunks(width.into())
            .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>())
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }

    /// Two connections, the first of them chosen, and a method.
    fn busy() -> View {
        let mut view = View {
            title: "rig7:7000".to_owned(),
            ..View::default()
        };
        view.connections = (1..=2)
            .map(|number| Shown {
                state: connection(number),
                calls: 12.0,
                received: 1024.0,
                sent: 0.0,
            })
            .collect();
        view.choose(0);
        view.methods = vec![Called {
            state: MethodState {
                name: "farref.Files.open".to_owned(),
                calls: 7,
                median_micros: 100,
                p99_micros: 2_500,
                ..MethodState::default()
            },
            calls: 3.0,
        }];
        view
    }

    #[test]
    fn a_screen_of_80_columns_shows_connections_and_what_they_hold() {
        assert!(screen(&View::default(), 80, 24).contains("nobody is connected"));
        let mut view = busy();
        let held = (0..7).map(|_| {
            let file = "farref.File".to_owned();
            (
                format!("peer  {file}"),
                Some(5000),
                Some(100),
                "farref.Files.open".to_owned(),
            )
        });
        view.held = sum(held);
        let shown = screen(&view, 80, 24);
        for text in [
            "rig7:7000  2 peers  0 refused  24 calls/s  in 2.0 KiB/s  out 0 B/s",
            "10.0.0.1:4000",
            "10.0.0.2:4000 (down)",
            "210 us",
            "peer  farref.File ",
            "farref.Files.open",
            "2.50 ms",
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

    /// One of fewer than nine lines ended the program with a panic, and one of 40 columns had no names.
    #[test]
    fn a_small_screen_shows_what_finds_room() {
        let mut view = busy();
        for (width, height) in [(1, 1), (20, 6), (200, 2), (3, 50)] {
            screen(&view, width, height);
        }
        let shown = screen(&view, 40, 12);
        for text in ["10.0.0.1:4000", "farref.Files.open"] {
            assert!(shown.contains(text), "{text}:\n{shown}");
        }
        view.connections.truncate(1);
        let shown = screen(&view, 80, 24);
        assert!(
            shown.contains(" 1 peer  ") && shown.contains(": 1 carrier, "),
            "{shown}"
        );
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(
            [0, 99_000, 100_000, 7_200_000, 900_000_000].map(age),
            ["0s", "99s", "1m", "2h", "10d"]
        );
    }
}
