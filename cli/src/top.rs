//! `farref top`: who is connected there, and what they do, live.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use farref::monitor::{CallReport, ConnectionReport, HoldingReport, Monitor};
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

/// Watch the connections of a server: their traffic, calls and latencies, and the objects that are held over them.
///
/// The server must show the service `monitor`: `farref serve --monitor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  farref top tcp://rig7:7000
  farref top tcp://rig7:7000 --interval 5s
  farref top tcp://rig7:7000 --json | jq .peer     a line for each connection, once

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
    /// The number of the connection that is chosen.
    chosen: Option<u64>,
    holdings: Vec<HoldingReport>,
    calls: Vec<CallReport>,
    /// What went wrong, to be shown.
    trouble: Option<String>,
    title: String,
}

/// A connection, and how much goes over it in a second.
struct Shown {
    report: ConnectionReport,
    messages: f64,
    received: f64,
    sent: f64,
}

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
        let mut before = BTreeMap::new();
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
                    view.holdings.clear();
                    view.calls.clear();
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
    let all = monitor.call().connections().await;
    let all = all.map_err(|error| Failure::of("cannot watch", &error))?;
    let mut out = Out::new(global);
    if global.json {
        for connection in &all {
            out.json(&to_value(connection).map_err(Failure::usage)?)?;
        }
        return out.finish();
    }
    out.value(&to_value(&all).map_err(Failure::usage)?)?;
    out.finish()
}

/// Takes a look: what there is, and how much came since the last one.
async fn look(
    monitor: &Netref<dyn Monitor>,
    view: &mut View,
    before: &mut BTreeMap<u64, (Instant, ConnectionReport)>,
) -> Result<(), Error> {
    let all = monitor.call().connections().await?;
    let now = Instant::now();
    view.connections = all
        .iter()
        .map(|report| {
            let was = before.get(&report.number);
            let rate = |of: fn(&ConnectionReport) -> u64| match was {
                Some((then, was)) => {
                    let seconds = now.duration_since(*then).as_secs_f64().max(1e-3);
                    of(report).saturating_sub(of(was)) as f64 / seconds
                }
                None => 0.0,
            };
            Shown {
                messages: rate(|report| report.messages_received),
                received: rate(|report| report.bytes_received),
                sent: rate(|report| report.bytes_sent),
                report: report.clone(),
            }
        })
        .collect();
    *before = all
        .into_iter()
        .map(|report| (report.number, (now, report)))
        .collect();
    view.choose(0);
    if let Some(chosen) = view.chosen {
        // It may just have ended: then the next look shows another.
        view.holdings = monitor.call().holdings(chosen).await.unwrap_or_default();
        view.calls = monitor.call().calls(chosen).await.unwrap_or_default();
    }
    Ok(())
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
            .position(|shown| shown.report.number == chosen)
    }

    /// Chooses the connection that is so many lines below; the first if there is none chosen.
    fn choose(&mut self, by: isize) {
        let last = self.connections.len().saturating_sub(1);
        let place = self.place().unwrap_or(0).saturating_add_signed(by).min(last);
        self.chosen = self.connections.get(place).map(|shown| shown.report.number);
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let lines = u16::try_from(self.connections.len()).unwrap_or(u16::MAX);
        let most = frame.area().height / 2;
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(lines.saturating_add(1).clamp(2, most.max(2))),
            Constraint::Min(3),
            Constraint::Length(1),
        ]);
        let [head, connections, below, foot] = areas.areas(frame.area());
        self.head(frame, head);
        self.table(frame, connections);
        self.chosen(frame, below);
        let keys = match &self.trouble {
            Some(trouble) => Line::from(harmless(trouble).red()),
            None => Line::from(vec!["↑↓".bold(), " choose   ".into(), "q".bold(), " quit".into()]).dim(),
        };
        frame.render_widget(Paragraph::new(keys), foot);
    }

    fn head(&self, frame: &mut Frame<'_>, area: Rect) {
        let sum = |of: fn(&Shown) -> f64| self.connections.iter().map(of).sum::<f64>();
        let calls: u64 = self.connections.iter().map(|shown| shown.report.answers).sum();
        let text = format!(
            "  {} connections   {calls} calls   {:.0} messages/s   in {}/s   out {}/s",
            self.connections.len(),
            sum(|shown| shown.messages),
            bytes(sum(|shown| shown.received)),
            bytes(sum(|shown| shown.sent)),
        );
        let line = Line::from(vec![Span::from(self.title.as_str()).bold().cyan(), text.into()]);
        frame.render_widget(Paragraph::new(line), area);
    }

    fn table(&self, frame: &mut Frame<'_>, area: Rect) {
        let heads = [
            "PEER", "AGE", "TRIP", "OBJECTS", "CALLS", "MSG/S", "IN/S", "OUT/S",
        ];
        let rows = self.connections.iter().map(|shown| {
            let report = &shown.report;
            let trip = report.round_trip.map_or(String::new(), |trip| {
                crate::output::time(Duration::from_micros(trip))
            });
            let row = Row::new([
                peer(report),
                age(report.age),
                trip,
                report.exports.to_string(),
                report.answers.to_string(),
                format!("{:.0}", shown.messages),
                bytes(shown.received),
                bytes(shown.sent),
            ]);
            if report.is_up {
                row
            } else {
                row.style(Style::new().yellow())
            }
        });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(5),
            Constraint::Length(8),
            Constraint::Length(7),
            Constraint::Length(5),
            Constraint::Length(6),
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
            " {}: {} carriers, {} in, {} out ",
            harmless(&shown.report.peer).chars().take(40).collect::<String>(),
            shown.report.carriers,
            size(shown.report.bytes_received),
            size(shown.report.bytes_sent)
        );
        let block = Block::new().borders(Borders::TOP).title(title);
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let calls = u16::try_from(self.calls.len())
            .unwrap_or(u16::MAX)
            .saturating_add(1);
        let areas = Layout::vertical([
            Constraint::Min(2),
            Constraint::Length(calls.min(inner.height / 3)),
        ]);
        let [held, under_way] = areas.areas(inner);
        let rows = self.holdings.iter().map(|line| {
            let interface = match line.interface.as_str() {
                "" => "(unknown)".to_owned(),
                interface => harmless(interface),
            };
            Row::new([
                if line.by_peer { "peer" } else { "here" }.to_owned(),
                interface,
                line.objects.to_string(),
                line.oldest.map_or(String::new(), age),
                line.idle.map_or(String::new(), age),
                harmless(&line.origin),
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
        let rows = self
            .calls
            .iter()
            .map(|call| Row::new([harmless(&call.method), age(call.age)]));
        let heads = Row::new(["CALL UNDER WAY", "AGE"]).style(Style::new().add_modifier(Modifier::BOLD));
        let table = Table::new(rows, [Constraint::Fill(1), Constraint::Length(6)]).header(heads);
        if !self.calls.is_empty() {
            frame.render_widget(table, under_way);
        }
    }
}

/// Where a peer is, without its key.
fn peer(report: &ConnectionReport) -> String {
    let text = harmless(&report.peer);
    let rest = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
    let end = rest.find(['#', '?']).unwrap_or(rest.len());
    let name = rest.get(..end).unwrap_or(rest);
    if report.is_up {
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

    fn connection(number: u64) -> ConnectionReport {
        ConnectionReport {
            number,
            peer: format!("tcp://10.0.0.{number}:4000#ed25519.x (ed25519.x)"),
            age: 65_000,
            is_up: number != 2,
            carriers: 1,
            round_trip: Some(210),
            exports: 3,
            imports: 0,
            answers: 1,
            calls: 0,
            bytes_received: 2048,
            bytes_sent: 1 << 30,
            messages_received: 10,
            messages_sent: 10,
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
        view.connections = (1..=2)
            .map(|number| Shown {
                report: connection(number),
                messages: 12.0,
                received: 1024.0,
                sent: 0.0,
            })
            .collect();
        view.choose(0);
        view.holdings = vec![HoldingReport {
            by_peer: true,
            interface: "farref.File".to_owned(),
            objects: 7,
            oldest: Some(5000),
            idle: Some(100),
            origin: "farref.Files.open".to_owned(),
        }];
        view.calls = vec![CallReport {
            method: "farref.Process.wait".to_owned(),
            age: 3000,
        }];
        let shown = screen(&view);
        for text in [
            "rig7:7000  2 connections   2 calls   24 messages/s   in 2.0 KiB/s   out 0 B/s",
            "10.0.0.1:4000",
            "10.0.0.2:4000 (down)",
            "210 us",
            "farref.File ",
            "farref.Files.open",
            "farref.Process.wait",
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
