//! bench-lb.
