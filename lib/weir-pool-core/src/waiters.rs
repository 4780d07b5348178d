//! Those who wait for a connection, first come, first served.
//!
//! ```text
//!            join                  serve, serve_first            fetch
//!   (free) ────────▶ Waiting ───────────────────────▶ Served ───────────▶ (free)
//!                       │ leave                          │ leave: what was kept comes back
//!                       └────────────▶ (free) ◀──────────┘
//! ```
//!
//! What a waiter is given is kept at its place until it fetches it: giving and waking are one step for the one who
//! gives, and nobody who comes in between can take it (direct hand-off). A place that was given back belongs to
//! the next waiter in line, not to a newcomer; the owner sees to that with [`Waiters::is_empty`].
//!
//! Joining, serving, fetching and leaving from anywhere are O(1): the line is a doubly linked list over a slab.
//! Nothing is allocated while the line is not longer than it has ever been.

/// Most waiters of one line, whatever the owner's bound is.
pub const WAITERS_MAX: usize = 1 << 24;

/// No place: the end of the line.
const NONE: u32 = u32::MAX;

/// A place in the line. Stale once it was fetched from or left: the line then ignores it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket {
    index: u32,
    generation: u32,
}

/// What came of [`Waiters::leave`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "what was kept for the waiter belongs to the next one"]
pub enum Left<W, G> {
    /// It stood in line.
    Waiting(W),
    /// This was kept for it.
    Served(G),
    /// The ticket is stale.
    Gone,
}

/// The line: `W` is what is known of a waiter, `G` what it is given. See the module.
///
/// ```
/// use weir_pool_core::{Left, Waiters};
///
/// let mut line = Waiters::new();
/// let (ann, bob) = (line.join("ann").unwrap(), line.join("bob").unwrap());
/// assert_eq!(line.serve_first(7), Ok("ann")); // to be woken
/// assert_eq!(line.fetch(bob), None);
/// assert_eq!(line.fetch(ann), Some(7));
/// assert_eq!(line.leave(bob), Left::Waiting("bob"));
/// assert!(line.is_empty());
/// ```
#[derive(Debug)]
pub struct Waiters<W, G> {
    places: Vec<Place<W, G>>,
    free: u32,
    first: u32,
    last: u32,
    waiting: u32,
    served: u32,
}

#[derive(Debug)]
struct Place<W, G> {
    generation: u32,
    before: u32,
    /// The next one in line, or in the list of free places.
    behind: u32,
    state: State<W, G>,
}

#[derive(Debug)]
enum State<W, G> {
    Free,
    Waiting(W),
    Served(G),
}

impl<W, G> Waiters<W, G> {
    /// An empty line.
    pub const fn new() -> Self {
        Self { places: Vec::new(), free: NONE, first: NONE, last: NONE, waiting: 0, served: 0 }
    }

    /// Gets in line at its end. The waiter comes back if the line has [`WAITERS_MAX`] places.
    pub fn join(&mut self, waiter: W) -> Result<Ticket, W> {
        let ticket = self.place(waiter)?;
        let last = self.last;
        self.link(ticket.index, last, NONE);
        self.check_invariants();
        Ok(ticket)
    }

    /// Gets in line before everybody else: for one whose turn it was already.
    pub fn join_first(&mut self, waiter: W) -> Result<Ticket, W> {
        let ticket = self.place(waiter)?;
        let first = self.first;
        self.link(ticket.index, NONE, first);
        self.check_invariants();
        Ok(ticket)
    }

    /// Gets in line before another who waits; at its end if that one does not.
    pub fn join_before(&mut self, other: Ticket, waiter: W) -> Result<Ticket, W> {
        if !self.is_waiting(other) {
            return self.join(waiter);
        }
        let ticket = self.place(waiter)?;
        let before = self.places.get(other.index as usize).map_or(NONE, |place| place.before);
        self.link(ticket.index, before, other.index);
        self.check_invariants();
        Ok(ticket)
    }

    /// The one whose turn it is.
    pub fn first(&self) -> Option<(Ticket, &W)> {
        let place = self.places.get(self.first as usize)?;
        match &place.state {
            State::Waiting(waiter) => Some((Ticket { index: self.first, generation: place.generation }, waiter)),
            State::Free | State::Served(_) => None,
        }
    }

    /// The one who stands behind the holder of this ticket.
    pub fn behind(&self, ticket: Ticket) -> Option<Ticket> {
        if !self.is_waiting(ticket) {
            return None;
        }
        let behind = self.places.get(ticket.index as usize)?.behind;
        let place = self.places.get(behind as usize)?;
        Some(Ticket { index: behind, generation: place.generation })
    }

    /// Keeps `gift` for the first in line, who is returned to be told. If nobody waits, the gift comes back.
    pub fn serve_first(&mut self, gift: G) -> Result<W, G> {
        match self.first().map(|(ticket, _)| ticket) {
            Some(ticket) => self.serve(ticket, gift),
            None => Err(gift),
        }
    }

    /// Keeps `gift` for a waiter, wherever it stands, who is returned to be told. If it does not wait any more, the gift
    /// comes back.
    pub fn serve(&mut self, ticket: Ticket, gift: G) -> Result<W, G> {
        let Some(place) = self.get_mut(ticket) else { return Err(gift) };
        if !matches!(place.state, State::Waiting(_)) {
            return Err(gift);
        }
        let State::Waiting(waiter) = std::mem::replace(&mut place.state, State::Served(gift)) else {
            unreachable!("looked at above")
        };
        self.unlink(ticket.index);
        self.served += 1;
        self.check_invariants();
        Ok(waiter)
    }

    /// Takes what is kept; the ticket is stale afterwards. `None` while nothing is (or if the ticket is stale).
    pub fn fetch(&mut self, ticket: Ticket) -> Option<G> {
        let place = self.get_mut(ticket)?;
        if !matches!(place.state, State::Served(_)) {
            return None;
        }
        match self.give_up(ticket.index) {
            State::Served(gift) => {
                self.served -= 1;
                self.check_invariants();
                Some(gift)
            }
            State::Waiting(_) | State::Free => None,
        }
    }

    /// Leaves; the ticket is stale afterwards.
    pub fn leave(&mut self, ticket: Ticket) -> Left<W, G> {
        let Some(place) = self.get_mut(ticket) else { return Left::Gone };
        if matches!(place.state, State::Waiting(_)) {
            self.unlink(ticket.index);
        }
        let left = match self.give_up(ticket.index) {
            State::Waiting(waiter) => Left::Waiting(waiter),
            State::Served(gift) => {
                self.served -= 1;
                Left::Served(gift)
            }
            State::Free => Left::Gone,
        };
        self.check_invariants();
        left
    }

    /// What is known of one that still waits.
    pub fn waiting_mut(&mut self, ticket: Ticket) -> Option<&mut W> {
        match &mut self.get_mut(ticket)?.state {
            State::Waiting(waiter) => Some(waiter),
            State::Free | State::Served(_) => None,
        }
    }

    /// Whether a ticket's holder stands in line.
    pub fn is_waiting(&self, ticket: Ticket) -> bool {
        self.places
            .get(ticket.index as usize)
            .is_some_and(|place| place.generation == ticket.generation && matches!(place.state, State::Waiting(_)))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting as usize
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many have not fetched yet what is kept for them.
    pub fn served(&self) -> usize {
        self.served as usize
    }

    // === the slab and the list ===

    fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Place<W, G>> {
        let place = self.places.get_mut(ticket.index as usize)?;
        (place.generation == ticket.generation).then_some(place)
    }

    fn place(&mut self, waiter: W) -> Result<Ticket, W> {
        let state = State::Waiting(waiter);
        if let Some(place) = self.places.get_mut(self.free as usize) {
            let ticket = Ticket { index: self.free, generation: place.generation };
            self.free = place.behind;
            place.state = state;
            return Ok(ticket);
        }
        if self.places.len() >= WAITERS_MAX {
            return match state {
                State::Waiting(waiter) => Err(waiter),
                State::Free | State::Served(_) => unreachable!("made above"),
            };
        }
        let index = self.places.len() as u32;
        self.places.push(Place { generation: 0, before: NONE, behind: NONE, state });
        Ok(Ticket { index, generation: 0 })
    }

    /// Empties a place that is in no list.
    fn give_up(&mut self, index: u32) -> State<W, G> {
        let Some(place) = self.places.get_mut(index as usize) else { return State::Free };
        place.generation = place.generation.wrapping_add(1);
        (place.before, place.behind) = (NONE, self.free);
        self.free = index;
        std::mem::replace(&mut place.state, State::Free)
    }

    fn link(&mut self, index: u32, before: u32, behind: u32) {
        if let Some(place) = self.places.get_mut(index as usize) {
            (place.before, place.behind) = (before, behind);
        }
        self.join_up(before, index);
        self.join_up(index, behind);
        self.waiting += 1;
    }

    fn unlink(&mut self, index: u32) {
        let Some(place) = self.places.get_mut(index as usize) else { return };
        let (before, behind) = (place.before, place.behind);
        (place.before, place.behind) = (NONE, NONE);
        self.join_up(before, behind);
        self.waiting -= 1;
    }

    /// Makes `behind` the one behind `before`; [`NONE`] stands for the ends of the line.
    fn join_up(&mut self, before: u32, behind: u32) {
        match self.places.get_mut(before as usize) {
            Some(place) => place.behind = behind,
            None => self.first = behind,
        }
        match self.places.get_mut(behind as usize) {
            Some(place) => place.before = before,
            None => self.last = before,
        }
    }

    /// The full walk is for tests; in debug builds it is limited to short lines.
    fn check_invariants(&self) {
        if !cfg!(debug_assertions) || self.places.len() > 256 {
            return;
        }
        let (mut at, mut before, mut length) = (self.first, NONE, 0);
        while let Some(place) = self.places.get(at as usize) {
            assert!(matches!(place.state, State::Waiting(_)), "who stands in line waits");
            assert_eq!(place.before, before, "linked both ways");
            (before, at, length) = (at, place.behind, length + 1);
        }
        assert_eq!((self.last, self.waiting), (before, length), "the end is the end");
        let count = |wanted: fn(&State<W, G>) -> bool| self.places.iter().filter(|place| wanted(&place.state)).count();
        assert_eq!(count(|state| matches!(state, State::Waiting(_))), self.waiting as usize);
        assert_eq!(count(|state| matches!(state, State::Served(_))), self.served as usize);
    }
}

impl<W, G> Default for Waiters<W, G> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::VecDeque;

    use super::*;

    #[test]
    fn who_was_served_and_leaves_gives_it_back() {
        let mut line = Waiters::new();
        let (a, b) = (line.join('a').unwrap(), line.join('b').unwrap());
        assert_eq!(line.serve_first(1), Ok('a'));
        assert_eq!(line.leave(a), Left::Served(1));
        assert_eq!(line.leave(a), Left::Gone);
        assert_eq!((line.fetch(a), line.serve(a, 2)), (None, Err(2)));
        assert_eq!(line.first(), Some((b, &'b')));
        let c = line.join_first('c').unwrap();
        assert_eq!(line.serve_first(1), Ok('c'));
        assert_eq!((line.fetch(c), line.served(), line.len()), (Some(1), 0, 1));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Join,
        JoinFirst,
        JoinBefore(usize),
        ServeFirst,
        Serve(usize),
        Fetch(usize),
        Leave(usize),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => Just(Op::Join),
            1 => Just(Op::JoinFirst),
            1 => any::<usize>().prop_map(Op::JoinBefore),
            4 => Just(Op::ServeFirst),
            1 => any::<usize>().prop_map(Op::Serve),
            4 => any::<usize>().prop_map(Op::Fetch),
            2 => any::<usize>().prop_map(Op::Leave),
        ]
    }

    proptest! {
        /// Against a plain queue, with tickets old and new.
        #[test]
        fn the_line_is_a_queue_that_one_can_leave(ops in prop::collection::vec(op(), 1..200)) {
            let mut line = Waiters::new();
            let mut queue: VecDeque<usize> = VecDeque::new();
            let mut kept = std::collections::BTreeMap::new();
            let mut tickets = Vec::new();
            let mut gift = 0;
            for op in ops {
                let pick = |at: usize| if tickets.is_empty() { None } else { Some(at % tickets.len()) };
                match op {
                    Op::Join => {
                        queue.push_back(tickets.len());
                        tickets.push(line.join(tickets.len()).unwrap());
                    }
                    Op::JoinFirst => {
                        queue.push_front(tickets.len());
                        tickets.push(line.join_first(tickets.len()).unwrap());
                    }
                    Op::JoinBefore(at) => if let Some(other) = pick(at) {
                        let place = queue.iter().position(|&who| who == other).unwrap_or(queue.len());
                        queue.insert(place, tickets.len());
                        tickets.push(line.join_before(tickets[other], tickets.len()).unwrap());
                    }
                    Op::ServeFirst => {
                        gift += 1;
                        let expected = queue.pop_front().ok_or(gift);
                        if let Ok(who) = expected {
                            kept.insert(who, gift);
                        }
                        prop_assert_eq!(line.serve_first(gift), expected);
                    }
                    Op::Serve(at) => if let Some(who) = pick(at) {
                        gift += 1;
                        let stands = queue.iter().position(|&other| other == who);
                        if let Some(stands) = stands {
                            queue.remove(stands);
                            kept.insert(who, gift);
                        }
                        prop_assert_eq!(line.serve(tickets[who], gift), if stands.is_some() { Ok(who) } else { Err(gift) });
                    }
                    Op::Fetch(at) => if let Some(who) = pick(at) {
                        prop_assert_eq!(line.fetch(tickets[who]), kept.remove(&who));
                    }
                    Op::Leave(at) => if let Some(who) = pick(at) {
                        let expected = if let Some(stands) = queue.iter().position(|&other| other == who) {
                            queue.remove(stands);
                            Left::Waiting(who)
                        } else {
                            kept.remove(&who).map_or(Left::Gone, Left::Served)
                        };
                        prop_assert_eq!(line.leave(tickets[who]), expected);
                    }
                }
                prop_assert_eq!((line.len(), line.served()), (queue.len(), kept.len()));
                for (who, ticket) in tickets.iter().enumerate() {
                    prop_assert_eq!(line.is_waiting(*ticket), queue.contains(&who));
                }
                prop_assert_eq!(line.first().map(|(_, who)| *who), queue.front().copied());
            }
        }
    }
}
