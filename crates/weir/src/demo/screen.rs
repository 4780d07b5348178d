//! The demonstration on a terminal. Everything is drawn from the last [`Span`]; keys are read between two drawings.

use std::collections::VecDeque;
use std::io;
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

/// The terminal in its own screen; dropping it gives the user's back. So does a panic.
pub(crate) struct Screen {
    terminal: DefaultTerminal,
    events: Events,
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
        Ok(Self { terminal, events, rates: VecDeque::new(), show_config: false, colour })
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
            stage,
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
        if !event::poll(timeout)? {
            return Ok(Wish::Nothing);
        }
        let Event::Key(key) = event::read()? else { return Ok(Wish::Redraw) };
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
    stage: &'a Stage,
    span: &'a Span,
    ran: Duration,
    events: &'a Events,
    rates: &'a VecDeque<u64>,
    show_config: bool,
    colour: bool,
}

impl Picture<'_> {
    fn draw(&self, frame: &mut Frame<'_>) {
        let addresses = text::addresses(self.stage);
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
        frame.render_widget(Paragraph::new(text::headline(self.stage)).style(BOLD), title);
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
            frame.render_widget(Paragraph::new(self.stage.config.as_str()).block(block), below);
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
        let header = [
            "server",
            "address",
            "health",
            "req/s",
            "p50",
            "p99",
            "in flight",
            "waiting",
            "idle/open",
            "failures",
            "ejected",
        ];
        let widths = [7, 16, 8, 6, 8, 8, 9, 7, 9, 8, 7].map(Constraint::Length);
        let rows = self.span.endpoints.iter().map(|endpoint| self.server_row(endpoint));
        let table = Table::new(rows, widths)
            .header(Row::new(header).style(Style::new().add_modifier(Modifier::DIM)))
            .block(Block::bordered().title(" servers, as Weir sees them "));
        frame.render_widget(table, area);
    }

    fn server_row(&self, endpoint: &EndpointSpan) -> Row<'static> {
        let health = match endpoint.health {
            Health::Up => self.paint(Color::Green),
            Health::Unknown | Health::Draining => self.paint(Color::Yellow),
            Health::Down | Health::Ejected => self.paint(Color::Red),
        };
        Row::new([
            Cell::from(endpoint.name.clone()),
            Cell::from(endpoint.address.clone()),
            Cell::from(endpoint.health.as_str()).style(health.add_modifier(Modifier::BOLD)),
            Cell::from(format!("{:.0}", endpoint.rate)),
            Cell::from(ms(endpoint.p50_ms)),
            Cell::from(ms(endpoint.p99_ms)),
            Cell::from(endpoint.in_flight.to_string()),
            Cell::from(endpoint.waiting.to_string()),
            Cell::from(format!("{}/{}", endpoint.idle, endpoint.open)),
            Cell::from(endpoint.failures.to_string()),
            Cell::from(endpoint.ejections.to_string()),
        ])
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

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
