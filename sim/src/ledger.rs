//! The book of requests: what clients asked for, what origins did, what clients got. Kept outside of Weir, so that
//! what Weir says can be compared with it.

use std::cell::RefCell;
use std::rc::Rc;

use weir_core::{Instant, Reason};

/// The book, shared by the clients and origins of a world.
pub(crate) type Book = Rc<RefCell<Ledger>>;

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    pub(crate) entries: Vec<Entry>,
    /// What must never happen, as seen by clients and origins, in words.
    pub(crate) violations: Vec<String>,
    /// Requests at each origin at a time: (now, most).
    pub(crate) in_service: Vec<(u32, u32)>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its method.
    pub method: &'static str,
    /// Bytes of its body.
    pub body_len: usize,
    /// When its first byte was sent.
    pub began: Instant,
    /// How it ended for the client, and when.
    pub ended: Option<(Instant, Outcome)>,
    /// Where and when its head arrived.
    pub arrivals: Vec<(Instant, usize)>,
    /// How often an origin had the whole of it.
    pub executions: u32,
    /// What origins did wrong on purpose.
    pub misdeeds: Vec<Misdeed>,
}

/// How a request ended for its client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A complete and correct response of an origin.
    Served(u16),
    /// A complete error response of Weir's.
    Refused(u16, Option<Reason>),
    /// The connection ended within the response.
    Cut,
    /// The connection ended before any byte of the response.
    Dropped,
    /// The client itself gave up.
    Abandoned,
    /// The client could not connect.
    Unconnected,
}

/// What an origin may do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Misdeed {
    /// Resets instead of answering.
    ResetBefore,
    /// Closes instead of answering.
    CloseBefore,
    /// Answers with bytes that are no HTTP.
    Garbage,
    /// Never answers.
    StallBefore,
    /// Answers twice: stray bytes right behind the response, and another response a little later.
    Surplus,
    /// Closes within the body.
    Truncated,
    /// Resets within the body.
    ResetWithin,
    /// Falls silent within the body.
    StallWithin,
}

impl Misdeed {
    /// Whether a part of the response comes first.
    pub fn begins(self) -> bool {
        matches!(self, Self::Truncated | Self::ResetWithin | Self::StallWithin)
    }
}

impl Ledger {
    /// How many requests were made.
    pub fn requests(&self) -> usize {
        self.entries.len()
    }

    /// How many requests ended like this.
    pub fn count(&self, matches: impl Fn(&Outcome) -> bool) -> usize {
        self.entries.iter().filter(|entry| entry.ended.as_ref().is_some_and(|(_, outcome)| matches(outcome))).count()
    }

    /// Enters a request; gives its number.
    pub(crate) fn begin(&mut self, method: &'static str, body_len: usize, now: Instant) -> u64 {
        self.entries.push(Entry {
            method,
            body_len,
            began: now,
            ended: None,
            arrivals: Vec::new(),
            executions: 0,
            misdeeds: Vec::new(),
        });
        (self.entries.len() - 1) as u64
    }

    pub(crate) fn end(&mut self, id: u64, now: Instant, outcome: Outcome) {
        let entry = &mut self.entries[id as usize];
        if let Some((_, before)) = &entry.ended {
            let text = format!("request {id} ended twice: {before:?}, then {outcome:?}");
            self.violations.push(text);
        } else {
            entry.ended = Some((now, outcome));
        }
    }

    pub(crate) fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    /// An origin starts to work on a request.
    pub(crate) fn enter_service(&mut self, origin: usize) {
        if self.in_service.len() <= origin {
            self.in_service.resize(origin + 1, (0, 0));
        }
        let (now, most) = &mut self.in_service[origin];
        *now += 1;
        *most = (*most).max(*now);
    }

    /// An origin is done with a request.
    pub(crate) fn leave_service(&mut self, origin: usize) {
        self.in_service[origin].0 -= 1;
    }
}

impl Entry {
    /// Whether the method may be repeated (RFC 9110 section 9.2.2).
    pub fn is_idempotent(&self) -> bool {
        self.method != "POST"
    }
}
