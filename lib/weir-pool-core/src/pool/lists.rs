//! Doubly linked lists over the slots of a pool: the idle ones, and those that must be closed.

use crate::slot::{NONE, Slot};

#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) newest: u32,
    pub(super) oldest: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { newest: NONE, oldest: NONE };
}

pub(super) fn link_newest<C>(slots: &mut [Slot<C>], list: &mut List, index: u32) {
    let newest = list.newest;
    if let Some(slot) = slots.get_mut(index as usize) {
        slot.meta.newer = NONE;
        slot.meta.older = newest;
    }
    match slots.get_mut(newest as usize) {
        Some(slot) => slot.meta.newer = index,
        None => list.oldest = index,
    }
    list.newest = index;
}

pub(super) fn unlink<C>(slots: &mut [Slot<C>], list: &mut List, index: u32) {
    let Some(slot) = slots.get_mut(index as usize) else { return };
    let (newer, older) = (slot.meta.newer, slot.meta.older);
    slot.meta.newer = NONE;
    slot.meta.older = NONE;
    match slots.get_mut(newer as usize) {
        Some(slot) => slot.meta.older = older,
        None => list.newest = older,
    }
    match slots.get_mut(older as usize) {
        Some(slot) => slot.meta.newer = newer,
        None => list.oldest = newer,
    }
}

/// Puts a slot in its place by `idle_since`, looked for from the oldest end.
pub(super) fn link_by_age<C>(slots: &mut [Slot<C>], list: &mut List, index: u32) {
    let Some(since) = slots.get(index as usize).map(|slot| slot.meta.idle_since) else { return };
    let mut older = NONE;
    let mut newer = list.oldest;
    while let Some(slot) = slots.get(newer as usize)
        && slot.meta.idle_since < since
    {
        (older, newer) = (newer, slot.meta.newer);
    }
    if let Some(slot) = slots.get_mut(index as usize) {
        (slot.meta.older, slot.meta.newer) = (older, newer);
    }
    match slots.get_mut(older as usize) {
        Some(slot) => slot.meta.newer = index,
        None => list.oldest = index,
    }
    match slots.get_mut(newer as usize) {
        Some(slot) => slot.meta.older = index,
        None => list.newest = index,
    }
}
