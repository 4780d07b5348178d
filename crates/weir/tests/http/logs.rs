//! (in writing)
