//! Routing: which route a request matches, on the normalised path, and what the route does to it.
#![forbid(unsafe_code)]

mod rule;

pub use rule::{
    Action, HeaderEdits, HeaderMatch, HostMatch, PathMatch, PathPolicy, QueryMatch, Redirect, Respond, Rewrite,
    RouteId, Rule, SlashPolicy, TextMatch,
};
