//! The demonstration on a terminal. Everything is drawn from the last [`Span`]; keys are read between two drawings.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span as Piece};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Sparkline, Table};
use weir_core::Health;

use super::events::Events;
use super::reading::{EndpointSpan, Span, ms};
use super::stage::Stage;
use super::text;

/// Seconds of traffic that are kept for the curve.
const HISTORY: usize = 300;
/// Keys that wait to be handled.
const KEYS: usize = 16;

/// The terminal in its own screen; dropping it gives the user's back. So does a panic.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    events: Events,
    keys: Receiver<Event>,
    rates: VecDeque<u64>,
    show_config: bool,
    colour: bool,
}

/// What the user wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wish {
    Nothing,
    Redraw,
    End,
}

impl Screen {
    /// Takes the terminal over.
    pub(crate) fn open(events: Events, colour: bool) -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        // On a thread of its own, which ends with the process: a terminal that has gone away keeps its reader busy for ever.
        let (sender, keys) = sync_channel(KEYS);
        std::thread::Builder::new().name("demo-keys".to_owned()).spawn(move || {
            while let Ok(event) = event::read() {
                if sender.send(event).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { terminal, events, keys, rates: VecDeque::new(), show_config: false, colour })
    }

    /// Adds a second to the curve.
    pub(crate) fn push(&mut self, span: &Span) {
        if self.rates.len() == HISTORY {
            self.rates.pop_front();
        }
        self.rates.push_back(span.rate.round() as u64);
    }

    /// Draws everything.
    pub(crate) fn draw(&mut self, stage: &Stage, span: &Span, ran: Duration) -> io::Result<()> {
        let picture = Picture {
            headline: &text::headline(stage),
            addresses: &text::addresses(stage),
            config: &stage.config,
            span,
            ran,
            events: &self.events,
            rates: &self.rates,
            show_config: self.show_config,
            colour: self.colour,
        };
        self.terminal.draw(|frame| picture.draw(frame)).map(drop)
    }

    /// Waits for a key for at most `timeout`.
    pub(crate) fn wait(&mut self, timeout: Duration) -> io::Result<Wish> {
        let event = match self.keys.recv_timeout(timeout) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return Ok(Wish::Nothing),
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the keyboard cannot be read")),
        };
        let Event::Key(key) = event else { return Ok(Wish::Redraw) };
        if key.kind == KeyEventKind::Release {
            return Ok(Wish::Nothing);
        }
        Ok(match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Wish::End,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::End,
            KeyCode::Char('c') => {
                self.show_config = !self.show_config;
                Wish::Redraw
            }
            _ => Wish::Nothing,
        })
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Says on standard error what went wrong, if anything.
        ratatui::restore();
    }
}

/// What one drawing shows.
struct Picture<'a> {
    headline: &'a str,
    addresses: &'a [(String, &'static str)],
    config: &'a str,
    span: &'a Span,
    ran: Duration,
    events: &'a Events,
    rates: &'a VecDeque<u64>,
    show_config: bool,
    colour: bool,
}

impl Picture<'_> {
    fn draw(&self, frame: &mut Frame<'_>) {
        let addresses = self.addresses;
        let rows = Layout::vertical([
            Constraint::Length(1),
            // The configuration needs the room.
            Constraint::Length(if self.show_config { 0 } else { addresses.len() as u16 + 2 }),
            Constraint::Length(6),
            Constraint::Length(self.span.endpoints.len() as u16 + 3),
            Constraint::Min(3),
            Constraint::Length(1),
        ]);
        let [title, try_it, traffic, servers, below, keys] = rows.areas(frame.area());
        frame.render_widget(Paragraph::new(self.headline).style(BOLD), title);
        let lines: Vec<Line<'_>> = addresses
            .iter()
            .map(|(command, what)| {
                Line::from(vec![Piece::styled(format!("{command:<44} "), self.paint(Color::Cyan)), Piece::raw(*what)])
            })
            .collect();
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" try in another terminal ")), try_it);
        self.draw_traffic(frame, traffic);
        self.draw_servers(frame, servers);
        if self.show_config {
            let block = Block::bordered().title(" the configuration that Weir runs ");
            frame.render_widget(Paragraph::new(self.config).block(block), below);
        } else {
            self.draw_events(frame, below);
        }
        let other = if self.show_config { "events" } else { "configuration" };
        let text = format!(" q quit   c {other}   {} s", self.ran.as_secs());
        frame.render_widget(Paragraph::new(text).style(Style::new().add_modifier(Modifier::REVERSED)), keys);
    }

    fn draw_traffic(&self, frame: &mut Frame<'_>, area: Rect) {
        let span = self.span;
        let [numbers, curve] = Layout::horizontal([Constraint::Length(62), Constraint::Min(10)]).areas(area);
        let errors = if span.errors == 0 { self.paint(Color::Green) } else { self.paint(Color::Red) };
        let label = |text: &'static str| Piece::raw(format!("{text:<18}"));
        let value = |text: String| Piece::styled(format!("{text:<12}"), BOLD);
        let memory = span.memory.map_or_else(|| "-".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        let cores = span.cores.map_or_else(|| "-".to_owned(), |cores| format!("{:.0} %", cores * 100.0));
        let lines = vec![
            Line::from(vec![
                label("requests/s"),
                value(format!("{:.0}", span.rate)),
                label("in flight"),
                value(span.in_flight.to_string()),
            ]),
            Line::from(vec![label("p50 / p99 in Weir"), value(format!("{} / {}", ms(span.p50_ms), ms(span.p99_ms)))]),
            Line::from(vec![
                label("p99 of clients"),
                value(ms(span.client_p99_ms)),
                label("memory, CPU (all)"),
                value(format!("{memory}, {cores}")),
            ]),
            Line::from(vec![
                label("client errors"),
                Piece::styled(format!("{:<12}", span.errors), errors.add_modifier(Modifier::BOLD)),
                label("retries"),
                value(span.retries.to_string()),
            ]),
        ];
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" traffic ")), numbers);
        let wide = usize::from(curve.width.saturating_sub(2));
        let data: Vec<u64> = self.rates.iter().copied().skip(self.rates.len().saturating_sub(wide)).collect();
        let sparkline = Sparkline::default().data(data).style(self.paint(Color::Cyan));
        frame.render_widget(sparkline.block(Block::bordered().title(" requests/s ")), curve);
    }

    fn draw_servers(&self, frame: &mut Frame<'_>, area: Rect) {
        let wide = area.width >= WIDE;
        let columns = || COLUMNS.iter().filter(move |column| wide || !column.wide_only);
        let rows = self.span.endpoints.iter().map(|endpoint| {
            let health = self.health_style(endpoint.health);
            let cell = |column: &Column| {
                let cell = Cell::from((column.text)(endpoint));
                if column.title == "health" { cell.style(health) } else { cell }
            };
            Row::new(columns().map(cell))
        });
        let table = Table::new(rows, columns().map(|column| Constraint::Length(column.width)))
            .header(Row::new(columns().map(|column| column.title)).style(Style::new().add_modifier(Modifier::DIM)))
            .block(Block::bordered().title(" servers, as Weir sees them "));
        frame.render_widget(table, area);
    }

    fn health_style(&self, health: Health) -> Style {
        let style = match health {
            Health::Up => self.paint(Color::Green),
            Health::Unknown | Health::Draining => self.paint(Color::Yellow),
            Health::Down | Health::Ejected => self.paint(Color::Red),
        };
        style.add_modifier(Modifier::BOLD)
    }

    fn draw_events(&self, frame: &mut Frame<'_>, area: Rect) {
        let lines: Vec<Line<'_>> = self
            .events
            .latest(usize::from(area.height.saturating_sub(2)))
            .into_iter()
            .map(|line| {
                let style = match () {
                    () if line.contains("ERROR") => self.paint(Color::Red),
                    () if line.contains("WARN") => self.paint(Color::Yellow),
                    () => Style::new(),
                };
                Line::styled(line, style)
            })
            .collect();
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" recent events ")), area);
    }

    fn paint(&self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }
}

/// A column of the table of servers.
struct Column {
    title: &'static str,
    width: u16,
    /// Left out on a narrow terminal.
    wide_only: bool,
    text: fn(&EndpointSpan) -> String,
}

/// From this width on, all columns fit.
const WIDE: u16 = 106;

#[rustfmt::skip]
const COLUMNS: [Column; 11] = [
    Column { title: "server", width: 7, wide_only: false, text: |of| of.name.clone() },
    Column { title: "address", width: 16, wide_only: true, text: |of| of.address.clone() },
    Column { title: "health", width: 8, wide_only: false, text: |of| of.health.as_str().to_owned() },
    Column { title: "req/s", width: 6, wide_only: false, text: |of| format!("{:.0}", of.rate) },
    Column { title: "p50", width: 8, wide_only: false, text: |of| ms(of.p50_ms) },
    Column { title: "p99", width: 8, wide_only: false, text: |of| ms(of.p99_ms) },
    Column { title: "in flight", width: 9, wide_only: false, text: |of| of.in_flight.to_string() },
    Column { title: "waiting", width: 7, wide_only: true, text: |of| of.waiting.to_string() },
    Column { title: "idle/open", width: 9, wide_only: false, text: |of| format!("{}/{}", of.idle, of.open) },
    Column { title: "failures", width: 8, wide_only: false, text: |of| of.failures.to_string() },
    Column { title: "ejected", width: 7, wide_only: true, text: |of| of.ejections.to_string() },
];

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    /// What a terminal of this size shows.
    fn shown(width: u16, height: u16, show_config: bool) -> String {
        let endpoint = EndpointSpan {
            name: "flaky".to_owned(),
            address: "127.0.0.1:3003".to_owned(),
            health: Health::Down,
            rate: 12.4,
            p50_ms: Some(4.26),
            p99_ms: None,
            in_flight: 3,
            waiting: 77,
            idle: 5,
            open: 8,
            failures: 41,
            ejections: 1,
        };
        let span = Span {
            rate: 299.6,
            p50_ms: Some(6.6),
            p99_ms: Some(73.1),
            client_p99_ms: Some(74.0),
            in_flight: 4,
            answered: 1_000,
            errors: 0,
            retries: 3,
            memory: Some(13 << 20),
            cores: Some(0.123),
            endpoints: vec![endpoint],
        };
        let events = Events::default();
        let (headline, config) = ("weir demo: so much".to_owned(), "bind = \"127.0.0.1:8080\"".to_owned());
        let picture = Picture {
            headline: &headline,
            addresses: &[("curl http://127.0.0.1:8080/".to_owned(), "a request")],
            config: &config,
            span: &span,
            ran: Duration::from_secs(7),
            events: &events,
            rates: &VecDeque::from([280, 300]),
            show_config,
            colour: false,
        };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| picture.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn everything_is_shown_where_there_is_room() {
        let text = shown(120, 36, false);
        for part in [
            "weir demo: so much",
            "curl http://127.0.0.1:8080/",
            "300",
            "6.6 ms / 73 ms",
            "13 MiB, 12 %",
            "flaky   127.0.0.1:3003   down     12     4.3 ms   -        3         77      5/8       41       1",
            "recent events",
            "7 s",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = shown(120, 36, true);
        assert!(text.contains("bind = \"127.0.0.1:8080\"") && !text.contains("recent events"), "{text}");
    }

    #[test]
    fn a_small_terminal_shows_less_and_never_fails() {
        let text = shown(80, 24, false);
        assert!(text.contains("flaky   down     12     4.3 ms   -        3         5/8       41"), "{text}");
        for (width, height) in [(1, 1), (20, 5), (300, 3), (40, 100)] {
            shown(width, height, false);
            shown(width, height, true);
        }
    }
}
