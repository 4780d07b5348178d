//! What a pool must ask before it opens a connection.

/// A number of connections that several pools share. A pool takes one place per connection, from the
/// start of the connect to the close, and gives it back exactly once.
pub trait Quota {
    /// Takes a place, if there is one.
    fn try_take(&self) -> bool;
    /// Gives a place back.
    fn give_back(&self);
    /// How many places are taken.
    fn granted(&self) -> u32;
}

impl<Q: Quota + ?Sized> Quota for &Q {
    fn try_take(&self) -> bool {
        (**self).try_take()
    }

    fn give_back(&self) {
        (**self).give_back();
    }

    fn granted(&self) -> u32 {
        (**self).granted()
    }
}
